"""A worker that says when it sent, and whose wall clock is wrong if asked: ``traced.py SHIFT TRACE run …``.

It adds ``SHIFT`` seconds to the wall clock, and to the file ``TRACE`` the monotonic time of every request, eight bytes
each, so that even a worker that is killed has told.
"""

from __future__ import annotations

import os
import struct
import sys
import time

from worker.cli import main
from worker.core.stats import RunStats


def trace(shift: float, path: str) -> None:
    """Change what this process tells the time by, and what it does when it counts a request."""
    told, wall, sent = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), time.time, RunStats.sent

    def tell(stats: RunStats) -> None:
        os.write(told, struct.pack("d", time.monotonic()))
        sent(stats)

    setattr(RunStats, RunStats.sent.__name__, tell)
    if shift:
        time.time = lambda: wall() + shift


if __name__ == "__main__":
    _, moved, file, *sys.argv[1:] = sys.argv
    trace(float(moved), file)
    main()
