"""The invariants about secrets that may be lost: six, seven, ten, and what three deaths mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.history import Call, UserHistory, Violation, Write, secret_of
from tests.simulation.scenario import EPOCH
from worker.core.model import NOT_ACTIVATED, UNFINISHED, AlreadyEnrolled, Enrolment, Reason, Refused, State
from worker.core.rules import MAX_CRASHES
from worker.core.settled import NOTHING_SETTLED

if TYPE_CHECKING:
    from tests.simulation.world import World

TELLING_OF_LOSS = (
    Reason.REPLY_LOST,
    Reason.VERIFY_WINDOW_LOST,
    Reason.CHALLENGE_UNANSWERABLE,
    Reason.SIGN_IN_REFUSED,
    Reason.PASSWORD_RESET_REQUIRED,
)
"""Reasons of a user who has nothing, whatever became of an earlier call."""

# --- 6, 7 -------------------------------------------------------------------------------------------------------------


def no_secret_is_silently_gone(world: World, username: str, user: UserHistory) -> None:
    """6. Every issued secret is delivered, sealed, superseded by a higher generation, or its user is in doubt."""
    delivered = {secret_of(delivery.sealed) for delivery in user.deliveries}
    row = world.ledger.rows[username]
    for number, call in enumerate(user.issued):
        later = {other.secret for other in user.issued[number + 1 :]}
        superseded = row.sealed is not None and user.secret_in(row.sealed) in later
        in_doubt = any(write.at >= call.sent_at and _tells_of_loss(write.row) for write in user.writes)
        if (
            call.secret not in delivered
            and not superseded
            and not in_doubt
            and not (call.late and call.process.is_dead)
        ):
            raise Violation(f"6: {call.secret} of {username} is gone, and {username} is {row.state} {row.reason}")


def _tells_of_loss(row: Enrolment) -> bool:
    """The user is known to have nothing, and not for the credential's sake alone."""
    return row.state is State.FAILED or row.reason in TELLING_OF_LOSS


def no_secret_too_many(world: World, username: str, user: UserHistory) -> None:
    """7. Distinct secrets of a user in the channel ≤ 1 + replacements honoured + losses reported.

    With a ticket or a password a loss is no outcome: the worker signs in again, and claims anew. And a new sign-in may
    decide that the secret is dead whose activation was left to a person.
    """
    secrets = {secret_of(delivery.sealed) for delivery in user.deliveries}
    honoured = {write.row.request_id for write in user.writes if write.row.before} & world.replacing
    losses = sum(
        _tells_of_loss(write.row) and not (write.before and write.before.reason is write.row.reason)
        for write in user.writes
    )
    again = sum(
        bool(write.before and write.before.sealed and write.before.state in (State.SEALED, State.DELIVERED))
        and write.row.state is State.IN_PROGRESS
        and (write.before is None or write.before.reason in NOT_ACTIVATED or write.before.is_unfinished)
        for write in user.writes
    )
    if len(secrets) > 1 + len(honoured) + losses + again:
        raise Violation(
            f"7: {username} was delivered {sorted(secrets)}, with {len(honoured)} replacements, {losses} losses"
        )


# --- 10 ---------------------------------------------------------------------------------------------------------------


def a_lost_reply_was_lost(world: World, write: Write) -> None:
    """10. New ``reply_lost`` per kill ≤ calls in flight.

    Sharper, user by user: each one is owed to a call that nobody has a certain answer to, or whose worker could not
    record its answer; and one call is told of once, or once more by its own worker where that was overtaken.
    Excused: a worker died or was overtaken with a claim before its call, and nobody learned more from Cognito, because
    the credential died before the claim could be taken over, or the messages are gone, or it refused the next call too:
    the claim alone does not say whether a call was made.
    """
    if write.row.reason is not Reason.REPLY_LOST or write.row.username in world.harmed:
        return
    user = world.users[write.row.username]
    recorded: set[str | None] = {secret for _, secret, _, _ in user.sealed}
    stands = user.secret_in(write.before.sealed) if write.before and write.before.sealed else None
    if write.process.pauses and stands is not None:  # who was overtaken cannot know what became of a record since
        recorded -= {call.secret for call in user.issued if call.process is write.process and call.secret != stands}
    unrecorded = [c for c in user.calls if not _has_consequence(user, c, recorded) and _could_not_record(user, c)]
    owed = [call for call in user.calls if not call.answered or call in unrecorded]
    owed = [call for call in owed if call.told < 1 + _could_not_record(user, call)]
    if not owed and (not _after_takeover(user, write) or _could_ask(world, write)):
        raise Violation(f"10: {write.row.username} is told that a reply was lost, and none was")
    for call in [call for call in owed if call.process is write.process] or owed:
        call.told += 1


def _has_consequence(user: UserHistory, call: Call, recorded: set[str | None]) -> bool:
    """Whether the answer to the call is durable: its secret, or what its worker made of a refusal."""
    if call.secret is not None:
        return call.secret in recorded
    mine = [write for write in user.writes if write.process is call.process and write.at >= call.sent_at]
    return any(write.row.worker != call.process.name for write in mine)


def _could_not_record(user: UserHistory, call: Call) -> bool:
    """Whether the caller was killed or paused, or another worker wrote over its claim while it lived."""
    process = call.process
    ended = process.stopped_at if process.is_dead else None
    claims = [write.at for write in user.writes if write.process is process and write.at <= call.sent_at]
    others = [
        write.at for write in user.writes if write.process is not process and write.at >= max(claims, default=0.0)
    ]
    return bool(process.killed or process.pauses or any(ended is None or at <= ended for at in others))


def _after_takeover(user: UserHistory, now: Write) -> bool:
    """Whether since the last outcome somebody held the user who then died, or was not heard of in time."""
    for write in reversed(user.writes[:-1]):
        if not write.row.is_unfinished:
            return False
        if write.row.worker is not None and (write.process is not now.process or write.process.pauses):
            return True
    return False


def _could_ask(world: World, write: Write) -> bool:
    """Whether Cognito could have told the writer more.

    It was not refused, by a sign-in neither; and had a request whose credential surely lived, or saw one on the queue
    where it swept.
    """
    if write.before is not None and write.before.crashes + 1 >= MAX_CRASHES:
        return False  # whoever was killed so often is not called for again
    user = world.users[write.row.username]
    mine = [call for call in user.calls if call.process is write.process]
    if mine and mine[-1].answered and mine[-1].secret is None:
        return False
    signed_in = [call for call in user.others if call.process is write.process]
    if signed_in and isinstance(signed_in[-1].reply, AlreadyEnrolled | Refused):
        return False
    most_skew = max(abs(skew) for skew in world.scenario.skews)
    before = write.before.settled if write.before else NOTHING_SETTLED
    settled = [id_ for id_ in world.requests if id_ in write.row.settled and id_ not in before]
    requests = [world.requests[id_] for id_ in settled] or [
        message.request
        for message in world.queue.messages
        if message.request.username == write.row.username and message.pushed_at <= write.process.counted_at
    ]
    return bool(requests) and all(request.expires_at - EPOCH > world.now + most_skew + 1.0 for request in requests)


def a_drained_call_leaves_no_doubt(world: World, write: Write) -> None:
    """Being asked to stop costs nothing; only being hurried may cost the calls in flight."""
    old, new = write.before, write.row
    if old is None or new.worker is not None or new.state not in UNFINISHED or not new.doubt or old.doubt:
        return
    process = write.process
    mine = [call for call in world.users[new.username].calls if call.process is process]
    if not any(not call.answered for call in mine) and not process.pauses:
        raise Violation(f"10: {process.name} stopped, and leaves {new.username} in a doubt that nothing justifies")


def three_deaths_are_enough(world: World, last: Write) -> None:
    """12. A user over whom three workers died is failed, without a fourth call: without a fourth claim."""
    if last.row.state is not State.IN_PROGRESS or last.row.worker is None:
        return
    deaths = 0
    for write in world.users[last.row.username].writes:
        if not write.row.is_unfinished:
            deaths = 0
        elif (old := write.before) and old.state is State.IN_PROGRESS and old.worker not in (None, write.process.name):
            deaths += world.process(old.worker).is_dead
    if deaths >= MAX_CRASHES:
        raise Violation(f"12: {deaths} workers died over {last.row.username}, and still there is a claim")
