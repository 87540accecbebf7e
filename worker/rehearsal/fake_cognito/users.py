"""The users of the fake Cognito as far as their sign-in is concerned: password, status, other factors, wrong attempts.

Only users who differ from everybody else are remembered, so that a million ordinary ones take no memory.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

TOTP = "SOFTWARE_TOKEN_MFA"
"""Cognito's name of the second factor that this project is about."""

FACTORS = (TOTP, "SMS_MFA", "EMAIL_OTP")
"""The second factors that a user may have."""

WRONG_ATTEMPTS = 5
"""Wrong passwords after which a user is locked out for a second, then twice as long with each further one ("Lockout
behavior for failed sign-in attempts", Cognito developer guide)."""

LONGEST_LOCKOUT = 900.0
"""Seconds that a lockout lasts at most; after as long without a wrong attempt, counting begins anew (same source)."""


class Status(StrEnum):
    """What state an account is in."""

    CONFIRMED = "CONFIRMED"
    UNCONFIRMED = "UNCONFIRMED"
    RESET_REQUIRED = "RESET_REQUIRED"
    FORCE_CHANGE_PASSWORD = "FORCE_CHANGE_PASSWORD"  # noqa: S105 - the name of a status
    DISABLED = "DISABLED"
    DELETED = "DELETED"
    """There is no such user, although the pool otherwise knows everybody."""


class User(NamedTuple):
    """One user's account."""

    password: str | None = None
    """None: nobody can sign in with a password."""
    status: Status = Status.CONFIRMED
    factors: tuple[str, ...] = ()
    """Second factors that the user had before the rollout, of FACTORS."""
    preferred: str | None = None
    """The one of them that is preferred."""


class _Wrong(NamedTuple):
    times: int
    last: float
    locked_until: float


class Users:
    """Who is in the pool. Times are UNIX seconds."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self._wrong: dict[str, _Wrong] = {}

    def add(self, username: str, user: User) -> None:
        """Add a user, or change one."""
        self._users[username] = user

    def find(self, username: str, *, password: str | None, everybody: bool) -> User | None:
        """Return the user; None if there is none.

        `everybody`: whether a name that was never added is a user's too. `password` is that of whoever was given none;
        `{username}` in it stands for the name.
        """
        user = self._users.get(username)
        if user is None:
            user = User(status=Status.CONFIRMED if everybody else Status.DELETED)
        if user.status is Status.DELETED:
            return None
        if user.password is None and password is not None:
            user = user._replace(password=password.replace("{username}", username))
        return user

    def is_locked(self, username: str, now: float) -> bool:
        """Return whether the user is locked out after too many wrong passwords."""
        wrong = self._wrong.get(username)
        return wrong is not None and now < wrong.locked_until

    def was_wrong(self, username: str, now: float) -> None:
        """Count a wrong password, and lock the user out where there were too many."""
        before = self._wrong.get(username)
        times = 1 if before is None or now - before.last >= LONGEST_LOCKOUT else before.times + 1
        lockout = min(LONGEST_LOCKOUT, 2.0 ** (times - WRONG_ATTEMPTS)) if times >= WRONG_ATTEMPTS else 0.0
        self._wrong[username] = _Wrong(times, now, now + lockout)

    def was_right(self, username: str) -> None:
        """Forget the wrong passwords."""
        self._wrong.pop(username, None)


def user_from(password: Any, status: Any, factors: Any, preferred: Any) -> User:
    """Return the user that a request to the control interface describes. Raises ValueError."""
    if not isinstance(password, str | None) or status not in list(Status):
        raise ValueError(f"a password is text, and a status one of {', '.join(Status)}, not {status!a}")
    if not isinstance(factors, list | tuple) or not set(factors) <= set(FACTORS):
        raise ValueError(f"factors are a list of {', '.join(FACTORS)}")
    if preferred is not None and preferred not in factors:
        raise ValueError("preferred is one of the factors")
    return User(password, Status(status), tuple(factors), preferred)
