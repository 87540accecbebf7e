"""The figures that a run keeps in its ledger: whole after restarts, and never a reason for a run to fail or to wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from tests.support.processes import until
from tests.support.rollout import Rollout
from worker.app import figures
from worker.app.stores import Purpose, open_stores
from worker.core.clock import SystemClock
from worker.core.errors import LedgerUnavailable
from worker.core.figures import ENROLS, Minute
from worker.core.model import State
from worker.core.stats import RunStats


class Store:
    """Keeps figures, or fails as it is told."""

    def __init__(self) -> None:
        self.minutes: dict[tuple[str, int], Minute] = {}
        self.failure: Exception | None = None
        self.hangs = False

    async def put_figures(self, worker: str, minute: Minute) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        self.minutes[worker, minute.minute] = minute

    async def figures(self) -> AsyncIterator[Minute]:
        for minute in self.minutes.values():
            yield minute

    @property
    def delivered(self) -> int:
        return sum(each.settled["delivered"] for each in self.minutes.values())


@pytest.fixture
def stats() -> RunStats:
    return RunStats(SystemClock())


async def kept_figures(rollout: Rollout) -> list[Minute]:
    async with open_stores(rollout.settings(), Purpose.EXISTING) as stores:
        return [minute async for minute in stores.ledger.figures()]


async def test_what_several_runs_did_is_in_the_ledger(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("token_revoked@eve=1x", "conflict@ben=1x")
    assert (await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben")))).code == 0
    assert (await rollout.run("--input", rollout.file(await rollout.sign_in("cleo", "eve")))).code == 1

    minutes = await kept_figures(rollout)

    settled = sum((each.settled for each in minutes), Counter[str]())
    attempts = sum((each.attempts for each in minutes), Counter[str]())
    assert settled == {"delivered": 3, "needs_session:token_revoked": 1}
    assert attempts == {f"{ENROLS}:issued": 3, f"{ENROLS}:conflict": 1, f"{ENROLS}:refused": 1}
    assert sum(each.latency.total for each in minutes) == 5
    assert sum(each.lease_to_outcome.total for each in minutes) == 4
    assert {each.configured for each in minutes} == {200.0}
    assert max(each.longest for each in minutes) > 0


async def test_a_run_that_has_nothing_to_do_keeps_no_figures(rollout: Rollout) -> None:
    assert (await rollout.run()).code == 0
    assert await kept_figures(rollout) == []


async def test_the_present_minute_is_written_while_the_run_goes_on(stats: RunStats) -> None:
    store = Store()
    async with figures.kept(stats, SystemClock(), store, "one", every=0.01):
        stats.settled(State.DELIVERED)
        await until(lambda: store.delivered == 1)
    assert store.delivered == 1


async def test_what_came_after_the_last_write_is_written_at_the_end(stats: RunStats) -> None:
    store = Store()
    async with figures.kept(stats, SystemClock(), store, "one"):
        stats.settled(State.DELIVERED)
    assert store.delivered == 1


@pytest.mark.parametrize(
    "failure", [LedgerUnavailable("the ledger is away", "bring it back"), OSError("no space"), ValueError("a bug")]
)
async def test_a_failure_is_said_once_and_made_up_for_later(stats: RunStats, failure: Exception) -> None:
    store = Store()
    store.failure = failure
    with capture_logs() as logs:
        async with figures.kept(stats, SystemClock(), store, "one", every=0.001):
            for _ in range(3):
                stats.settled(State.DELIVERED)
                await asyncio.sleep(0.01)
            store.failure = None
    assert store.delivered == 3
    (said,) = logs
    assert (said["event"], said["cause"]) == ("figures_not_written", str(failure))
    assert "nobody is affected" in said["cure"]


async def test_a_ledger_that_never_answers_holds_no_run_up(stats: RunStats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "LAST", 0.02)
    store = Store()
    store.hangs = True
    with capture_logs() as logs:
        async with asyncio.timeout(5), figures.kept(stats, SystemClock(), store, "one", every=0.001):
            stats.settled(State.DELIVERED)
            await asyncio.sleep(0.01)
    assert [each["event"] for each in logs] == ["figures_not_written"]


async def test_the_error_that_ends_a_run_passes_through(stats: RunStats) -> None:
    store = Store()
    with pytest.raises(LedgerUnavailable):  # noqa: PT012 - raised in the body
        async with figures.kept(stats, SystemClock(), store, "one"):
            stats.settled(State.DELIVERED)
            raise LedgerUnavailable("away")
    assert store.delivered == 1
