"""Keeps the memory of this process, with the credentials in it, out of core dumps."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress

PR_SET_DUMPABLE = 4
"""The operation of prctl(2) that says whether this process may be dumped."""


def forbid_core_dumps() -> None:
    """Make that a crash leaves no core dump, whatever the limits were, now and in the programs that this one starts.

    The limit alone is not enough: Linux ignores it where dumps go to a program (core(5), "Piping core dumps to a
    program"). Who may not be dumped cannot be traced by the same user either (ptrace, py-spy): that needs root then.
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes  # only here, since importing it takes milliseconds

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
