"""One statistics, and what renders it: the current rate, the bar, the lines, the table, the report."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.virtual_time import VirtualTime
from worker.core.errors import DependencyUnavailable
from worker.core.model import Counts, Reason, State, Trouble
from worker.core.ports import Backlog
from worker.core.stats import RunStats
from worker.telemetry import report

SOME_NEED_A_SESSION = (
    "2,000 accepted = 1,980 delivered + 20 need a new sign-in (12 session_expired, 8 reply_lost); "
    "list those who need a new sign-in: mfa-worker export --state needs_session."
)
SOME_ARE_LEFT = (
    "6 accepted = 3 failed (3 worker_crashed) + 1 sealed but not delivered + 2 in progress; 4 requests wait, run again "
    "for them; run again to finish those under way; list those who failed: mfa-worker export --state failed."
)


@pytest.fixture
def stats(virtual: VirtualTime) -> RunStats:
    return RunStats(virtual)


def counts(malformed: int = 0, reasons: dict[str, int] | None = None, **states: int) -> Counts:
    return Counts({State(name): number for name, number in states.items()}, reasons or {}, 3, malformed)


def test_what_is_counted_is_counted(stats: RunStats) -> None:
    stats.settled(State.DELIVERED)
    for _ in range(2):
        stats.settled(State.NEEDS_SESSION, Reason.SESSION_EXPIRED)
        stats.duplicate()
        stats.given_back()
        stats.sent()
        stats.looked()
        stats.answered("AssociateSoftwareToken", "throttled", 0.1)
        stats.trouble(Trouble.THROTTLED)
    stats.duplicate(5)
    stats.trouble(Trouble.NO_ANSWER)
    assert (stats.done, stats.duplicates, stats.returned, stats.looks) == (3, 7, 2, 2)
    assert (stats.requests, stats.throttles, stats.troubles[Trouble.NO_ANSWER]) == (2, 2, 1)
    assert stats.reasons == {Reason.SESSION_EXPIRED: 2}
    assert stats.attempts == {("AssociateSoftwareToken", "throttled"): 2}


def test_a_run_that_just_began_has_done_nothing(stats: RunStats) -> None:
    assert (stats.in_flight, stats.quota_lost, stats.bugs, stats.to_expire, stats.take_longest()) == (0, 0, 0, 0, 0)
    assert (stats.allowed_per_second, stats.configured_per_second, stats.requests_per_second) == (0, 0, 0)
    assert stats.waiting_for == ""


def test_the_longest_wait_is_told_once(stats: RunStats) -> None:
    for seconds in (0.2, 0.5, 0.3):
        stats.finished_after(seconds)
    assert (stats.take_longest(), stats.take_longest()) == (0.5, 0)


def test_who_is_tried_again_later_counts_once_and_from_the_first_try(stats: RunStats) -> None:
    assert stats.postponed("ana", now=True, began=7.0) == 7.0
    assert stats.postponed("ana", now=True, began=9.0) == 7.0
    assert stats.tried_again_later == 1
    assert stats.postponed("ana", now=False, began=11.0) == 7.0
    assert stats.tried_again_later == 0
    assert stats.postponed("ben", now=False) == 0.0


def test_a_steady_rate_is_what_it_is(virtual: VirtualTime, stats: RunStats) -> None:
    for _ in range(610):
        virtual.now += 0.05
        stats.sent()
    assert stats.requests_per_second == pytest.approx(20, rel=0.01)
    assert stats.elapsed == pytest.approx(30.5)


@pytest.mark.parametrize(("events", "distance"), [(2, 5.0), (3, 4.0), (5, 2.0), (11, 0.5)])
def test_a_rate_is_what_it_is_from_the_second_event_on_however_far_apart_they_are(
    virtual: VirtualTime, stats: RunStats, events: int, distance: float
) -> None:
    virtual.now = 1_000.0
    stats.sent()
    for _ in range(events - 1):
        virtual.now += distance
        stats.sent()
    assert stats.requests_per_second == pytest.approx(1 / distance)


def test_after_a_single_event_the_rate_falls_and_is_not_nothing(virtual: VirtualTime, stats: RunStats) -> None:
    stats.sent()
    virtual.now += 5
    assert stats.requests_per_second == pytest.approx(0.2)


@pytest.mark.parametrize("events", [2, 3, 4])
@pytest.mark.parametrize(("pause", "begins_anew"), [(7.9, False), (8.1, True)])
def test_a_rate_begins_anew_after_a_pause_of_four_distances(
    virtual: VirtualTime, stats: RunStats, events: int, pause: float, *, begins_anew: bool
) -> None:
    virtual.now = 1_000.0
    for _ in range(events):
        virtual.now += 2.0
        stats.sent()
    virtual.now += pause
    stats.sent()
    assert (stats.requests_per_second == 1.0) is begins_anew, "as of one event"


def test_two_events_before_an_outage_say_nothing_about_the_rate_after_it(virtual: VirtualTime, stats: RunStats) -> None:
    for seconds in (0.1, 0.1, 60.0, *[0.05] * 40):
        virtual.now += seconds
        stats.sent()
    assert stats.requests_per_second == pytest.approx(20, rel=0.01)


def test_the_rate_looks_back_ten_seconds_and_no_further(virtual: VirtualTime, stats: RunStats) -> None:
    for _ in range(100):
        stats.settled(State.DELIVERED)
    assert stats.users_per_second == 100
    virtual.now += 5
    assert stats.users_per_second == pytest.approx(19.8)
    virtual.now += 5
    assert stats.users_per_second == 0


@given(st.lists(st.floats(0, 30), max_size=30), st.floats(0, 5_000))
def test_the_rate_is_never_more_than_there_was(pauses: list[float], began: float) -> None:
    virtual = VirtualTime()
    virtual.now = began
    stats = RunStats(virtual)
    for pause in pauses:
        virtual.now += pause
        stats.sent()
        assert 0 < stats.requests_per_second <= stats.requests
    virtual.now += 11
    assert stats.requests_per_second == 0


def test_a_watchdog_sees_for_how_long_nothing_moved(virtual: VirtualTime, stats: RunStats) -> None:
    virtual.now += 7
    stats.given_back()
    stats.trouble(Trouble.THROTTLED)
    assert stats.idle == 7
    for moves in (stats.sent, stats.duplicate, lambda: stats.settled(State.ACTIVE), stats.progressed):
        virtual.now += 1
        moves()
        assert stats.idle == 0
    assert stats.last_progress == virtual.now


def test_status_lists_every_state_but_only_the_reasons_that_occur() -> None:
    found = report.status(
        counts(2, {"session_expired": 4, "reply_lost": 0}, delivered=6, needs_session=4), Backlog(9, 8)
    )
    assert list(found["states"]) == [state.value for state in State]
    assert found == {
        "states": dict.fromkeys(State, 0) | {"delivered": 6, "needs_session": 4},
        "reasons": {"session_expired": 4},
        "accepted": 10,
        "backlog": 9,
        "duplicates": 3,
        "malformed": 2,
        "past_session_expiry": 8,
        "dead_letters": 0,
    }


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (None, "dead letters were not looked at"),
        (1, "1 request is a dead letter, received too often and not done: mend why, then bring it back: mfa-worker"),
        (1_250, "1,250 requests are dead letters"),
    ],
)
def test_dead_letters_are_in_the_status_the_table_and_the_verdict(
    stats: RunStats, number: int | None, said: str
) -> None:
    counted, out = replace(counts(0, {}, delivered=5), dead_letters=number), io.StringIO()
    report.print_table(counted, Backlog(0), stats, out)
    assert said in report.verdict(counted, Backlog(0))
    assert report.status(counted, Backlog(0))["dead_letters"] == number
    assert ("\ndead letters" in out.getvalue()) is bool(number)


@pytest.mark.parametrize(
    ("counted", "waiting", "sentence"),
    [
        ({}, 0, "0 accepted."),
        ({"delivered": 2_000}, 0, "2,000 accepted = 2,000 delivered."),
        ({"delivered": 1_980, "needs_session": 20}, 0, SOME_NEED_A_SESSION),
        ({"sealed": 1, "in_progress": 2, "failed": 3}, 4, SOME_ARE_LEFT),
    ],
)
def test_the_verdict_is_one_sentence_that_says_what_to_do(counted: dict[str, int], waiting: int, sentence: str) -> None:
    reasons = {"failed": {"worker_crashed": 3}, "needs_session": {"reply_lost": 8, "session_expired": 12}}
    occurred = {key: number for state in counted for key, number in reasons.get(state, {}).items()}
    assert report.verdict(counts(0, occurred, **counted), Backlog(waiting)) == sentence


def test_the_table_adds_up_for_people(virtual: VirtualTime, stats: RunStats) -> None:
    out = io.StringIO()
    for _ in range(120):
        stats.settled(State.DELIVERED)
        stats.sent()
    stats.trouble(Trouble.THROTTLED)
    virtual.now += 60
    ledger_stats = counts(2, {"session_expired": 1}, delivered=1_999, needs_session=1)
    report.print_table(ledger_stats, Backlog(72_000, 5), stats, out)
    text = " ".join(out.getvalue().split())
    assert "delivered 1,999 need a new sign-in 1 = users in the ledger 2,000 session_expired 1" in text
    assert "requests that wait 72,000 past their deadline 5 duplicate requests 3 malformed messages 2" in text
    assert "this run: 120 users in 60 s (2.0/s), 120 requests, 1 of them throttled" in text
    assert text.endswith(
        "2,000 accepted = 1,999 delivered + 1 needs a new sign-in (1 session_expired). "
        "→ 72,000 requests wait, run again for them "
        "→ list those who need a new sign-in: mfa-worker export --state needs_session "
        "→ 2 malformed, put aside: mfa-worker status --malformed"
    )


@pytest.mark.parametrize(
    ("counted", "waiting", "says"),
    [
        ({"delivered": 2}, 0, True),
        ({"active": 2, "failed": 1}, 0, True),
        ({"delivered": 2}, 1, False),
        ({"delivered": 2, "sealed": 1}, 0, False),
        ({"skipped": 2}, 0, False),
    ],
)
def test_once_a_run_is_finished_the_next_step_is_to_hand_out(
    stats: RunStats, counted: dict[str, int], waiting: int, says: bool
) -> None:
    out = io.StringIO()
    report.print_table(counts(0, {}, **counted), Backlog(waiting), stats, out)
    last = out.getvalue().splitlines()[-1]
    assert (
        last == "→ hand out the secrets, where the key is: mfa-worker open -i KEYFILE --letters letters.pdf"
    ) is says


def test_the_verdict_says_how_many_are_active_and_whose_activation_is_left() -> None:
    counted = counts(0, {"verify_refused": 2, "preference_refused": 1}, active=1_990, delivered=3, needs_session=7)
    said = report.verdict(counted, Backlog(0))
    assert "2,000 accepted = 3 delivered (2 verify_refused, 1 preference_refused) + 1,990 active + 7 need" in said
    assert "the activation of 3 is left to you: mfa-worker export --state delivered" in said


def test_each_reason_is_explained_and_told_apart_by_its_codes(stats: RunStats) -> None:
    codes = {"refused": {"ForbiddenException": 2, "ResourceNotFoundException": 1}}
    reasons = {"refused": 3, "session_expired": 40, "dismissed": 5, "of_a_later_version": 1}
    counted = replace(counts(0, reasons, failed=3, needs_session=41, skipped=5), codes=codes)
    out = io.StringIO()

    report.print_table(counted, Backlog(0), stats, out)

    lines = out.getvalue().splitlines()
    found = [line.strip().partition(":")[0] for line in lines if line.startswith(" ") and ": " in line]
    assert found[0] == "40 session_expired"
    assert {"2 refused", "1 refused", "1 of_a_later_version"} <= set(found)
    assert "5 dismissed" not in found
    assert "        Make credentials as they are used" in out.getvalue()


def test_many_codes_of_one_reason_do_not_fill_the_screen() -> None:
    reasons: report.Reasons = {("failed", "delivery_refused", f"Code{number}"): 1 for number in range(50)}
    lines = list(report.explained(reasons))
    assert len(lines) == 11
    assert lines[-1].endswith("mfa-worker status --json has them all, under codes")


def test_a_run_that_signs_in_says_how_many_requests_that_took(virtual: VirtualTime, stats: RunStats) -> None:
    for _ in range(2):
        stats.sign_in_sent()
    stats.looked()
    stats.sent()
    stats.settled(State.ACTIVE)
    virtual.now += 10
    out = io.StringIO()
    report.print_table(counts(0, {}, active=1), Backlog(0), stats, out)
    assert "this run: 1 user in 10 s (0.1/s), 1 request, 2 to sign in" in out.getvalue()
    found = report.reconciliation(counts(0, {}, active=1), Backlog(0), stats, exit_code=0, stamp={})
    assert (found["run"]["sign_ins"], found["run"]["looks"]) == (2, 1)


def test_one_request_that_waits_is_one() -> None:
    assert "1 request waits, run again for it" in report.verdict(counts(0, {}), Backlog(1))


def test_the_report_is_whole_private_and_replaces_the_one_before(
    tmp_path: Path, virtual: VirtualTime, stats: RunStats
) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    path.chmod(0o644)
    stats.settled(State.NEEDS_SESSION, Reason.REPLY_LOST)
    stats.sent()
    stats.trouble(Trouble.NO_ANSWER)
    virtual.now += 2
    stamp = {"region": "eu-central-1"}
    ledger_stats = counts(0, {"reply_lost": 1}, needs_session=1)
    report.write(path, report.reconciliation(ledger_stats, Backlog(0), stats, exit_code=1, stamp=stamp))
    found: dict[str, Any] = json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert (found["accepted"], found["exit_code"], found["rollout"]) == (1, 1, stamp)
    assert found["verdict"].startswith("1 accepted = 1 needs a new sign-in (1 reply_lost)")
    run = found["run"]
    assert (run["began_at"], run["seconds"], run["users"]) == ("2023-11-14T22:13:20+00:00", 2.0, 1)
    assert (run["states"], run["reasons"], run["again"]) == ({"needs_session": 1}, {"reply_lost": 1}, {"no_answer": 1})


def test_a_report_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DependencyUnavailable, match="the report cannot be written: No such file"):
        report.write(tmp_path / "none" / "report.json", {})
    (tmp_path / "taken").mkdir()
    with pytest.raises(DependencyUnavailable, match="the report cannot be written"):
        report.write(tmp_path / "taken", {})
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]
