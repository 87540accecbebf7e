"""What may happen to a user next: the rules of claiming, fencing and concluding, without any I/O.

Every function takes the user's present row and gives the row that shall replace it. The pipeline writes that on the
condition that no other worker was faster; where one was, it asks these rules again about the row that stands there now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from worker.core.model import (
    ENROLLED,
    EXPIRED,
    Enrolment,
    Reason,
    Request,
    Sealed,
    State,
)

MOST_CRASHES = 3
"""A user over whom so many workers died is not called again (``docs/design.md``): once or twice may be chance."""

DEADLINE_MARGIN = 1.0
"""Seconds that a credential must still live for a call to be worth its quota: the way to Cognito takes some, and clocks
differ."""

MAY_MEAN_IT_WORKED = frozenset(
    {
        Reason.SESSION_EXPIRED,
        Reason.SESSION_SPENT,
        Reason.SESSION_INVALID,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_REVOKED,
    }
)
"""After a call whose reply was lost, these refusals may follow from its success: the credential was used up by it."""


@dataclass(frozen=True, slots=True)
class Call:
    """Write the row: it is the claim, and with it comes the right to call."""

    row: Enrolment


@dataclass(frozen=True, slots=True)
class Deliver:
    """Write the row: it claims the user, so that the sealed secret in it is delivered before anything else."""

    row: Enrolment


@dataclass(frozen=True, slots=True)
class Conclude:
    """Write the row: it is an outcome, without a call."""

    row: Enrolment


@dataclass(frozen=True, slots=True)
class Skip:
    """There is nothing to do: the request is a duplicate."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Another worker has claimed the user; ask again in so many seconds."""

    seconds: float


Step = Call | Deliver | Conclude | Skip | Wait


@dataclass(frozen=True, slots=True)
class Claimant:
    """The worker that asks, when it does (UTC seconds), and for how long (seconds) its claims hold."""

    worker: str
    now: float
    lease: float


def next_step(request: Request, row: Enrolment | None, me: Claimant, claim_left: Callable[[Enrolment], float]) -> Step:
    """What to do for ``request``, given the user's row.

    ``claim_left`` tells for how many seconds a row's claim must still be respected.
    """
    if row is None:
        return _call_or_conclude(request, _fresh(request, me), me)
    if request.id in row.settled or row.state is State.SKIPPED:
        return Skip()
    if (left := claim_left(row)) > 0:
        return Wait(left)
    if row.state is State.SEALED:
        return Deliver(_claimed(row, me))
    if row.state is State.IN_PROGRESS:
        return _call_or_conclude(request, _carried_on(_taken_over(row), request), me)
    if row.state in ENROLLED:
        if not request.replace:
            return Skip()
        return _call_or_conclude(request, row._replace(before=row.state), me)
    return _call_or_conclude(request, row._replace(before=None, doubt=False, crashes=0), me)


def without_request(
    row: Enrolment, me: Claimant, claim_left: Callable[[Enrolment], float]
) -> Deliver | Conclude | Wait:
    """What to do for an unfinished row that no waiting message will finish."""
    if (left := claim_left(row)) > 0:
        return Wait(left)
    if row.state is State.SEALED:
        return Deliver(_claimed(row, me))
    abandoned = _taken_over(row)._replace(request_id=None)
    reason = EXPIRED[row.kind] if row.kind else Reason.SESSION_EXPIRED
    return Conclude(conclude(abandoned, State.NEEDS_SESSION, reason, me.now))


def _fresh(request: Request, me: Claimant) -> Enrolment:
    return Enrolment(username=request.username, state=State.IN_PROGRESS, since=me.now, generation=0)


def _taken_over(row: Enrolment) -> Enrolment:
    """Another worker's expired claim may have led to a call; a row that was given back says whether one was made."""
    if row.worker is None:
        return row
    return row._replace(doubt=True, crashes=row.crashes + 1)


def _carried_on(row: Enrolment, request: Request) -> Enrolment:
    """A replacement that another request completes is not made a second time for the request that began it."""
    if row.before is None or row.request_id is None or row.request_id in (request.id, *row.settled):
        return row
    return row._replace(settled=(*row.settled, row.request_id))


def _claimed(row: Enrolment, me: Claimant) -> Enrolment:
    return row._replace(worker=me.worker, lease_until=me.now + me.lease)


def _call_or_conclude(request: Request, row: Enrolment, me: Claimant) -> Step:
    row = row._replace(request_id=request.id, kind=request.kind)
    if row.crashes >= MOST_CRASHES:
        return Conclude(conclude(row, State.FAILED, Reason.WORKER_CRASHED, me.now))
    if request.mismatch:
        return Conclude(conclude(row, State.FAILED, Reason.CREDENTIAL_MISMATCH, me.now))
    if too_late(request, me.now):
        return Conclude(conclude(row, State.NEEDS_SESSION, EXPIRED[request.kind], me.now))
    return Call(
        row._replace(
            state=State.IN_PROGRESS,
            reason=None,
            since=me.now,
            generation=max(int(me.now * 1000), row.generation + 1),
            worker=me.worker,
            lease_until=me.now + me.lease,
        )
    )


def too_late(request: Request, now: float) -> bool:
    """Whether a call can no longer be made with this credential."""
    return request.expires_at - now <= DEADLINE_MARGIN


def renewed(row: Enrolment, lease_until: float) -> Enrolment:
    """The same claim, for longer."""
    return row._replace(lease_until=lease_until)


def conclude(row: Enrolment, state: State, reason: Reason | None, now: float, *, may_act_for: float = 0.0) -> Enrolment:
    """The outcome of a request that brought no secret; a call of it may take effect for ``may_act_for`` seconds yet.

    Where a secret may exist that nobody has, the user must sign in again; where surely none was issued, a user who
    was enrolled before stays so.
    """
    if row.doubt and (row.before is not None or reason in MAY_MEAN_IT_WORKED):
        state, reason = State.NEEDS_SESSION, Reason.REPLY_LOST
    elif row.before is not None:
        state, reason = row.before, None
    return _finished(row, state, reason, now, may_act_for)


def recorded(row: Enrolment, sealed: Sealed, now: float) -> Enrolment:
    """The secret exists, sealed: from now on this is the one to deliver."""
    return row._replace(state=State.SEALED, since=now, sealed=sealed, doubt=False, before=None)


def delivered(row: Enrolment, now: float) -> Enrolment:
    """The channel confirmed the delivery; the sealed blob is needed no more."""
    return _finished(row, State.DELIVERED, None, now)


def window_lost(row: Enrolment, min_validity: float, now: float) -> bool:
    """Whether the Session that would verify this secret dies within ``min_validity`` seconds."""
    expires = row.sealed.session_expires_at if row.sealed else None
    return expires is not None and expires - now < min_validity


def void(row: Enrolment, now: float) -> Enrolment:
    """A secret whose Session died before the delivery: nobody could verify it any more."""
    return _finished(row, State.NEEDS_SESSION, Reason.VERIFY_WINDOW_LOST, now)


def released(row: Enrolment, now: float, *, doubt: bool, crashed: bool = False, may_act_for: float = 0.0) -> Enrolment:
    """Given back before an outcome; a call may take effect for ``may_act_for`` seconds yet.

    A replacement that surely issued nothing leaves the user as before.
    """
    row = row._replace(
        worker=None,
        lease_until=_no_effect_after(now, may_act_for),
        since=now,
        doubt=row.doubt or doubt,
        crashes=row.crashes + crashed,
    )
    if row.state is State.IN_PROGRESS and row.before is not None and not row.doubt:
        return row._replace(state=row.before, before=None, request_id=None)
    return row


def in_doubt(row: Enrolment, request_id: str | None, now: float, *, may_act_for: float) -> Enrolment:
    """A worker that was overtaken at ``request_id`` has a secret, or may have: nobody can say which one is valid now.

    The worker that overtook may call for ``may_act_for`` seconds yet, since it does not know.
    """
    return _finished(row._replace(request_id=request_id), State.NEEDS_SESSION, Reason.REPLY_LOST, now, may_act_for)


def _no_effect_after(now: float, may_act_for: float) -> float:
    """``lease_until`` of a row that nobody claims: when no earlier call can take effect any more; 0: there is none."""
    return now + may_act_for if may_act_for > 0 else 0.0


def _finished(row: Enrolment, state: State, reason: Reason | None, now: float, may_act_for: float = 0.0) -> Enrolment:
    settled = row.settled
    if row.request_id is not None and row.request_id not in settled:
        settled = (*settled, row.request_id)
    return row._replace(
        state=state,
        reason=reason,
        since=now,
        worker=None,
        lease_until=_no_effect_after(now, may_act_for),
        doubt=False,
        crashes=0,
        before=None,
        request_id=None,
        settled=settled,
        sealed=row.sealed._replace(blob=b"") if row.sealed else None,
    )
