"""Time for the tests of everything that waits: virtual, so that a minute of patience costs nothing."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from tests.simulation.loop import VirtualLoop

Result = TypeVar("Result")
EPOCH = 1_700_000_000.0


class VirtualTime:
    """A ``Clock``, and a loop that jumps to the next moment at which there is something to do. All in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> float:
        return EPOCH + self.now

    def run(self, main: Coroutine[Any, Any, Result]) -> Result:
        """What ``main`` gives. Fails where it waits for something that never comes."""
        complaints: list[str] = []
        loop = VirtualLoop(self.monotonic, complaints.append)
        task = loop.create_task(main)
        try:
            while not task.done():
                moment = loop.next_moment()
                assert moment is not None, "waits for something that never comes"
                self.now = max(self.now, moment)
                loop.run_one()
            assert not complaints
            return task.result()
        finally:
            loop.abandon()


@pytest.fixture
def virtual() -> VirtualTime:
    return VirtualTime()
