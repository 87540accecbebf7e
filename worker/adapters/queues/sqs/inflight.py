"""The messages of an SQS queue that this process has received and not finished: prefetched ones, and leased ones.

Nothing here does I/O. Times are monotonic seconds.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, OrderedDict
from dataclasses import dataclass

from worker.core.model import Request

Key = tuple[str, str]
"""A message's id and the MD5 digest of its body, as SQS returns them."""

LONGEST = 12 * 3600
"""Seconds, counted from its receipt, for which a message can stay hidden in total (SQS developer guide)."""
_CERTAIN = 0.95
"""The share of the visibility that we rely on: its time began at the server, before the answer arrived here."""


@dataclass(slots=True, eq=False)
class Message:
    """A received message, with the receipt handle to change or delete it; only the newest handle is sure to work."""

    key: Key
    handle: str
    request: Request
    received_at: float
    hidden_until: float
    """As far as we know; after that another worker may receive it."""
    is_ahead: bool = True
    """It was received ahead of its use: it waits here, and no worker task has leased it."""


class InFlight:
    """The messages in flight.

    ``visibility``: seconds for which each receipt and each heartbeat hides a message. ``memory``: how many acknowledged
    messages are remembered.
    """

    def __init__(self, visibility: float, memory: int = 10_000) -> None:
        self._visibility = visibility
        self._messages: dict[Key, Message] = {}
        self._ahead: list[tuple[float, int, Message]] = []
        self._numbers = itertools.count()
        self._acknowledged: OrderedDict[Key, None] = OrderedDict()
        self._memory = memory
        self._users_ahead: Counter[str] = Counter()
        self.ahead = 0
        """The number of messages with ``is_ahead``."""

    def __len__(self) -> int:
        return len(self._messages)

    def came(self, key: Key, handle: str, now: float) -> bool:
        """Note that a message was received; return whether it is in flight already (it has the new handle then)."""
        message = self._messages.get(key)
        if message is None:
            return False
        message.handle, message.received_at = handle, now
        self.hidden(message, now)
        return True

    def hidden(self, message: Message, now: float) -> None:
        """Note that the message was hidden again, by a request sent at ``now``."""
        message.hidden_until = max(message.hidden_until, now + _CERTAIN * self._visibility)

    def add(self, key: Key, handle: str, request: Request, now: float) -> None:
        """Add a new message, ahead of its use."""
        message = Message(key, handle, request, now, now + _CERTAIN * self._visibility)
        self._messages[key] = message
        heapq.heappush(self._ahead, (request.expires_at, next(self._numbers), message))
        self.ahead += 1
        self._users_ahead[request.username] += 1

    def take(self, most: int, now: float) -> list[Message]:
        """Take up to ``most`` of the messages ahead, earliest deadline first.

        Those whose visibility is over are dropped: another worker may have them.
        """
        taken: list[Message] = []
        while self._ahead and len(taken) < most:
            message = heapq.heappop(self._ahead)[2]
            if self._messages.get(message.key) is message and message.is_ahead and self._take(message, now):
                taken.append(message)
        return taken

    def take_of(self, username: str, most: int, now: float) -> list[Message]:
        """Take up to ``most`` of this user's messages ahead, in no particular order."""
        if not self.has_ahead(username):
            return []
        found = [each for each in self._messages.values() if each.is_ahead and each.request.username == username]
        return [message for message in found[:most] if self._take(message, now)]

    def has_ahead(self, username: str) -> bool:
        """Whether any of the messages ahead is this user's."""
        return username in self._users_ahead

    def _take(self, message: Message, now: float) -> bool:
        if message.hidden_until <= now:
            self.drop(message)
            return False
        self._no_longer_ahead(message)
        return True

    def _no_longer_ahead(self, message: Message) -> None:
        if message.is_ahead:
            message.is_ahead = False
            self.ahead -= 1
            username = message.request.username
            self._users_ahead[username] -= 1
            if not self._users_ahead[username]:
                del self._users_ahead[username]

    def take_any(self, most: int, now: float) -> list[Message]:
        """Take up to ``most`` of the messages ahead, whatever their deadlines."""
        waiting = [message for message in self._messages.values() if message.is_ahead]
        random.shuffle(waiting)
        return list(itertools.islice((message for message in waiting if self._take(message, now)), most))

    def drop(self, message: Message) -> bool:
        """Forget the message; return whether it was in flight."""
        if self._messages.get(message.key) is not message:
            return False
        del self._messages[message.key]
        self._no_longer_ahead(message)
        return True

    def messages(self) -> list[Message]:
        """All messages in flight."""
        return list(self._messages.values())

    def to_renew(self, now: float, *, is_wanted: bool = True) -> tuple[list[Message], list[Message]]:
        """The messages to hide again, because a third of the visibility is over, and the messages ahead to give up.

        All messages ahead are given up if ``is_wanted`` is false. A leased message is never given up: if it is received
        again meanwhile, it is known to be in flight.
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
        """Note that the message's outcome is durable; return ``False`` if that was known before."""
        self.drop(message)
        is_news = message.key not in self._acknowledged
        self.remember(message.key)
        return is_news

    def remember(self, key: Key) -> None:
        """Remember that this message is done, in case it is received again."""
        self._acknowledged[key] = None
        if len(self._acknowledged) > self._memory:
            self._acknowledged.popitem(last=False)

    def is_acknowledged(self, key: Key) -> bool:
        """Whether this message is remembered as done."""
        return key in self._acknowledged
