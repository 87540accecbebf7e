"""The machine's clocks, behind the ``Clock`` port."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """See ``ports.Clock``."""
        return time.monotonic()

    def utc(self) -> float:
        """See ``ports.Clock``."""
        return time.time()
