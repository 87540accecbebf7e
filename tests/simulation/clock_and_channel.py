"""The invariants about what must not be begun or given up: by a clock that is wrong, and for a channel that is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.history import Call, Violation, Write, secret_of
from tests.simulation.scenario import EPOCH, MIN_VALIDITY, SESSION_VALIDITY
from worker.core.model import SIGNS_IN, CredentialKind, Enrolment, Reason, State
from worker.core.settled import NOTHING_SETTLED

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

PRECISION = 2.5
"""Seconds: a date has whole seconds, a call must be worth a second, and a write takes its time."""

# --- time -------------------------------------------------------------------------------------------------------------


def nobody_is_given_up_alive(world: World, write: Write) -> None:
    """Time. Nobody's credential or Session is taken for dead that lives, however wrong the machine's clock is.

    Where Cognito names no time, as far as the machine's clock is right.
    """
    row, named = write.row, world.scenario.names_time
    tolerated = PRECISION + (0.0 if named else max(0.0, write.process.skew))
    if row.reason in (Reason.SESSION_EXPIRED, Reason.TOKEN_EXPIRED, Reason.CREDENTIAL_EXPIRED):
        before = write.before.settled if write.before else NOTHING_SETTLED
        for id_, request in world.requests.items():
            left = request.expires_at - EPOCH - world.now
            if (request.kind in SIGNS_IN) != (row.reason is Reason.CREDENTIAL_EXPIRED):
                continue  # what a sign-in brought died
            if left > tolerated and id_ in row.settled and id_ not in before:
                raise Violation(f"time: {row.username} is {row.reason}, and {id_} lives for {left} s more")
    sealed = write.before.sealed if write.before is not None and write.before.state is State.SEALED else None
    if row.reason is Reason.VERIFY_WINDOW_LOST and sealed is not None:
        recorder = next(
            one.process
            for one in world.users[row.username].writes
            if one.row.sealed and one.row.sealed.attempt_id == sealed.attempt_id
        )
        call = next(one for one in world.users[row.username].issued if one.secret == secret_of(sealed))
        left = call.sent_at + SESSION_VALIDITY - world.now - MIN_VALIDITY
        if not call.late and left > tolerated + (0.0 if named else max(0.0, -recorder.skew)):
            raise Violation(f"time: the secret of {row.username} is void, and could be delivered for {left} s more")


# --- undelivered ------------------------------------------------------------------------------------------------------


def few_are_undelivered(world: World, call: Call) -> None:
    """Undelivered. No call leaves while a second of work is undelivered, nor into a channel that is known to be away.

    For a Session, that is, unless the call is the only one that could show that the channel is back.
    """
    process = call.process
    if call.late:
        return
    undelivered = sum(_in_hand(world, row, process) for row in world.ledger.rows.values())
    if undelivered >= max(1.0, world.scenario.rate):
        raise Violation(f"undelivered: {process.name} calls, and {undelivered} secrets are not delivered")
    if call.request.kind is CredentialKind.SESSION and process.channel_is_away and undelivered:
        raise Violation(f"undelivered: {process.name} calls for a Session, and knows that the channel is away")


def _in_hand(world: World, row: Enrolment, process: Process) -> bool:
    if row.state is not State.SEALED or row.worker != process.name or row.sealed is None:
        return False
    deliveries = world.users[row.username].deliveries
    return all(one.sealed.attempt_id != row.sealed.attempt_id for one in deliveries)
