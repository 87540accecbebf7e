"""Asks child processes to draw QR codes and to set letters, a part of the users at a time, and keeps their order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import worker
from worker.core.errors import DependencyUnavailable
from worker.settings.environment import without_secrets

PART = 60
"""Users in a part: a child needs some 0.7 MB of memory for a letter, and a third of a second to start (measured)."""
AT_ONCE = max(1, min(2, os.cpu_count() or 1))
"""Child processes at a time: more of them would take too much memory, and opening the records takes as long."""

User = dict[str, Any]
"""What a child is told of one user: ``uri``, and for a letter its fields (``letters.letter_of``)."""
Drawn = Callable[[Sequence[User], Mapping[str, Any]], None]
"""Takes the users of a part, and the child's answer for them."""


class Drawing:
    """Collects users into parts and gives each part's answer to ``take``, in order. Use it in a ``with``.

    ``form``: ``svg`` or ``png``, where QR codes are wanted as files; ``letters``: the job of ``drawing.Letters``.
    """

    def __init__(self, form: str | None, letters: Mapping[str, Any] | None, take: Drawn) -> None:
        self._asked = {"form": form, "letters": letters}
        self._take = take
        self._part: list[User] = []
        self._under_way: deque[tuple[list[User], Future[Mapping[str, Any]]]] = deque()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._threads = ThreadPoolExecutor(AT_ONCE)

    def __enter__(self) -> Drawing:
        return self

    def __exit__(self, *_error: object) -> None:
        """End the children that are still at work: nobody wants their answers."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in list(self._children):
            child.kill()
        self._threads.shutdown()

    def add(self, user: User) -> None:
        """Take one more user."""
        self._part.append(user)
        if len(self._part) == PART:
            self._send()

    def finish(self) -> None:
        """Give the answers of all users to ``take``."""
        if self._part:
            self._send()
        while self._under_way:
            self._receive()

    def _send(self) -> None:
        while len(self._under_way) > AT_ONCE:
            self._receive()
        part, self._part = self._part, []
        question = json.dumps({**self._asked, "users": part}).encode()
        self._under_way.append((part, self._threads.submit(self._answered, question)))

    def _receive(self) -> None:
        part, future = self._under_way.popleft()
        self._take(part, future.result())

    def _answered(self, question: bytes) -> Mapping[str, Any]:
        return ask(question, self._children)


def ask(question: bytes, children: set[subprocess.Popen[bytes]]) -> Mapping[str, Any]:
    """Return a child's answer; the process stands in ``children`` while it is at work.

    Raises ``DependencyUnavailable`` where the child ended without an answer.
    """
    with _child() as child:
        children.add(child)
        try:
            answer, _ = child.communicate(question)
        finally:
            children.discard(child)
    if child.returncode:
        raise DependencyUnavailable(
            f"a process that draws QR codes and letters ended without an answer ({child.returncode})",
            "free memory, and run the same command again",
        )
    found: Mapping[str, Any] = json.loads(answer)
    return found


def _child() -> subprocess.Popen[bytes]:
    """Start a child. It imports this same package, and nothing from the working directory (``-P``).

    It gets no settings and no credentials of AWS, which it has no use for.
    """
    paths = [str(Path(worker.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**without_secrets(os.environ), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "worker.handout.drawing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
