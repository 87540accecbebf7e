"""The invariants of the design, each a function with its sentence; the truth is Cognito's list of issued secrets.

Those that can be judged when something happens are judged then, and raise ``Violation`` with the moment still at hand; the
others are judged at rest, when no process is left and nothing more will happen.

A paused process is the one thing that no fencing can stop: Cognito takes no fencing token, so a request that stood between
the worker's last look at the clock and the wire while its process was paused leaves when the process goes on. Such a call is
``late``, and only where a sentence says so is it excused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.simulation.history import Acknowledgement, Call, Delivery, Event, Exit, UserHistory, Write
from tests.simulation.scenario import CALL_TIMEOUT, MIN_VALIDITY, SESSION_VALIDITY
from worker.model import ENROLLED, UNFINISHED, Reason, Sealed, State
from worker.rules import MOST_CRASHES

if TYPE_CHECKING:
    from tests.simulation.world import World

EPOCH = 1_700_000_000.0
ROUNDING = 1e-5
"""Seconds; UTC as a float is no finer."""
BOUNDED_TIME = 600.0
"""Seconds from the last disturbance in which everybody must have an outcome."""


class Violation(AssertionError):
    """An invariant does not hold."""


def judge(world: World, event: Event) -> None:
    """Everything that can be said when ``event`` happens."""
    match event:
        case Call():
            a_send_has_a_claim(world, event)
            calls_do_not_overlap(world, event)
            an_outcome_ends_a_request(world, event)
        case Write():
            three_deaths_are_enough(world, event)
            an_attempt_is_one_secret(world, event.row.username)
            delivered_is_left_for_a_reason(world, event)
            a_delivered_session_lived_long_enough(world, event)
            a_lost_reply_was_lost(world, event)
            a_drained_call_leaves_no_doubt(world, event)
        case Delivery():
            a_record_was_durable_first(world, event)
            an_attempt_is_one_secret(world, event.username)
        case Acknowledgement():
            an_outcome_was_durable_first(world, event)
        case Exit():
            done_means_nobody_is_unfinished(world, event)


def judge_at_rest(world: World) -> None:
    """Everything that can only be said when nothing more will happen."""
    everybody_has_an_outcome(world)
    for username, user in world.users.items():
        the_newest_secret_is_delivered(world, username, user)
        no_secret_is_silently_gone(world, username, user)
        no_secret_too_many(world, username, user)


# --- 1 ----------------------------------------------------------------------------------------------------------------


def a_send_has_a_claim(world: World, call: Call) -> None:
    """1. Each wire send has a durable claim of its generation, unexpired to its holder at that moment.

    And, as the fencing asks, outlasting the call time-out. A late call is excused from that.
    """
    claim = _claim_of(world, call)
    if claim is None:
        raise Violation(f"1: {call.process.name} calls for {call.request.id} without a claim")
    if call.late:
        return
    expires = claim.row.lease_until - EPOCH - call.process.skew
    if expires + ROUNDING < world.now + CALL_TIMEOUT:
        raise Violation(f"1: {call.process.name} calls for {call.request.id}, and its claim ends in {expires - world.now} s")


def calls_do_not_overlap(world: World, call: Call) -> None:
    """1. No two calls for a user overlap unless a process was paused."""
    for other in world.cognito.open_calls:
        if other is not call and other.request.username == call.request.username and not (call.late or other.late):
            raise Violation(
                f"1: {call.process.name} calls for {call.request.username} while a call by {other.process.name} "
                f"from {other.sent_at:.3f} may still act"
            )


def _claim_of(world: World, call: Call) -> Write | None:
    for write in reversed(world.users[call.request.username].writes):
        row = write.row
        if row.worker == call.process.name and row.state is State.IN_PROGRESS and row.request_id == call.request.id:
            return write
    return None


# --- 2 ----------------------------------------------------------------------------------------------------------------


def the_newest_secret_is_delivered(world: World, username: str, user: UserHistory) -> None:
    """2. At rest, ``delivered`` ⇒ its attempt is the last one issued to that user and the highest generation in the channel.

    Excused: the last one was issued to a late call whose process was gone before it could say so.
    """
    row = world.ledger.rows.get(username)
    if row is None or row.state not in ENROLLED:
        return
    if row.sealed is None or not user.deliveries:
        raise Violation(f"2: {username} is {row.state}, and nothing was delivered")
    last = user.issued[-1]
    if _secret_of_attempt(user, row.sealed) != last.secret and not (last.late and last.process.gone and not last.answered):
        raise Violation(f"2: {username} is delivered {_secret_of_attempt(user, row.sealed)}, but {last.secret} was issued last")
    highest = max((delivery.sealed for delivery in user.deliveries), key=lambda sealed: sealed.generation)
    if highest.attempt_id != row.sealed.attempt_id:
        raise Violation(f"2: {username} is delivered {_secret_of_attempt(user, row.sealed)}, but the channel's highest is {_secret(highest)}")


# --- 3 ----------------------------------------------------------------------------------------------------------------


def an_attempt_is_one_secret(world: World, username: str) -> None:
    """3. One attempt id ⇔ one secret ⇔ one generation ⇔ one byte-identical sealed blob."""
    user = world.users[username]
    sealed = [delivery.sealed for delivery in user.deliveries[-1:]]
    sealed += [write.row.sealed for write in user.writes[-1:] if write.row.sealed and write.row.sealed.blob]
    for one in sealed:
        mine = (one.attempt_id, _secret(one), str(one.generation), one.blob)
        for other in user.sealed:
            same = [a == b for a, b in zip(mine, other, strict=True)]
            if any(same) and not all(same):
                raise Violation(f"3: {username}: {mine[:3]} and {other[:3]} are half the same")
        user.sealed.add(mine)


# --- 4 ----------------------------------------------------------------------------------------------------------------


def a_record_was_durable_first(world: World, delivery: Delivery) -> None:
    """4. Every record in a channel was durable in the ledger first."""
    if not any(write.row.sealed == delivery.sealed for write in world.users[delivery.username].writes):
        raise Violation(f"4: {_secret(delivery.sealed)} was delivered to {delivery.username}, but never recorded")


def an_outcome_was_durable_first(world: World, acknowledgement: Acknowledgement) -> None:
    """4. Every acknowledgement follows a durable outcome for that request or user.

    For the request; or, while this worker had the message, the user was one for whom it is a duplicate.
    """
    request = acknowledgement.request
    writes = world.users[request.username].writes
    if writes and request.id in writes[-1].row.settled:
        return
    for number, write in enumerate(writes):
        until = writes[number + 1].at if number + 1 < len(writes) else world.now
        if until >= acknowledgement.leased_at and write.row.state in ENROLLED:
            return
    stands = writes[-1].row if writes else None
    raise Violation(f"4: {request.id} is acknowledged without an outcome: {stands}")


# --- 5 ----------------------------------------------------------------------------------------------------------------


def an_outcome_ends_a_request(world: World, call: Call) -> None:
    """5. A request id with an outcome causes no further send: it had none when the claim to call was written."""
    claim = _claim_of(world, call)
    if claim is not None and call.request.id in claim.row.settled:
        raise Violation(f"5: {call.process.name} calls for {call.request.id}, which had its outcome already")


def delivered_is_left_for_a_reason(world: World, write: Write) -> None:
    """5. ``delivered`` is left only by a fresh ``replace`` or by doubt; what was settled stays settled."""
    old, new = write.before, write.row
    if old is None:
        return
    if set(old.settled) - set(new.settled):
        raise Violation(f"5: {new.username} forgets settled requests")
    if old.state not in ENROLLED or new.state in ENROLLED or new.reason is Reason.REPLY_LOST:
        return
    if new.request_id not in world.replacing or new.request_id in old.settled:
        raise Violation(f"5: {new.username} was {old.state}, and is {new.state} {new.reason} for {new.request_id}")


# --- 6, 7 -------------------------------------------------------------------------------------------------------------


def no_secret_is_silently_gone(world: World, username: str, user: UserHistory) -> None:
    """6. Every issued secret is delivered, sealed, superseded by a higher generation, or its user is in doubt."""
    delivered = {_secret(delivery.sealed) for delivery in user.deliveries}
    row = world.ledger.rows[username]
    for number, call in enumerate(user.issued):
        later = {other.secret for other in user.issued[number + 1 :]}
        superseded = row.sealed is not None and _secret_of_attempt(user, row.sealed) in later
        in_doubt = any(write.at >= call.sent_at and _tells_of_loss(write.row) for write in user.writes)
        if call.secret not in delivered and not superseded and not in_doubt and not (call.late and call.process.gone):
            raise Violation(f"6: {call.secret} of {username} is gone, and {username} is {row.state} {row.reason}")


def _tells_of_loss(row: Enrolment) -> bool:
    """The user is known to have nothing, and not for the credential's sake alone."""
    return row.state is State.FAILED or row.reason in (Reason.REPLY_LOST, Reason.VERIFY_WINDOW_LOST)


def no_secret_too_many(world: World, username: str, user: UserHistory) -> None:
    """7. Distinct secrets of a user in the channel ≤ 1 + replacements honoured + losses reported."""
    secrets = {_secret(delivery.sealed) for delivery in user.deliveries}
    honoured = {write.row.request_id for write in user.writes if write.row.before} & world.replacing
    losses = sum(
        _tells_of_loss(write.row) and not (write.before and write.before.reason is write.row.reason) for write in user.writes
    )
    if len(secrets) > 1 + len(honoured) + losses:
        raise Violation(f"7: {username} was delivered {sorted(secrets)}, with {len(honoured)} replacements, {losses} losses")


# --- 8 ----------------------------------------------------------------------------------------------------------------


def done_means_nobody_is_unfinished(world: World, exit_: Exit) -> None:
    """8. Exit 0 or 1 ⇒ no unfinished row under any worker at that instant: the instant at which it looked last.

    That the states sum to the ledger's rows is true by construction here; the adapters' own tests show it of theirs.
    """
    looked_at = exit_.at if exit_.process.looked_at is None else exit_.process.looked_at
    for username, user in world.users.items():
        row = next((write.row for write in reversed(user.writes) if write.at <= looked_at), None)
        if row is not None and row.state in UNFINISHED:
            raise Violation(f"8: {exit_.process.name} ends as done, and {username} is {row.state}")
    if any(message.pushed_at <= exit_.process.counted_at for message in world.queue.messages):
        raise Violation(f"8: {exit_.process.name} ends as done, and a message waits")


# --- 9 ----------------------------------------------------------------------------------------------------------------


def a_delivered_session_lived_long_enough(world: World, write: Write) -> None:
    """9. ``delivered`` on the Session path ⇒ the Session outlived the start of its delivery by ``min_validity``.

    As far as clocks agree, and unless its process was paused on the way to the channel.
    """
    row = write.row
    if row.state is not State.DELIVERED or row.sealed is None or row.sealed.session_expires_at is None:
        return
    if write.before is None or write.before.state is not State.SEALED:
        return
    user = world.users[row.username]
    delivery = [one for one in user.deliveries if one.process is write.process][-1]
    if delivery.late:
        return
    recorder = next(one.process for one in user.writes if one.row.sealed and one.row.sealed.generation == row.sealed.generation)
    call = next(call for call in user.issued if call.secret == _secret(delivery.sealed))
    assert call.acts_at is not None
    left = call.acts_at + SESSION_VALIDITY - delivery.started_at
    if left + abs(recorder.skew - write.process.skew) + ROUNDING < MIN_VALIDITY:
        raise Violation(f"9: {row.username} is delivered with {left} s left of the Session")


# --- 10 ---------------------------------------------------------------------------------------------------------------


def a_lost_reply_was_lost(world: World, write: Write) -> None:
    """10. New ``reply_lost`` per kill ≤ calls in flight.

    Sharper, user by user: each one is owed to a call that nobody has a certain answer to, or whose secret was not recorded;
    and one call is told of once, or once more by its own worker where that was paused and overtaken.
    Excused: a worker died or was overtaken with a claim before its call, and nobody can ask Cognito any more, because the
    credential died before the claim could be taken over or the messages are gone: the claim alone does not say whether a
    call was made.
    """
    if write.row.reason is not Reason.REPLY_LOST:
        return
    user = world.users[write.row.username]
    recorded = {secret for _, secret, _, _ in user.sealed}
    stands = _secret_of_attempt(user, write.before.sealed) if write.before and write.before.sealed else None
    if write.process.pauses and stands is not None:  # who was overtaken cannot know what became of a record since
        recorded -= {call.secret for call in user.issued if call.process is write.process and call.secret != stands}
    owed = [
        call
        for call in user.calls
        if not call.answered
        or (call.secret and call.secret not in recorded and (call.process.killed or call.process.pauses))
    ]
    owed = [call for call in owed if call.told < 1 + (call.process.pauses > 0)]
    if not owed and (not _taken_over(user, write) or _could_ask(world, write)):
        raise Violation(f"10: {write.row.username} is told that a reply was lost, and none was")
    for call in [call for call in owed if call.process is write.process] or owed:
        call.told += 1


def _taken_over(user: UserHistory, now: Write) -> bool:
    """Whether since the last outcome somebody held the user who then died, or was not heard of in time."""
    for write in reversed(user.writes[:-1]):
        if write.row.state not in UNFINISHED:
            return False
        if write.row.worker is not None and (write.process is not now.process or write.process.pauses):
            return True
    return False


def _could_ask(world: World, write: Write) -> bool:
    """Whether the writer had, or saw, a message with a credential that surely lives."""
    most_skew = max(abs(skew) for skew in world.scenario.skews)
    waiting = [
        message.request
        for message in world.queue.messages
        if message.request.username == write.row.username
        and (message.holder is write.process or message.pushed_at <= write.process.counted_at)
    ]
    return bool(waiting) and all(request.expires_at - EPOCH > world.now + most_skew + 1.0 for request in waiting)


def a_drained_call_leaves_no_doubt(world: World, write: Write) -> None:
    """Being asked to stop costs nothing; only being hurried may cost the calls in flight."""
    old, new = write.before, write.row
    if old is None or new.worker is not None or new.state not in UNFINISHED or not new.doubt or old.doubt:
        return
    process = write.process
    mine = [call for call in world.users[new.username].calls if call.process is process]
    if not any(not call.answered for call in mine) and not process.pauses:
        raise Violation(f"10: {process.name} stopped, and leaves {new.username} in a doubt that nothing justifies")


# --- 11 ---------------------------------------------------------------------------------------------------------------


def in_bounded_time(world: World) -> None:
    """11. When faults stop, every row reaches an outcome in bounded time, even with all messages deleted."""
    if world.now - world.quiet_since > BOUNDED_TIME:
        raise Violation(f"11: nothing was done to the rollout for {BOUNDED_TIME} s, and it does not end")


def everybody_has_an_outcome(world: World) -> None:
    """11. And then nobody is left, and no message."""
    if left := [str(row) for row in world.ledger.rows.values() if row.state in UNFINISHED]:
        raise Violation(f"11: unfinished at rest: {left}")
    if world.queue.messages:
        raise Violation("11: messages at rest")


def three_deaths_are_enough(world: World, last: Write) -> None:
    """12. A user over whom three workers died is failed, without a fourth call: without a fourth claim."""
    if last.row.state is not State.IN_PROGRESS or last.row.worker is None:
        return
    deaths = 0
    for write in world.users[last.row.username].writes:
        if write.row.state not in UNFINISHED:
            deaths = 0
        elif (old := write.before) and old.state is State.IN_PROGRESS and old.worker not in (None, write.process.name):
            deaths += world.process(old.worker).gone
    if deaths >= MOST_CRASHES:
        raise Violation(f"12: {deaths} workers died over {last.row.username}, and still there is a claim")


def _secret(sealed: Sealed) -> str:
    return str(json.loads(sealed.blob)["secret_code"]) if sealed.blob else ""


def _secret_of_attempt(user: UserHistory, sealed: Sealed) -> str:
    return next(secret for attempt, secret, _, __ in user.sealed if attempt == sealed.attempt_id)


def every_invariant() -> Iterator[str]:
    """The sentences."""
    for function in globals().values():
        if getattr(function, "__module__", None) == __name__ and (sentence := function.__doc__) and sentence[0].isdigit():
            yield sentence
