"""Where secrets in the clear may go: into a file that is the owner's alone, or into a pipe; never where others read."""

from __future__ import annotations

import io
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from worker.adapters.private_files import OTHERS, writing_private
from worker.core.errors import UsageError
from worker.core.text import escape

_ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that would end the process without removing a file that is half written."""


def close_to_others(stream: TextIO, what: str, command: str) -> None:
    """Make the file that this stream goes to private, if others can open it, as the shell makes it by default.

    It is said in one line on standard error. ``what``: what will be written, such as "the secrets"; ``command``: the
    command that makes the file privately from the start. Raises ``UsageError`` where others keep access: the file is
    another user's, has content that they could open already, or its file system keeps no modes.
    """
    try:
        descriptor = stream.fileno()
        found = os.fstat(descriptor)
    except (OSError, io.UnsupportedOperation):
        return
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o077:
        return
    before = f"mode {stat.S_IMODE(found.st_mode):04o}"
    if found.st_uid == os.geteuid() and not found.st_size:
        with suppress(OSError):
            os.fchmod(descriptor, 0o600)
            if not os.fstat(descriptor).st_mode & 0o077:
                sys.stderr.write(
                    f"the file that the shell made ({before}) is now yours alone (0600); better: {command}\n"
                )
                return
    if found.st_mode & OTHERS:
        raise UsageError(
            f"{what} would stand in a file that every user of this host can open ({before}), "
            "and that is another user's, not empty, or cannot be closed to them; nothing was written",
            f"let a file be made 0600: {command}",
        )


def refuse_used(output: Path, used: Iterable[tuple[str, Path]], option: str = "-o") -> None:
    """Raise ``UsageError`` if ``output`` is one of the files in ``used``, by whatever name; each with words for it."""
    for words, path in used:
        if _same(output, path):
            raise UsageError(
                f"the secrets would be written over {escape(str(path))}, {words}", f"name another one with {option}"
            )


def _same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return one.samefile(other)
    return one.parent.resolve() / one.name == other.parent.resolve() / other.name


@contextmanager
def private_output(output: Path, *, unless: Callable[[], bool]) -> Iterator[TextIO]:
    """Yield a text stream into ``output``, which gets the mode 0600 and is written whole or not at all.

    Where not a byte was written, and ``unless`` then says so, an older file stays as it was. A signal that ends the
    process removes what was written so far. Raises ``UsageError`` if the file cannot be made.
    """
    with ExitStack() as stack:
        stack.enter_context(ends_as_interrupt())
        stack.enter_context(suppress(_Nothing))
        try:
            file = stack.enter_context(writing_private(output, what="the secrets"))
        except OSError as error:
            cure = "choose a folder that exists and is yours"
            raise UsageError(f"cannot write {escape(str(output))}: {error.strerror}", cure) from None
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace")
        yield text
        text.detach()  # flushes it, and leaves the file open
        if not file.tell() and unless():
            sys.stderr.write(f"nothing was opened, so {escape(str(output))} was not written\n")
            raise _Nothing


class _Nothing(Exception):  # noqa: N818 - no error
    """Leaves ``private_output`` without a file."""


@contextmanager
def ends_as_interrupt() -> Iterator[None]:
    """Let the signals that end the process raise ``KeyboardInterrupt``, as Ctrl-C does."""
    before = {each: signal.signal(each, signal.default_int_handler) for each in _ENDINGS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
