"""Why a user is where they are, and what to do about it: one sentence of cause and one of cure for each reason.

The one table of these sentences: ``run``, ``status``, ``show``, ``export``, the report page and ``docs/operations.md``
say what stands here (a test compares the page; ``python -m worker.core.causes`` prints its rows). Commands stand in a
sentence as they are typed, the last one after a colon, without a full stop that could be copied with it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import NamedTuple

from worker.core.model import MISMATCHES, STATE_OF, Reason, State


class Why(NamedTuple):
    """One sentence each, for people."""

    cause: str
    cure: str


MALFORMED, DEAD_LETTERS, UNREQUESTED = "malformed", "dead_letters", "unrequested"
"""What ``why`` takes in place of a state: messages that are no requests, requests that were received too often, and
users of the roster for whom no worker has seen a request."""

_SIGN_IN = "sign the user in again and push the new credential: mfa-worker push FILE"
_PUSH = "then push a new request: mfa-worker push FILE"
_IN_TIME = "Make credentials as they are used (mfa-worker push --keep-fresh)"

_OF_STATE: Mapping[str, Why] = {
    State.IN_PROGRESS: Why(
        "A worker has begun with the user, or ended before there was an outcome.",
        "Nothing while a worker runs; otherwise let a run finish it: mfa-worker run",
    ),
    State.SEALED: Why(
        "The secret is recorded, sealed, and the channel has not confirmed its delivery yet.",
        "See that the channel is available (mfa-worker check); the next run delivers the same secret: mfa-worker run",
    ),
    State.DELIVERED: Why(
        "The channel confirmed the delivery of the user's newest secret.",
        "Hand it out, if that is not done yet, where the key is: mfa-worker open -i KEYFILE --letters FILE",
    ),
    State.ACTIVE: Why("The secret is delivered and verified: the user signs in with a code.", "Nothing."),
    State.NEEDS_SESSION: Why(
        "The credential of the request cannot be used any more.", f"{_SIGN_IN[0].upper()}{_SIGN_IN[1:]}"
    ),
    State.FAILED: Why(
        "The request will not succeed as it is.",
        "Mend the request, then push it again with a new credential: mfa-worker push FILE",
    ),
    State.SKIPPED: Why("The user is not to be enrolled.", "Nothing; a new request may be pushed: mfa-worker push FILE"),
    MALFORMED: Why(
        "The message was no valid request, so it was put aside: its reason and digest are kept, never its body.",
        "Read the reasons (mfa-worker status --malformed), mend those lines and push them again: mfa-worker push FILE",
    ),
    DEAD_LETTERS: Why(
        "SQS moved the request to a dead-letter queue, because it was received more often than maxReceiveCount allows.",
        "Find what killed the workers or raise maxReceiveCount, then bring the requests back: mfa-worker redrive",
    ),
    UNREQUESTED: Why(
        "The user is on the roster, and no worker has seen a request for them.",
        "If none waits on the queue (mfa-worker status), push one for each user: mfa-worker push FILE",
    ),
}

_OF_REASON: Mapping[str, Why] = {
    Reason.SESSION_EXPIRED: Why(
        "The Session died before the user's turn came.",
        f"{_IN_TIME}; {_SIGN_IN}",
    ),
    Reason.SESSION_SPENT: Why(
        "The Session had been used already, and it serves one call only.",
        f"Find what else uses it (another tool, the script itself, a second request), then {_SIGN_IN}",
    ),
    Reason.SESSION_INVALID: Why(
        "Cognito refuses the Session and gives no closer reason.",
        f"See that the script signs in to this pool and Region (mfa-worker config show), then {_SIGN_IN}",
    ),
    Reason.TOKEN_EXPIRED: Why(
        "The access token died before the user's turn came.",
        f"{_IN_TIME} or raise their validity in the app client, 24 h at most; {_SIGN_IN}",
    ),
    Reason.TOKEN_REVOKED: Why(
        "Cognito refuses the access token, because the user was signed out everywhere or the token was revoked.",
        f"Find what signs the user out, then {_SIGN_IN}",
    ),
    Reason.TOKEN_SCOPE: Why(
        "The access token lacks the scope aws.cognito.signin.user.admin.",
        "Sign the user in through an app client and flow that give that scope, and push the new token: "
        "mfa-worker push FILE",
    ),
    Reason.REPLY_LOST: Why(
        "A call may have made a secret that nobody has, so no secret of this user can be trusted.",
        f"If there are many, look at the network and for workers that were killed; {_SIGN_IN}",
    ),
    Reason.VERIFY_WINDOW_LOST: Why(
        "The secret's Session died, or nearly so, before the secret was delivered or verified.",
        "See that the channel is quick enough (mfa-worker check) or use access tokens, which live longer; " + _SIGN_IN,
    ),
    Reason.REQUEST_LOST: Why(
        "A worker had begun with the user, made no call, and then the request was gone from the queue.",
        "Find whether the queue was purged or keeps requests too briefly, then push a new request: "
        "mfa-worker push FILE",
    ),
    Reason.CREDENTIAL_EXPIRED: Why(
        "The ticket or password expired before the user's turn came; no call was made.",
        "Push again with tickets that outlast the backlog, or with a new password: "
        "mfa-worker push --usernames FILE --ticket-key KEYFILE --valid-for 48h",
    ),
    Reason.SIGN_IN_REFUSED: Why(
        "The pool refused the sign-in: a wrong password or ticket, an unknown username, or a trigger that says no.",
        "See that the password is right, or that the ticket key, sign_in.client_id and the end of the "
        "rollout are those "
        "of the pool's trigger, then push a new credential, for this one is not tried again: mfa-worker push FILE",
    ),
    Reason.CHALLENGE_UNANSWERABLE: Why(
        "The sign-in asked for something that the worker cannot answer.",
        "Sign the user in yourself, answer the challenge that the detail names, and push the access token: "
        "mfa-worker push FILE",
    ),
    Reason.PASSWORD_RESET_REQUIRED: Why(
        "An administrator has reset the user's password, or a temporary password has expired.",
        "Let the user choose a new password, or set one (aws cognito-idp admin-set-user-password), then " + _SIGN_IN,
    ),
    Reason.INVALID_PARAMETER: Why(
        "Cognito says that the request is malformed.",
        f"Look at the credential that the script wrote for this user, {_PUSH}",
    ),
    Reason.CREDENTIAL_MISMATCH: Why(
        "The access token is not one for this user in this pool; no call was made.",
        "See that the script gives each user an access token of their own, from this pool, "
        "and push the right one: mfa-worker push FILE",
    ),
    Reason.RETRIES_EXHAUSTED: Why(
        "Cognito gave no answer that decides, as often and as long as retry.attempts and retry.total allow.",
        f"See whether Cognito or the network is unwell (mfa-worker check), {_PUSH}",
    ),
    Reason.WORKER_CRASHED: Why(
        "Three workers died, or met a bug, while they worked on this user; there was no fourth call.",
        f"Look in the workers' logs and at their memory limits, {_PUSH}",
    ),
    Reason.REFUSED: Why(
        "Cognito refused this user each time, with a code that would concern everybody, while others got through.",
        f"Mend what the code in the detail names (the app client of the token, a rule of the pool's WAF), {_PUSH}",
    ),
    Reason.THROTTLED_ALONE: Why(
        "Every call for this user was answered with too many requests, while others got through.",
        f"Find what else calls Cognito for this user and let some hours pass, {_PUSH}",
    ),
    Reason.RECORD_TOO_LARGE: Why(
        "The sealed record would be larger than the channel or the ledger takes.",
        f"Send fewer or shorter attributes, or use a channel that takes more (channel.kind), {_PUSH}",
    ),
    Reason.DELIVERY_REFUSED: Why(
        "The channel refused this one record for good, so nobody has the secret.",
        f"Mend what the channel's code in the detail names, {_PUSH}",
    ),
    Reason.USER_NOT_FOUND: Why(
        "The user is no longer in the pool.",
        "Take the user off the list (mfa-worker dismiss FILE --why TEXT), or correct the username and push again: "
        "mfa-worker push FILE",
    ),
    Reason.ALREADY_ENROLLED: Why(
        "The user has TOTP already, as the sign-in or Cognito showed.",
        'Nothing; only a request with "replace": true gives the user a new secret.',
    ),
    Reason.DISABLED: Why(
        "The account is disabled in the pool.",
        "Nothing; once it is enabled, push a new request: mfa-worker push FILE",
    ),
    Reason.UNCONFIRMED: Why(
        "The account is not confirmed.",
        f"Confirm it (aws cognito-idp admin-confirm-sign-up), {_PUSH}",
    ),
    Reason.DISMISSED: Why(
        "Somebody said that this user is not to be enrolled.",
        "Nothing; a new request enrols the user after all: mfa-worker push FILE",
    ),
    Reason.ACTIVATION_PENDING: Why(
        "The secret is delivered, and its activation is under way.",
        "Nothing while a worker runs; otherwise let a run go on with it: mfa-worker run",
    ),
    Reason.VERIFY_REFUSED: Why(
        "Cognito refused the codes of the delivered secret, or the Session that was to verify it.",
        "See that this machine's clock is right (mfa-worker check) and that the user set up no other app meanwhile, "
        "then " + _SIGN_IN,
    ),
    Reason.VERIFY_UNKNOWN: Why(
        "An answer was lost, and with it whether the delivered secret is verified.",
        "Push a new credential, whose sign-in shows it: mfa-worker push FILE",
    ),
    Reason.VERIFY_TOKEN_EXPIRED: Why(
        "The access token died before the delivered secret was verified.",
        "Push a new credential; the secret stays the same, and is verified then: mfa-worker push FILE",
    ),
    Reason.PREFERENCE_REFUSED: Why(
        "The secret is verified, so its codes work, but TOTP could not be made the preferred factor.",
        "Mend what the detail names, then push a new credential: mfa-worker push FILE",
    ),
}

_CLIENT_GONE = Why(
    "Cognito says that the app client for which this access token was issued does not exist, while others got through.",
    "Sign the user in through an app client that exists, and push the new token: mfa-worker push FILE",
)
_WAF = Why(
    "A rule of the pool's WAF refuses this user's requests, while others got through.",
    f"Find the rule in the WAF's log (a size, a pattern) and admit the request, {_PUSH}",
)
_TRIGGER = Why(
    "A Lambda trigger of the pool fails for this user, while others got through.",
    f"Look in the log of the pool's trigger function and repair it, {_PUSH}",
)
_NO_SMS = Why(
    "The pool cannot send this user's code by text message.",
    f"Repair the pool's SmsConfiguration and its role, {_PUSH}",
)
_NO_MAIL = Why("The pool cannot send this user's code by mail.", f"Repair the pool's EmailConfiguration, {_PUSH}")
_OTHER_FACTOR = "The sign-in asked for a code by {way}, which the worker cannot read."
_FACTOR_CURE = "Sign the user in yourself with that code, and push the access token: mfa-worker push FILE"
_NO_ROLE = Why(
    "The secret is verified, but the worker's role may not set the preferred factor.",
    "Allow cognito-idp:AdminSetUserMFAPreference on the pool to the worker's role "
    "(config/iam/worker.json), then push "
    "a new credential: mfa-worker push FILE",
)
_CLOCK_OR_APP = Why(
    "Cognito refused two codes of the delivered secret, one after the other.",
    "See that this machine's clock is right (mfa-worker check) and that the user set up no other app meanwhile, then "
    + _SIGN_IN,
)
_BEING_DELETED = Why(
    "The user's secret in Secrets Manager is scheduled for deletion, so nothing can be added to it.",
    f"Restore it (aws secretsmanager restore-secret), {_PUSH}",
)

_OF_DETAIL: Mapping[tuple[str, str], Why] = {
    (Reason.REFUSED, "ResourceNotFoundException"): _CLIENT_GONE,
    (Reason.REFUSED, "ForbiddenException"): _WAF,
    (Reason.REFUSED, "HTTP403"): _WAF,
    (Reason.REFUSED, "InvalidLambdaResponseException"): _TRIGGER,
    (Reason.REFUSED, "UnexpectedLambdaException"): _TRIGGER,
    (Reason.REFUSED, "InvalidSmsRoleAccessPolicyException"): _NO_SMS,
    (Reason.REFUSED, "InvalidSmsRoleTrustRelationshipException"): _NO_SMS,
    (Reason.REFUSED, "InvalidEmailRoleAccessPolicyException"): _NO_MAIL,
    (Reason.THROTTLED_ALONE, "LimitExceededException"): Why(
        "Cognito limits this one user (attempt limit exceeded), while others got through.",
        f"Let some hours pass, {_PUSH}",
    ),
    (Reason.CREDENTIAL_MISMATCH, "user"): Why(
        f"For this user, {MISMATCHES['user']}; nobody was enrolled with it.",
        "Look in the script how it pairs users and tokens (username is Cognito's own, no alias), and push the right "
        "token: mfa-worker push FILE",
    ),
    (Reason.CREDENTIAL_MISMATCH, "pool"): Why(
        f"The request does not fit: {MISMATCHES['pool']}.",
        "Sign in to the pool that cognito.user_pool_id names (mfa-worker config show), and push the new token: "
        "mfa-worker push FILE",
    ),
    (Reason.CREDENTIAL_MISMATCH, "id_token"): Why(
        f"The request does not fit: {MISMATCHES['id_token']}.",
        "Push AccessToken of the sign-in's answer, not IdToken: mfa-worker push FILE",
    ),
    (Reason.CREDENTIAL_MISMATCH, "unreadable"): Why(
        f"What the request calls an access token is none: {MISMATCHES['unreadable']}.",
        "Push AccessToken of the sign-in's answer, unchanged and not encrypted: mfa-worker push FILE",
    ),
    (Reason.SIGN_IN_REFUSED, "UserLambdaValidationException"): Why(
        "A trigger of the pool refused the sign-in.",
        "Read in the trigger function's log why (refused: …), mend that, then push a new credential, for this one is "
        "not tried again: mfa-worker push FILE",
    ),
    (Reason.SIGN_IN_REFUSED, "threat protection"): Why(
        "Cognito's threat protection blocked the sign-in, because it looks risky.",
        "Let the pool's threat protection except this host's address, then push a new credential: mfa-worker push FILE",
    ),
    (Reason.CHALLENGE_UNANSWERABLE, "NEW_PASSWORD_REQUIRED"): Why(
        "The user has a temporary password, and the sign-in asked for a new one.",
        "Set a password for good (aws cognito-idp admin-set-user-password --permanent), then push a new request: "
        "mfa-worker push FILE",
    ),
    (Reason.CHALLENGE_UNANSWERABLE, "SMS_MFA"): Why(_OTHER_FACTOR.format(way="text message"), _FACTOR_CURE),
    (Reason.CHALLENGE_UNANSWERABLE, "SMS_OTP"): Why(_OTHER_FACTOR.format(way="text message"), _FACTOR_CURE),
    (Reason.CHALLENGE_UNANSWERABLE, "EMAIL_OTP"): Why(_OTHER_FACTOR.format(way="mail"), _FACTOR_CURE),
    (Reason.CHALLENGE_UNANSWERABLE, "SOFTWARE_TOKEN_MFA"): Why(
        "The request says replace, and the sign-in asked for a code of the app that the user has; nothing was changed.",
        "Sign the user in yourself with a code of that app, and push the access token with replace: "
        "mfa-worker push FILE",
    ),
    (Reason.CHALLENGE_UNANSWERABLE, "MFA_SETUP"): Why(
        "The sign-in asked the user to set up a second factor, and TOTP is none of those that the pool offers.",
        "Turn TOTP on in the pool (aws cognito-idp set-user-pool-mfa-config), then push a new request: "
        "mfa-worker push FILE",
    ),
    (Reason.CHALLENGE_UNANSWERABLE, "CUSTOM_CHALLENGE"): Why(
        "The pool's triggers asked for an answer, and the request brought no ticket.",
        "Push a ticket: mfa-worker push --usernames FILE --ticket-key KEYFILE",
    ),
    (Reason.DELIVERY_REFUSED, "InvalidRequestException"): _BEING_DELETED,
    (Reason.VERIFY_REFUSED, "CodeMismatchException"): _CLOCK_OR_APP,
    (Reason.VERIFY_REFUSED, "EnableSoftwareTokenMFAException"): _CLOCK_OR_APP,
    (Reason.VERIFY_REFUSED, "ExpiredCodeException"): _CLOCK_OR_APP,
    (Reason.VERIFY_REFUSED, "ERROR"): _CLOCK_OR_APP,
    (Reason.VERIFY_REFUSED, "user_not_found"): Why(
        "The user is no longer in the pool, so the delivered secret cannot be verified.",
        "Take the user off the list: mfa-worker dismiss FILE --why TEXT",
    ),
    (Reason.VERIFY_UNKNOWN, "worker_crashed"): Why(
        "Three workers died while they activated this user, so nobody knows whether the secret is verified.",
        "Look in the workers' logs and at their memory limits, then push a new credential, whose sign-in shows it: "
        "mfa-worker push FILE",
    ),
    (Reason.PREFERENCE_REFUSED, "AccessDeniedException"): _NO_ROLE,
    (Reason.PREFERENCE_REFUSED, "token_expired"): Why(
        "The secret is verified, and the access token died before TOTP could be made the preferred factor.",
        "Push a new credential, with which it is set: mfa-worker push FILE",
    ),
    (Reason.PREFERENCE_REFUSED, "token_revoked"): Why(
        "The secret is verified, and the access token was revoked before TOTP could be made the preferred factor.",
        "Push a new credential, with which it is set: mfa-worker push FILE",
    ),
}
"""Where a detail (``Enrolment.detail``: a code, a challenge) tells more than the reason."""

COMMAND = re.compile(r"(?:mfa-worker(?: config)?|aws [a-z-]+) [a-z-]+(?: (?:--?[a-z-]+|[A-Z]{2,}|\d+h))*")
"""A command in a sentence, for who marks it as one."""

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
"""A detail that is a code of a service, and no sentence."""


def why(state: str, reason: str | None = None, detail: str | None = None) -> Why:
    """Return why a user is in that state, and what to do about it.

    ``state``: of ``model.State``, or ``malformed``, ``dead_letters`` or ``unrequested``. ``reason`` and ``detail``: as
    the ledger has them. States and reasons of a later version have an answer too. Never raises.
    """
    if not reason:
        return _OF_STATE.get(state) or _of_later_version(state)
    known = _OF_REASON.get(reason)
    if known is None:
        return _of_later_version(state, reason)
    if not detail:
        return known
    if found := _OF_DETAIL.get((reason, detail)):
        return found
    if reason == Reason.DISMISSED:
        return Why(f"{known.cause[:-1]}: {detail}", known.cure)
    if reason in _NAMES_A_CODE and _CODE.fullmatch(detail):
        return Why(f"{known.cause[:-1]} ({detail}).", known.cure)
    return known


_NAMES_A_CODE = frozenset(
    {
        Reason.REFUSED,
        Reason.THROTTLED_ALONE,
        Reason.DELIVERY_REFUSED,
        Reason.RECORD_TOO_LARGE,
        Reason.SIGN_IN_REFUSED,
        Reason.CHALLENGE_UNANSWERABLE,
        Reason.VERIFY_REFUSED,
        Reason.VERIFY_UNKNOWN,
        Reason.PREFERENCE_REFUSED,
    }
)
"""Reasons whose cause is not whole without the code in the detail."""


def _of_later_version(state: str, reason: str | None = None) -> Why:
    what = f"state {state}" if reason is None else f"reason {reason}"
    cure = "Read it with that version: its docs/operations.md says what to do."
    return Why(f"A later version of the worker wrote the {what}, which this one does not know.", cure)


def rows() -> dict[State, list[str]]:
    """Return the rows of the tables in ``docs/operations.md``, by state; commands are marked as code."""
    found: dict[State, list[str]] = {}
    for reason in Reason:
        cause, cure = _OF_REASON[reason]
        marked = COMMAND.sub(r"`\g<0>`", cure)
        found.setdefault(STATE_OF[reason], []).append(f"| `{reason}` | {cause} | {marked} |")
    return found


def main() -> None:
    """Print the rows, for ``docs/operations.md``."""
    for state, lines in rows().items():
        sys.stdout.write("\n".join([f"{state}:", *lines, ""]))


if __name__ == "__main__":
    main()
