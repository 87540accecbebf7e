"""Counts the requests of sign-ins, and learns how long they take: so many more users are on the way to their call.

The time is measured where Cognito is asked, so waiting for the pace of sign-ins does not count: where that is what
holds users up, admitting more of them would only make more of them wait.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from worker.core.model import CustomChallenge, LookReply, Request, SignInReply
from worker.core.ports import Clock, SignIns
from worker.core.stats import RunStats

FIRST_GUESS = 0.5
"""Seconds that the first sign-ins are expected to take: between a password that Cognito checks by itself, some 100 ms,
and triggers that start cold. Too little leaves the quota unused for a moment, too much lets Sessions wait as long."""
REMEMBERED = 16
"""About so many answers are averaged: a single slow one changes little, and a pool that became slow is known within
some two seconds."""
MOST = 2.0
"""Seconds that are expected at most: else a pool that hangs would have hundreds of users on the way at the same time,
whose Sessions would all wait once it answers again."""

Answer = TypeVar("Answer")


class TimedSignIns:
    """``SignIns`` that are counted and timed: what they wrap, and ``takes``."""

    def __init__(self, sign_ins: SignIns, clock: Clock, stats: RunStats) -> None:
        self._sign_ins = sign_ins
        self._clock = clock
        self._stats = stats
        self._means = {"begin": FIRST_GUESS}
        """Seconds that each step took of late."""

    def takes(self) -> float:
        """Seconds that Cognito needs at present for all steps of one sign-in together."""
        return min(MOST, sum(self._means.values()))

    async def begin(self, request: Request) -> SignInReply:
        """See ``ports.SignIns``."""
        self._stats.sign_in_sent()
        return await self._timed("begin", self._sign_ins.begin(request))

    async def answer(self, request: Request, challenge: CustomChallenge) -> SignInReply:
        """See ``ports.SignIns``."""
        self._stats.sign_in_sent()
        return await self._timed("answer", self._sign_ins.answer(request, challenge))

    async def look(self, request: Request) -> LookReply:
        """See ``ports.SignIns``."""
        self._stats.looked()
        return await self._timed("look", self._sign_ins.look(request))

    async def _timed(self, step: str, answer: Awaitable[Answer]) -> Answer:
        began = self._clock.monotonic()
        try:
            return await answer
        finally:
            took = self._clock.monotonic() - began
            mean = self._means.get(step, took)
            self._means[step] = mean + (took - mean) / REMEMBERED
