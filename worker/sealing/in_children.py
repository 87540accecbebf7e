"""Seals in processes of their own, where a recipient is one of a plugin.

A plugin is a program that the library starts for each record, and it waits for it with the interpreter's lock: a plugin
that hangs would stop the whole worker. So children of the worker seal, one record at a time each. They are given up
after a while, and replaced. They do not have the worker's environment, and so no plugin sees credentials. What is to be
sealed goes to them through a pipe, and is never at rest.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO, TypeVar

from worker.core.errors import PersonMustAct
from worker.sealing.age import AgeSealer, most_bytes
from worker.sealing.recipients import NoAnswers, one_line, program, readable, refuse_missing

PATIENCE = 20.0
"""Seconds for which a plugin may seal one record. One that needs no hardware takes some milliseconds."""
TRIES = 3
"""How often a record is tried, each time in a new child after a failure: the secret in it is issued already."""
PAUSE = 1.0
"""Seconds between two tries."""
CHILDREN = 4
"""The most records that are sealed at the same time."""
KEPT = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"})
"""The variables that a plugin sees of the worker's environment."""
_LENGTH = 4
"""Bytes of the length before each message between the worker and its children."""

Result = TypeVar("Result")


class SealerInChildren:
    """``ports.Sealer`` and ``ports.SlowSealer``, with children. Raises ``UsageError`` as ``readable`` does, and where
    the program of a plugin is missing.

    ``patience``, ``pause``: see ``PATIENCE`` and ``PAUSE``.
    """

    def __init__(self, recipients: Sequence[str], *, patience: float = PATIENCE, pause: float = PAUSE) -> None:
        self.recipients = readable(recipients)
        refuse_missing(self.recipients)
        AgeSealer([each.text for each in self.recipients])  # whether all of them are keys
        self.room = 0
        """Bytes that the stanzas of plugins may take; ``trial`` measures it."""
        self._patience, self._pause = patience, pause
        self._threads = ThreadPoolExecutor(CHILDREN, "seal")
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def seal(self, plaintext: bytes) -> bytes:
        """See ``ports.Sealer``. Raises ``PersonMustAct`` where the plugin fails again and again."""
        for last in (*[False] * (TRIES - 1), True):
            try:
                return self._tried(plaintext)
            except ChildError as error:
                if last or self._closed.wait(self._pause):
                    raise self._trouble(error) from None
        raise AssertionError

    def sealed_size(self, plaintext: int) -> int:
        """See ``ports.Sealer``."""
        return most_bytes(self.recipients, self.room, plaintext)

    async def aside(self, do: Callable[[], Result]) -> Result:
        """See ``ports.SlowSealer``."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, do)

    def close(self) -> None:
        """End the children, whatever they do. The thread that waits for one hears that it died, and ends it."""
        with self._lock:
            self._closed.set()
            for child in self._all:
                child.kill()
            idle, self._idle = self._idle, []
            self._all.difference_update(idle)
        for child in idle:
            child.end()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _tried(self, plaintext: bytes) -> bytes:
        with self._lock:
            child = self._idle.pop() if self._idle else None
        if child is None:
            child = _Child([each.text for each in self.recipients], self._patience)
            with self._lock:
                self._all.add(child)
                if self._closed.is_set():
                    child.kill()
        try:
            answer = child.answer(plaintext)
        except ChildError:
            with self._lock:
                self._all.discard(child)
            child.end()
            raise
        with self._lock:
            self._idle.append(child)
        if answer[:1] != SEALED:
            raise ChildError(one_line(answer[1:].decode(errors="replace")))
        return answer[1:]

    def _trouble(self, error: ChildError) -> PersonMustAct:
        plugins = sorted({each.plugin for each in self.recipients if each.plugin})
        gone = [each for each in plugins if not program(each)]
        cure = (
            f"put age-plugin-{gone[0]} back on the PATH" if gone else "try it by hand: age -r RECIPIENT -o x.age FILE"
        )
        return PersonMustAct(
            f"the age plugin {' or '.join(plugins)} does not seal: {error}",
            f"{cure}; mfa-worker check says when it works. Then run again: whoever's secret could not be sealed gets "
            "another one, or needs a new sign-in",
        )


class ChildError(Exception):
    """A child did not seal; why, in words."""


class _Child:
    """One process that seals."""

    def __init__(self, recipients: Sequence[str], patience: float) -> None:
        self._patience = patience
        command = [sys.executable, "-P", "-m", "worker.sealing.child", str(int(patience) + 1)]
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(os.environ),
            start_new_session=True,  # Ctrl-C is the worker's: what is issued is sealed first
        )
        self._send(json.dumps(list(recipients)).encode())

    def answer(self, plaintext: bytes) -> bytes:
        """Return ``SEALED`` and the age file, or ``FAILED`` and why. Raises ``ChildError`` where there is no answer."""
        until = time.monotonic() + self._patience
        self._send(plaintext)
        return self._received(until)

    def kill(self) -> None:
        """Kill it and the plugin that it waits for."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """The same, and close the pipes: not while a thread reads, which could read from another file then."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _send(self, content: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # then there is no answer either
            send(self._process.stdin, content)

    def _received(self, until: float) -> bytes:
        assert self._process.stdout is not None
        pipe, got = self._process.stdout.fileno(), b""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while len(got) < _LENGTH or len(got) < _LENGTH + int.from_bytes(got[:_LENGTH], "big"):
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise ChildError(f"it gave no answer within {self._patience:g} s")
                more = os.read(pipe, 1 << 16)
                if not more:
                    raise ChildError("the process that seals has died")
                got += more
        return got[_LENGTH:]


SEALED = b"s"
"""How the answer of a child begins that has sealed; the age file follows."""
FAILED = b"f"
"""How the answer of a child begins that could not; why, in words, follows."""


def environment(worker: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: what a program needs to run, and nothing that could be a credential.

    ``PYTHONPATH`` lets it find this package; the child itself takes that away again, before any plugin starts.
    """
    kept = {name: value for name, value in worker.items() if name in KEPT or name.startswith("LC_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}


def send(pipe: IO[bytes], content: bytes) -> None:
    """Write one message."""
    pipe.write(len(content).to_bytes(_LENGTH, "big") + content)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes | None:
    """Read one message; ``None`` at the end."""
    length = pipe.read(_LENGTH)
    return pipe.read(int.from_bytes(length, "big")) if len(length) == _LENGTH else None


def failure(error: Exception, answers: NoAnswers) -> bytes:
    """What a child answers where it could not seal."""
    asked = f"it asked {answers.asked!r}, and nobody answers at a worker: " if answers.asked else ""
    return FAILED + f"{asked}{error}".encode()
