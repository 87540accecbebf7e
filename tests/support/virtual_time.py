"""Virtual time: an event loop in which waiting takes no time, for tests of what waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")
EPOCH = 1_700_000_000.0
"""UTC, in UNIX seconds, at which it begins."""


class VirtualTime:
    """A ``Clock`` in seconds, and an event loop that jumps to the next moment at which there is something to do."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> float:
        return EPOCH + self.now

    def run(self, main: Coroutine[Any, Any, Result]) -> Result:
        """What ``main`` gives. Fails where it waits for something that never comes."""
        with asyncio.Runner(loop_factory=lambda: _VirtualLoop(self)) as runner:
            return runner.run(main)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, virtual: VirtualTime) -> None:
        super().__init__(_JumpingSelector(virtual))
        self.time = virtual.monotonic  # type: ignore[method-assign]


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, virtual: VirtualTime) -> None:
        super().__init__()
        self._virtual = virtual

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "waits for something that never comes"
        self._virtual.now += max(0.0, timeout)
        return super().select(0)
