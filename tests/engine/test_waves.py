"""Waves: who is worked on, whom a run leaves alone, and when it is time to call a person."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import ExitCode, UsageError
from worker.core.model import NOT_ACTIVATED, STATE_OF, Reason, State
from worker.engine.failure_rate import MIN_OUTCOMES, WINDOW, FailureRate
from worker.requests.usernames import read_usernames, usernames

BAD = {State.FAILED: Reason.CREDENTIAL_MISMATCH, State.NEEDS_SESSION: Reason.SESSION_EXPIRED}
outcomes = st.lists(
    st.sampled_from([State.DELIVERED, State.DELIVERED, State.ACTIVE, State.SKIPPED, *BAD]), max_size=300
)

# --- too many fare badly ----------------------------------------------------------------------------------------------


@given(states=outcomes, share=st.floats(0, 1), window=st.integers(1, 60), enough=st.integers(1, 30))
def test_a_person_is_called_exactly_where_too_many_of_the_latest_failed(
    states: list[State], share: float, window: int, enough: int
) -> None:
    watch = FailureRate(share, window=window, min_outcomes=enough)

    for number, state in enumerate(states, 1):
        latest = states[max(0, number - window) : number]
        bad = sum(each in BAD for each in latest)
        error = watch.settled(state, BAD.get(state))
        assert (error is not None) == (len(latest) >= enough and bad > share * len(latest))


@given(states=outcomes)
def test_all_of_them_are_never_more_than_all_of_them(states: list[State]) -> None:
    watch = FailureRate(1.0)

    assert not any(watch.settled(state, BAD.get(state)) for state in states)


def test_one_unlucky_user_stops_nothing() -> None:
    watch = FailureRate(0.05)

    assert watch.settled(State.FAILED, Reason.RETRIES_EXHAUSTED) is None
    assert not any(watch.settled(State.DELIVERED, None) for _ in range(5 * WINDOW))


def test_a_rollout_where_everybody_fails_stops_as_soon_as_there_are_enough() -> None:
    watch = FailureRate(0.05)

    stops = [watch.settled(State.NEEDS_SESSION, Reason.SESSION_EXPIRED) for _ in range(MIN_OUTCOMES)]

    assert [bool(error) for error in stops] == [False] * (MIN_OUTCOMES - 1) + [True]
    assert stops[-1] is not None
    assert stops[-1].exit_code is ExitCode.PERSON_MUST_ACT
    assert str(stops[-1]) == (
        "of the latest 20 users 20 failed or need a new sign-in (20 session_expired), which is more than 5 %"
    )
    assert "--keep-fresh" in stops[-1].hint


def test_what_went_wrong_long_ago_counts_no_more() -> None:
    watch = FailureRate(0.5, window=20)

    for _ in range(19):
        watch.settled(State.FAILED, Reason.WORKER_CRASHED)
    for _ in range(19):
        watch.settled(State.DELIVERED, None)
    assert watch.settled(State.DELIVERED, None) is None
    for _ in range(10):
        assert watch.settled(State.FAILED, Reason.INVALID_PARAMETER) is None
    error = watch.settled(State.FAILED, Reason.INVALID_PARAMETER)
    assert "11 invalid_parameter" in str(error)
    assert "worker_crashed" not in str(error)


LEFT_OUT = {each for each in Reason if each in NOT_ACTIVATED or STATE_OF[each] in (State.FAILED, State.NEEDS_SESSION)}


@pytest.mark.parametrize("reason", sorted(LEFT_OUT))
def test_every_reason_has_a_cure(reason: Reason) -> None:
    watch = FailureRate(0.0, min_outcomes=1)

    error = watch.settled(State.FAILED, reason)

    assert error is not None
    assert len(error.hint) > 50


def test_the_reasons_are_told_by_their_number() -> None:
    watch = FailureRate(0.1)
    reasons = [Reason.TOKEN_REVOKED, Reason.TOKEN_REVOKED, Reason.REPLY_LOST]
    for _ in range(MIN_OUTCOMES - 3):
        watch.settled(State.DELIVERED, None)

    told = [str(watch.settled(State.NEEDS_SESSION, reason) or "") for reason in reasons]

    assert "3 failed or need a new sign-in (2 token_revoked, 1 reply_lost), which is more than 10 %" in told[-1]


# --- who is named -----------------------------------------------------------------------------------------------------


@given(names=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=128)))
def test_any_text_may_be_a_username_without_the_white_space_around_it(names: list[str]) -> None:
    text = "\n".join(names).encode()
    plain = [name.strip() for name in names if name.encode().strip()]

    found = list(usernames(io.BytesIO(text)))

    if not text.startswith(b"\xef\xbb\xbf"):
        assert [name or None for name in plain if not name.startswith("{")] == [
            name for name, given in zip(found, plain, strict=True) if not given.startswith("{")
        ]


def test_what_export_prints_names_users_too() -> None:
    lines = b'{"username": "ana", "state": "failed"}\n{"username": 5}\n{not json}\n{"username": "\\ud800"}\n"ben"\n'

    assert list(usernames(io.BytesIO(lines))) == ["ana", None, "{not json}", None, '"ben"']


@pytest.mark.parametrize("line", [b"\xff", b"x" * 129, b"x" * 600_000, b'{"username": ""}'])
def test_a_line_that_is_no_username_is_found_out(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "wave").write_bytes(b"ana\n" + line + b"\nben\n")

    assert list(usernames(io.BytesIO(b"ana\n" + line + b"\nben\n"))) == ["ana", None, "ben"]
    with pytest.raises(UsageError, match="1 of 3"):
        read_usernames(tmp_path / "wave")


def test_names_that_come_twice_are_one_user(tmp_path: Path) -> None:
    (tmp_path / "wave").write_text("ana\r\n ana \r\nben", "utf-8")

    assert read_usernames(tmp_path / "wave") == {"ana", "ben"}
