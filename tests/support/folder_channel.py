"""Makes the example channel in ``tests/support/channels`` one of the worker's, for a test or for a process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.adapters import channels

BESIDE = str(Path(__file__).with_name("channels"))
_PROGRAM = f"""
import worker.adapters.channels as channels
from worker.cli import main

channels.__path__.append({BESIDE!r})
main()
"""
COMMAND = (sys.executable, "-c", _PROGRAM)
"""``mfa-worker`` with that channel."""


@contextmanager
def one_channel_more() -> Iterator[None]:
    """It is there meanwhile."""
    channels.__path__.append(BESIDE)
    try:
        yield
    finally:
        channels.__path__.remove(BESIDE)
