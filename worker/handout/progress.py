"""Says on standard error how far a long command is: on a terminal in one line that changes, elsewhere now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from worker.core.words import time_left

ON_A_TERMINAL = 0.5
"""Seconds between two lines on a terminal, each over the one before."""
ELSEWHERE = 10.0
"""Seconds between two lines in a file or a pipe; shorter commands say nothing there."""


class Progress:
    """Call it as often as there is something to say; it says it seldom enough."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stderr
        self._clock = clock
        self._terminal = self._out.isatty()
        self._every = ON_A_TERMINAL if self._terminal else ELSEWHERE
        self._next = clock() + self._every
        self._began: tuple[str, float] = ("", 0.0)
        self._width = 0

    def __call__(self, what: str, done: int, of_all: int | None) -> None:
        """Say what is done (such as "opened"), how many, and of how many if that is known."""
        now = self._clock()
        if self._began[0] != what:
            self._began = (what, now)
        if now < self._next:
            return
        self._next = now + self._every
        words = f"{what} {done:,}" if of_all is None else f"{what} {done:,} of {of_all:,}"
        elapsed = now - self._began[1]
        if of_all and done and elapsed > 1:
            words += f", about {time_left(elapsed / done * (of_all - done))} left"
        self._say(words)

    def close(self) -> None:
        """Wipe the line from the terminal."""
        if self._width:
            self._out.write("\r" + " " * self._width + "\r")
            self._out.flush()
            self._width = 0

    def _say(self, words: str) -> None:
        if self._terminal:
            self._out.write(f"\r{words:<{self._width}}")
            self._width = len(words)
        else:
            self._out.write(f"{words}\n")
        self._out.flush()
