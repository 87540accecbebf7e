"""Requests to S3 go where the SDK says, and it need not work that out for every key."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import aioboto3
import pytest
from botocore.endpoint_provider import RuleSet
from botocore.loaders import Loader

from tests.support.emulators import REGION
from worker.adapters.aws.s3_endpoint import UNUSED_PARAMETER
from worker.adapters.aws.session import Aws, AwsTarget

pytestmark = pytest.mark.usefixtures("aws_credentials")
BUCKETS = ["a-bucket", "a.bucket.with.dots", "arn:aws:s3:eu-central-1:123456789012:accesspoint/secrets"]


async def signed(s3: Any, bucket: str, key: str) -> str:
    """Where a request for that key would go; without the signature, which is of the moment."""
    url: str = await s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": key})
    return url.partition("?")[0]


def test_no_rule_looks_at_the_key() -> None:
    rules = Loader().load_service_model("s3", "endpoint-rule-set-1")
    assert UNUSED_PARAMETER in rules["parameters"]
    asked = json.dumps(rules["rules"])
    for parameter, is_asked in (("Bucket", True), (UNUSED_PARAMETER, False)):
        assert (f'{{"ref": "{parameter}"}}' in asked) is is_asked
        assert (f"{{{parameter}}}" in asked) is is_asked


@pytest.mark.parametrize("bucket", BUCKETS)
@pytest.mark.parametrize("endpoint", [None, "https://bucket.vpce-1a2b.s3.eu-central-1.vpce.amazonaws.com"])
async def test_every_key_goes_where_a_plain_client_would_send_it(bucket: str, endpoint: str | None) -> None:
    target = AwsTarget(REGION, endpoints={"s3": endpoint} if endpoint else {})
    async with (
        Aws(target) as aws,
        aioboto3.Session(region_name=REGION).client("s3", endpoint_url=endpoint) as plain,
    ):
        for key in ("one", "a folder/ä + 100 %.age"):
            assert await signed(await aws.s3(), bucket, key) == await signed(plain, bucket, key)


async def test_the_rules_are_asked_once_a_bucket() -> None:
    async with Aws(AwsTarget(REGION)) as aws:
        s3 = await aws.s3()
        with patch.object(RuleSet, "evaluate", autospec=True, side_effect=RuleSet.evaluate) as evaluate:
            for bucket in ("one", "two"):
                for number in range(10):
                    await signed(s3, bucket, f"key {number}")
        assert evaluate.call_count == 2
