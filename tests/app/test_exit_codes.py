"""What a run returns: 0 and 1 are facts about the ledger, whatever ended it."""

from __future__ import annotations

import pytest

from worker.app.run import _exit_code
from worker.core.errors import ExitCode, Interrupted, LedgerUnavailable, MaxUsersReached, WorkerError
from worker.core.model import Counts, State
from worker.core.ports import Backlog

ALL_DELIVERED = Counts({State.DELIVERED: 99}, {})
SOME_FAILED = Counts({State.DELIVERED: 99, State.FAILED: 1}, {})
SOME_NOT_ACTIVATED = Counts({State.DELIVERED: 100}, {"verify_refused": 1})
ALL_ACTIVE = Counts({State.ACTIVE: 98, State.SKIPPED: 2}, {"already_enrolled": 2})
SOMEBODY_BEING_ACTIVATED = Counts({State.DELIVERED: 100}, {"activation_pending": 1})
SOMEBODY_UNDER_WAY = Counts({State.DELIVERED: 99, State.IN_PROGRESS: 1}, {})
A_DEAD_LETTER = Counts({State.DELIVERED: 99}, {}, dead_letters=1)
NOT_LOOKED_AT = Counts({State.DELIVERED: 99}, {}, dead_letters=None)
INTERRUPTED, UNAVAILABLE, ENOUGH = Interrupted("a signal"), LedgerUnavailable("away"), MaxUsersReached("enough")


@pytest.mark.parametrize(
    ("reason", "bugs", "counts", "waiting", "tolerate", "code"),
    [
        (None, 0, ALL_DELIVERED, 0, 0.0, ExitCode.DONE),
        (None, 0, SOME_FAILED, 0, 0.0, ExitCode.SOME_LEFT_OUT),
        (None, 0, SOME_FAILED, 0, 0.01, ExitCode.DONE),
        (None, 0, ALL_ACTIVE, 0, 0.0, ExitCode.DONE),
        (None, 0, SOME_NOT_ACTIVATED, 0, 0.0, ExitCode.SOME_LEFT_OUT),
        (None, 0, SOME_NOT_ACTIVATED, 0, 0.01, ExitCode.DONE),
        (None, 0, SOMEBODY_BEING_ACTIVATED, 0, 1.0, ExitCode.INTERRUPTED),
        (INTERRUPTED, 0, SOMEBODY_BEING_ACTIVATED, 0, 0.0, ExitCode.INTERRUPTED),
        (None, 0, SOMEBODY_UNDER_WAY, 0, 0.0, ExitCode.INTERRUPTED),
        (None, 0, ALL_DELIVERED, 1, 0.0, ExitCode.INTERRUPTED),
        (None, 0, A_DEAD_LETTER, 0, 1.0, ExitCode.SOME_LEFT_OUT),
        (None, 0, NOT_LOOKED_AT, 0, 0.0, ExitCode.DONE),
        (INTERRUPTED, 0, A_DEAD_LETTER, 0, 0.0, ExitCode.SOME_LEFT_OUT),
        (INTERRUPTED, 0, ALL_DELIVERED, 0, 0.0, ExitCode.DONE),
        (INTERRUPTED, 0, ALL_DELIVERED, 1, 0.0, ExitCode.INTERRUPTED),
        (INTERRUPTED, 0, SOMEBODY_UNDER_WAY, 0, 0.0, ExitCode.INTERRUPTED),
        (ENOUGH, 0, ALL_DELIVERED, 1, 0.0, ExitCode.MAX_USERS),
        (UNAVAILABLE, 0, ALL_DELIVERED, 0, 0.0, ExitCode.DEPENDENCY_UNAVAILABLE),
        (UNAVAILABLE, 1, ALL_DELIVERED, 0, 0.0, ExitCode.BUG),
    ],
)
def test_done_is_said_only_where_nothing_is_left(
    reason: WorkerError | None, bugs: int, counts: Counts, waiting: int, tolerate: float, code: ExitCode
) -> None:
    assert _exit_code(reason, bugs, counts, Backlog(waiting), tolerate, 0) is code


def test_a_malformed_request_is_somebody_left_out_whatever_is_tolerated() -> None:
    assert _exit_code(None, 0, ALL_DELIVERED, Backlog(0), 1.0, 1) is ExitCode.SOME_LEFT_OUT
    assert _exit_code(INTERRUPTED, 0, ALL_DELIVERED, Backlog(1), 0.0, 1) is ExitCode.INTERRUPTED
