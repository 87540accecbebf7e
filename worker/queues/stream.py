"""Requests from a file or a pipe, read no faster than they can be used, so that a pipe brakes whoever writes into it.

When nothing is ready here, the queue behind is drained as well. Lines of a pipe that were read and could not be used
are put on that queue when the run ends, so that nobody who was handed over is forgotten; a file keeps its lines
itself.
"""

from __future__ import annotations

import asyncio
import fcntl
import heapq
import itertools
import os
import stat
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker.errors import Malformed, UsageError
from worker.model import Request
from worker.ports import Backlog, Inbox, Lease, Queue
from worker.requests import MAX_MESSAGE, Parser, digest

_CHUNK = 16_384
_PATIENCE = 0.5
"""Seconds to wait for a line before looking at the queue behind."""
_SMALLEST_PIPE = 4_096


@dataclass(frozen=True, slots=True)
class _Line:
    raw: bytes
    read_at: float


class _Splitter:
    """Makes lines of chunks; of one that is too long it gives just enough to be found so, and holds no more."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes, without their ends and without blank ones; ``b""`` is the end."""
        *lines, rest = (self._rest + (chunk or b"\n")).split(b"\n")
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        if self._skipping:
            rest = b""
        elif len(rest) > MAX_MESSAGE:
            lines.append(rest)
            self._skipping, rest = True, b""
        self._rest = rest
        return [line for line in lines if line.strip()]


class StreamQueue:
    """``Queue`` over the lines of ``source`` (``-`` is standard input) and the queue ``behind``, whose ``inbox``
    takes the rest.

    Raises ``UsageError`` where the source cannot be read.
    """

    def __init__(self, source: str, parser: Parser, behind: Queue, inbox: Inbox) -> None:
        self._parser = parser
        self._behind = behind
        self._inbox = inbox
        self._lines = _Splitter()
        self._ready: deque[_Line] = deque()
        self._later: list[tuple[float, int, Lease]] = []
        self._numbers = itertools.count()
        self._held = 0
        self._ended = False
        self._descriptor = 0 if source == "-" else _open(Path(source))
        self._is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._shrink_pipe()

    async def lease(self, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``."""
        leases = self._due(most)
        while len(leases) < most and (line := await self._next_line(may_wait=not leases)) is not None:
            try:
                leases.append(Lease(self._parser.parse(line.raw, line.read_at), line))
            except Malformed as malformed:
                await self._inbox.put_aside(str(malformed), digest(line.raw))
        self._held += len(leases)
        return leases or await self._behind.lease(most)

    def _due(self, most: int) -> list[Lease]:
        now, due = time.monotonic(), list[Lease]()
        while self._later and self._later[0][0] <= now and len(due) < most:
            due.append(heapq.heappop(self._later)[2])
        return due

    async def _next_line(self, *, may_wait: bool) -> _Line | None:
        while not self._ready and not self._ended:
            if not self._is_file and not await self._readable(_PATIENCE if may_wait else 0):
                return None
            chunk = await asyncio.to_thread(os.read, self._descriptor, _CHUNK)
            self._ended = not chunk
            now = time.time()
            self._ready.extend(_Line(raw, now) for raw in self._lines.feed(chunk))
        return self._ready.popleft() if self._ready else None

    async def _readable(self, patience: float) -> bool:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._descriptor, readable.set)
        try:
            async with asyncio.timeout(patience):
                await readable.wait()
        except TimeoutError:
            return False
        else:
            return True
        finally:
            loop.remove_reader(self._descriptor)

    async def acknowledge(self, lease: Lease) -> None:
        """See ``ports.Queue``."""
        if isinstance(lease.receipt, _Line):
            self._held -= 1
        else:
            await self._behind.acknowledge(lease)

    async def give_back(self, lease: Lease, delay: float) -> None:
        """See ``ports.Queue``."""
        if isinstance(lease.receipt, _Line):
            self._held -= 1
            heapq.heappush(self._later, (time.monotonic() + delay, next(self._numbers), lease))
        else:
            await self._behind.give_back(lease, delay)

    async def backlog(self) -> Backlog:
        """See ``ports.Queue``; a stream that has not ended counts as one more."""
        behind = await self._behind.backlog()
        here = len(self._ready) + len(self._later) + self._held + (not self._ended)
        return Backlog(behind.waiting + here, behind.expired)

    async def close(self) -> None:
        """Put what a pipe handed over, and nobody could use, on the queue behind. Raises ``QueueAway``."""
        if self._is_file:
            return
        left: list[tuple[Request, bytes]] = []
        for line in [*self._ready, *(lease.receipt for _, _, lease in self._later)]:
            assert isinstance(line, _Line)
            try:
                request = self._parser.parse(line.raw, line.read_at)
            except Malformed as malformed:
                await self._inbox.put_aside(str(malformed), digest(line.raw))
            else:
                left.append((request, self._parser.body(line.raw, line.read_at)))
        self._ready.clear()
        self._later.clear()
        await self._inbox.push(left)

    def _shrink_pipe(self) -> None:
        """A pipe's own buffer holds requests that grow old unseen: make it as small as the system allows."""
        if stat.S_ISFIFO(os.fstat(self._descriptor).st_mode) and hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # more is in it already
                fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _SMALLEST_PIPE)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", "name a file of requests, one JSON object a line"
        ) from None
