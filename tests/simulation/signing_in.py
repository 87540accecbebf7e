"""The invariants about sign-ins: made under a claim, by one worker, and never again with what was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.history import Call, Violation, Write
from tests.simulation.scenario import CALL_TIMEOUT, EPOCH
from worker.core.model import (
    SIGNS_IN,
    CredentialKind,
    Enrolment,
    NotEnrolled,
    Reason,
    Refused,
    SignedIn,
    State,
)

if TYPE_CHECKING:
    from tests.simulation.world import World

ROUNDING = 1e-5
"""Seconds; UTC as a float is no finer."""
DATE_PRECISION = 1.0
"""Seconds by which an answer's date may have moved the clock since the claim was written."""
MORE_SIGN_INS = 3
"""How often the worker signs in again where a Session died or a reply was lost (contract, *Sign-in*)."""


def a_sign_in_has_a_claim(world: World, call: Call) -> None:
    """Sign-in. Each wire attempt has a durable claim that outlasts it, of the row's present generation.

    A late attempt, whose process was paused on the way to the wire, is excused.
    """
    row = world.ledger.rows.get(call.request.username)
    claim = last_write_of(world, call)
    if claim is None or not _is_claim(claim.row, call):
        raise Violation(f"sign-in: {call.process.name} {call.operation}s for {call.request.id} without a claim")
    if call.late or was_overtaken_by_the_paused(world, call.request.username):
        return
    if row is None or row.generation != claim.row.generation or row.worker != call.process.name:
        raise Violation(f"sign-in: {call.process.name} {call.operation}s for {call.request.id}, overtaken by {row}")
    outlasts_the_attempt(world, call, claim, "sign-in")


def outlasts_the_attempt(world: World, call: Call, claim: Write, which: str) -> None:
    """A claim holds until what is sent under it is over."""
    moved = DATE_PRECISION if world.scenario.names_time else 0.0
    expires = claim.row.lease_until - EPOCH - call.process.skew + moved
    if expires + ROUNDING < world.now + CALL_TIMEOUT:
        left = expires - world.now
        raise Violation(
            f"{which}: {call.process.name} {call.operation}s for {call.request.id}, its claim ends in {left}"
        )


def was_overtaken_by_the_paused(world: World, username: str) -> bool:
    """Whether a worker that was paused said last that a reply is lost: whoever goes on does not know yet."""
    last = world.users[username].writes[-1]
    return bool(last.process.pauses) and last.row.reason is Reason.REPLY_LOST


def last_write_of(world: World, call: Call) -> Write | None:
    """The last row that the caller's process wrote for that user."""
    writes = world.users[call.request.username].writes
    return next((write for write in reversed(writes) if write.process is call.process), None)


def _is_claim(row: Enrolment, call: Call) -> bool:
    """To call, or to go on with the activation with a new credential."""
    if row.worker != call.process.name:
        return False
    if row.state is State.IN_PROGRESS:
        return row.request_id == call.request.id
    return row.state is State.DELIVERED and row.reason is Reason.ACTIVATION_PENDING


def no_two_workers_at_once(world: World, call: Call) -> None:
    """Sign-in. Nothing is sent for a user while what another worker sent may still act, unless one was paused."""
    for other in world.cognito.open_calls:
        if other.process is call.process or other.request.username != call.request.username:
            continue
        if not (call.late or other.late):
            raise Violation(
                f"sign-in: {call.process.name} {call.operation}s for {call.request.username}, while what "
                f"{other.process.name} sent at {other.sent_at:.3f} ({other.operation}) may still act"
            )


def a_refused_credential_is_not_sent_again(world: World, call: Call) -> None:
    """Sign-in. Whoever heard that a ticket or password is refused never sends it again, and nobody once it is written.

    Who died in between did not pass it on.
    """
    if call.operation == "look":
        return
    user, credential = world.users[call.request.username], call.request.credential
    for other in user.others:
        if other is call or other.request.credential != credential or not _was_refused(other):
            continue
        written = any(other.request.id in write.row.settled for write in user.writes if write.at < call.sent_at)
        if other.process is call.process or (written and not call.late):
            raise Violation(f"sign-in: {call.process.name} sends what was refused for {call.request.id}")


def _was_refused(call: Call) -> bool:
    return isinstance(call.reply, Refused) and call.reply.reason is Reason.SIGN_IN_REFUSED


def a_refused_sign_in_was_refused(world: World, write: Write) -> None:
    """Sign-in. ``sign_in_refused`` ⇒ Cognito said so to that worker, of the request that is settled by it."""
    if write.row.reason is not Reason.SIGN_IN_REFUSED or (write.before and write.before.reason is write.row.reason):
        return
    others = world.users[write.row.username].others
    if not any(_was_refused(call) and call.request.id in write.row.settled for call in others):
        raise Violation(f"sign-in: {write.row.username} is called refused, and was not")


def at_most_three_more_sign_ins(world: World, call: Call) -> None:
    """Sign-in. Whose Session or reply is lost is signed in again, three times at most for each work on the user.

    A work begins when the message is taken up: with a claim that is not preceded by a call of the same worker for the
    same request.
    """
    if call.operation != "begin":
        return
    user = world.users[call.request.username]
    mine = [
        other
        for other in user.others
        if other.request.id == call.request.id and other.process is call.process and isinstance(other.reply, SignedIn)
    ]
    begun = [
        write
        for write in user.writes
        if write.process is call.process and write.row.worker is None and write.at < call.sent_at
    ]
    since = begun[-1].at if begun else 0.0
    if sum(other.sent_at >= since for other in mine) > MORE_SIGN_INS:
        raise Violation(f"sign-in: {call.process.name} signs {call.request.username} in for the fifth time")


def who_was_signed_in_was_looked_at(world: World, call: Call) -> None:
    """Sign-in. With a token that a sign-in brought, nobody is called for who was not looked at with it.

    Unless they asked to be replaced. Whoever was found to be enrolled is not called for at all.
    """
    credential = world.cognito.accounts.credentials[call.request.credential.reveal()]
    if credential.kind is not CredentialKind.ACCESS_TOKEN or not credential.from_sign_in:
        return
    if not world.scenario.look_first or call.request.id in world.replacing:
        return
    assert world.requests[call.request.id].kind in SIGNS_IN
    looks = [
        other
        for other in world.users[call.request.username].others
        if other.operation == "look" and other.request.credential == call.request.credential
    ]
    if not any(isinstance(look.reply, NotEnrolled) for look in looks):
        raise Violation(f"sign-in: {call.process.name} calls for {call.request.username}, and did not look first")
