"""The Lambda triggers of the fake Cognito's pool, which check tickets, and how Cognito calls triggers.

A trigger is called with an event as Cognito builds it ("Custom authentication challenge Lambda triggers", developer
guide) and returns it with its response. By default these are the few lines below. Tests run the triggers of
``config/sign-in`` in their place, which are what a real pool runs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any, NamedTuple

from worker.rehearsal.fake_cognito import answers
from worker.rehearsal.fake_cognito.answers import Answer

Event = dict[str, Any]
Trigger = Callable[[Event, object], Any]
"""Takes an event and a context, and returns the event with its ``response``."""

_KEY_BYTES = 32
"""Bytes of a key for tickets."""

CHALLENGE = "CUSTOM_CHALLENGE"
"""Cognito's name of a challenge that a pool's own triggers make."""


class TriggerError(Exception):
    """A trigger failed, or answered what Cognito does not understand; ``answer`` is what the client is told."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class Asked(NamedTuple):
    """Whom a trigger is called for."""

    region: str
    user_pool_id: str
    client_id: str
    username: str
    is_unknown: bool
    """Whether there is no such user, and the pool does not tell (PreventUserExistenceErrors)."""
    history: tuple[Event, ...] = ()
    """The challenges of this sign-in so far, and whether each was met."""


def call(trigger: Trigger, source: str, asked: Asked, **request: Any) -> Event:
    """Call a trigger as Cognito would and return its ``response``. Raises TriggerError."""
    event: Event = {
        "version": "1",
        "triggerSource": f"{source}_Authentication",
        "region": asked.region,
        "userPoolId": asked.user_pool_id,
        "userName": asked.username,
        "callerContext": {"awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": asked.client_id},
        "request": {"userAttributes": {"sub": asked.username}, "userNotFound": asked.is_unknown, **request},
        "response": {},
    }
    try:
        answered = trigger(event, None)
    except Exception as error:  # noqa: BLE001 - whatever a trigger raises, Cognito tells the client
        message = f"{source} failed with error {error}."
        raise TriggerError(answers.error("UserLambdaValidationException", message)) from None
    response = answered.get("response") if isinstance(answered, dict) else None
    if not isinstance(response, dict):
        raise TriggerError(answers.error("InvalidLambdaResponseException", "Unrecognizable lambda output"))
    return response


def ticket_triggers(key: str, now: Callable[[], float]) -> Trigger:
    """Return triggers that let whoever has a ticket in.

    ``key``: the line of a key file; ``now`` returns UNIX seconds. Raises ValueError for what is no key. The check
    shares no code with what makes tickets, so that each proves the other.
    """
    secret = _decoded(key)
    if len(secret) != _KEY_BYTES:
        raise ValueError(f"ticket_key should be {_KEY_BYTES} bytes in base64url without padding")

    def is_right(event: Event) -> bool:
        ticket = str(event["request"]["challengeAnswer"])
        not_after = int.from_bytes(_decoded(ticket)[:8], "big")
        parts = (event["userPoolId"], event["callerContext"]["clientId"], event["userName"], str(not_after))
        content = "\n".join(("mfa-worker ticket v1", *parts)).encode("utf-8", "surrogatepass")
        code = hmac.digest(secret, content, hashlib.sha256)
        right = base64.urlsafe_b64encode(not_after.to_bytes(8, "big") + code).rstrip(b"=")
        return hmac.compare_digest(right, ticket.encode("utf-8", "replace")) and now() < not_after

    def trigger(event: Event, _context: object) -> Event:
        asked, response = event["request"], event["response"]
        match event["triggerSource"].partition("_")[0]:
            case "DefineAuthChallenge" if not asked["session"]:
                response |= {"challengeName": CHALLENGE, "issueTokens": False, "failAuthentication": False}
            case "DefineAuthChallenge":
                right = asked["session"][-1]["challengeResult"] and not asked["userNotFound"]
                response |= {"issueTokens": right, "failAuthentication": not right}
            case "VerifyAuthChallengeResponse":
                response["answerCorrect"] = is_right(event)
        return event

    return trigger


def _decoded(text: str) -> bytes:
    """Return what base64url stands for; nothing where it is none."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""
