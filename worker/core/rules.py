"""What may happen to a user next: the rules of claiming, fencing and concluding, without any I/O.

Every function takes the row that stands and gives the row that shall replace it. The pipeline writes it on the
condition that nobody was faster; where somebody was, it asks these rules again about what stands there now.
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
"""A user over whom so many workers died is not tried again."""

DEADLINE_MARGIN = 1.0
"""Seconds a credential must still live for a call to be worth its quota."""

_MAY_MEAN_IT_WORKED = frozenset(
    {
        Reason.SESSION_EXPIRED,
        Reason.SESSION_SPENT,
        Reason.SESSION_INVALID,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_REVOKED,
    }
)
"""After a call whose reply was lost these may be the traces of its success."""


@dataclass(frozen=True, slots=True)
class Call:
    """Write the row: it is the claim, and with it the right to call."""

    row: Enrolment


@dataclass(frozen=True, slots=True)
class Deliver:
    """Write the row: it is ours to deliver what it holds, before anything else."""

    row: Enrolment


@dataclass(frozen=True, slots=True)
class Conclude:
    """Write the row: an outcome without a call."""

    row: Enrolment


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing to do: the request is a duplicate."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Another worker holds the user; ask again in so many seconds."""

    seconds: float


Step = Call | Deliver | Conclude | Skip | Wait


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks, when (UTC seconds), and how long (seconds) a hold lasts."""

    worker: str
    now: float
    lease: float


def next_step(request: Request, row: Enrolment | None, me: Holder, held_for: Callable[[Enrolment], float]) -> Step:
    """What to do for ``request``, given the user's row; ``held_for``: seconds for which a hold must be respected."""
    if row is None:
        return _call_or_conclude(request, _fresh(request, me), me)
    if request.id in row.settled or row.state is State.SKIPPED:
        return Skip()
    if (left := held_for(row)) > 0:
        return Wait(left)
    if row.state is State.SEALED:
        return Deliver(_hold(row, me))
    if row.state is State.IN_PROGRESS:
        return _call_or_conclude(request, _carried_on(_took_over(row), request), me)
    if row.state in ENROLLED:
        if not request.replace:
            return Skip()
        return _call_or_conclude(request, row._replace(before=row.state), me)
    return _call_or_conclude(request, row._replace(before=None, doubt=False, crashes=0), me)


def without_request(row: Enrolment, me: Holder, held_for: Callable[[Enrolment], float]) -> Deliver | Conclude | Wait:
    """What to do for an unfinished row that no waiting message will finish."""
    if (left := held_for(row)) > 0:
        return Wait(left)
    if row.state is State.SEALED:
        return Deliver(_hold(row, me))
    abandoned = _took_over(row)._replace(request_id=None)
    reason = EXPIRED[row.kind] if row.kind else Reason.SESSION_EXPIRED
    return Conclude(conclude(abandoned, State.NEEDS_SESSION, reason, me.now))


def _fresh(request: Request, me: Holder) -> Enrolment:
    return Enrolment(username=request.username, state=State.IN_PROGRESS, since=me.now, generation=0)


def _took_over(row: Enrolment) -> Enrolment:
    """A hold that ran out, or whose worker died, may have called; one that was given back says itself what it did."""
    if row.worker is None:
        return row
    return row._replace(doubt=True, crashes=row.crashes + 1)


def _carried_on(row: Enrolment, request: Request) -> Enrolment:
    """A replacement that another request carries on is not made once more for the one that began it."""
    if row.before is None or row.request_id is None or row.request_id in (request.id, *row.settled):
        return row
    return row._replace(settled=(*row.settled, row.request_id))


def _hold(row: Enrolment, me: Holder) -> Enrolment:
    return row._replace(worker=me.worker, lease_until=me.now + me.lease)


def _call_or_conclude(request: Request, row: Enrolment, me: Holder) -> Step:
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
    """The same hold, for longer."""
    return row._replace(lease_until=lease_until)


def conclude(row: Enrolment, state: State, reason: Reason | None, now: float, *, acting: float = 0.0) -> Enrolment:
    """The outcome of a request that brought no secret; a call of its may still act for ``acting`` seconds.

    Where a secret may exist that nobody has, the user must sign in again; where surely none was issued, somebody who
    was enrolled before stays so.
    """
    if row.doubt and (row.before is not None or reason in _MAY_MEAN_IT_WORKED):
        state, reason = State.NEEDS_SESSION, Reason.REPLY_LOST
    elif row.before is not None:
        state, reason = row.before, None
    return _finished(row, state, reason, now, acting)


def recorded(row: Enrolment, sealed: Sealed, now: float) -> Enrolment:
    """The secret exists, sealed: from here on it is the one to deliver."""
    return row._replace(state=State.SEALED, since=now, sealed=sealed, doubt=False, before=None)


def delivered(row: Enrolment, now: float) -> Enrolment:
    """The channel confirmed it; the blob has done its duty."""
    return _finished(row, State.DELIVERED, None, now)


def window_lost(row: Enrolment, min_validity: float, now: float) -> bool:
    """Whether the Session that would verify this secret dies within ``min_validity`` seconds."""
    expires = row.sealed.session_expires_at if row.sealed else None
    return expires is not None and expires - now < min_validity


def void(row: Enrolment, now: float) -> Enrolment:
    """A secret whose Session died before it could be delivered."""
    return _finished(row, State.NEEDS_SESSION, Reason.VERIFY_WINDOW_LOST, now)


def released(row: Enrolment, now: float, *, doubt: bool, crashed: bool = False, acting: float = 0.0) -> Enrolment:
    """Given back before its outcome; a call may still act for ``acting`` seconds.

    A replacement that surely issued nothing leaves the user as before.
    """
    row = row._replace(
        worker=None,
        lease_until=_quiet_at(now, acting),
        since=now,
        doubt=row.doubt or doubt,
        crashes=row.crashes + crashed,
    )
    if row.state is State.IN_PROGRESS and row.before is not None and not row.doubt:
        return row._replace(state=row.before, before=None, request_id=None)
    return row


def in_doubt(row: Enrolment, request_id: str | None, now: float, *, acting: float) -> Enrolment:
    """Somebody who was overtaken with ``request_id`` holds a secret, or may: nobody can say which one is valid now.

    Whoever overtook may call for ``acting`` seconds yet, not knowing.
    """
    return _finished(row._replace(request_id=request_id), State.NEEDS_SESSION, Reason.REPLY_LOST, now, acting)


def _quiet_at(now: float, acting: float) -> float:
    """What ``lease_until`` says of a row without a holder: when no call for it can act any more, 0 if none was left."""
    return now + acting if acting > 0 else 0.0


def _finished(row: Enrolment, state: State, reason: Reason | None, now: float, acting: float = 0.0) -> Enrolment:
    settled = row.settled
    if row.request_id is not None and row.request_id not in settled:
        settled = (*settled, row.request_id)
    return row._replace(
        state=state,
        reason=reason,
        since=now,
        worker=None,
        lease_until=_quiet_at(now, acting),
        doubt=False,
        crashes=0,
        before=None,
        request_id=None,
        settled=settled,
        sealed=row.sealed._replace(blob=b"") if row.sealed else None,
    )
