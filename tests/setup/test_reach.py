"""What ``check`` asks Cognito's endpoint: over the transport that a run uses, and what time it is there."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.support.wire import GOOD, Authority, Wire, answer, listening, proxying, unused_port
from worker.adapters.checks.findings import Finding, Level
from worker.settings import Settings, load
from worker.setup.checks.pool import reach


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with listening() as wire:
        wire.does = dated()
        yield wire


def dated(ahead: float = 0.0) -> bytes:
    return answer(GOOD, "200 OK", f"Date: {formatdate(time.time() + ahead, usegmt=True)}")


def settings_for(url: str, *more: str) -> Settings:
    return load(None, ["cognito.user_pool_id=eu-west-1_Example", f"cognito.endpoint_url={url}", *more], {})


async def found(url: str) -> dict[str, Finding]:
    return {finding.about: finding for finding in await reach(settings_for(url))}


async def test_an_endpoint_that_answers_and_a_clock_that_is_right_are_fine(wire: Wire) -> None:
    findings = await found(wire.url)
    assert [finding.level for finding in findings.values()] == [Level.OK, Level.OK]
    assert "is right" in findings["clock"].said


@pytest.mark.parametrize("ahead", [-7_200.0, -90.0, 90.0, 7_200.0])
async def test_a_clock_that_is_more_than_a_minute_off_fails(wire: Wire, ahead: float) -> None:
    wire.does = dated(ahead)
    clock = (await found(wire.url))["clock"]
    assert clock.fails
    assert "NTP" in clock.cure


async def test_a_clock_that_is_less_off_is_corrected_and_said(wire: Wire) -> None:
    wire.does = dated(40.0)
    settings = settings_for(wire.url, "ledger.clock_skew=2s")
    corrected, skew = [finding for finding in await reach(settings) if finding.about == "clock"]
    assert corrected.level is skew.level is Level.ADVICE
    assert "40 s behind" in corrected.said or "39 s behind" in corrected.said
    assert "ledger.clock_skew (2 s)" in skew.said
    wire.does = dated(-2.5)
    (small,) = [finding for finding in await reach(settings_for(wire.url)) if finding.about == "clock"]
    assert small.level is Level.OK
    assert "ahead of" in small.said


async def test_an_endpoint_that_names_no_time_is_worth_knowing(wire: Wire) -> None:
    wire.does = answer()
    assert (await found(wire.url))["clock"].level is Level.ADVICE


async def test_an_endpoint_that_refuses_the_connection_fails() -> None:
    with unused_port() as url:
        findings = await found(url)
    assert findings["cognito"].fails
    assert "Connection refused" in findings["cognito"].said
    assert "clock" not in findings


async def test_a_certificate_that_a_run_refuses_fails_and_the_cure_names_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of a proxy that looks into TLS: connecting alone is no proof."""
    authority = Authority(tmp_path)
    async with listening(authority.server("cognito.test")) as wire, proxying(wire) as proxy:
        wire.does = dated()
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        refused = (await found("https://cognito.test"))["cognito"]
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.file))
        accepted = await found("https://cognito.test")
        other_host = (await found("https://other.test"))["cognito"]
    assert refused.fails
    assert "certificate" in refused.said
    assert "AWS_CA_BUNDLE" in refused.cure
    assert not accepted["cognito"].fails
    assert accepted["clock"].level is Level.OK
    assert other_host.fails
    assert len(proxy.heads) == 3


async def test_a_bundle_that_cannot_be_read_fails(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent.pem")
    finding = (await found(wire.url))["cognito"]
    assert finding.fails
    assert "AWS_CA_BUNDLE" in finding.cure
