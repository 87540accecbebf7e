"""A health check asks on the host itself, and believes only runs of its own user."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from worker.cli import cli
from worker.core.clock import SystemClock
from worker.core.stats import RunStats
from worker.telemetry.metrics import health, on_host
from worker.telemetry.metrics.on_host import Answer, answering, ask
from worker.telemetry.metrics.watched import Watched


class Loop:
    """The loop of a worker, as far as it is watched."""

    under_way = 3
    knows_time = True
    waiting_for: str | None = None


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests' runs are on this host as well."""
    monkeypatch.setattr(on_host, "PREFIX", f"mfa-worker-test-{os.getpid()}-")


@pytest.fixture
def run() -> Watched:
    return Watched(RunStats(SystemClock()), watchdog=300.0, ending_takes=30.0)


async def asked() -> list[tuple[bool, str]]:
    return [(each.is_well, each.text) for each in await asyncio.to_thread(ask)]


async def test_a_run_is_well_while_it_begins_works_waits_drains_and_ends(run: Watched) -> None:
    with answering(run):
        assert await asked() == [(True, "ok: opening ledger, queue and channel")]
        run.work = Loop()
        assert await asked() == [(True, "ok: working")]
        run.work.waiting_for = "the ledger"
        assert await asked() == [(True, "ok: waiting for the ledger")]
        run.ending = lambda: 4
        assert await asked() == [(True, "ok: draining after a signal")]
        run.work, run.has_worked, run.ending = None, True, lambda: None
        assert await asked() == [(True, "ok: counting, then ending")]
    assert await asked() == []


async def test_a_run_that_nothing_moves_is_not_well(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    run.work = Loop()
    monkeypatch.setattr(health, "RESERVE", -400.0)
    with answering(run):
        ((is_well, text),) = await asked()
    assert not is_well
    assert text.startswith("stuck: 3 users under way, nothing moved for ")


async def test_an_event_loop_that_stands_still_is_not_well(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_host, "PATIENCE", 0.1)
    with answering(run):
        answers = ask()  # on the loop itself, which therefore cannot answer
    assert answers == [Answer(os.getpid(), is_well=False, text="no answer within 0 s: its event loop stands still")]


async def test_every_run_is_asked(run: Watched) -> None:
    with answering(run), answering(run):
        assert len(await asked()) == 2


@pytest.fixture
async def holder(run: Watched) -> AsyncIterator[socket.socket]:
    with answering(run), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(f"\0{next(on_host._names())}")
        yield client


async def test_a_client_that_says_nothing_or_too_much_holds_nothing_up(holder: socket.socket) -> None:
    with suppress(OSError):
        holder.send(b"GET /healthz HTTP/1.1\r\n" * 1_000)
    assert await asked() == [(True, "ok: opening ledger, queue and channel")]


async def test_other_users_are_neither_answered_nor_believed(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    me = os.geteuid()
    with answering(run):
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
        assert await asked() == []
        if me:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(f"\0{next(on_host._names())}")
                client.settimeout(5)
                assert await asyncio.to_thread(client.recv, 100) == b""


@pytest.fixture
def impostor() -> Iterator[None]:
    """Somebody who listens under such a name, and says nonsense or nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(f"\0{on_host.PREFIX}x")
        listening.listen()
        yield


async def test_where_no_list_of_sockets_can_be_read_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(on_host, "LISTED", tmp_path / "none")
    result = CliRunner().invoke(cli, ["health"], standalone_mode=False)
    assert result.return_value == 1
    assert "metrics.port" in result.output


@pytest.mark.usefixtures("impostor")
def test_the_command_says_no_with_1_and_never_2_which_docker_reserves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_host, "PATIENCE", 0.1)
    monkeypatch.setenv("SSLKEYLOGFILE", "/tmp/keys")  # refused with 2 by other commands
    result = CliRunner().invoke(cli, ["health"], standalone_mode=False)
    assert (result.return_value, result.output) == (
        1,
        f"process {os.getpid()}: no answer within 0 s: its event loop stands still\n",
    )


def test_without_a_run_it_says_no_and_where_to_ask() -> None:
    result = CliRunner().invoke(cli, ["health"], standalone_mode=False)
    assert result.return_value == 1
    assert "docker exec CONTAINER mfa-worker health" in result.output


async def test_where_no_socket_can_be_opened_the_run_goes_on(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(on_host, "_listen", refused)
    with answering(run):
        assert await asked() == []
