"""What happened to a user, kept in the user's row: the newest events, in a bounded space.

``rules`` adds an event with each row that it makes. What happens between two writes of a row, such as an answer that
led to another try, is added to the row in memory and travels with the next write, so a history costs no write.

Nothing here is secret: words of this program, codes of Cognito's and of channels, reasons, generations, and what a
person wrote as the reason of a dismissal.
"""

from __future__ import annotations

import json
from typing import Any

from worker.core.model import Event

MOST = 10
"""So many events of a user are kept: what a help desk reads of one user, and some 200 bytes in a row."""
LONGEST_DETAIL = 100
"""Characters of a detail that are kept, as many as ``dismiss --why`` takes; codes are shorter."""

_LATEST = 253_402_300_800_000
"""The year 10000 in milliseconds: no time that can be shown is later."""

CLAIMED = "claimed"
"""A worker claimed the user; the detail says what for, unless it is the first secret."""
TAKEN_OVER = "taken over"
"""The worker that had claimed the user died, or was not heard of until its claim ran out."""
SIGNED_IN = "signed in"
"""A sign-in brought what the detail names."""
ANSWERED = "answered"
"""Cognito answered with what the detail says; where that was no answer to the enrolment, it names the request."""
SEALED = "sealed"
"""A secret was issued, sealed and recorded; the detail is its generation."""
DELIVERED = "delivered"
"""The channel confirmed the delivery of the secret that was sealed last."""
NOT_DELIVERED = "not delivered"
"""The channel was away when the secret was to be delivered."""
VERIFIED = "verified"
"""Cognito found the code of the delivered secret right."""
ACTIVE = "active"
"""Nothing is left to do: the secret is verified, and preferred where that was asked."""
GIVEN_BACK = "given back"
"""The worker gave the user back before an outcome."""
CONCLUDED = "concluded"
"""A request ended with the outcome in the detail."""
AS_BEFORE = "left as before"
"""A request for another secret surely brought none, for the reason in the detail."""
DOUBTED = "put in doubt"
"""A worker that was overtaken may have, or had, a secret of the user."""
DISMISSED = "dismissed"
"""A person said that the user is not to be enrolled, for the reason in the detail."""
REDELIVERED = "redelivered"
"""A person let the same sealed record be delivered again (``mfa-worker redeliver``)."""
RECOVERED = "recovered"
"""The row was brought up to date after an older ledger was restored (``mfa-worker recover``)."""
IDENTITY_LOST = "identity given up"
"""What the activation needed could not be opened any more (``mfa-worker recover --lost-identity``)."""
PURGED = "purged"
"""What was sealed in the row and is needed no more was erased (``mfa-worker purge``)."""

_LETTERS = {
    CLAIMED: "c",
    TAKEN_OVER: "t",
    SIGNED_IN: "i",
    ANSWERED: "a",
    SEALED: "s",
    DELIVERED: "d",
    NOT_DELIVERED: "n",
    VERIFIED: "v",
    ACTIVE: "x",
    GIVEN_BACK: "g",
    CONCLUDED: "o",
    AS_BEFORE: "b",
    DOUBTED: "u",
    DISMISSED: "m",
    REDELIVERED: "r",
    RECOVERED: "y",
    IDENTITY_LOST: "l",
    PURGED: "p",
}
"""One letter for each of these words in a stored history; any other word is stored as it is."""
_WORDS = {letter: word for word, letter in _LETTERS.items()}
_quoted = json.JSONEncoder().encode
_OF_A_SECRET = frozenset({SEALED, DELIVERED, VERIFIED, ACTIVE})
"""Events that tell what became of a secret."""


def and_then(events: tuple[Event, ...], now: float, what: str, detail: str = "") -> tuple[Event, ...]:
    """These events and one more; the oldest of more than ``MOST`` is dropped.

    An event that is like an earlier one is told once, with how often it happened and when last, unless a secret came
    in between: so nothing that repeats itself, like nine conflicts or a user who is given back again and again, drives
    out what became of a secret. An event is never earlier than the one before it: on a clock that was set back it has
    the other one's time.
    """
    at, times, detail = int(now * 1000 + 0.5) / 1000, 1, detail[:LONGEST_DETAIL]
    if events:
        at = max(at, events[-1].at)
        for earlier in reversed(events):
            if earlier.what == what and earlier.detail == detail:
                events = tuple(event for event in events if event is not earlier)
                times += earlier.times
                break
            if earlier.what in _OF_A_SECRET:
                break
    return (*events[1 - MOST :], Event(at, what, detail, times))


def dump(events: tuple[Event, ...]) -> str:
    """The text that a ledger stores, a JSON array; ``load`` reads it.

    The milliseconds of the first event, then for each one what must be said of it: milliseconds since the one before
    it, a letter or a word, the detail, and how often. Put together by hand, which takes a third of the time.
    """
    if not events:
        return "[]"
    then = int(events[0].at * 1000 + 0.5)
    text = f"[{then}"
    for at, what, detail, times in events:
        before, then = then, int(at * 1000 + 0.5)
        word = f'"{_LETTERS[what]}"' if what in _LETTERS else _quoted(what)
        if times > 1:
            text += f",[{then - before},{word},{_quoted(detail)},{times}]"
        elif detail:
            text += f",[{then - before},{word},{_quoted(detail)}]"
        else:
            text += f",[{then - before},{word}]"
    return text + "]"


def load_text(text: Any) -> tuple[Event, ...]:
    """The events in a stored text; ``None`` and a text that is damaged hold none, see ``load``."""
    try:
        return load(json.loads(text))
    except (TypeError, ValueError, RecursionError):
        return ()


def load(stored: Any) -> tuple[Event, ...]:
    """The events of a stored array, read as JSON; ``None`` and an empty one hold none.

    A history that cannot be read, such as a later version's, counts as none: it must not keep anybody from working on
    the user.
    """
    if not stored:
        return ()
    try:
        then, *parts = stored
        events = []
        for since, what, *more in parts:
            then += since
            if not 0 <= then < _LATEST:
                return ()
            detail, times = more[0] if more else "", more[1] if len(more) > 1 else 1
            events.append(Event(then / 1000, _WORDS.get(what, str(what)), str(detail), max(1, int(times))))
        return tuple(events[-MOST:])
    except (ArithmeticError, TypeError, ValueError):
        return ()
