"""The answers of the fake Cognito: results, and errors with exactly the codes and messages that clients rely on."""

from __future__ import annotations

from typing import Any, NamedTuple


class Answer(NamedTuple):
    """One answer, before it is written as HTTP."""

    status: int
    body: dict[str, Any] | str
    """A JSON object, or a page of HTML as a load balancer sends it."""
    error: str | None = None
    """The error's code; ``None`` for a success, ``HTTP <status>`` for a page."""


def success(**members: Any) -> Answer:
    """Return the result of an operation."""
    return Answer(200, members)


def error(code: str, message: str, status: int = 400) -> Answer:
    """Return an error in the form in which the service sends it."""
    return Answer(status, {"__type": code, "message": message}, code)


def page(status: int, title: str) -> Answer:
    """Return the page that a load balancer sends when it does not pass the request on."""
    html = (
        f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body><h1>{status} {title}</h1></body>\r\n</html>"
    )
    return Answer(status, html, f"HTTP {status}")


def not_authorized(message: str) -> Answer:
    """Return the error for a credential that is not valid for the call."""
    return error("NotAuthorizedException", message)


def invalid_parameter(message: str) -> Answer:
    """Return the error for malformed input."""
    return error("InvalidParameterException", message)


NOTHING = Answer(0, "")
"""The answer where the connection fails, so that no answer is sent."""

# The errors about one user's credential, in Cognito's words: a client can tell them apart only by their messages.
SESSION_EXPIRED = not_authorized("Invalid session for the user, session is expired.")
SESSION_SPENT = not_authorized("Invalid session for the user, session can only be used once.")
SESSION_INVALID = not_authorized("Invalid session for the user.")
TOKEN_INVALID = not_authorized("Invalid Access Token")
TOKEN_EXPIRED = not_authorized("Access Token has expired")
TOKEN_REVOKED = not_authorized("Access Token has been revoked")
TOKEN_SCOPE = not_authorized("Access Token does not have required scopes")

# Other errors, in Cognito's words where they are known.
CONFLICT = error("ConcurrentModificationException", "Concurrent modification of the user, try again.")
INTERNAL = error("InternalErrorException", "Internal error, please try again later.", 500)
TOO_MANY_REQUESTS = error("TooManyRequestsException", "Too many requests")
WRONG_CODE = error("EnableSoftwareTokenMFAException", "Code mismatch")
NOT_VERIFIED = invalid_parameter("User does not have delivery config set to turn on SOFTWARE_TOKEN_MFA")
MALFORMED = error("SerializationException", "The request body is not a JSON object")
UNKNOWN_OPERATION = error("UnknownOperationException", "Unknown operation")

# The errors of a sign-in, in Cognito's words.
WRONG_PASSWORD = not_authorized("Incorrect username or password.")
LOCKED = not_authorized("Password attempts exceeded")
DISABLED = not_authorized("User is disabled.")
UNCONFIRMED = error("UserNotConfirmedException", "User is not confirmed.")
RESET_REQUIRED = error("PasswordResetRequiredException", "Password reset required for the user")
NO_USER = error("UserNotFoundException", "User does not exist.")
NO_TRIGGERS = invalid_parameter("Custom auth lambda trigger is not configured for the user pool.")
MISMATCH = error("CodeMismatchException", "Invalid code received for user")
CODE_USED = error("ExpiredCodeException", "Your software token has already been used once.")
TOTP_OFF = error("SoftwareTokenMFANotFoundException", "Software token MFA is not enabled for the pool")
