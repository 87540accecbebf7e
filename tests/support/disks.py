"""Small file systems of their own, to be full or read-only without harm to others."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

READ_ONLY = 1
"""``MS_RDONLY`` of mount(2)."""
REMOUNT = 32
"""``MS_REMOUNT`` of mount(2): change the flags of what is mounted."""
DETACH = 2
"""``MNT_DETACH`` of umount2(2): unmount although files are open there."""
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A new file system at ``folder``. Skips the test where this process may not mount one."""
    folder.mkdir()
    if _libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={kilobytes}k".encode()) != 0:
        pytest.skip(f"cannot mount a small file system: {os.strerror(ctypes.get_errno())}")
    try:
        yield folder
    finally:
        _libc.umount2(bytes(folder), DETACH)


def make_read_only(folder: Path) -> None:
    """From now on nothing can be written there."""
    assert _libc.mount(b"tmpfs", bytes(folder), b"tmpfs", READ_ONLY | REMOUNT, None) == 0
