"""Reading rows that may be of a later version, or damaged: each is named, and none of them is a bug of this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from worker.core.errors import PersonMustAct, RowUnreadable
from worker.core.model import Enrolment, Recorded, State

Stored = TypeVar("Stored")

UNREADABLE = "unreadable"
"""What stands for the state of a user whose row is damaged, where the others are told of all the same."""

LATER_VERSION = "run the version that wrote it (mfa-worker --version), or restore the ledger from a backup"
"""What to do about a row that cannot be read."""


def readable(username: str, stored: Stored, read: Callable[[Stored], Enrolment]) -> Enrolment:
    """``read(stored)``. Raises ``RowUnreadable`` if that is a row of a later version, or none at all."""
    try:
        return read(stored)
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        # A ValueError of an enumeration names the value that it does not know, such as a reason; others may hold more.
        what = str(error) if "is not a valid" in str(error) else type(error).__name__
        raise RowUnreadable(username, what, LATER_VERSION) from None


def known_state(text: str) -> State:
    """The state of that name. Raises ``PersonMustAct`` for a state of a later version: nobody can say who is done."""
    try:
        return State(text)
    except ValueError:
        raise PersonMustAct(
            f"the ledger holds users in the state {text!r}, which this version does not know", LATER_VERSION
        ) from None


def recorded(username: str, stored: Stored, read: Callable[[Stored], Recorded]) -> Recorded:
    """``read(stored)``; of a damaged row no more than that it is ``UNREADABLE``."""
    try:
        return read(stored)
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError):
        return Recorded(username, UNREADABLE, None, 0.0, None, "")
