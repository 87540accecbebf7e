"""What this process has in flight of an SQS queue: messages that wait here for their turn, and those that are leased.

Nothing here does I/O. Times are monotonic seconds.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from dataclasses import dataclass

from worker.core.model import Request

Key = tuple[str, str]
"""A message's id and the digest of its body, as SQS gives them."""

LONGEST = 12 * 3600
"""Seconds from its receipt for which a message can be hidden in all (SQS developer guide)."""
_CERTAIN = 0.95
"""Share of the visibility that we rely on: it began at the server, before the answer was here."""


@dataclass(slots=True, eq=False)
class Message:
    """A message that was received, with what changes or deletes it: only the newest receipt handle is sure to work."""

    key: Key
    handle: str
    request: Request
    received_at: float
    hidden_until: float
    """As far as we know; after that it may be somebody else's."""
    is_ahead: bool = True
    """It waits here, and nobody works on it."""


class InFlight:
    """The messages in flight. ``visibility`` (s) is for how long each receipt and each heartbeat hides one; ``memory``
    bounds how many acknowledged ones are remembered.
    """

    def __init__(self, visibility: float, memory: int = 10_000) -> None:
        self._visibility = visibility
        self._messages: dict[Key, Message] = {}
        self._ahead: list[tuple[float, int, Message]] = []
        self._numbers = itertools.count()
        self._acknowledged: OrderedDict[Key, None] = OrderedDict()
        self._memory = memory
        self.ahead = 0
        """How many wait here."""

    def __len__(self) -> int:
        return len(self._messages)

    def came(self, key: Key, handle: str, now: float) -> bool:
        """A message was received: whether it is in flight already, and has the new handle now."""
        message = self._messages.get(key)
        if message is None:
            return False
        message.handle, message.received_at = handle, now
        self.hidden(message, now)
        return True

    def hidden(self, message: Message, now: float) -> None:
        """It has been hidden anew."""
        message.hidden_until = max(message.hidden_until, now + _CERTAIN * self._visibility)

    def add(self, key: Key, handle: str, request: Request, now: float) -> None:
        """Let it wait for its turn."""
        message = Message(key, handle, request, now, now + _CERTAIN * self._visibility)
        self._messages[key] = message
        heapq.heappush(self._ahead, (request.expires_at, next(self._numbers), message))
        self.ahead += 1

    def take(self, most: int, now: float) -> list[Message]:
        """Up to so many of those that wait, earliest deadline first; those that may be somebody else's are let go."""
        taken: list[Message] = []
        while self._ahead and len(taken) < most:
            message = heapq.heappop(self._ahead)[2]
            if self._messages.get(message.key) is not message:
                continue
            if message.hidden_until <= now:
                self.drop(message)
                continue
            message.is_ahead = False
            self.ahead -= 1
            taken.append(message)
        return taken

    def drop(self, message: Message) -> bool:
        """It is in flight no more; whether it was."""
        if self._messages.get(message.key) is not message:
            return False
        del self._messages[message.key]
        self.ahead -= message.is_ahead
        return True

    def messages(self) -> list[Message]:
        """All that are in flight."""
        return list(self._messages.values())

    def to_renew(self, now: float, *, is_wanted: bool = True) -> tuple[list[Message], list[Message]]:
        """Those to hide anew, since a third of the visibility is over, and those that wait here and have to be let go.

        One that is worked on is never let go: if it comes again meanwhile, it is known to be in flight.
        """
        renew, let_go = [], []
        for message in self._messages.values():
            can_be_renewed = now + self._visibility - message.received_at <= LONGEST
            if message.is_ahead and (not is_wanted or message.hidden_until <= now or not can_be_renewed):
                let_go.append(message)
            elif can_be_renewed and message.hidden_until - now <= self._visibility * 2 / 3:
                renew.append(message)
        return renew, let_go

    def acknowledge(self, message: Message) -> bool:
        """Its outcome is durable; whether that is news."""
        self.drop(message)
        is_news = message.key not in self._acknowledged
        self.remember(message.key)
        return is_news

    def remember(self, key: Key) -> None:
        """This message is done with, should it come again."""
        self._acknowledged[key] = None
        if len(self._acknowledged) > self._memory:
            self._acknowledged.popitem(last=False)

    def is_acknowledged(self, key: Key) -> bool:
        """Whether it is remembered that this message is done with."""
        return key in self._acknowledged
