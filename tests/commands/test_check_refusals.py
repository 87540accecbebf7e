"""``check`` where AWS forbids, keeps silent or is not there: what is known is said, and nothing sent is repeated."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.checking import about
from tests.support.emulators import CREDENTIALS, REGION
from worker.adapters.aws.session import AwsTarget
from worker.adapters.checks import probes
from worker.adapters.checks.findings import Level
from worker.settings import Settings, load
from worker.setup import checks

SERVICES = ("sqs", "dynamodb", "s3", "secretsmanager", "kms", "cognito", "servicequotas")
SENT = "a-secret-that-was-sent"

Answer = Callable[[web.Request], web.Response]


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[str]:
    """An AWS that answers everything as asked for."""

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return answer(request)

    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def all_at(url: str, *more: str) -> Settings:
    return load(
        None,
        [
            "cognito.user_pool_id=eu-central-1_AbCdEfGhI",
            f"cognito.endpoint_url={url}",
            "queue.kind=sqs",
            f"queue.url={url}/123456789012/mfa",
            f"queue.dead_letter_url={url}/123456789012/dead",
            "ledger.kind=dynamodb",
            "ledger.table=mfa",
            "channel.kind=s3",
            "channel.bucket=mfa",
            "channel.kms_key_id=11111111-2222-3333-4444-555555555555",
            *(f"aws.{service}_endpoint_url={url}" for service in SERVICES),
            *more,
        ],
        {},
    )


def denied(request: web.Request) -> web.Response:
    said = f"not authorized, and here is what you sent: {SENT}"
    if "X-Amz-Target" not in request.headers:
        return web.Response(
            status=403,
            text=f"<Error><Code>AccessDenied</Code><Message>{said}</Message></Error>",
            content_type="text/xml",
        )
    body = {"__type": "com.amazon#AccessDeniedException", "message": said}
    return web.json_response(body, status=400, content_type="application/x-amz-json-1.0")


async def test_permissions_that_are_missing_are_named_and_optional_ones_are_no_flaw(aws_credentials: None) -> None:
    out = io.StringIO()
    async with served(denied) as url:
        findings = await checks.check(all_at(url))
    checks.show(findings, out, as_json=False)

    for name, operation in [("queue", "GetQueueAttributes"), ("ledger", "DescribeTable"), ("channel", "PutObject")]:
        assert operation in about(findings, name, Level.FAILS)
    assert "the KMS key" in about(findings, "channel", Level.FAILS)
    for name in ("pool", "quota"):
        assert "this role is not permitted to" in about(findings, name, Level.NOT_CHECKED)
        assert about(findings, name, Level.FAILS) == ""
    assert SENT not in out.getvalue()


def answering(table: Mapping[str, Any]) -> Answer:
    """Answers operations by name, and denies the others."""

    def answer(request: web.Request) -> web.Response:
        name = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if name not in table:
            return denied(request)
        return web.json_response(table[name], content_type="application/x-amz-json-1.0")

    return answer


async def test_a_queue_that_may_be_seen_but_not_used_tells_every_action(aws_credentials: None) -> None:
    attributes = {"SqsManagedSseEnabled": "true", "MessageRetentionPeriod": "86400"}
    async with served(answering({"GetQueueAttributes": {"Attributes": attributes}})) as url:
        findings = await checks.check(all_at(url))

    said = about(findings, "queue", Level.FAILS)
    assert "sqs:DeleteMessage is not permitted" in said
    assert "sqs:ChangeMessageVisibility is not permitted" in said
    assert "push and run --input cannot put requests here" in about(findings, "queue", Level.ADVICE)
    assert "sqs:SendMessage is not permitted" in about(findings, "dead letters", Level.FAILS)


@pytest.mark.parametrize(
    ("rate", "level", "said"),
    [
        (20, Level.OK, "Cognito takes 25/s of this account"),
        (24, Level.ADVICE, "leave live users"),
        (26, Level.ADVICE, "lower rate.requests_per_second"),
    ],
)
async def test_the_real_quota_is_held_against_the_rate(
    aws_credentials: None, rate: int, level: Level, said: str
) -> None:
    pages = {"Quotas": [{"QuotaCode": "L-1", "QuotaName": "Rate of UserResourceUpdate requests", "Value": 25.0}]}
    async with served(answering({"ListServiceQuotas": pages})) as url:
        findings = await checks.check(all_at(url, f"rate.requests_per_second={rate}"))

    assert said in about(findings, "quota", level)


async def test_services_that_do_not_answer_hide_no_other_answer_and_cost_seconds_only(
    monkeypatch: pytest.MonkeyPatch, aws_credentials: None
) -> None:
    monkeypatch.setattr(probes, "PATIENCE", 1.5)
    connections: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    hole = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    began = time.monotonic()

    async with (
        silent,
        served(
            answering(
                {"GetUserPoolMfaConfig": {"MfaConfiguration": "ON", "SoftwareTokenMfaConfiguration": {"Enabled": True}}}
            )
        ) as url,
    ):
        findings = await checks.check(
            all_at(
                url, f"aws.sqs_endpoint_url={hole}", f"aws.dynamodb_endpoint_url={hole}", f"aws.s3_endpoint_url={hole}"
            )
        )
        for writer in connections:
            writer.close()  # or since Python 3.12.1 the server would wait for them at its end

    assert time.monotonic() - began < 15
    for name in ("queue", "ledger", "channel"):
        assert "no answer in 1.5 s" in about(findings, name, Level.FAILS)
    assert "MFA is required" in about(findings, "pool", Level.ADVICE)


async def test_without_credentials_that_alone_is_said(
    monkeypatch: pytest.MonkeyPatch, aws_credentials: None, tmp_path: Path
) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))

    findings = await checks.check(all_at("http://127.0.0.1:1"))

    assert "no AWS credentials" in about(findings, "aws", Level.FAILS)
    assert about(findings, "queue", Level.FAILS) == ""


async def test_a_profile_that_is_not_there_is_said(aws_credentials: None) -> None:
    findings = await checks.check(all_at("http://127.0.0.1:1", "aws.profile=nobody"))

    assert "ProfileNotFound" in about(findings, "aws", Level.FAILS)


async def test_an_embedded_rollout_against_a_stand_in_asks_nobody(tmp_path: Path) -> None:
    settings = load(
        None,
        [
            "cognito.user_pool_id=eu-central-1_A",
            "cognito.endpoint_url=http://127.0.0.1:1",
            f"queue.path={tmp_path / 'q.db'}",
        ],
        {},
    )

    findings = await checks.check(settings, target=AwsTarget(REGION))

    assert "not asked" in about(findings, "aws", Level.NOT_CHECKED)
    assert "whether there is a pool" in about(findings, "pool", Level.NOT_CHECKED)
    assert not (tmp_path / "q.db").exists()
