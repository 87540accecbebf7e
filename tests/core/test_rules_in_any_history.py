"""What must never happen to a user, whatever comes in whatever order: the promises, on the rules alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rows import enrolments, sealed
from worker.core import rules
from worker.core.model import ENROLLED, UNFINISHED, CredentialKind, Enrolment, Reason, Request, Secret, State
from worker.core.rules import Activate, Call, Claimant, Conclude, Deliver, Skip, Wait

NOW = 1.7e9
ME = Claimant("me", NOW, 60.0)
FINISHED = frozenset(State) - UNFINISHED
requests = st.builds(
    Request,
    username=st.just("ana"),
    kind=st.sampled_from(CredentialKind),
    credential=st.just(Secret("s" * 40)),
    id=st.sampled_from("12345678"),
    expires_at=st.sampled_from([*[NOW + 100] * 6, NOW + 0.5, NOW - 1]),
    replace=st.sampled_from([True, True, False]),
    mismatch=st.sampled_from([*[""] * 5, "user", "pool"]),
)


befores = st.sampled_from([None, State.SKIPPED, *sorted(ENROLLED)])
rows = st.builds(lambda row, before: row._replace(before=before), enrolments, befores)


def taken_over(_: Enrolment) -> float:
    return 0.0


@given(requests, rows, st.sampled_from([0.0, 5.0]))
def test_every_row_that_could_ever_be_has_a_next_step(wanted: Request, stands: Enrolment, claimed: float) -> None:
    found = rules.next_step(wanted, stands, ME, lambda _: claimed)
    if wanted.id in stands.settled:
        assert found == Skip()
    if rules.has_enough(stands) and not stands.is_unfinished and not wanted.replace:
        assert isinstance(found, Skip | Wait)
    if isinstance(found, Call | Conclude | Deliver | Activate):
        assert not claimed
        assert found.row.username == stands.username
        assert set(stands.settled.newest) <= set(found.row.settled.newest)
    if isinstance(found, Call):
        assert found.row.generation > stands.generation
        assert found.row.generation >= NOW * 1000
        assert not wanted.mismatch
        assert not rules.too_late(wanted, NOW)
    if isinstance(found, Deliver):
        assert (found.row.sealed, found.row.generation) == (stands.sealed, stands.generation)
    if isinstance(found, Activate):
        assert found.row.generation == stands.generation
        assert (found.row.state, found.row.reason) == (State.DELIVERED, Reason.ACTIVATION_PENDING)
        assert found.row.activation is not None
    if isinstance(found, Conclude):
        assert found.row.state in FINISHED
        assert not found.row.is_unfinished
        assert wanted.id in found.row.settled or stands.reason is Reason.ACTIVATION_PENDING
        assert found.row.activation is None or found.row.reason is not None


class User:
    """One user through any history, with what only the truth knows: whether a secret was issued that nobody has."""

    def __init__(self) -> None:
        self.row: Enrolment | None = None
        self.lost = False
        self.called_for: set[str] = set()

    def ask(self, wanted: Request, ends: list[str]) -> None:
        found = rules.next_step(wanted, self.row, ME, taken_over)
        if isinstance(found, Call):
            assert self.row is None or found.row.generation > self.row.generation
            assert self.row is None or wanted.id not in self.row.settled
            assert self.row is None or self.row.state not in ENROLLED or wanted.replace
            self.row = found.row
            self.call(found.row, ends)
        elif isinstance(found, Conclude):
            self.row = found.row
        elif isinstance(found, Deliver):
            self.deliver(found.row, ends[0])

    def finish(self, ends: list[str]) -> None:
        if self.row is None or self.row.state not in UNFINISHED:
            return
        found = rules.without_request(self.row, ME, taken_over)
        if isinstance(found, Deliver):
            self.deliver(found.row, ends[0])
        elif isinstance(found, Conclude):
            self.row = found.row

    def call(self, claim: Enrolment, ends: list[str]) -> None:
        doubt, state, reason = False, State.NEEDS_SESSION, Reason.SESSION_SPENT
        for end in ends:
            match end:
                case "secret":
                    self.lost = False
                    return self.deliver(rules.recorded(claim, sealed(claim.generation), NOW), ends[-1])
                case "lost reply":
                    doubt = self.lost = True
                case "crash":
                    self.lost = True
                    return None
                case "given back":
                    self.row = rules.released(claim, NOW, doubt=doubt)
                    return None
                case "refused":
                    state, reason = State.FAILED, Reason.INVALID_PARAMETER
                    break
                case "disabled":
                    state, reason = State.SKIPPED, Reason.DISABLED
                    break
                case "unrecordable":
                    self.lost = True
                    self.row = rules.unrecordable(claim, "ValidationException", NOW)
                    return None
        self.row = rules.conclude(claim._replace(doubt=claim.doubt or doubt), state, reason, NOW)
        return None

    def deliver(self, row: Enrolment, end: str) -> None:
        self.row = {
            "crash": row,
            "given back": rules.released(row, NOW, doubt=False),
            "void": rules.voided(row, NOW),
            "undeliverable": rules.refused_delivery(row, "KeyTooLongError", NOW),
        }.get(end, rules.delivered(row, NOW))


ends = st.lists(
    st.sampled_from(
        [
            *("secret", "lost reply", "crash", "given back", "void", "refused", "disabled"),
            *("unrecordable", "undeliverable"),
        ]
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=400)
@given(st.lists(st.tuples(st.none() | requests | requests, ends), min_size=3, max_size=12))
def test_nobody_is_enrolled_while_a_secret_exists_that_nobody_has(
    history: list[tuple[Request | None, list[str]]],
) -> None:
    user = User()
    user.ask(Request("ana", CredentialKind.SESSION, Secret("s" * 40), "first", NOW + 100), ["secret", "delivered"])
    assert user.row is not None
    assert user.row.state is State.DELIVERED
    for wanted, ends in history:
        if wanted is None:
            user.finish(ends)
        else:
            user.ask(wanted, ends)
        if user.row.state in ENROLLED:
            assert not user.lost
            assert user.row.sealed is not None
            assert user.row.sealed.blob == b""
            assert not user.row.doubt
