"""Requests from a file or a pipe, read no faster than they are used: a full pipe slows its writer down (backpressure).

When no line is ready, messages are leased from a second queue, the queue behind. Lines that were read from a pipe but
not used are put on that queue when the run ends, so that no user is lost; a file still has its lines.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import itertools
import os
import select
import stat
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from worker.core.errors import Malformed, QueueUnavailable, UsageError
from worker.core.model import Request
from worker.core.outlook import UNJUDGED, Outlook
from worker.core.ports import Backlog, Clock, Deadlines, Lease, Producer, Queue
from worker.requests.lines import LineSplitter, digest, shrink_pipe
from worker.requests.message import Parser

_CHUNK = 16_384
"""Bytes of one read: some dozens of requests. Not more, because credentials expire while lines wait in memory."""
_PATIENCE = 0.5
"""Seconds to wait for a line before looking at the queue behind."""
_MOST_AHEAD = 10_000
"""Lines kept at most that are dead or hardly in time, while it reads on for those that are: some 20 MB of Sessions."""
_MAX_LEFT = 65_536
"""Bytes that are still read from a pipe at the end: more than its buffer (see ``shrink_pipe``) can contain, but
limited, because a fast writer might never stop."""


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    raw: bytes
    read_at: float


def _deadline(lease: Lease) -> float:
    return lease.request.expires_at


class StreamQueue:
    """``Queue`` over the lines of ``source`` (``-`` is standard input), and then the messages of the queue ``behind``.

    ``clock`` dates what was read, as a Session may not say when it was issued. ``producer`` puts the unused lines of a
    pipe on the queue behind. Raises ``UsageError`` if the source cannot be
    read.
    """

    def __init__(self, source: str, parser: Parser, clock: Clock, behind: Queue, producer: Producer) -> None:
        self._parser = parser
        self._clock = clock
        self._behind = behind
        self._producer = producer
        self._lines = LineSplitter()
        self._ready: deque[_Line] = deque()
        self._ahead: list[Lease] = []
        """Lines read ahead of their use that are not dead."""
        self._dead: deque[Lease] = deque()
        self._later: list[tuple[float, int, Lease]] = []
        self._numbers = itertools.count()
        self._in_flight: dict[_Line, Request] = {}
        self._ended = False
        self._source = source
        self._descriptor, mode = _open(source)
        self._is_pipe = not stat.S_ISREG(mode) and (not stat.S_ISCHR(mode) or os.isatty(self._descriptor))
        shrink_pipe(self._descriptor)

    async def lease(self, most: int, outlook: Outlook = UNJUDGED) -> Sequence[Lease]:
        """See ``ports.Queue``; the choice is among the lines read ahead, then among the messages of the queue behind.

        Raises ``QueueUnavailable`` also if reading the source fails.
        """
        self._become_due()
        self._bury(outlook.now)
        in_time = len(self._later_than(outlook.passed_over_up_to))
        while in_time < most and self._has_room() and await self._has_line(may_wait=not in_time):
            if (lease := await self._parsed(self._ready[0])) is not None:
                (self._ahead if _deadline(lease) > outlook.now else self._dead).append(lease)
                in_time += _deadline(lease) > outlook.passed_over_up_to
            self._ready.popleft()
        if found := self._later_than(outlook.passed_over_up_to)[:most]:
            return self._hand_out(found)
        if behind := await self._behind.lease(most, outlook):
            return behind
        return self._hand_out(self._later_than(outlook.too_late_up_to)[::-1][:most])

    def _has_room(self) -> bool:
        return len(self._ahead) + len(self._dead) < _MOST_AHEAD

    def _later_than(self, moment: float) -> list[Lease]:
        """Those of the lines read ahead whose deadline is later, earliest first. While awaiting, others may go."""
        return sorted((lease for lease in self._ahead if _deadline(lease) > moment), key=_deadline)

    def _hand_out(self, leases: list[Lease]) -> list[Lease]:
        for lease in leases:
            self._ahead.remove(lease)
            self._in_flight[cast("_Line", lease.receipt)] = lease.request
        return leases

    async def _parsed(self, line: _Line) -> Lease | None:
        """The request in the line; ``None`` where it was malformed, and is put aside."""
        try:
            return Lease(self._parser.parse(line.raw, line.read_at), line)
        except Malformed as malformed:
            await self._producer.put_aside(str(malformed), digest(line.raw))
            return None

    def _become_due(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._ahead.append(heapq.heappop(self._later)[2])

    def _bury(self, now: float) -> None:
        """Keep the dead apart: they are settled without a call (``lease_expired``)."""
        if any(_deadline(lease) <= now for lease in self._ahead):
            self._dead += [lease for lease in self._ahead if _deadline(lease) <= now]
            self._ahead = [lease for lease in self._ahead if _deadline(lease) > now]

    async def lease_elsewhere(self, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``: the lines read last, since nobody can look further ahead in a pipe."""
        last: list[Lease] = []
        while len(last) < most and await self._has_line(may_wait=False):
            if (lease := await self._parsed(self._ready[-1])) is not None:
                self._ahead.append(lease)
                last.append(lease)
            self._ready.pop()
        now = self._clock.utc()
        living = [lease for lease in last or self._ahead[::-1][:most] if _deadline(lease) > now]
        return self._hand_out(living) or await self._behind.lease_elsewhere(most)

    async def lease_expired(self, most: int, now: float) -> Sequence[Lease]:
        """See ``ports.Queue``; the stream can tell of the lines read ahead, the queue behind of its own messages."""
        self._become_due()
        self._bury(now)
        requests = [*(lease.request for lease in self._ahead), *self._in_flight.values()]
        requests += (lease.request for _, __, lease in self._later)
        alive = {request.username for request in requests if request.expires_at > now}
        dead: list[Lease] = []
        kept: deque[Lease] = deque()
        while self._dead and len(dead) < most:
            lease = self._dead.popleft()
            (kept if lease.request.username in alive else dead).append(lease)
        self._dead.extendleft(reversed(kept))
        self._in_flight.update((cast("_Line", lease.receipt), lease.request) for lease in dead)
        return dead or await self._behind.lease_expired(most, now)

    async def deadlines(self, now: float) -> Deadlines:
        """See ``ports.Queue``; what a pipe will bring is not known, so these are those of the queue behind."""
        return await self._behind.deadlines(now)

    async def _has_line(self, *, may_wait: bool) -> bool:
        while not self._ready and not self._ended:
            if self._is_pipe and not self._readable() and not (may_wait and await self._becomes_readable()):
                return False
            self._take(await asyncio.to_thread(self._read))
        return bool(self._ready)

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, _CHUNK)
        except OSError as error:
            raise QueueUnavailable(
                f"cannot read on from {self._source}: {error.strerror}", "run again with the rest"
            ) from None

    def _take(self, chunk: bytes) -> None:
        self._ended = not chunk
        now = self._clock.utc()
        self._ready.extend(_Line(raw, now) for raw in self._lines.feed(chunk))

    def _readable(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(0))

    async def _becomes_readable(self) -> bool:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._descriptor, readable.set)
        try:
            async with asyncio.timeout(_PATIENCE):
                await readable.wait()
        except TimeoutError:
            return False
        else:
            return True
        finally:
            loop.remove_reader(self._descriptor)

    async def lease_others(self, username: str, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``; only the queue behind can search."""
        return await self._behind.lease_others(username, most)

    async def acknowledge(self, lease: Lease) -> None:
        """See ``ports.Queue``."""
        if isinstance(lease.receipt, _Line):
            self._in_flight.pop(lease.receipt, None)
        else:
            await self._behind.acknowledge(lease)

    async def give_back(self, lease: Lease, delay: float) -> None:
        """See ``ports.Queue``."""
        line = lease.receipt
        if not isinstance(line, _Line):
            await self._behind.give_back(lease, delay)
        elif line in self._in_flight:
            del self._in_flight[line]
            heapq.heappush(self._later, (time.monotonic() + delay, next(self._numbers), lease))

    async def backlog(self) -> Backlog:
        """See ``ports.Queue``; a stream that has not ended counts as one more message."""
        behind = await self._behind.backlog()
        return Backlog(behind.waiting + self._waiting(), behind.expired)

    async def is_empty(self) -> bool:
        """See ``ports.Queue``."""
        return self._waiting() == 0 and await self._behind.is_empty()

    def _waiting(self) -> int:
        ahead = len(self._ready) + len(self._ahead) + len(self._dead)
        return ahead + len(self._later) + len(self._in_flight) + (not self._ended)

    async def close(self) -> None:
        """Put the lines that were read from a pipe but not used on the queue behind. Raises ``QueueUnavailable``."""
        if self._is_pipe:
            with suppress(QueueUnavailable):
                self._empty_pipe()
        self._close_descriptor()
        if not self._is_pipe:
            return
        unused: list[tuple[Request, bytes]] = []
        leases = [*self._ahead, *self._dead, *(lease for _, _, lease in self._later)]
        for line in [*self._in_flight, *self._ready, *(cast("_Line", lease.receipt) for lease in leases)]:
            try:
                request = self._parser.parse(line.raw, line.read_at)
            except Malformed as malformed:
                await self._producer.put_aside(str(malformed), digest(line.raw))
            else:
                unused.append((request, self._parser.body(line.raw, line.read_at)))
        await self._producer.push(unused)
        for lines in (self._in_flight, self._ready, self._ahead, self._dead, self._later):
            lines.clear()

    def _empty_pipe(self) -> None:
        """Read what the pipe still contains: its writer may believe that these lines have arrived."""
        left = _MAX_LEFT
        while left > 0 and not self._ended and self._readable():
            self._take(chunk := self._read())
            left -= len(chunk)

    def _close_descriptor(self) -> None:
        """Close the source; a process that goes on writing to the pipe gets SIGPIPE or EPIPE."""
        if self._descriptor:
            os.close(self._descriptor)
        elif self._is_pipe:
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, self._descriptor)
            os.close(nothing)


def _open(source: str) -> tuple[int, int]:
    """Open the source, and return its descriptor and file mode."""
    try:
        descriptor = 0
        if source != "-":
            # Opening a named pipe without a writer would block, and no signal could end the wait.
            descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
            os.set_blocking(descriptor, True)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            os.close(descriptor)
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise UsageError(
            f"cannot read {source}: {error.strerror}", "name a file of requests, one JSON object a line"
        ) from None
    return descriptor, mode
