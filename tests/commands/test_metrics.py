"""``metrics.port``: a run that is watched while it works, waits and ends, and a port that cannot be had."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.support.aws_rollout import aws_rollout_in
from tests.support.emulators import Emulator
from tests.support.metrics import Samples, ask, free_port, samples, total, until_served, value
from tests.support.processes import until
from tests.support.rollout import Rollout
from worker.adapters.checks.findings import Level
from worker.app.run import RunOptions, run_worker
from worker.core.errors import UsageError
from worker.settings import load
from worker.setup.checks import metrics

CALL = "AssociateSoftwareToken"


@pytest.fixture
def port(rollout: Rollout) -> int:
    """A port of its own, which the settings name."""
    port = free_port()
    rollout.configure(metrics={"port": port})
    return port


async def scraped(port: int) -> Samples:
    """The page, which is made once a second: to ask for it without a pause only takes time from what is waited for."""
    await asyncio.sleep(0.2)
    return samples((await ask(port, "/metrics")).text)


async def test_without_a_port_nobody_listens(rollout: Rollout) -> None:
    ended = await rollout.run()
    assert (ended.code, ended.logged("metrics_served")) == (0, [])


async def test_what_is_scraped_agrees_with_the_ledger_and_with_what_cognito_saw(rollout: Rollout, port: int) -> None:
    await rollout.fake_cognito.set_faults("session_expired@eve=1x", "conflict@ana=1x")
    users = [f"user-{number}" for number in range(30)]
    await rollout.push(await rollout.sign_in("ana", "eve", *users, credential="session"))
    await rollout.push(['{"username": "nobody"}'])

    running = rollout.start("run", "--follow")
    await until_served(port)

    async def all_is_counted() -> bool:
        found = await scraped(port)
        rows = total(found, "mfa_worker_rollout_users") == 32 and not value(
            found, "mfa_worker_rollout_unfinished_users"
        )
        return rows and value(found, "mfa_worker_rollout_backlog_requests") == 0

    await until(all_is_counted)
    found, status, wire = await scraped(port), await rollout.status(), await rollout.fake_cognito.stats()
    assert status["states"]["delivered"] == 31
    for name in ("mfa_worker_settled_users_total", "mfa_worker_rollout_users"):
        for state, number in status["states"].items():
            assert total(found, name, state=state) == number, (name, state)
        for reason, number in status["reasons"].items():
            assert total(found, name, reason=reason) == number, (name, reason)
    assert total(found, "mfa_worker_attempts_total", operation=CALL) == wire.wire_requests
    assert value(found, "mfa_worker_attempts_total", operation=CALL, answer="conflict") == 1
    assert value(found, "mfa_worker_attempt_duration_seconds_count", operation=CALL) == wire.wire_requests
    assert value(found, "mfa_worker_lease_to_outcome_seconds_count") == status["accepted"]
    assert value(found, "mfa_worker_rollout_malformed_requests") == status["malformed"] == 1
    assert value(found, "mfa_worker_rate_configured_requests_per_second") == 200
    assert value(found, "mfa_worker_in_flight_users") == 0
    assert (await ask(port, "/readyz")).text == "ready\n"

    running.signal(signal.SIGTERM)
    ended = await running.ended()
    assert ended.code == 1
    (served,) = ended.logged("metrics_served")
    assert (served["url"], served["to"]) == (f"http://127.0.0.1:{port}/metrics", "this machine alone")


async def test_on_aws_the_rollout_is_counted_in_the_table_and_the_queue(
    tmp_path: Path, ministack: Emulator, aws_credentials: None
) -> None:
    async with aws_rollout_in(tmp_path, ministack, "secretsmanager") as rollout:
        port = free_port()
        rollout.configure(metrics={"port": port})
        await rollout.push(await rollout.sign_in("ana", "ben"))
        running = rollout.start("run", "--follow")
        await until_served(port)

        async def is_counted() -> bool:
            found = await scraped(port)
            enrolled = value(found, "mfa_worker_rollout_users", state="delivered", reason="")
            return (enrolled, value(found, "mfa_worker_rollout_backlog_requests")) == (2, 0)

        await until(is_counted)
        assert value(await scraped(port), "mfa_worker_rollout_dead_letters") == 0
        assert (await ask(port, "/readyz")).text == "ready\n"
        running.signal(signal.SIGTERM)
        ended = await running.ended()
        assert ended.logged("metrics_not_counted") == []


@pytest.mark.parametrize("option", ["--input", "--only"])
async def test_a_run_of_a_file_or_a_wave_is_counted_too(rollout: Rollout, port: int, option: str) -> None:
    requests = await rollout.sign_in("ana", "ben")
    lines: list[str] = [json.dumps(each) for each in requests]
    if option == "--only":
        await rollout.push(requests)
        lines = ["ana"]
    rollout.configure(cognito={"call_timeout": 10.0}, ledger={"lease": 30.0})
    await rollout.fake_cognito.set_latency(2.5)  # a page of metrics may be a second old
    running = rollout.start("run", option, rollout.file(lines))
    await until_served(port)

    async def is_counted() -> bool:
        return value(await scraped(port), "mfa_worker_rollout_counted_timestamp_seconds") is not None

    await until(is_counted)
    ended = await running.ended()
    assert ended.code == (0 if option == "--input" else 5), ended.err
    assert ended.logged("metrics_not_counted") == []


async def test_it_still_answers_while_it_drains(rollout: Rollout, port: int) -> None:
    await rollout.fake_cognito.set_latency(1.0)
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(20)), credential="session"))
    running = rollout.start("run")
    await rollout.until_called(5)
    assert (await ask(port, "/readyz")).status == 200

    running.signal(signal.SIGTERM)

    async def drains() -> bool:
        return (await ask(port, "/readyz")).text == "draining after a signal\n"

    await until(drains, within=1)
    healthy = await ask(port, "/healthz")
    assert (healthy.status, healthy.text) == (200, "ok: draining after a signal\n")
    assert value(await scraped(port), "mfa_worker_build_info", version="0.1.0", python=_python()) == 1
    assert (await running.ended()).code == 4


async def test_while_cognito_does_not_answer_it_is_alive_and_not_ready(rollout: Rollout, port: int) -> None:
    rollout.configure(cognito={"patience": 30.0, "call_timeout": 0.2})
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(20))))
    await rollout.fake_cognito.set_faults("hang=100%")
    running = rollout.start("run")
    await rollout.until_called(5)

    async def waits() -> bool:
        return (await ask(port, "/readyz")).text == "waiting for Cognito's endpoint to answer\n"

    await until(waits, within=10)
    assert (await ask(port, "/healthz")).status == 200
    await rollout.fake_cognito.set_faults()
    assert (await running.ended()).code in (0, 1)


async def test_a_taken_port_is_a_usage_error_and_nothing_was_touched(rollout: Rollout, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        ended = await rollout.run()

    assert ended.code == 2
    assert f"metrics.port {port} is taken on 127.0.0.1" in ended.err
    assert "--set metrics.port=" in ended.err
    assert not rollout.ledger.exists()
    assert not rollout.channel.exists()


@pytest.mark.parametrize("wrong", ["port=-1", "port=65536", "port=http", "host="])
def test_what_is_no_port_or_address_is_refused_with_the_setting(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"metrics\.(port|host) \(from --set"):
        load(None, ["cognito.user_pool_id=eu-central-1_AbCdEfGhI", f"metrics.{wrong}"], {})


async def test_without_the_extra_the_line_that_installs_it_is_named_before_anything_is_touched(
    rollout: Rollout, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(UsageError, match=r"metrics\.port needs the extra metrics") as caught:
        await run_worker(rollout.settings(), RunOptions())

    assert caught.value.hint == "pip install 'mfa-worker[metrics]'"
    assert not rollout.ledger.exists()


async def test_check_says_whether_the_port_is_free_and_who_could_ask(rollout: Rollout, port: int) -> None:
    (free,) = metrics.look(rollout.settings())
    assert (free.level, free.said) == (Level.OK, f"port {port} is free; this machine alone can ask")
    with socket.create_server(("127.0.0.1", port)):
        checked = await rollout.command("check")
    assert f"metrics.port {port} is taken on 127.0.0.1" in checked.out
    assert not any(line.startswith("FAILS") and "metrics" in line for line in checked.out.splitlines())


async def test_a_rehearsal_can_be_watched_too(rollout: Rollout) -> None:
    port = free_port()
    quick = ("--users", "60", "--rate", "40", "--latency", "0.01")
    running = rollout.start("rehearse", *quick, "--set", f"metrics.port={port}", config=False)
    await until_served(port)

    async def is_scraped() -> bool:
        return total(await scraped(port), "mfa_worker_settled_users_total", state="delivered") > 0

    await until(is_scraped)
    assert (await running.ended()).code == 0


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))
