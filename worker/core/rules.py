"""What may happen to a user next: the rules of claiming, fencing and concluding, without any I/O.

``next_step`` and ``without_request`` say what to do, with the row to write for it; the others make the next row of a
user, or answer a question about one. Every row that they make tells what happened (``Enrolment.events``). The pipeline
writes a row on the condition that no other worker was faster; where one was, it asks these rules again about the row
that is in the ledger now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from worker.core import history
from worker.core.answers import answer
from worker.core.history import and_then
from worker.core.model import (
    ENROLLED,
    EXPIRED,
    NOT_ACTIVATED,
    SIGNS_IN,
    Activation,
    AlreadyEnrolled,
    CredentialKind,
    CustomChallenge,
    Enrolment,
    NotEnrolled,
    PoolFault,
    Preferred,
    Reason,
    Refused,
    Request,
    Sealed,
    SignedIn,
    State,
    Verified,
    digest_of,
)

_TOLD_OTHERWISE = (Verified, Preferred, AlreadyEnrolled, NotEnrolled, CustomChallenge)
"""Answers that lead to an event of their own, or to another request."""

MAX_CRASHES = 3
"""A user over whom so many workers died is not called again: twice may be chance, and each try may cost a worker."""

DEADLINE_MARGIN = 1.0
"""Seconds for which a credential must still be valid for a call to be worth its quota: more than the network takes."""

MAY_MEAN_IT_WORKED = frozenset(
    {
        Reason.SESSION_EXPIRED,
        Reason.SESSION_SPENT,
        Reason.SESSION_INVALID,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_REVOKED,
        Reason.REQUEST_LOST,
        Reason.CREDENTIAL_EXPIRED,
    }
)
"""These do not rule out that an earlier call, whose reply was lost, succeeded: it may have used the credential up, or
the credential can no longer be asked."""


@dataclass(frozen=True, slots=True)
class Call:
    """Write the row: it is the claim, and with it comes the right to call."""

    row: Enrolment


@dataclass(frozen=True, slots=True)
class Deliver:
    """Write the row: it claims the user, so that the sealed secret in it is delivered before anything else."""

    row: Enrolment


@dataclass(frozen=True, slots=True)
class Activate:
    """Write the row: it claims a user who was delivered, so that the secret is verified. It raises no generation."""

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
    """The user may not be claimed yet, or is not worth a call and not dead yet; ask again in so many seconds."""

    seconds: float


Step = Call | Deliver | Activate | Conclude | Skip | Wait


@dataclass(frozen=True, slots=True)
class Claimant:
    """The worker that wants to claim a user, now (UTC seconds), and for how long its claims hold (seconds)."""

    worker: str
    now: float
    lease: float


def next_step(
    request: Request, row: Enrolment | None, me: Claimant, seconds_until_free: Callable[[Enrolment], float]
) -> Step:
    """What to do for ``request``, given the user's row.

    ``seconds_until_free`` tells for how many seconds another claim on the row must still be respected.
    """
    if row is None:
        return _call_or_conclude(request, _new_row(request, me.now), me)
    if is_duplicate(request, row, me.now):
        return Skip()
    if (left := seconds_until_free(row)) > 0:
        return Wait(left)
    if row.state is State.SEALED:
        return Deliver(_claimed(row, me, "to deliver"))
    if row.state is State.IN_PROGRESS:
        return _call_or_conclude(request, _settle_interrupted_replacement(_after_takeover(row, me.now), request), me)
    if row.is_unfinished:
        return _activate(row, me)
    if has_enough(row):
        return _call_or_conclude(request, row._replace(before=row.state, before_reason=row.reason), me)
    fresh = row._replace(before=None, before_reason=None, doubt=False, crashes=0)
    if row.state is not State.DELIVERED:
        return _call_or_conclude(request, fresh, me)
    step = _call_or_conclude(request, fresh._replace(before=row.state, before_reason=row.reason), me)
    if isinstance(step, Call) and _goes_on(row, request):
        # Why the activation did not get through stands again if this request changes nothing about it.
        pending = fresh._replace(reason=Reason.ACTIVATION_PENDING, before_reason=row.reason, detail=None, since=me.now)
        return Activate(_claimed(pending._replace(request_id=request.id, kind=request.kind), me, "to activate"))
    return step


def _goes_on(row: Enrolment, request: Request) -> bool:
    """Whether the activation goes on with the new credential and the same secret, which only a token can verify."""
    kept = row.activation is not None and row.activation.kind is CredentialKind.ACCESS_TOKEN
    return kept and not request.replace and request.kind is not CredentialKind.SESSION


def is_duplicate(request: Request, row: Enrolment, now: float) -> bool:
    """Whether the request changes nothing about the user, whoever has claimed them.

    Its id had an outcome; or the user has one, and needs no other; or the user has one, and this credential is dead,
    which makes nothing better or worse. A mismatch makes nothing better either, but where the user has no secret it is
    recorded as the outcome, once.
    """
    if request.id in row.settled:
        return True
    if row.is_unfinished:
        return False
    if has_enough(row) and not request.replace:
        return True
    if request.mismatch:
        told = (row.reason, row.detail) == (Reason.CREDENTIAL_MISMATCH, request.mismatch)
        return has_enough(row) or told
    return is_expired(request, now)


def has_enough(row: Enrolment) -> bool:
    """Whether the user needs no secret, and gets another one only by ``replace``.

    Whoever was skipped for anything else than being enrolled already is tried again with the next request: the account
    may be enabled or confirmed by now, and whoever pushes a request for somebody dismissed has changed their mind. So
    is whoever was delivered and not activated.
    """
    if row.state in ENROLLED:
        return row.reason not in NOT_ACTIVATED
    return row.state is State.SKIPPED and row.reason in (None, Reason.ALREADY_ENROLLED)


def without_request(
    row: Enrolment, me: Claimant, seconds_until_free: Callable[[Enrolment], float]
) -> Deliver | Activate | Conclude | Wait:
    """What to do for an unfinished row that no waiting message will finish."""
    if (left := seconds_until_free(row)) > 0:
        return Wait(left)
    if row.state is State.SEALED:
        return Deliver(_claimed(row, me, "to deliver"))
    if row.state is not State.IN_PROGRESS:
        return _activate(row, me)
    abandoned = _after_takeover(row, me.now)._replace(request_id=None)
    return Conclude(conclude(abandoned, State.NEEDS_SESSION, Reason.REQUEST_LOST, me.now))


def waits_for_message(row: Enrolment, min_validity: float, now: float) -> bool:
    """Whether the user's message, while it may still come, can do better than whoever finds the row without it.

    It holds a ticket or a password, and the secret cannot be verified any more, or nobody knows if it was: a new
    sign-in decides that, and whoever has none must leave the user to a person.
    """
    if row.kind not in SIGNS_IN or row.state is State.IN_PROGRESS:
        return False
    if row.state is State.SEALED:
        return too_late_to_verify(row, min_validity, now)
    activation = row.activation
    if activation is None or activation.verified:
        return False
    lost_track = activation.kind is CredentialKind.SESSION and (activation.doubt or row.worker is not None)
    return lost_track or activation.expires_at - now <= DEADLINE_MARGIN


def call_instead(outcome: Enrolment, claimed: Enrolment, request: Request, me: Claimant) -> Step:
    """What to do where ``request`` gets the user another secret in place of this ``outcome`` of a ``claimed`` row.

    What activation needs of the delivered secret stays until the other one is recorded.
    """
    kept = outcome.activation
    step = next_step(request, outcome._replace(settled=claimed.settled, activation=None), me, lambda _: 0.0)
    return Call(step.row._replace(activation=kept)) if isinstance(step, Call) else step


def _activate(row: Enrolment, me: Claimant) -> Activate | Conclude:
    row = _after_takeover(row, me.now)
    if row.crashes >= MAX_CRASHES:
        detail = Reason.WORKER_CRASHED.value
        return Conclude(not_activated(row, Reason.VERIFY_UNKNOWN, me.now, detail=detail))
    if row.activation is None:  # an older version of this program, which knows no activation, has written the row
        return Conclude(not_activated(row, Reason.VERIFY_UNKNOWN, me.now))
    return Activate(_claimed(row, me, "to activate"))


def _new_row(request: Request, now: float) -> Enrolment:
    return Enrolment(username=request.username, state=State.IN_PROGRESS, since=now, generation=0)


def _after_takeover(row: Enrolment, now: float) -> Enrolment:
    """The row once an expired claim on it is ignored: its worker may have called, and counts as dead.

    A row that was given back (``worker`` is ``None``) says itself whether a call was made.
    """
    if row.worker is None:
        return row
    events = and_then(row.events, now, history.TAKEN_OVER)
    return _doubted(row._replace(crashes=row.crashes + 1, events=events))


def _doubted(row: Enrolment) -> Enrolment:
    """The row where an answer may have been lost: to a call, or once the user is delivered to a verification."""
    if row.state is State.IN_PROGRESS:
        return row._replace(doubt=True)
    return row if row.activation is None else row._replace(activation=row.activation._replace(doubt=True))


def _settle_interrupted_replacement(row: Enrolment, request: Request) -> Enrolment:
    """Where another request takes over a replacement, the one that began it is settled: it must not replace again."""
    if row.before is None or row.request_id is None or row.request_id == request.id:
        return row
    return row._replace(settled=row.settled.add(row.request_id))


def _claimed(row: Enrolment, me: Claimant, why: str) -> Enrolment:
    """A row whose ``worker`` is still somebody's was taken over."""
    events = row.events
    if row.state is State.SEALED and row.worker is not None:
        events = and_then(events, me.now, history.TAKEN_OVER)
    return row._replace(
        worker=me.worker, lease_until=me.now + me.lease, events=and_then(events, me.now, history.CLAIMED, why)
    )


def _call_or_conclude(request: Request, row: Enrolment, me: Claimant) -> Step:
    row = row._replace(request_id=request.id, kind=request.kind)
    if row.crashes >= MAX_CRASHES:
        return Conclude(conclude(row, State.FAILED, Reason.WORKER_CRASHED, me.now))
    if request.mismatch:
        mismatch = request.mismatch
        return Conclude(conclude(row, State.FAILED, Reason.CREDENTIAL_MISMATCH, me.now, detail=mismatch))
    if is_expired(request, me.now):
        return Conclude(conclude(row, State.NEEDS_SESSION, EXPIRED[request.kind], me.now))
    if too_late(request, me.now):
        return Wait(request.expires_at - me.now)
    return Call(
        row._replace(
            state=State.IN_PROGRESS,
            reason=None,
            detail=None,
            since=me.now,
            # at least the clock in milliseconds, so that it still rises where a lost ledger was begun anew
            generation=max(int(me.now * 1000), row.generation + 1),
            worker=me.worker,
            lease_until=me.now + me.lease,
            events=and_then(row.events, me.now, history.CLAIMED, "" if row.before is None else "to replace"),
        )
    )


def is_expired(request: Request, now: float) -> bool:
    """Whether the credential has expired. Only then may that be the user's outcome."""
    return request.expires_at <= now


def too_late(request: Request, now: float) -> bool:
    """Whether a call with this credential is no longer worth its quota."""
    return request.expires_at - now <= DEADLINE_MARGIN


def renewed(row: Enrolment, lease_until: float) -> Enrolment:
    """The same claim, for longer."""
    return row._replace(lease_until=lease_until)


def conclude(
    row: Enrolment,
    state: State,
    reason: Reason | None,
    now: float,
    *,
    late_effect_for: float = 0.0,
    detail: str | None = None,
) -> Enrolment:
    """The outcome of a request that brought no secret.

    ``late_effect_for``: seconds for which one of its calls may still take effect. ``detail``: see ``Enrolment``. Where
    the refusal may mean that a call with a lost reply succeeded, or a replacement is in doubt, the user must sign in
    again; so must whoever would be skipped in doubt, since that says that nothing is left to do. A replacement that
    surely issued nothing leaves the user as before, and what activation needs of the earlier secret is kept.
    """
    if row.doubt and (row.before is not None or reason in MAY_MEAN_IT_WORKED or state is State.SKIPPED):
        state, reason, detail = State.NEEDS_SESSION, Reason.REPLY_LOST, None
    elif row.before is not None:
        return _as_before(row, now, late_effect_for, outcome(state, reason, detail))
    return _finished(row, state, reason, now, late_effect_for, detail=detail)


def _as_before(row: Enrolment, now: float, late_effect_for: float, why: str) -> Enrolment:
    """The outcome of a request that surely issued nothing, where the user has a secret. ``why``: what became of it."""
    assert row.before is not None
    reason = Reason.ALREADY_ENROLLED if row.before is State.SKIPPED else row.before_reason
    told = and_then(row.events, now, history.AS_BEFORE, why)
    finished = _finished(row, row.before, reason, now, late_effect_for)
    return finished._replace(activation=row.activation, events=told)


def outcome(state: State, reason: Reason | None, detail: str | None = None) -> str:
    """An outcome in one line, for a history."""
    words = state.value if reason is None else f"{state.value}: {reason.value}"
    return f"{words} ({detail})" if detail else words


def enrolled_already(row: Enrolment, now: float, *, replace: bool) -> Enrolment:
    """A sign-in, or a look after it, showed that the user has an active TOTP factor.

    Whoever was delivered and not activated is active then, unless that secret replaced another one, which may be the
    active factor. Where a replacement was asked for, a Session for it cannot be had so, and the user stays as before.
    Where somebody has no secret of ours, it is newer than a doubt, and safe: an earlier call whose reply was lost took
    effect before the sign-in, if at all (a call time-out is waited in between), and its secret cannot be the active
    one, since nobody has it. Where a secret is being replaced, that doubt stands: the user may have to get another one
    all the same, if Cognito should drop the old one for it some day (its documentation said so once).
    """
    if row.before is None and replace:
        detail = "SOFTWARE_TOKEN_MFA"
        return conclude(row, State.NEEDS_SESSION, Reason.CHALLENGE_UNANSWERABLE, now, detail=detail)
    if row.before is None:
        return _finished(row, State.SKIPPED, Reason.ALREADY_ENROLLED, now)
    replaced = row.activation is not None and row.activation.replaces
    is_left = row.before is State.DELIVERED and row.before_reason in NOT_ACTIVATED
    if is_left and not (replace or row.doubt or replaced):
        return active(row, now)
    return conclude(row, State.SKIPPED, Reason.ALREADY_ENROLLED, now)


def may_have_a_factor(row: Enrolment, usable: Request) -> bool:
    """Whether an earlier secret may be the active TOTP factor of a user who is just called for.

    ``usable``: the request with the credential of the call. Whoever was signed in, and got a Session to set TOTP up,
    has none.
    """
    has_none = usable.kind is CredentialKind.SESSION and row.kind in SIGNS_IN
    return (usable.replace or row.before is not None) and not has_none


def recorded(row: Enrolment, sealed: Sealed, now: float, activation: Activation | None = None) -> Enrolment:
    """The secret exists, sealed: from now on this is the one to deliver, and the one to verify (``activation``)."""
    return row._replace(
        state=State.SEALED,
        since=now,
        sealed=sealed,
        doubt=False,
        before=None,
        before_reason=None,
        activation=activation,
        events=and_then(row.events, now, history.SEALED, str(sealed.generation)),
    )


def answered(row: Enrolment, operation: str, reply: object, now: float) -> Enrolment:
    """The row in memory, which holds what Cognito answered until it is written again.

    ``operation``: AWS's name for it; empty for the enrolment itself. What leads to an event of its own is not told.
    """
    if isinstance(reply, _TOLD_OTHERWISE):
        return row
    if isinstance(reply, SignedIn):
        return row._replace(events=and_then(row.events, now, history.SIGNED_IN, reply.kind.value))
    detail = answer(reply)
    if isinstance(reply, Refused):
        detail = reply.reason.value
    elif isinstance(reply, PoolFault):
        detail = f"{detail} {reply.code}"
    detail = f"{detail} to {operation}" if operation else detail
    return row._replace(events=and_then(row.events, now, history.ANSWERED, detail))


def not_delivered(row: Enrolment, now: float) -> Enrolment:
    """The channel was away; the row in memory, like ``answered``."""
    return row._replace(events=and_then(row.events, now, history.NOT_DELIVERED))


def delivered(row: Enrolment, now: float, *, keep_sealed: bool = False, activates: bool = False) -> Enrolment:
    """The channel confirmed the delivery, so the sealed bytes are no longer needed, unless they are to be kept.

    Those that are kept go with the first outcome after which the secret in them may not be the user's any more. Where
    this worker ``activates`` and the row holds what that takes, the user is not finished, and stays claimed.
    """
    row = row if keep_sealed else _erased(row)
    if not activates or row.activation is None:
        return _finished(row, State.DELIVERED, None, now, what=history.DELIVERED)
    return row._replace(
        state=State.DELIVERED,
        reason=Reason.ACTIVATION_PENDING,
        since=now,
        crashes=0,
        events=and_then(row.events, now, history.DELIVERED),
    )


def redelivered(row: Enrolment, now: float) -> Enrolment:
    """A person let the record be delivered again, which changes nothing but the history."""
    return row._replace(events=and_then(row.events, now, history.REDELIVERED))


def verified(row: Enrolment, now: float) -> Enrolment:
    """The delivered secret is verified, and the preference is still to be set."""
    assert row.activation is not None
    events = and_then(row.events, now, history.VERIFIED)
    return row._replace(activation=row.activation._replace(verified=True), events=events)


def active(row: Enrolment, now: float) -> Enrolment:
    """The delivered secret is verified, and preferred where that was asked: nothing is left to do."""
    return _finished(row, State.ACTIVE, None, now, what=history.ACTIVE)


def left_to_the_user(row: Enrolment, now: float) -> Enrolment:
    """A worker that does not activate concerned itself with a delivered user whose activation did not get through."""
    return _finished(row, State.DELIVERED, None, now)


def not_activated(
    row: Enrolment, reason: Reason, now: float, *, late_effect_for: float = 0.0, detail: str | None = None
) -> Enrolment:
    """Delivered, and the activation is left to a person. With a token it can go on later, with the same secret.

    ``late_effect_for``: seconds for which a verification without an answer may still take effect.
    """
    kept = row.activation
    if kept is not None and kept.kind is not CredentialKind.ACCESS_TOKEN:
        kept = kept._replace(blob=b"") if kept.replaces else None
    return _finished(row, State.DELIVERED, reason, now, late_effect_for, detail=detail)._replace(activation=kept)


def code_sent(row: Enrolment) -> Enrolment:
    """A code was sent, and the secret is not verified: that is why, if the credential dies before the next one."""
    return row._replace(before_reason=Reason.VERIFY_REFUSED)


def given_up(
    row: Enrolment, now: float, *, doubt: bool = False, late_effect_for: float = 0.0, detail: str | None = None
) -> Enrolment:
    """The outcome of a delivered user who is refused alone.

    ``doubt``: an answer to a verification was lost of which the row does not tell yet. The others: ``not_activated``.
    """
    reason, held = Reason.VERIFY_UNKNOWN if doubt else Reason.VERIFY_REFUSED, row.activation
    if held is not None and held.verified:
        reason = Reason.PREFERENCE_REFUSED
    elif held is not None and held.doubt:
        reason = Reason.VERIFY_UNKNOWN
    return not_activated(row, reason, now, late_effect_for=late_effect_for, detail=detail)


def may_be_dismissed(row: Enrolment | None) -> bool:
    """Whether a person may say that the user is not to be enrolled: nobody works on them, and they have no secret.

    Whoever is ``delivered`` with a reason has work left that is for a person.
    """
    if row is None or row.state in (State.NEEDS_SESSION, State.FAILED):
        return True
    if row.state is State.SKIPPED:
        return not has_enough(row)
    return row.state is State.DELIVERED and row.reason is not None and not row.is_unfinished


def dismissed(username: str, row: Enrolment | None, why: str, now: float) -> Enrolment:
    """A person says that the user is not to be enrolled. A late effect of an earlier call is waited for as before."""
    row = row or Enrolment(username, State.SKIPPED, now, generation=0)
    return _erased(row)._replace(
        state=State.SKIPPED,
        reason=Reason.DISMISSED,
        detail=why,
        since=now,
        activation=None,
        before_reason=None,
        events=and_then(row.events, now, history.DISMISSED, why),
    )


def is_whole(sealed: Sealed) -> bool:
    """Whether the sealed bytes are those that were recorded, as far as their digest is known."""
    return not sealed.digest or digest_of(sealed.blob) == sealed.digest


def damaged(row: Enrolment, now: float) -> Enrolment:
    """The ledger's copy of the sealed bytes is damaged, so nobody has the secret in them, or ever will."""
    return in_doubt(row, row.request_id, now, late_effect_for=0.0)


def refused_delivery(row: Enrolment, code: str, now: float) -> Enrolment:
    """The channel refused the record for good. The secret in it is the newest, so an earlier one counts no more."""
    return _finished(row, State.FAILED, Reason.DELIVERY_REFUSED, now, detail=code)


def unrecordable(row: Enrolment, code: str, now: float) -> Enrolment:
    """The ledger refused the record for good: a secret was issued that nobody has, so an earlier one counts no more."""
    return _finished(row, State.FAILED, Reason.RECORD_TOO_LARGE, now, detail=code)


def too_late_to_verify(row: Enrolment, min_validity: float, now: float) -> bool:
    """Whether the Session that would verify this secret expires within ``min_validity`` seconds."""
    expires = row.sealed.session_expires_at if row.sealed else None
    return expires is not None and expires - now < min_validity


def voided(row: Enrolment, now: float) -> Enrolment:
    """The secret is dead: its Session expires too soon for anybody to verify with it, and nobody tried to."""
    return _finished(row, State.NEEDS_SESSION, Reason.VERIFY_WINDOW_LOST, now)


def released(
    row: Enrolment, now: float, *, doubt: bool, crashed: bool = False, late_effect_for: float = 0.0
) -> Enrolment:
    """Given back before an outcome; one of its calls may still take effect for ``late_effect_for`` seconds.

    ``doubt``: an answer was lost, to a call or to a verification. A replacement that surely issued nothing leaves the
    user as before.
    """
    row = row._replace(
        worker=None,
        lease_until=_late_effect_until(now, late_effect_for),
        since=now,
        crashes=row.crashes + crashed,
        events=and_then(row.events, now, history.GIVEN_BACK, "after a bug" if crashed else "in doubt" if doubt else ""),
    )
    if doubt:
        row = _doubted(row)
    if row.state is State.IN_PROGRESS and row.before is not None and not row.doubt:
        return row._replace(
            state=row.before, reason=row.before_reason, before=None, before_reason=None, request_id=None
        )
    return row


def in_doubt(row: Enrolment, request_id: str | None, now: float, *, late_effect_for: float) -> Enrolment:
    """A worker that was overtaken while it worked on ``request_id`` has, or may have, a secret of the user.

    Nobody can say whether that or a later one is valid, so the user must sign in again. The worker that overtook does
    not know of this yet, and may still call for ``late_effect_for`` seconds.
    """
    row = row._replace(request_id=request_id)
    return _finished(row, State.NEEDS_SESSION, Reason.REPLY_LOST, now, late_effect_for, what=history.DOUBTED)


def _late_effect_until(now: float, late_effect_for: float) -> float:
    """``lease_until`` of an unclaimed row: until when an earlier call may take effect; 0 if there is none."""
    return now + late_effect_for if late_effect_for > 0 else 0.0


def _finished(
    row: Enrolment,
    state: State,
    reason: Reason | None,
    now: float,
    late_effect_for: float = 0.0,
    *,
    detail: str | None = None,
    what: str = history.CONCLUDED,
) -> Enrolment:
    """The outcome; ``what``: the event that brought it."""
    told = "" if what == state else outcome(state, reason, detail)
    return row._replace(
        state=state,
        reason=reason,
        since=now,
        worker=None,
        lease_until=_late_effect_until(now, late_effect_for),
        doubt=False,
        crashes=0,
        before=None,
        before_reason=None,
        activation=None,
        request_id=None,
        settled=row.settled if row.request_id is None else row.settled.add(row.request_id),
        sealed=row.sealed if state in ENROLLED else _erased(row).sealed,
        detail=detail,
        events=and_then(row.events, now, what, told),
    )


def _erased(row: Enrolment) -> Enrolment:
    """The row without the sealed bytes."""
    return row._replace(sealed=row.sealed._replace(blob=b"")) if row.sealed else row
