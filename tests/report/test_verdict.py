"""The verdict: what somebody knows who reads one sentence."""

from __future__ import annotations

import pytest

from worker.core.model import Counts, Reason, State
from worker.core.ports import Backlog
from worker.report.verdict import verdict

D, A, N, F, S, P = (
    *(State.DELIVERED, State.ACTIVE, State.NEEDS_SESSION),
    *(State.FAILED, State.SKIPPED, State.IN_PROGRESS),
)

ASIDE = "2 malformed messages were put aside and 1 user of the roster was never requested"


@pytest.mark.parametrize(
    ("states", "reasons", "more", "waiting", "said"),
    [
        ({D: 958}, {}, {}, 0, "Finished: all 958 users are enrolled, and nobody is left."),
        ({A: 1}, {}, {}, 0, "Finished: the one user is enrolled, and nobody is left."),
        ({D: 9, S: 1}, {}, {}, 0, "Finished: of 10 users 9 are enrolled and 1 skipped, and nobody is left."),
        ({S: 2}, {}, {}, 0, "Finished: 2 users are not to be enrolled, and nobody is left."),
        ({D: 1489, N: 9, F: 3}, {}, {}, 0, "Finished, but 12 of 1,501 users are left to a person."),
        ({N: 1}, {}, {}, 0, "Finished, but 1 of 1 user is left to a person."),
        ({D: 5}, {Reason.VERIFY_UNKNOWN: 2}, {}, 0, "Finished, but 2 of 5 users are left to a person."),
        (
            {D: 5},
            {Reason.ACTIVATION_PENDING: 2},
            {},
            0,
            "Not finished: 3 of 5 users are done and 2 are under way.",
        ),
        (
            {D: 593, P: 49, N: 1},
            {},
            {},
            859,
            "Not finished: 593 of 643 users are done, 49 are under way, 1 is left to a person and 859 requests wait.",
        ),
        ({D: 2}, {}, {}, 1, "Not finished: 2 of 2 users are done and 1 request waits."),
        ({}, {}, {}, 60_000, "Not begun: 60,000 requests wait, and nobody was called yet."),
        ({}, {}, {}, 0, "Nothing has begun: the ledger has no users, and no request waits."),
        ({D: 2}, {}, {"dead_letters": 1}, 0, "Every user in the ledger is done, but 1 request is a dead letter."),
        (
            {D: 2},
            {},
            {"malformed": 2, "unrequested": 1},
            0,
            f"Every user in the ledger is done, but {ASIDE}.",
        ),
    ],
)
def test_one_sentence_says_whether_it_is_finished_and_who_is_left(
    states: dict[State, int], reasons: dict[str, int], more: dict[str, int], waiting: int, said: str
) -> None:
    found = verdict(Counts(states, reasons, **more), Backlog(waiting))  # type: ignore[arg-type]

    assert found.sentence == said
    assert found.is_done is said.startswith("Finished:")


def test_whom_nobody_has_to_worry_about_is_said_too() -> None:
    found = verdict(Counts({D: 7, A: 1, N: 2, S: 3}, {Reason.VERIFY_REFUSED: 1}, malformed=1), Backlog(0))

    left, aside, rest = found.more
    assert left == "2 users need a new sign-in and 1 has a secret that is not active as asked."
    assert aside == "1 malformed message was put aside."
    assert rest.startswith(
        "Nobody has to worry about the 7 users whose delivered secret is the newest that Cognito issued and the 3"
    )
