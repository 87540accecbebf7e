"""Whose turn it is at a rate limiter: one user waits for it, and the others wait for being the next.

Whoever was delivered already goes before anybody new. So few users stand between their delivery and their activation,
and nobody's Session dies there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class Turn:
    """Like ``asyncio.Lock``, with two lines: those who go first, and the others; each in the order of coming."""

    def __init__(self) -> None:
        self._is_taken = False
        self._first: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    async def take(self, *, goes_first: bool) -> None:
        """Wait until it is the caller's turn, who must ``give`` it back. Whoever is cancelled here has no turn."""
        if not self._is_taken:
            self._is_taken = True
            return
        line = self._first if goes_first else self._others
        mine = asyncio.get_running_loop().create_future()
        line.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self.give()  # it had just become the caller's
            with suppress(ValueError):
                line.remove(mine)
            raise

    def give(self) -> None:
        """The turn is the next one's."""
        for line in (self._first, self._others):
            while line:
                following = line.popleft()
                if not following.done():
                    following.set_result(None)
                    return
        self._is_taken = False
