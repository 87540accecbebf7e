"""The invariants about activation: only what was delivered is verified, and nothing is said that is not so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.simulation.accounts import BEFORE
from tests.simulation.history import Call, UserHistory, Verification, Violation, Write
from tests.simulation.ports import OWN_MARK
from tests.simulation.scenario import EPOCH
from tests.simulation.signing_in import last_write_of, outlasts_the_attempt, was_overtaken_by_the_paused
from tests.support.totp import PERIOD, code_at
from worker.core.config import ActivationMode
from worker.core.model import (
    NOT_ACTIVATED,
    CredentialKind,
    Enrolment,
    Reason,
    State,
    Verified,
    WrongCode,
)

if TYPE_CHECKING:
    from tests.simulation.world import World

MOST_WRONG_CODES = 2
"""A wrong code is tried once more."""


def blob_of(row: Enrolment) -> dict[str, Any]:
    """What activation takes after a crash."""
    if row.activation is None:
        return {}
    blob = row.activation.blob
    if not blob.startswith(OWN_MARK):
        raise Violation(f"blob: what {row.username}'s row holds is not sealed to the rollout's own identity")
    found: dict[str, Any] = json.loads(blob.removeprefix(OWN_MARK))
    return found


# --- verified ---------------------------------------------------------------------------------------------------------


def nobody_is_verified_before_the_delivery(world: World, verification: Verification) -> None:
    """Verified. A secret is verified only after the ledger knew that the channel confirmed it."""
    call = verification.call
    user = world.users[call.request.username]
    for write in user.writes:
        row = write.row
        if write.at > call.sent_at or row.state is not State.DELIVERED or row.sealed is None:
            continue
        if user.secret_in(row.sealed) == verification.secret:
            return
    raise Violation(f"verified: {verification.secret} of {call.request.username}, which was not delivered before")


def who_is_verified_is_known(world: World, username: str, user: UserHistory) -> None:
    """Verified. At rest whoever holds a secret verified by the worker is ``active``, or ``delivered`` with a reason.

    Or in doubt, until a sign-in finds out or fails; a secret that another one followed counts no more.
    """
    row = world.ledger.rows[username]
    account = world.cognito.accounts[username]
    if account.verified in (None, BEFORE) or account.verified != account.issued:
        return
    if row.state is State.ACTIVE or row.reason in NOT_ACTIVATED or row.reason is Reason.REPLY_LOST:
        return
    was_in_doubt = any(write.row.reason is Reason.REPLY_LOST for write in user.writes)
    if was_in_doubt and (row.reason is Reason.ALREADY_ENROLLED or row.state is State.NEEDS_SESSION):
        return
    raise Violation(f"verified: {username} is verified in truth, and {row.state} {row.reason}")


def active_is_the_newest_delivered(world: World, write: Write) -> None:
    """Active. ``active`` ⇒ the secret that Cognito verified last is the newest that the channel has.

    Excused, since the contract has it so: somebody had an active factor, was given a newer secret by Session that was
    not verified, and a sign-in asks for a code. It does not say of which secret, and makes whoever was delivered
    active.
    """
    row = write.row
    if row.state is not State.ACTIVE or (write.before is not None and write.before.state is State.ACTIVE):
        return
    if row.sealed is None:
        raise Violation(f"active: {row.username} is active, and the ledger knows of no secret")
    user, account = world.users[row.username], world.cognito.accounts[row.username]
    mine = user.secret_in(row.sealed)
    newest = user.secret_in(max((one.sealed for one in user.deliveries), key=lambda sealed: sealed.generation))
    if account.verified != mine or newest != mine:
        raise Violation(f"active: {row.username} with {mine}; verified is {account.verified}, delivered {newest}")
    if (
        world.scenario.activation is ActivationMode.PREFER
        and not account.is_preferred
        and not world.scenario.shows_unpreferred
        and not world.scenario.requires_mfa
    ):
        raise Violation(f"active: {row.username}, and TOTP is not preferred")


def what_was_verified_is_not_denied(world: World, write: Write) -> None:
    """Verified. What was verified is not called refused on the Session path.

    ``verify_window_lost`` ⇒ no verification was sent of that secret, by nobody, that was not late.
    """
    row, before = write.row, write.before
    if before is None or before.sealed is None or row.reason is before.reason:
        return
    user = world.users[row.username]
    mine = user.secret_in(before.sealed)
    if row.reason is Reason.VERIFY_WINDOW_LOST:
        sent = [call for call in user.others if call.operation == "verify" and _is_of(call, mine)]
        if any(not call.late for call in sent):
            raise Violation(f"verified: the window of {mine} is called lost, and a verification of it was sent")
    on_session_path = before.sealed.session_expires_at is not None
    if row.reason is Reason.VERIFY_REFUSED and on_session_path and any(one.secret == mine for one in user.verified):
        raise Violation(f"verified: {mine} is called refused, and is verified")


def _is_of(call: Call, secret: str) -> bool:
    """Whether the code is one of this secret's, of about that time."""
    return any(code_at(secret, EPOCH + call.sent_at + step * PERIOD) == call.code for step in range(-6, 7))


# --- what is sent -----------------------------------------------------------------------------------------------------


def an_activation_has_a_claim(world: World, call: Call) -> None:
    """Activation. Each wire attempt has a claim on a delivered user that outlasts it; a late attempt is excused."""
    claim, username = last_write_of(world, call), call.request.username
    stands = world.ledger.rows.get(username)
    if claim is None or claim.row.worker != call.process.name or claim.row.reason is not Reason.ACTIVATION_PENDING:
        raise Violation(f"activation: {call.process.name} {call.operation}s for {username} without a claim")
    if call.late or was_overtaken_by_the_paused(world, username):
        return
    if stands is None or stands.worker != call.process.name or stands.generation != claim.row.generation:
        raise Violation(f"activation: {call.process.name} {call.operation}s for {username}, overtaken by {stands}")
    outlasts_the_attempt(world, call, claim, "activation")


def what_is_sent_was_written_first(world: World, call: Call) -> None:
    """Activation. A code is sent only of the newest delivered secret, with a Session that the ledger holds already.

    And a preference only where the ledger has the user as verified, or a lost reply leaves nothing else to ask with.
    """
    claim = last_write_of(world, call)
    assert claim is not None
    username, row = call.request.username, claim.row
    user, blob = world.users[username], blob_of(row)
    assert row.sealed is not None
    if row.activation is None:
        raise Violation(
            f"activation: {call.process.name} {call.operation}s for {username}, and the ledger holds no blob"
        )
    if call.operation == "verify":
        mine = user.secret_in(row.sealed)
        if not call.late and not _is_of(call, mine):
            raise Violation(f"activation: the code that is sent for {username} is none of {mine}")
        if call.request.kind is CredentialKind.SESSION and call.request.credential.reveal() not in blob.values():
            raise Violation(f"activation: {username} is verified with a Session that the ledger does not hold")
    elif not row.activation.verified:
        doubt = row.activation.doubt or any(other.operation == "verify" and not other.answered for other in user.others)
        if call.request.kind is not CredentialKind.SESSION or not doubt:
            raise Violation(f"activation: TOTP is preferred for {username}, and the ledger has not that it is verified")


def a_wrong_code_is_tried_once_more(world: World, call: Call) -> None:
    """Activation. After a wrong code the next is sent in another time step, with the Session that the answer brought.

    Once; and what Cognito verified is not verified again by whoever heard of it.
    """
    if call.operation != "verify":
        return
    user = world.users[call.request.username]
    mine = [each for each in user.others if each.operation == "verify" and each.process is call.process]
    earlier = [each for each in mine if each is not call and each.reply is not None]
    if not earlier:
        return
    last = earlier[-1]
    claim = last_write_of(world, call)
    assert claim is not None
    assert claim.row.sealed is not None
    secret = user.secret_in(claim.row.sealed)
    if not _is_of(last, secret):
        return
    if isinstance(last.reply, Verified):
        raise Violation(f"activation: {call.process.name} verifies {secret} again, which it heard to be verified")
    if not isinstance(last.reply, WrongCode):
        return
    if last.code == call.code and last.request.id == call.request.id and not _is_retaken(user, call, [last]):
        raise Violation(f"activation: {call.process.name} sends the wrong code of {call.request.username} again")
    brought = last.reply.session
    if brought is not None and call.request.credential != brought and call.request.kind is CredentialKind.SESSION:
        raise Violation(f"activation: {call.request.username} is verified with another Session than the answer brought")
    wrong = [each for each in earlier if isinstance(each.reply, WrongCode) and _is_of(each, secret)]
    same = [each for each in wrong if each.request.id == call.request.id]
    if len(same) >= MOST_WRONG_CODES and not _is_retaken(user, call, same):
        raise Violation(f"activation: {call.process.name} tries a third code for {call.request.username}")


def _is_retaken(user: UserHistory, call: Call, wrong: list[Call]) -> bool:
    """Whether the work on the user ended in between."""
    ended = [write for write in user.writes if write.process is call.process and write.row.worker is None]
    return any(write.at >= wrong[-MOST_WRONG_CODES:][0].sent_at for write in ended)


# --- the blob ---------------------------------------------------------------------------------------------------------


def a_blob_does_not_outlive_its_outcome(world: World, write: Write) -> None:
    """Blob. Kept from the sealed record until the outcome, and longer only on the token path, where one may go on.

    Also while the user is replaced and may have to be restored. Whoever is to be activated has one.
    """
    row = write.row
    if row.reason is Reason.ACTIVATION_PENDING and row.activation is None:
        raise Violation(f"blob: {row.username}'s activation is under way, and nothing is left to do it with")
    if row.activation is None:
        return
    if not row.activation.blob:
        if (row.is_unfinished and row.state is not State.IN_PROGRESS) or not row.activation.replaces:
            raise Violation(f"blob: {row.username}'s is empty")
        return
    if row.state is State.IN_PROGRESS:
        kept = row.before is State.DELIVERED and row.before_reason in NOT_ACTIVATED
    elif row.state is State.DELIVERED:
        on_token_path = row.activation.kind is CredentialKind.ACCESS_TOKEN
        kept = row.is_unfinished or (row.reason in NOT_ACTIVATED and on_token_path)
    else:
        kept = row.state is State.SEALED
    if not kept:
        raise Violation(f"blob: {row.username} is {row.state} {row.reason}, and the ledger still holds a blob")
