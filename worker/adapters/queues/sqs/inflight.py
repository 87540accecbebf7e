"""The messages of an SQS queue that this process has received and not finished: prefetched ones, and leased ones.

Nothing here does I/O. Times are monotonic seconds.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.core.model import Request
from worker.core.outlook import UNJUDGED, Outlook

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
    is_dead: bool = False
    """Its credential had expired while it waited here; such a message takes up no room."""
    copy: Mapping[str, Any] | None = None
    """What to send in its place before it is given back: this receipt was the last that the redrive policy allows."""


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
        self._passed_over: list[tuple[float, int, Message]] = []
        """Messages ahead that are passed over (``Outlook``): a heap by -deadline."""
        self._alive: Counter[str] = Counter()
        """How many messages of each user are in flight and not dead."""
        self._dead: dict[str, list[Message]] = defaultdict(list)
        """Dead messages ahead, by user."""
        self._ready: list[str] = []
        """Users who have dead messages here, and may have no others."""
        self.ahead = 0
        """The number of messages with ``is_ahead`` that are not dead."""
        self.dead = 0
        """The number of those that are."""

    def __len__(self) -> int:
        return len(self._messages)

    def came(self, key: Key, handle: str, now: float, copy: Mapping[str, Any] | None = None) -> bool:
        """Note that a message was received; return whether it is in flight already (it has the new handle then)."""
        message = self._messages.get(key)
        if message is None:
            return False
        message.handle, message.received_at, message.copy = handle, now, copy
        self.hidden(message, now)
        return True

    def hidden(self, message: Message, now: float) -> None:
        """Note that the message was hidden again, by a request sent at ``now``."""
        message.hidden_until = max(message.hidden_until, now + _CERTAIN * self._visibility)

    def add(self, key: Key, handle: str, request: Request, now: float, copy: Mapping[str, Any] | None = None) -> None:
        """Add a new message, ahead of its use; for ``copy`` see ``Message``."""
        message = Message(key, handle, request, now, now + _CERTAIN * self._visibility, copy=copy)
        self._messages[key] = message
        heapq.heappush(self._ahead, (request.expires_at, next(self._numbers), message))
        self._alive[request.username] += 1
        self.ahead += 1
        self._users_ahead[request.username] += 1

    def take(self, most: int, now: float, outlook: Outlook = UNJUDGED) -> list[Message]:
        """Take up to ``most`` of the messages ahead, in the order of ``ports.Queue.lease``.

        Those whose visibility is over are dropped: another worker may have them.
        """
        self.bury(outlook.now)
        # Those passed over come back where leasing and claiming take less time than they did.
        while self._passed_over and -self._passed_over[0][0] > outlook.passed_over_up_to:
            deadline, number, message = heapq.heappop(self._passed_over)
            heapq.heappush(self._ahead, (-deadline, number, message))
        while self._ahead and self._ahead[0][0] <= outlook.passed_over_up_to:
            deadline, number, message = heapq.heappop(self._ahead)
            heapq.heappush(self._passed_over, (-deadline, number, message))
        taken: list[Message] = []
        while self._ahead and len(taken) < most:
            taken += self._taken(heapq.heappop(self._ahead)[2], now)
        while self._passed_over and len(taken) < most and -self._passed_over[0][0] > outlook.too_late_up_to:
            taken += self._taken(heapq.heappop(self._passed_over)[2], now)
        return taken

    def take_of(self, username: str, most: int, now: float) -> list[Message]:
        """Take up to ``most`` of this user's messages ahead, dead ones too, in no particular order."""
        if not self.has_ahead(username):
            return []
        found = [each for each in self._messages.values() if each.is_ahead and each.request.username == username]
        return [message for each in found[:most] for message in self._taken(each, now)]

    def has_ahead(self, username: str) -> bool:
        """Whether any of the messages ahead is this user's."""
        return username in self._users_ahead

    def _taken(self, message: Message, now: float) -> list[Message]:
        """The message, if it is still ours to hand out."""
        if not self._is_ahead(message):
            return []
        if message.hidden_until <= now:
            self.drop(message)
            return []
        self._no_longer_ahead(message)
        return [message]

    def _is_ahead(self, message: Message) -> bool:
        return message.is_ahead and self._messages.get(message.key) is message

    def _no_longer_ahead(self, message: Message) -> None:
        if message.is_ahead:
            message.is_ahead = False
            self.dead -= message.is_dead
            self.ahead -= not message.is_dead
            username = message.request.username
            self._users_ahead[username] -= 1
            if not self._users_ahead[username]:
                del self._users_ahead[username]

    def bury(self, dead_at: float) -> None:
        """Note which messages ahead are dead by that time (UTC seconds): they take up no room ahead any more."""
        while self._ahead and self._ahead[0][0] <= dead_at:
            self._bury(heapq.heappop(self._ahead)[2])
        kept = [one for one in self._passed_over if one[2].request.expires_at > dead_at]
        if len(kept) < len(self._passed_over):
            for _, __, message in self._passed_over:
                if message.request.expires_at <= dead_at:
                    self._bury(message)
            heapq.heapify(kept)
            self._passed_over = kept

    def _bury(self, message: Message) -> None:
        if self._is_ahead(message):
            message.is_dead = True
            self.ahead -= 1
            self.dead += 1
            self._dead[message.request.username].append(message)
            self._died(message)

    def take_dead(self, most: int, now: float, dead_at: float) -> list[Message]:
        """Take up to ``most`` of the messages ahead that are dead by ``dead_at`` (UTC seconds).

        Left out are those of users of whom another message is in flight that is not dead.
        """
        self.bury(dead_at)
        taken: list[Message] = []
        while self._ready and len(taken) < most:
            username = self._ready[-1]
            messages = self._dead.get(username)
            if not messages or username in self._alive:
                self._ready.pop()
                continue
            taken += self._taken(messages.pop(), now)
            if not messages:
                del self._dead[username]
        return taken

    def _died(self, message: Message) -> None:
        """Note that a message can be called for no longer: it is dead, or no longer in flight."""
        username = message.request.username
        self._alive[username] -= 1
        if not self._alive[username]:
            del self._alive[username]
            if username in self._dead:
                self._ready.append(username)

    def deadlines(self, dead_at: float) -> list[float]:
        """The deadlines of the messages ahead that are not dead by that time (UTC seconds)."""
        ahead = (message.request.expires_at for message in self._messages.values() if message.is_ahead)
        return [deadline for deadline in ahead if deadline > dead_at]

    def take_any(self, most: int, now: float) -> list[Message]:
        """Take up to ``most`` of the messages ahead, whatever their deadlines."""
        waiting = [message for message in self._messages.values() if message.is_ahead and not message.is_dead]
        random.shuffle(waiting)
        return list(itertools.islice((one for message in waiting for one in self._taken(message, now)), most))

    def drop(self, message: Message) -> bool:
        """Forget the message; return whether it was in flight."""
        if self._messages.get(message.key) is not message:
            return False
        del self._messages[message.key]
        self._no_longer_ahead(message)
        if not message.is_dead:
            self._died(message)
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
