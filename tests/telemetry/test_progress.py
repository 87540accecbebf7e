"""What a run shows of itself while it goes on: the panel's numbers and words, the log lines elsewhere."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import structlog

from tests.support.terminal import Terminal
from tests.support.virtual_time import VirtualTime
from worker.core.errors import Interrupted, LedgerUnavailable, QueueUnavailable, WorkerError
from worker.core.model import Counts, State, Trouble
from worker.core.ports import Backlog, WaitingUsers, Workers
from worker.core.stats import ClaimedElsewhere, RunStats
from worker.telemetry import logs, progress
from worker.telemetry.look import Look, Looks
from worker.telemetry.progress import View
from worker.telemetry.snapshot import Plan, Snapshot

PLAN = Plan(quota=20.0, users_per_second=20.0, grace=20.0)


@pytest.fixture
def stats(virtual: VirtualTime) -> RunStats:
    return RunStats(virtual)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDRAW", "LOOK_EVERY"):
        monkeypatch.setattr(progress, name, 0.01)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    logs.configure("json", "info", out)
    yield out
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def look(waiting: int | WaitingUsers = 0, *, at: float | None = None, **states: int) -> Look:
    """A look at such a queue, and such a ledger."""
    users = waiting if isinstance(waiting, WaitingUsers) else None
    counts = Counts({State(name): number for name, number in states.items()}, {})
    backlog = Backlog(waiting.messages if isinstance(waiting, WaitingUsers) else waiting)
    return Look(time.monotonic() if at is None else at, counts, backlog, users, Workers(1, are_exact=True), 20.0)


def plain(text: str) -> str:
    """Without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def never() -> tuple[WorkerError | None, bool]:
    return None, False


def seen(stats: RunStats, found: Look, plan: Plan = PLAN) -> Snapshot:
    async def looking() -> Look:
        return found

    view = View(stats, looking, plan, never)
    asyncio.run(view.count())
    return view.snapshot()


async def shown(
    stats: RunStats, looks: list[Look | Exception], out: io.StringIO, plan: Plan = PLAN, body_takes: float = 0.0
) -> None:
    """Show them until it looked as often as there are looks."""
    asked = asyncio.Event()

    async def looking() -> Look:
        answer = looks.pop(0) if len(looks) > 1 else looks[0]
        if len(looks) == 1:
            asked.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with progress.show(stats, looking, plan, never, interval=0.01, stream=out):
        await asyncio.wait_for(asked.wait(), 5)
        await asyncio.sleep(body_takes)


def test_a_run_that_goes_on_counts_the_whole_rollout(stats: RunStats) -> None:
    """593 of 1,501 were done when the run was begun again; ten are under way, of whom six wait on the queue."""
    waiting = WaitingUsers(messages=907, new=898, unfinished=6)
    snapshot = seen(stats, look(waiting, delivered=590, failed=3, in_progress=10))
    assert (snapshot.done, snapshot.total, snapshot.is_about) == (593, 1_501, False)


def test_nobody_is_counted_twice_who_waits_twice_or_waits_again(stats: RunStats) -> None:
    waiting = WaitingUsers(messages=40, new=0, unfinished=0, again=20, done=5)
    snapshot = seen(stats, look(waiting, delivered=80, needs_session=20))
    assert (snapshot.done, snapshot.total) == (80, 100)


def test_where_the_queue_cannot_tell_users_the_total_is_about(stats: RunStats) -> None:
    snapshot = seen(stats, look(900, delivered=590, in_progress=10))
    assert (snapshot.done, snapshot.total, snapshot.is_about) == (590, 1_490, True)
    assert not seen(stats, look(0, delivered=590)).is_about


def test_from_the_first_look_on_the_time_left_is_that_of_the_quota(stats: RunStats) -> None:
    assert seen(stats, look(1_200)).seconds_left == pytest.approx(60)
    slowed = replace(look(1_200), allowed=10.0)
    assert seen(stats, slowed).seconds_left == pytest.approx(120)
    assert seen(stats, look(1_200), replace(PLAN, users_per_second=20 / 3)).seconds_left == pytest.approx(180)


def test_whoever_will_expire_is_not_waited_for(stats: RunStats) -> None:
    stats.to_expire = 1_000
    assert seen(stats, look(1_200)).seconds_left == pytest.approx(10)


def test_answers_that_have_to_be_made_again_take_time(stats: RunStats) -> None:
    for _ in range(180):
        stats.sent()
    for _ in range(100):
        stats.trouble(Trouble.THROTTLED)
    assert seen(stats, look(1_200)).seconds_left == pytest.approx(120)


def test_other_workers_count_too(stats: RunStats) -> None:
    view = View(stats, nothing, PLAN, never)
    for second in range(12):
        view.looks.add(look(1_000 - 40 * second, at=100.0 + second, delivered=40 * second))
    assert view.looks.users_per_second == pytest.approx(40)
    assert view.snapshot().pace.users_per_second == pytest.approx(40)


def test_the_speed_is_right_soon_after_an_outage() -> None:
    looks = Looks()
    for second in (*range(20), *range(80, 84)):
        done = min(second, 20) * 25 + max(0, second - 79) * 25
        looks.add(look(5_000 - done, at=float(second), delivered=done))
    assert looks.users_per_second == pytest.approx(25)


def test_whoever_is_tried_again_shows_as_progress_and_so_do_those_pushed_meanwhile() -> None:
    again, pushed = Looks(), Looks()
    for second in range(6):
        again.add(look(100 - 10 * second, at=float(second), delivered=100))
        pushed.add(look(1_000, at=float(second), delivered=10 * second))
    assert again.users_per_second == pushed.users_per_second == pytest.approx(10)


def test_an_outage_has_a_cause_a_beginning_and_no_end(stats: RunStats) -> None:
    stats.waiting_for = "the channel: disk full"
    snapshot = seen(stats, look(1_200))
    assert snapshot.seconds_left is None
    assert snapshot.is_trouble
    (said,) = snapshot.waits
    assert said.startswith("the channel: disk full (since ")
    assert said.endswith(", 0 s)")


def test_a_probe_that_is_answered_does_not_hide_the_outage_at_once(stats: RunStats, virtual: VirtualTime) -> None:
    view = View(stats, nothing, PLAN, never)
    virtual.now += 10
    stats.waiting_for = "Cognito"
    assert view.trouble() == "Cognito"
    stats.waiting_for = ""
    assert view.trouble() == "Cognito"
    stats.settled(State.DELIVERED)
    assert view.trouble() == ""


def test_it_says_whose_claims_it_waits_for_and_until_when(stats: RunStats) -> None:
    stats.claimed_elsewhere = ClaimedElsewhere(12, ("a1b2",), time.time() + 90)
    snapshot = seen(stats, look(0, delivered=100, in_progress=12))
    until = time.strftime("%H:%M:%S", time.localtime(stats.claimed_elsewhere.until))
    assert snapshot.waits == (f"12 users whom worker a1b2 still claims: taken over at {until}, unless finished before",)
    assert snapshot.seconds_left == pytest.approx(90.6, abs=0.5)


def test_an_sqs_queue_that_looks_empty_is_watched_in_so_many_words(stats: RunStats) -> None:
    plan = replace(PLAN, empty_after=60.0)
    assert seen(stats, look(1_200), plan).seconds_left == pytest.approx(120)
    snapshot = seen(stats, replace(look(0, delivered=10), watched_for=43.0), plan)
    assert snapshot.waits == (
        "the queue, which looks empty; SQS counts are approximate, so it is watched for 43 s more",
    )
    assert snapshot.seconds_left == 43


def test_whoever_is_refused_alone_and_what_others_hold_is_waited_for(stats: RunStats, virtual: VirtualTime) -> None:
    stats.postponed("ana", now=True)
    (said,) = seen(stats, look(1)).waits
    assert said == "1 user who is refused while others get through; they are tried again"
    stats.postponed("ana", now=False)
    virtual.now += 30
    view = View(stats, nothing, PLAN, never, _began=time.monotonic() - 60)
    view.looks.add(look(908, delivered=1))
    (said,) = view.snapshot().waits
    assert said.startswith("908 requests leased by another worker, or by one that ended")
    assert view.snapshot().seconds_left is None


def test_the_last_ones_have_no_time_but_a_reason(stats: RunStats, virtual: VirtualTime) -> None:
    for _ in range(40):
        virtual.now += 0.05
        stats.settled(State.DELIVERED)
    view = View(stats, nothing, PLAN, never, _began=time.monotonic() - 60)
    view.looks.add(look(WaitingUsers(2, 0, 2), delivered=40, in_progress=2))
    assert view.snapshot().seconds_left == 1.0
    virtual.now += 2.0
    stats.in_flight = 2
    assert view.snapshot().seconds_left is None
    assert view.snapshot().waits == ("2 users under way: answers, or the pause before another try",)
    stats.in_flight = 0
    assert view.snapshot().waits == ()
    virtual.now += 4.0
    assert view.snapshot().waits == ("2 users under way at another worker, or at one that ended",)


def test_a_run_that_stops_says_what_it_still_does(stats: RunStats) -> None:
    reason, hurries = Interrupted("interrupted with work left", "run again"), False
    view = View(stats, nothing, PLAN, lambda: (reason, hurries))
    view.looks.add(look(1_200))
    assert view.snapshot().stopping == (
        "users who were begun are finished, in at most 20 s; Ctrl-C again cuts their calls off"
    )
    assert view.snapshot().seconds_left is None
    hurries = True
    assert view.snapshot().stopping == "calls are cut off; what was begun is given back for the next run"


def test_a_run_that_follows_waits_for_more(stats: RunStats) -> None:
    snapshot = seen(stats, look(0, delivered=3), replace(PLAN, follow=True))
    assert snapshot.waits == ("more requests (--follow)",)
    assert snapshot.seconds_left is None


@pytest.mark.parametrize("plan", [replace(PLAN, source="-"), replace(PLAN, is_wave=True)])
def test_of_a_pipe_and_a_wave_nobody_knows_how_many_there_are(stats: RunStats, plan: Plan) -> None:
    snapshot = seen(stats, look(7, delivered=3), plan)
    assert (snapshot.done, snapshot.total, snapshot.seconds_left) == (3, None, None)


async def test_on_a_terminal_it_is_drawn_and_ends_as_a_tidy_picture(stats: RunStats) -> None:
    out = Terminal()
    waiting, done = look(WaitingUsers(60, 60, 0), delivered=40), look(WaitingUsers(0, 0, 0), delivered=100)
    await shown(stats, [waiting, done], out, body_takes=0.05)
    text = out.getvalue()
    assert "40 of 100 users" in plain(text)
    assert plain(text).splitlines()[-1] == "100 of 100 users · 100 % · ended after 0 s"
    assert text.endswith("\x1b[?25h")  # the cursor is shown again


async def test_a_terminal_on_which_nothing_can_be_drawn_anew_gets_lines(
    stats: RunStats, log_lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    await shown(stats, [look(5), look(5)], out)
    assert out.getvalue() == ""
    assert json.loads(log_lines.getvalue().splitlines()[0])["event"] == "progress"


async def test_elsewhere_a_line_says_it_now_and_then(
    virtual: VirtualTime, stats: RunStats, log_lines: io.StringIO
) -> None:
    virtual.now += 10
    stats.settled(State.DELIVERED)
    hundred = look(WaitingUsers(100, 99, 1), delivered=1, in_progress=1)
    await shown(stats, [hundred, QueueUnavailable("away"), hundred], io.StringIO())
    first, second, *_ = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    assert (first["event"], first["done"], first["waiting"], first["quota"]) == ("progress", 1, 100, 20)
    assert (first["users_done"], first["users_left"], first["seconds_left"]) == (1, 100, 5)
    assert second["waiting"] == 100
    assert "waiting_for" not in first


async def test_a_view_that_breaks_does_not_touch_the_run(stats: RunStats, log_lines: io.StringIO) -> None:
    await shown(stats, [ZeroDivisionError("bug"), look(1)], io.StringIO())
    assert json.loads(log_lines.getvalue())["event"] == "progress_failed"
    log_lines.truncate(0)
    await shown(stats, [ZeroDivisionError("bug"), look(1)], Terminal(), body_takes=0.1)
    assert "progress_failed" in log_lines.getvalue()


async def test_a_ledger_that_is_away_leaves_the_last_picture(stats: RunStats) -> None:
    out = Terminal()
    await shown(stats, [look(60, delivered=40), LedgerUnavailable("away"), LedgerUnavailable("away")], out)
    assert "40 of about 100 users" in plain(out.getvalue())


async def test_the_run_may_fail_or_be_cancelled_under_the_panel(stats: RunStats) -> None:
    with pytest.raises(LookupError):
        async with progress.show(stats, nothing, PLAN, never, interval=0.01, stream=Terminal()):
            raise LookupError
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), progress.show(stats, nothing, PLAN, never, interval=0.01, stream=Terminal()):
            await asyncio.sleep(60)


async def nothing() -> Look:
    return look(0)
