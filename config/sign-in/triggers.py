"""The user pool's side of tickets: one Lambda function for the three triggers of custom authentication.

It lets in whoever answers the one challenge with a right ticket, in one app client, until the rollout ends. README.md,
beside this file, says how to install it and how to take it away. It needs Python 3.11 or newer and its standard
library; boto3, which reads the key, is part of Lambda's runtime. ``handler`` is what Lambda calls. A function that a
pool already has for other app clients can call the three functions below it for the events that ``is_ours``.

Environment: ``CLIENT_ID``, ``ROLLOUT_ENDS`` (RFC 3339, or seconds since the epoch) and ``KEY_SECRET`` (the name or ARN
of the secret with the key, as ``mfa-worker keygen --ticket`` writes it). Nothing of a ticket or the key is logged.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

KEY_LIVES = 60.0
"""Seconds until the key is read again: a new key counts after that, and an hour costs 60 reads."""
KEY_SIZE = 32
"""Bytes of the key."""

_log = logging.getLogger(__name__)


class NotReadyError(Exception):
    """The key is missing or malformed, or the environment is: nobody can say whether a ticket is right."""


# --- the triggers -----------------------------------------------------------------------------------------------------


def handler(event: dict[str, Any], context: object) -> dict[str, Any] | None:
    """Do what the trigger is for.

    Where nobody can say whether a ticket is right, the answer is none at all, which Cognito reports as
    InvalidLambdaResponseException. An exception would be UserLambdaValidationException, which means a refusal.
    """
    name = event["triggerSource"].partition("_")[0]
    try:
        match name:
            case "DefineAuthChallenge":
                return define_auth_challenge(event, context)
            case "CreateAuthChallenge":
                return create_auth_challenge(event, context)
            case "VerifyAuthChallengeResponse":
                return verify_auth_challenge_response(event, context)
        why = "this function is for the three triggers of custom authentication alone"
    except NotReadyError as error:
        why = str(error)
    _log.error("%s cannot answer: %s", name, why)
    return None


def define_auth_challenge(event: dict[str, Any], _context: object = None) -> dict[str, Any]:
    """One challenge, tokens after one right answer, and refusal in every other case. Raises ``NotReadyError``.

    An unknown user gets the challenge too, and is refused after it, so that nobody can find out who has an account.
    """
    session = event["request"].get("session") or []
    answered = [(each.get("challengeName"), each.get("challengeResult") is True) for each in session]
    may = is_ours(event) and time.time() < _rollout_ends()
    known = not event["request"].get("userNotFound")
    if may and not answered:
        event["response"] = {"challengeName": "CUSTOM_CHALLENGE", "issueTokens": False, "failAuthentication": False}
        return event
    right = may and known and answered == [("CUSTOM_CHALLENGE", True)]
    event["response"] = {"issueTokens": right, "failAuthentication": not right}
    return event


def create_auth_challenge(event: dict[str, Any], _context: object = None) -> dict[str, Any]:
    """Make the challenge. It asks for a ticket, and there is nothing to say to it."""
    event["response"] = {
        "publicChallengeParameters": {"asks": "ticket"},
        "privateChallengeParameters": {"asks": "ticket"},
        "challengeMetadata": "TICKET",
    }
    return event


def verify_auth_challenge_response(event: dict[str, Any], _context: object = None) -> dict[str, Any]:
    """Say whether the answer is this user's ticket for this app client and pool, and still good.

    Raises ``NotReadyError``, whatever the answer is, so that a missing key never looks like a wrong ticket.
    """
    request, now, ends, key = event["request"], time.time(), _rollout_ends(), _key.read()
    ticket = request.get("challengeAnswer")
    given = ticket.encode(errors="replace") if isinstance(ticket, str) else b""
    not_after = _not_after(given)
    expected = make_ticket(
        key,
        user_pool_id=event["userPoolId"],
        client_id=event["callerContext"]["clientId"],
        username=event["userName"],
        not_after=not_after,
    )
    refused = ""
    if not hmac.compare_digest(expected, given):
        refused = "the ticket is not this user's for this app client, or not of this key"
    elif request.get("userNotFound"):
        refused = "there is no such user"
    elif not is_ours(event):
        refused = "the app client is another"
    elif now >= ends:
        refused = "the rollout has ended"
    elif now >= not_after:
        refused = "the ticket has expired"
    if refused:
        _log.warning("refused: %s", refused)
    event["response"] = {"answerCorrect": not refused}
    return event


def is_ours(event: dict[str, Any]) -> bool:
    """Whether the event is of the rollout's app client. Raises ``NotReadyError`` where none is named."""
    return bool(event["callerContext"]["clientId"] == _setting("CLIENT_ID"))


# --- tickets ----------------------------------------------------------------------------------------------------------


def make_ticket(key: bytes, *, user_pool_id: str, client_id: str, username: str, not_after: int) -> bytes:
    """The ticket as ``mfa-worker push --ticket-key`` makes it; ``not_after`` in seconds since the epoch."""
    about = f"mfa-worker ticket v1\n{user_pool_id}\n{client_id}\n{username}\n{not_after}"
    code = hmac.digest(key, about.encode(errors="surrogatepass"), hashlib.sha256)
    return base64.urlsafe_b64encode(not_after.to_bytes(8, "big") + code).rstrip(b"=")


def _not_after(ticket: bytes) -> int:
    """What a ticket says of its end, in seconds since the epoch; 0 where it says nothing. It is not judged here."""
    try:
        return int.from_bytes(base64.urlsafe_b64decode(ticket[:12])[:8], "big")
    except binascii.Error:
        return 0


# --- what the operator set --------------------------------------------------------------------------------------------


def _setting(name: str) -> str:
    if value := os.environ.get(name, "").strip():
        return value
    raise NotReadyError(f"the environment variable {name} is not set")


def _rollout_ends() -> float:
    text = _setting("ROLLOUT_ENDS")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        end = None
    if end is None or end.tzinfo is None:
        raise NotReadyError("ROLLOUT_ENDS is no time such as 2027-01-31T18:00:00Z")
    return end.timestamp()


class _Key:
    """The key, kept for ``KEY_LIVES``."""

    def __init__(self, secret_text: Callable[[], str]) -> None:
        self._secret_text = secret_text
        self._key = b""
        self._read_at = 0.0

    def read(self) -> bytes:
        """The key; raises ``NotReadyError``."""
        now = time.monotonic()
        if not self._key or now - self._read_at >= KEY_LIVES:
            self._key = b""
            self._key, self._read_at = _decoded(self._secret_text()), now
        return self._key


def _decoded(text: str) -> bytes:
    """The key in one line of base64url without padding."""
    line = text.strip().encode(errors="replace")
    try:
        key = base64.urlsafe_b64decode(line + b"=")
    except binascii.Error:
        key = b""
    if len(key) != KEY_SIZE or base64.urlsafe_b64encode(key).rstrip(b"=") != line:
        raise NotReadyError("the secret holds no key: put the file there that mfa-worker keygen --ticket wrote")
    return key


def _from_secrets_manager() -> str:
    import boto3  # only here: tests and rehearsals have the key from elsewhere
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    # Cognito waits 5 s for a trigger ("Lambda triggers", developer guide).
    brief = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
    try:
        client = boto3.client("secretsmanager", config=brief)
        answer = client.get_secret_value(SecretId=_setting("KEY_SECRET"))
    except (BotoCoreError, ClientError) as error:
        raise NotReadyError(f"the secret with the key cannot be read: {error}") from None
    return str(answer.get("SecretString", ""))


_key = _Key(_from_secrets_manager)


def read_key_with(secret_text: Callable[[], str]) -> None:
    """Read the key's text from elsewhere than Secrets Manager, from now on: for tests and rehearsals."""
    global _key
    _key = _Key(secret_text)
