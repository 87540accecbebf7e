"""Where requests may go: to AWS, and to what somebody configured; whatever else decided, it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from botocore.loaders import Loader

from tests.support.emulators import REGION
from worker.adapters.aws.endpoints import SUFFIXES, Addresses, is_aws
from worker.adapters.aws.session import Aws, AwsTarget
from worker.adapters.cognito.client import cognito
from worker.core.clock import EndpointClock, SystemClock
from worker.core.errors import UsageError

ELSEWHERE = "https://collector.example"


@pytest.mark.parametrize(
    "url",
    [
        "https://cognito-idp.eu-central-1.amazonaws.com/",
        "https://cognito-idp-fips.us-gov-west-1.amazonaws.com/",
        "https://sqs.cn-north-1.amazonaws.com.cn/",
        "https://eu-west-1.queue.amazonaws.com/",
        "https://dynamodb.eu-central-1.amazonaws.com:443/",
        "https://123456789012.ddb.us-east-1.amazonaws.com/",
        "https://secrets.s3.eu-central-1.amazonaws.com/key",
        "https://s3.dualstack.eu-central-1.amazonaws.com/",
        "https://s3.amazonaws.com/bucket",
        "https://a.b.s3-us-west-2.amazonaws.com/",
        "https://sts.amazonaws.com/",
        "https://portal.sso.eu-central-1.amazonaws.com/",
        "https://kms.eusc-de-east-1.amazonaws.eu/",
        "https://sqs.eu-central-1.api.aws/",
    ],
)
def test_these_are_aws(url: str) -> None:
    assert is_aws(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://sqs.eu-central-1.amazonaws.com/",
        "https://sqs.eu-central-1.amazonaws.com.example.org/",
        "https://sqs.eu-central-1.amazonaws.com:8443/",
        "https://amazonaws.com/",
        "https://abc123.execute-api.eu-central-1.amazonaws.com/",
        "https://ec2-1-2-3-4.eu-central-1.compute.amazonaws.com/",
        "https://collector.lambda-url.eu-central-1.on.aws/",
        "https://sqs.evil.eu-central-1.amazonaws.com/",
        "https://user@evil.example/",
        "https://[::1",
        "",
    ],
)
def test_these_are_not(url: str) -> None:
    assert not is_aws(url)


def test_the_domains_of_all_partitions_are_known() -> None:
    for each in Loader().load_data("partitions")["partitions"]:
        assert {each["outputs"]["dnsSuffix"], each["outputs"]["dualStackDnsSuffix"]} <= set(SUFFIXES), each["id"]


@pytest.mark.parametrize(
    ("configured", "url", "admitted"),
    [
        ("https://vpce-1.sqs.example", "https://vpce-1.sqs.example/", True),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/1/q", True),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9001/1/q", False),
        ("https://s3.example", "https://bucket.s3.example/key", True),
        ("http://sqs.example", "http://sqs.example/", False),
        (None, "http://127.0.0.1:9000/", False),
        (None, "https://collector.example/", False),
    ],
)
def test_an_address_is_admitted_if_it_is_configured_and_safe(configured: str | None, url: str, admitted: bool) -> None:
    addresses = Addresses("requests", lambda: [configured])
    if admitted:
        addresses.admit(url)
        return
    with pytest.raises(UsageError, match="neither AWS nor configured") as raised:
        addresses.admit(url)
    assert "AWS_DATA_PATH" in raised.value.hint


def models(folder: Path, service: str) -> None:
    """SDK models that lead a service elsewhere, as ``AWS_DATA_PATH`` may name some."""
    rules = {
        "version": "1.0",
        "parameters": {"Region": {"builtIn": "AWS::Region", "required": False, "type": "String"}},
        "rules": [{"conditions": [], "endpoint": {"url": ELSEWHERE}, "type": "endpoint"}],
    }
    version = Loader().determine_latest_version(service, "service-2")
    place = folder / service / version
    place.mkdir(parents=True)
    (place / "endpoint-rule-set-1.json").write_text(json.dumps(rules), "utf-8")


async def test_models_that_lead_cognito_elsewhere_are_refused_before_anything_is_sent(
    tmp_path: Path, aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    models(tmp_path, "cognito-idp")
    monkeypatch.setattr("botocore.session.create_loader", lambda path: Loader([str(tmp_path), *Loader().search_paths]))
    with pytest.raises(UsageError, match=r"collector\.example"):
        async with cognito(REGION, clock=EndpointClock(SystemClock())):
            pass


async def test_models_that_lead_a_queue_elsewhere_are_refused(
    tmp_path: Path, aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    models(tmp_path, "sqs")
    monkeypatch.setattr("botocore.session.create_loader", lambda path: Loader([str(tmp_path), *Loader().search_paths]))
    from worker.adapters.aws.errors import faults
    from worker.core.errors import QueueUnavailable

    async with Aws(AwsTarget(REGION)) as aws:
        sqs = await aws.sqs()
        with pytest.raises(QueueUnavailable, match=r"collector\.example") as raised, faults(QueueUnavailable, "q"):
            await sqs.get_queue_url(QueueName="q")
    assert raised.value.exit_code == 3


@pytest.mark.parametrize("url", ["http://queue.example", "http://10.0.0.1:4566"])
async def test_a_variable_that_leads_a_queue_over_plain_http_is_refused(
    url: str, aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    async with Aws(AwsTarget(REGION)) as aws:
        with pytest.raises(UsageError, match="neither AWS nor configured"):
            await aws.sqs()


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_file_of_certificates_that_cannot_be_used_is_named(
    content: str | None, tmp_path: Path, aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_text(content, "utf-8")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(path))
    with pytest.raises(UsageError, match=r"authorities\.pem"):
        async with cognito(REGION, clock=EndpointClock(SystemClock())):
            pass
    async with Aws(AwsTarget(REGION)) as aws:
        with pytest.raises(UsageError, match=r"authorities\.pem") as raised:
            await aws.sqs()
    assert "AWS_CA_BUNDLE" in raised.value.hint


async def test_the_keys_of_connections_are_written_nowhere(
    tmp_path: Path, aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with pytest.raises(UsageError, match="SSLKEYLOGFILE"):
        async with cognito(REGION, clock=EndpointClock(SystemClock())):
            pass
    async with Aws(AwsTarget(REGION)) as aws:
        with pytest.raises(UsageError, match="SSLKEYLOGFILE"):
            await aws.sqs()
