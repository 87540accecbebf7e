"""The invariants of the design, each a function with its sentence; the truth is Cognito's list of issued secrets.

Those that can be judged when something happens are judged then, and raise ``Violation`` with the moment still at
hand; the others are judged at rest, when no process is left and nothing more will happen.

Six, seven and ten, which are about secrets that may be lost, stand in ``losses``; what a wrong clock or a channel that
is away must not bring about, in ``clock_and_channel``; what concerns sign-ins, in ``signing_in``; and what concerns the
activation, in ``activating``; and what a user's row tells of what happened, in ``telling``.

A paused process is the one thing that no fencing can stop: Cognito takes no fencing token, so a request that stood
between the worker's last look at the clock and the wire while its process was paused leaves when the process goes on.
Such a call is ``late``, and only where a sentence says so is it excused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.activating import (
    a_blob_does_not_outlive_its_outcome,
    a_wrong_code_is_tried_once_more,
    active_is_the_newest_delivered,
    an_activation_has_a_claim,
    nobody_is_verified_before_the_delivery,
    what_is_sent_was_written_first,
    what_was_verified_is_not_denied,
    who_is_verified_is_known,
)
from tests.simulation.clock_and_channel import few_are_undelivered, nobody_is_given_up_alive
from tests.simulation.history import (
    Acknowledgement,
    Call,
    Delivery,
    Event,
    Exit,
    UserHistory,
    Verification,
    Violation,
    Write,
    secret_of,
)
from tests.simulation.losses import (
    a_drained_call_leaves_no_doubt,
    a_lost_reply_was_lost,
    no_secret_is_silently_gone,
    no_secret_too_many,
    three_deaths_are_enough,
)
from tests.simulation.scenario import EPOCH, MIN_VALIDITY, SESSION_VALIDITY, Wrong
from tests.simulation.signing_in import (
    a_refused_credential_is_not_sent_again,
    a_refused_sign_in_was_refused,
    a_sign_in_has_a_claim,
    at_most_three_more_sign_ins,
    no_two_workers_at_once,
    outlasts_the_attempt,
    who_was_signed_in_was_looked_at,
)
from tests.simulation.telling import (
    a_history_fits_its_row,
    every_delivered_secret_is_told,
    nothing_that_was_told_is_forgotten,
)
from worker.core.model import (
    ENROLLED,
    NOT_ACTIVATED,
    Enrolment,
    PoolFault,
    Preferred,
    Reason,
    State,
    TryAgain,
    Verified,
    digest_of,
)
from worker.core.resilience.refusals import LATELY

if TYPE_CHECKING:
    from tests.simulation.world import World

ROUNDING = 1e-5
"""Seconds; UTC as a float is no finer."""
MOST_REFUSED_CALLS = 25
"""Refused calls of one worker for one user: six decide about the pool where few users are left, at most ten more while
WAF is given its time, and a user who is refused alone is tried four times for each request."""
BOUNDED_TIME = 600.0
"""Seconds from the last disturbance in which everybody must have an outcome."""


def judge(world: World, event: Event) -> None:
    """Everything that can be said when ``event`` happens."""
    match event:
        case Call(operation="associate"):
            a_send_has_a_claim(world, event)
            calls_do_not_overlap(world, event)
            a_refused_user_is_not_called_for_ever(world, event)
            an_outcome_ends_a_request(world, event)
            few_are_undelivered(world, event)
            who_was_signed_in_was_looked_at(world, event)
            no_two_workers_at_once(world, event)
        case Call(operation="begin" | "answer" | "look"):
            a_sign_in_has_a_claim(world, event)
            no_two_workers_at_once(world, event)
            a_refused_credential_is_not_sent_again(world, event)
            at_most_three_more_sign_ins(world, event)
        case Call(operation="verify" | "prefer"):
            an_activation_has_a_claim(world, event)
            no_two_workers_at_once(world, event)
            what_is_sent_was_written_first(world, event)
            a_wrong_code_is_tried_once_more(world, event)
        case Verification():
            nobody_is_verified_before_the_delivery(world, event)
        case Write():
            active_is_the_newest_delivered(world, event)
            a_blob_does_not_outlive_its_outcome(world, event)
            what_was_verified_is_not_denied(world, event)
            a_refused_sign_in_was_refused(world, event)
            three_deaths_are_enough(world, event)
            an_attempt_is_onesecret_of(world, event.row.username)
            delivered_is_left_for_a_reason(world, event)
            a_delivered_session_lived_long_enough(world, event)
            nobody_is_given_up_alive(world, event)
            a_refusal_is_a_users_own_only_while_others_get_through(world, event)
            a_lost_reply_was_lost(world, event)
            a_drained_call_leaves_no_doubt(world, event)
            a_history_fits_its_row(world, event)
            nothing_that_was_told_is_forgotten(world, event)
            a_delivered_secret_is_known_by_its_digest(world, event)
        case Delivery():
            what_is_delivered_is_what_was_sealed(event)
            a_record_was_durable_first(world, event)
            an_attempt_is_onesecret_of(world, event.username)
            every_delivered_secret_is_told(world, event)
        case Acknowledgement():
            an_outcome_was_durable_first(world, event)
        case Exit():
            done_means_nobody_is_unfinished(world, event)


def judge_after_restore(world: World, event: Event) -> None:
    """What can be said once the ledger forgot what was written: the history tells of rows that it never had."""
    match event:
        case Write():
            an_attempt_is_onesecret_of(world, event.row.username)
            a_delivered_secret_is_known_by_its_digest(world, event, may_be_unknown=True)
        case Delivery():
            what_is_delivered_is_what_was_sealed(event)
            an_attempt_is_onesecret_of(world, event.username)


def judge_at_rest_after_restore(world: World) -> None:
    """Whatever copy was restored: everybody in the ledger has an outcome, and nobody a stale secret."""
    everybody_has_an_outcome(world)
    for username, user in world.users.items():
        the_newest_secret_is_delivered(world, username, user)


def judge_at_rest(world: World) -> None:
    """Everything that can only be said when nothing more will happen."""
    everybody_has_an_outcome(world)
    for username, user in world.users.items():
        the_newest_secret_is_delivered(world, username, user)
        who_is_verified_is_known(world, username, user)
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
    if not call.late:
        outlasts_the_attempt(world, call, claim, "1")


def calls_do_not_overlap(world: World, call: Call) -> None:
    """1. No two calls for a user overlap unless a process was paused."""
    for other in world.cognito.open_calls:
        if other.operation != "associate":
            continue
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
    """2. At rest, ``delivered`` ⇒ its attempt is the last one issued to that user and the channel's highest generation.

    Excused: the last one was issued to a late call whose process was gone before it could say so.
    """
    row = world.ledger.rows.get(username)
    if row is None or row.state not in ENROLLED:
        return
    if row.sealed is None or not user.deliveries:
        raise Violation(f"2: {username} is {row.state}, and nothing was delivered")
    last = user.issued[-1]
    if user.secret_in(row.sealed) != last.secret and not (last.late and last.process.is_dead and not last.answered):
        raise Violation(f"2: {username} is delivered {user.secret_in(row.sealed)}, but {last.secret} was issued last")
    highest = max((delivery.sealed for delivery in user.deliveries), key=lambda sealed: sealed.generation)
    if highest.attempt_id != row.sealed.attempt_id:
        mine = user.secret_in(row.sealed)
        raise Violation(f"2: {username} is delivered {mine}, but the channel's highest is {secret_of(highest)}")


# --- 3 ----------------------------------------------------------------------------------------------------------------


def an_attempt_is_onesecret_of(world: World, username: str) -> None:
    """3. One attempt id ⇔ one secret ⇔ one generation ⇔ one byte-identical sealed blob."""
    user = world.users[username]
    sealed = [delivery.sealed for delivery in user.deliveries[-1:]]
    sealed += [write.row.sealed for write in user.writes[-1:] if write.row.sealed and write.row.sealed.blob]
    if username in world.harmed:  # a claim writes again what stood there
        sealed = [one for one in sealed if digest_of(one.blob) == one.digest]
    for one in sealed:
        mine = (one.attempt_id, secret_of(one), str(one.generation), one.blob)
        for other in user.sealed:
            same = [a == b for a, b in zip(mine, other, strict=True)]
            if any(same) and not all(same):
                raise Violation(f"3: {username}: {mine[:3]} and {other[:3]} are half the same")
        user.sealed.add(mine)


# --- 16 ---------------------------------------------------------------------------------------------------------------


def what_is_delivered_is_what_was_sealed(delivery: Delivery) -> None:
    """16. Nothing that was damaged in the ledger is delivered: nobody would notice before the letter is opened."""
    if digest_of(delivery.sealed.blob) != delivery.sealed.digest:
        raise Violation(f"16: what {delivery.username} is delivered is not what was sealed")


# --- 4 ----------------------------------------------------------------------------------------------------------------


def a_record_was_durable_first(world: World, delivery: Delivery) -> None:
    """4. Every record in a channel was durable in the ledger first."""
    if not any(write.row.sealed == delivery.sealed for write in world.users[delivery.username].writes):
        raise Violation(f"4: {secret_of(delivery.sealed)} was delivered to {delivery.username}, but never recorded")


def an_outcome_was_durable_first(world: World, acknowledgement: Acknowledgement) -> None:
    """4. Every acknowledgement follows a durable outcome for that request or user.

    For the request; or, while this worker had the message, the user was one for whom it is a duplicate: enrolled; or
    with an outcome, and the request dead.
    """
    request = acknowledgement.request
    writes = world.users[request.username].writes
    if writes and request.id in writes[-1].row.settled:
        return
    for number, write in enumerate(writes):
        until = writes[number + 1].at if number + 1 < len(writes) else world.now
        if until >= acknowledgement.leased_at and (
            _has_enough(write.row) or (not write.row.is_unfinished and _is_dead(world, acknowledgement))
        ):
            return
    stands = writes[-1].row if writes else None
    raise Violation(f"4: {request.id} is acknowledged without an outcome: {stands}")


def _has_enough(row: Enrolment) -> bool:
    """Enrolled, and no work is left with the user's secret; or with a factor from before the rollout."""
    if row.state is State.SKIPPED:
        return row.reason is Reason.ALREADY_ENROLLED
    return row.state in ENROLLED and not row.is_unfinished and row.reason not in NOT_ACTIVATED


def _is_dead(world: World, acknowledgement: Acknowledgement) -> bool:
    now = EPOCH + world.now + acknowledgement.process.skew
    return acknowledgement.request.expires_at - now <= ROUNDING


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
    if any(id_ in old.settled and id_ not in new.settled for id_ in world.requests):
        raise Violation(f"5: {new.username} forgets settled requests")
    if old.state not in ENROLLED or not _has_enough(old) or new.state in ENROLLED or new.reason is Reason.REPLY_LOST:
        return
    if new.request_id not in world.replacing or (new.request_id and new.request_id in old.settled):
        raise Violation(f"5: {new.username} was {old.state}, and is {new.state} {new.reason} for {new.request_id}")


# --- 8 ----------------------------------------------------------------------------------------------------------------


def done_means_nobody_is_unfinished(world: World, exit_: Exit) -> None:
    """8. Exit 0 or 1 ⇒ no unfinished row under any worker at that instant: the instant at which it looked last.

    That the states sum to the ledger's rows is true by construction here; the adapters' own tests show it of theirs.
    """
    looked_at = exit_.at if exit_.process.looked_at is None else exit_.process.looked_at
    for username, user in world.users.items():
        row = next((write.row for write in reversed(user.writes) if write.at <= looked_at), None)
        if row is not None and row.is_unfinished:
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
    recorder = next(
        one.process for one in user.writes if one.row.sealed and one.row.sealed.generation == row.sealed.generation
    )
    call = next(call for call in user.issued if call.secret == secret_of(delivery.sealed))
    assert call.acts_at is not None
    left = call.acts_at + SESSION_VALIDITY - delivery.started_at
    if left + abs(recorder.skew - write.process.skew) + ROUNDING < MIN_VALIDITY:
        raise Violation(f"9: {row.username} is delivered with {left} s left of the Session")


# --- 13 ---------------------------------------------------------------------------------------------------------------


def a_refusal_is_a_users_own_only_while_others_get_through(world: World, write: Write) -> None:
    """13. ``failed: refused`` and ``throttled_alone`` ⇒ that worker was told so, and served others around that time.

    Since a minute before it first called for the user: nobody is left where they are the last ones on the queue.
    Whoever was verified, or got the preference, was served too.
    """
    if write.row.reason not in (Reason.REFUSED, Reason.THROTTLED_ALONE):
        return
    username, process = write.row.username, write.process
    user = world.users[username]
    mine = [call for call in (*user.calls, *user.others) if call.process is process]
    if not any(call.answered and isinstance(call.reply, PoolFault | TryAgain) for call in mine):
        raise Violation(f"13: {process.name} has {username} as {write.row.reason}, and Cognito never told it so")
    served = [
        call
        for other, user in world.users.items()
        for call in (*user.issued, *(each for each in user.others if isinstance(each.reply, Verified | Preferred)))
        if other != username and call.process is process and call.sent_at >= min(each.sent_at for each in mine) - LATELY
    ]
    if not served:
        raise Violation(f"13: {process.name} has {username} as {write.row.reason}, and nobody else got through")


def a_refused_user_is_not_called_for_ever(world: World, call: Call) -> None:
    """13. A worker calls for a user who is always refused a few times, whatever else goes wrong."""
    username = call.request.username
    if world.always_wrong.get(username) is not Wrong.FORBIDDEN:
        return
    calls = sum(each.process is call.process and each.answered for each in world.users[username].calls)
    if calls > MOST_REFUSED_CALLS:
        raise Violation(f"13: {call.process.name} was refused {calls} times for {username}, and calls again")


# --- 14 ---------------------------------------------------------------------------------------------------------------


def no_false_alarm(world: World) -> None:
    """14. Whenever a worker starts, neither the ledger nor a row is behind its mark, unless it is an older copy."""
    if world.ledger.number < world.mark.number:
        raise Violation(f"14: the ledger ends with commit {world.ledger.number}, its mark with {world.mark.number}")
    for username, unsure in world.mark.names.items():
        row = world.ledger.rows.get(username)
        if row is None or row.generation < unsure:
            raise Violation(f"14: the mark names {username} up to {unsure}, and the row is behind that: {row}")


# --- 15 ---------------------------------------------------------------------------------------------------------------


def a_delivered_secret_is_known_by_its_digest(world: World, write: Write, *, may_be_unknown: bool = False) -> None:
    """15. ``delivered`` or ``active`` ⇒ the row holds the digest of the record in the channel that it calls delivered.

    With the second, at rest, that is the channel's newest. ``may_be_unknown``: a recovery takes nothing's word for it.
    """
    row = write.row
    if row.state not in ENROLLED or row.sealed is None or (may_be_unknown and not row.sealed.digest):
        return
    attempt = row.sealed.attempt_id
    mine = [each.sealed for each in world.users[row.username].deliveries if each.sealed.attempt_id == attempt]
    if not mine or any(digest_of(each.blob) != row.sealed.digest for each in mine):
        raise Violation(f"15: {row.username} is {row.state}, and the digest in the row is not the delivered record's")


# --- 11 ---------------------------------------------------------------------------------------------------------------


def in_bounded_time(world: World) -> None:
    """11. When faults stop, every row reaches an outcome in bounded time, even with all messages deleted."""
    if world.now - world.quiet_since > BOUNDED_TIME:
        raise Violation(f"11: nothing was done to the rollout for {BOUNDED_TIME} s, and it does not end")


def everybody_has_an_outcome(world: World) -> None:
    """11. And then nobody is left, and no message."""
    if left := [str(row) for row in world.ledger.rows.values() if row.is_unfinished]:
        raise Violation(f"11: unfinished at rest: {left}")
    if world.queue.messages:
        raise Violation("11: messages at rest")
