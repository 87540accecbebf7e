"""A queue, its workers and a script in virtual time: what tests of the feed share."""

from __future__ import annotations

import asyncio
import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from tests.support.virtual_time import VirtualTime
from worker.core.model import Enrolment, Request, State, WriteResult
from worker.core.ports import Backlog, Pushed
from worker.pacing.pace import Pace
from worker.requests.backpressure import FeedConfig
from worker.requests.feed import Feed
from worker.requests.message import Parser

VALIDITY = 180.0
CONFIG = FeedConfig(rate=20.0, session_validity=VALIDITY)
numbers = itertools.count()


class World:
    """A queue, the workers that empty it at ``rate`` users/s, and the pace that they agreed on, all in virtual time."""

    def __init__(self, virtual: VirtualTime, *, rate: float, lag: float = 0.0) -> None:
        self.virtual = virtual
        self.rate = rate
        self.pace: float | None = None
        self.lag = lag
        self.messages: list[Request] = []
        """In the order of their deadlines, as long as all live equally long."""
        self.foreign = 0
        """Messages that somebody else pushed."""
        self.waits: list[float] = []
        """Seconds from push to call."""
        self.dead = 0
        self.idle = 0.0
        """Seconds for which the workers had nothing to do."""
        self.counts = 0
        self.pushes: list[int] = []
        self.bodies: list[bytes] = []
        self.aside: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self.latency = 0.0
        self.rows: dict[str, State] = {}
        self._known: dict[str, float] = {}
        self._history: list[tuple[float, float]] = [(0.0, 0)]

    # --- the queue ---

    async def push(self, requests: Iterable[tuple[Request, bytes]]) -> Pushed:
        await asyncio.sleep(self.latency)
        if self.error:
            raise self.error
        page = [(request, body) for request, body in requests if request.id not in self._known]
        duplicates = 0
        for request, body in page:
            self._known[request.id] = self.virtual.now
            self.messages.append(request)
            self.bodies.append(body)
        self.pushes.append(len(page))
        self._changed()
        return Pushed(len(page), duplicates)

    async def put_aside(self, reason: str, digest: str, number: int = 1, before: int = 0) -> None:
        self.aside.append((reason, digest))

    async def backlog(self) -> Backlog:
        self.counts += 1
        if self.error:
            raise self.error
        seen = bisect.bisect_right(self._history, (max(0.0, self.virtual.now - self.lag), math.inf)) - 1
        return Backlog((int(self._history[seen][1]) if self.lag else len(self.messages)) + self.foreign)

    # --- the ledger ---

    async def read_pace(self) -> Pace | None:
        return None if self.pace is None else Pace(0.0, self.pace, 0.0)

    async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
        raise AssertionError("a feed reserves nothing")

    def shared_time(self) -> float:
        return self.virtual.now

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        raise AssertionError("a feed writes no row")

    async def read(self, username: str) -> Enrolment | None:
        return Enrolment(username, self.rows[username], 0.0, 1) if username in self.rows else None

    async def unfinished(self) -> Iterator[Enrolment]:
        raise AssertionError("a feed asks for nobody else")

    def is_dead(self, worker: str) -> bool:
        return False

    # --- the workers ---

    async def work(self, until: float) -> None:
        while self.virtual.now < until:
            if self.rate == 0:
                await asyncio.sleep(0.25)
                continue
            await asyncio.sleep(1 / self.rate)
            if not self.messages:
                self.idle += 1 / self.rate
                continue
            request = self.messages.pop(0)
            self._changed()
            self.waits.append(self.virtual.now - self._known[request.id])
            self.dead += request.expires_at - self.virtual.utc() < CONFIG.call_timeout

    def _changed(self) -> None:
        self._history.append((self.virtual.now, len(self.messages)))

    def feed(self, config: FeedConfig = CONFIG) -> Feed:
        parser = Parser("eu-central-1_AbCdEfGhI", config.session_validity)
        return Feed(self, self, parser, self.virtual, config)  # type: ignore[arg-type]


def request(**keys: object) -> dict[str, object]:
    """A message that nobody pushed before."""
    number = next(numbers)
    return {"username": f"user-{number}", "session": f"{number:040}", **keys}


async def mint(feed: Feed, until: float, virtual: VirtualTime, seconds: float = 0.001) -> None:
    """A script that signs a user in within so many seconds, and pushes."""
    while virtual.now < until:
        await asyncio.sleep(seconds)
        await feed.push(request())


@contextmanager
def ending(*tasks: asyncio.Task[None]) -> Iterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
