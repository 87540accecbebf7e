"""Where AWS is, when it is not said."""

from __future__ import annotations

import pytest

from worker.adapters.aws.session import AwsTarget, with_region
from worker.core.errors import UsageError


def test_the_region_is_the_environments_where_no_settings_say_it(
    aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_region(None).region == "eu-central-1"
    assert with_region(AwsTarget("", fips=True)) == AwsTarget("eu-central-1", fips=True)
    assert with_region(AwsTarget("us-east-1")).region == "us-east-1"
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(UsageError, match="no AWS Region"):
        with_region(None)
