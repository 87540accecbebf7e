"""Asks the person at the terminal: for the passphrase of a key file, and what a plugin wants to know, such as a PIN.

The terminal is ``/dev/tty``, whatever standard input and output are: records may come and go there. Where there is
none, nobody is asked.
"""

from __future__ import annotations

import getpass
import sys
from contextlib import suppress
from pathlib import Path

from worker.sealing.recipients import one_line

TERMINAL = Path("/dev/tty")
"""The terminal of this process (POSIX)."""


class Person:
    """Whoever sits at the terminal; the ``recipients.Callbacks`` of a command that a person types."""

    def is_there(self) -> bool:
        """Whether anybody can be asked."""
        with suppress(OSError), TERMINAL.open(encoding="utf-8"):
            return True
        return False

    def passphrase(self, prompt: str) -> str | None:
        """Ask without echo; ``None`` where nobody can be asked, or nothing was typed."""
        if not self.is_there():
            return None
        try:
            return getpass.getpass(f"{prompt}: ") or None
        except EOFError:
            return None

    def display_message(self, message: str) -> None:
        """See ``Callbacks``."""
        sys.stderr.write(f"{one_line(message)}\n")
        sys.stderr.flush()

    def confirm(self, message: str, yes_string: str, no_string: str | None) -> bool | None:
        """See ``Callbacks``."""
        choice = f"y: {one_line(yes_string)}, n: {one_line(no_string)}" if no_string else f"y: {one_line(yes_string)}"
        answer = self._line(f"{one_line(message)} ({choice})")
        return None if answer is None else answer.strip().lower() in ("y", "yes", yes_string.lower())

    def request_public_string(self, description: str) -> str | None:
        """See ``Callbacks``."""
        return self._line(one_line(description))

    def request_passphrase(self, description: str) -> str | None:
        """See ``Callbacks``."""
        return self.passphrase(one_line(description))

    def _line(self, prompt: str) -> str | None:
        with suppress(OSError), TERMINAL.open(encoding="utf-8") as told:
            sys.stderr.write(f"{prompt}: ")
            sys.stderr.flush()
            return told.readline().rstrip("\n") or None
        return None
