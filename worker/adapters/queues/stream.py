"""Requests from a file or a pipe, read no faster than they are used: a full pipe slows its writer down (backpressure).

When no line is ready, messages are leased from a second queue, the queue behind. A file keeps its lines. Those of a
pipe stand nowhere else until their user's claim is in the ledger. So a pipe is made small and read in small pieces,
lines whose turn does not come soon are put on the queue behind, and so are what a pipe contained that could not be made
small, and what is left when the run ends. A worker that is killed (SIGKILL) loses the lines in the pipe and in one
read, and those whose claims were not written yet.
"""

from __future__ import annotations

import asyncio
import bisect
import errno
import heapq
import itertools
import os
import select
import stat
import time
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import structlog

from worker.core.errors import Malformed, QueueUnavailable, UsageError
from worker.core.model import Request
from worker.core.outlook import UNJUDGED, Outlook
from worker.core.ports import Backlog, Clock, Deadlines, Lease, Producer, Queue
from worker.requests.lines import SMALL, Line, LineSplitter, shrink_pipe
from worker.requests.message import Parser
from worker.requests.refused import Aside, Refused

log = structlog.get_logger()

_CHUNK = 16_384
"""Bytes of one read of a file: some dozens of requests. Not more, because credentials expire while lines wait here."""
_PATIENCE = 0.5
"""Seconds to wait for a line before looking at the queue behind."""
_MOST_AHEAD = 10_000
"""Lines kept at most that are dead or hardly in time, while it reads on for those that are: some 20 MB of Sessions. Of
a pipe they are kept on the queue behind."""
_MOST_OF_A_PIPE = 64
"""Lines of a pipe that are kept here of those: what is more goes to the queue behind, where it stands durably. As many
as one transaction of the embedded queue leases (``app.stores``)."""
_MOST_ASIDE = 256
"""Malformed lines that are put aside together: they share a commit, and a file of nothing else takes no minutes."""
_MAX_LEFT = 65_536
"""Bytes that are still read from a pipe at the end: more than its buffer (see ``shrink_pipe``) can contain, but
limited, because a fast writer might never stop."""


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A line, and when it was read (UTC seconds)."""

    line: Line
    at: float


def _deadline(lease: Lease) -> float:
    return lease.request.expires_at


_Ahead = tuple[float, int, Lease]
"""A line read ahead of its use: its deadline, a number that tells it from others, and its request."""


class StreamQueue:
    """``Queue`` over the lines of ``source`` (``-`` is standard input), and then the messages of the queue ``behind``.

    ``clock`` dates what was read, as a Session may not say when it was issued. ``producer`` puts lines of a pipe on the
    queue behind. ``refused`` notes the malformed lines. Raises ``UsageError`` if the source cannot be read.
    """

    def __init__(
        self,
        source: str,
        parser: Parser,
        clock: Clock,
        behind: Queue,
        producer: Producer,
        refused: Refused | None = None,
    ) -> None:
        self._parser = parser
        self._clock = clock
        self._behind = behind
        self._producer = producer
        self._refused = Refused(parser.digest) if refused is None else refused
        self._origin = uuid.uuid4().hex
        """Tells the lines of this source from all others: one that is leased again is the same request."""
        self._lines = LineSplitter()
        self._ready: deque[_Read] = deque()
        self._ahead: list[_Ahead] = []
        """Lines read ahead of their use that are not dead, by deadline."""
        self._dead: deque[Lease] = deque()
        self._later: list[tuple[float, int, Lease]] = []
        self._aside: deque[Aside] = deque()
        """What is to be put aside next."""
        self._numbers = itertools.count()
        self._in_flight: dict[_Read, Request] = {}
        self._ended = False
        self._source = source
        self._descriptor, mode = _open(source)
        self._is_pipe = not stat.S_ISREG(mode) and (not stat.S_ISCHR(mode) or os.isatty(self._descriptor))
        self._most_ahead = _MOST_OF_A_PIPE if self._is_pipe else _MOST_AHEAD
        self._large = 0
        """Bytes of a pipe that is larger than need be, because it contained more when this began."""
        if self._is_pipe and not os.isatty(self._descriptor):
            self._shrink()

    def _shrink(self) -> None:
        """Make the pipe as small as it can be, and say once where it is larger than need be."""
        size = shrink_pipe(self._descriptor)
        was_large, self._large = self._large, size or 0
        if self._large <= max(SMALL, os.sysconf("SC_PAGESIZE")):
            self._large = 0
        if size is None:
            log.warning(
                "pipe_not_small",
                cause="this is no pipe, or one that cannot be made small",
                cure="what is in it ages unseen, and is lost if this is killed: write no faster than it is used",
            )
        elif self._large and not was_large:
            log.info("pipe_not_small", bytes=size, cause="it contained more when this began; that goes to the queue")

    async def lease(self, most: int, outlook: Outlook = UNJUDGED) -> Sequence[Lease]:
        """See ``ports.Queue``; the choice is among the lines read ahead, then among the messages of the queue behind.

        Raises ``QueueUnavailable`` also if reading the source fails.
        """
        self._become_due()
        self._bury(outlook.now)
        in_time = len(self._ahead) - self._place(outlook.passed_over_up_to)
        while in_time < most and await self._has_room() and await self._has_line(may_wait=not in_time):
            if (lease := await self._parsed(self._ready.popleft())) is not None:
                self._keep(lease, outlook.now)
                in_time += _deadline(lease) > outlook.passed_over_up_to
        await self._put_aside()
        first = self._place(outlook.passed_over_up_to)  # while awaiting, others may have gone
        if found := self._take_ahead(first, first + most):
            return found
        if behind := await self._behind.lease(most, outlook):
            return behind
        first = self._place(outlook.too_late_up_to)
        return self._take_ahead(max(first, len(self._ahead) - most), len(self._ahead))[::-1]

    def _keep(self, lease: Lease, now: float) -> None:
        if (deadline := _deadline(lease)) > now:
            bisect.insort(self._ahead, (deadline, next(self._numbers), lease))
        else:
            self._dead.append(lease)

    async def _has_room(self) -> bool:
        """Whether more lines may be read ahead. Those of a pipe are put on the queue behind where they are too many."""
        if len(self._ahead) + len(self._dead) < self._most_ahead:
            return True
        if self._is_pipe and (await self._behind.backlog()).waiting < _MOST_AHEAD:
            moved = [*(lease for _, _, lease in self._ahead), *self._dead]
            await self._move([cast("_Read", lease.receipt) for lease in moved])
            gone = {id(lease) for lease in moved}
            self._ahead = [one for one in self._ahead if id(one[2]) not in gone]
            self._dead = deque(lease for lease in self._dead if id(lease) not in gone)
        return len(self._ahead) + len(self._dead) < self._most_ahead

    def _place(self, moment: float) -> int:
        """How many of the lines read ahead have no later deadline than that moment; they are the first."""
        return bisect.bisect_right(self._ahead, moment, key=lambda one: one[0])

    def _take_ahead(self, first: int, last: int) -> list[Lease]:
        taken = [lease for _, _, lease in self._ahead[first:last]]
        del self._ahead[first:last]
        return self._hand_out(taken)

    def _hand_out(self, leases: list[Lease]) -> list[Lease]:
        self._in_flight.update((cast("_Read", lease.receipt), lease.request) for lease in leases)
        return leases

    async def _parsed(self, read: _Read) -> Lease | None:
        """The request in the line; ``None`` where it was malformed, and is put aside."""
        try:
            return Lease(self._parser.parse(read.line.message(), read.at, origin=self._origin_of(read)), read)
        except Malformed as malformed:
            self._refuse(read, malformed)
            if len(self._aside) >= _MOST_ASIDE:
                await self._put_aside()
            return None

    def _origin_of(self, read: _Read) -> str:
        return f"{self._origin} {read.line.number}"

    def _refuse(self, read: _Read, malformed: Malformed) -> None:
        if not self._refused:
            log.warning(
                "malformed_line",
                line=read.line.number,
                cause=str(malformed),
                cure="the run goes on, and ends by listing all of them",
            )
        if aside := self._refused.add(read.line, str(malformed)):
            self._aside.append(aside)

    async def _put_aside(self) -> None:
        asides, self._aside = self._aside, deque()
        try:
            await asyncio.gather(*(self._producer.put_aside(*each) for each in asides))
        except BaseException:  # they are tried again: who remembers digests counts none of them twice
            self._aside.extendleft(reversed(asides))
            raise

    def _become_due(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            lease = heapq.heappop(self._later)[2]
            bisect.insort(self._ahead, (_deadline(lease), next(self._numbers), lease))

    def _bury(self, now: float) -> None:
        """Keep the dead apart: they are settled without a call (``lease_expired``)."""
        if dead := self._place(now):
            self._dead += [lease for _, _, lease in self._ahead[:dead]]
            del self._ahead[:dead]

    async def lease_elsewhere(self, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``: the lines read last, since nobody can look further ahead in a pipe."""
        last: list[Lease] = []
        now = self._clock.utc()
        while len(last) < most and await self._has_line(may_wait=False):
            if (lease := await self._parsed(self._ready.pop())) is not None:
                if _deadline(lease) > now:
                    last.append(lease)
                else:
                    self._dead.append(lease)
        try:
            await self._put_aside()
        except BaseException:
            for lease in last:
                self._keep(lease, now)
            raise
        if last:
            return self._hand_out(last)
        self._bury(now)
        if found := self._take_ahead(max(0, len(self._ahead) - most), len(self._ahead)):
            return found[::-1]
        return await self._behind.lease_elsewhere(most)

    async def lease_expired(self, most: int, now: float) -> Sequence[Lease]:
        """See ``ports.Queue``; the stream can tell of the lines read ahead, the queue behind of its own messages."""
        self._become_due()
        self._bury(now)
        dead: list[Lease] = []
        if self._dead:
            requests = [*(lease.request for _, _, lease in self._ahead), *self._in_flight.values()]
            requests += (lease.request for _, __, lease in self._later)
            alive = {request.username for request in requests if request.expires_at > now}
            kept: deque[Lease] = deque()
            while self._dead and len(dead) < most:
                lease = self._dead.popleft()
                (kept if lease.request.username in alive else dead).append(lease)
            self._dead.extendleft(reversed(kept))
            self._hand_out(dead)
        return dead or await self._behind.lease_expired(most, now)

    async def deadlines(self, now: float) -> Deadlines:
        """See ``ports.Queue``; what a pipe will bring is not known, so these are those of the queue behind."""
        return await self._behind.deadlines(now)

    async def _has_line(self, *, may_wait: bool) -> bool:
        while not self._ready and not self._ended:
            if self._is_pipe and not self._readable() and not (may_wait and await self._becomes_readable()):
                return False
            was_large = self._large
            self._take(await asyncio.to_thread(self._read))
            if was_large:
                await self._move(list(self._ready))
                self._ready.clear()
        return bool(self._ready)

    def _read(self) -> bytes:
        try:
            data = os.read(self._descriptor, self._large or (SMALL if self._is_pipe else _CHUNK))
        except OSError as error:
            raise QueueUnavailable(
                f"cannot read on from {self._source}: {error.strerror}", "run again with the rest"
            ) from None
        if self._large:  # it is empty now, unless its writer was faster
            self._shrink()
        return data

    def _take(self, chunk: bytes) -> None:
        self._ended = not chunk
        now = self._clock.utc()
        self._ready.extend(_Read(line, now) for line in self._lines.feed(chunk))

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
        if isinstance(lease.receipt, _Read):
            self._in_flight.pop(lease.receipt, None)
        else:
            await self._behind.acknowledge(lease)

    async def give_back(self, lease: Lease, delay: float) -> None:
        """See ``ports.Queue``."""
        line = lease.receipt
        if not isinstance(line, _Read):
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
        ahead = len(self._ready) + len(self._ahead) + len(self._dead) + len(self._aside)
        return ahead + len(self._later) + len(self._in_flight) + (not self._ended)

    async def close(self) -> None:
        """Put the lines that were read from a pipe but not used on the queue behind. Raises ``QueueUnavailable``."""
        if self._is_pipe:
            with suppress(QueueUnavailable):
                self._empty_pipe()
        self._close_descriptor()
        unused: list[_Read] = []
        if self._is_pipe:
            leases = [*(lease for _, _, lease in self._ahead), *self._dead, *(lease for _, _, lease in self._later)]
            unused = [*self._in_flight, *self._ready, *(cast("_Read", lease.receipt) for lease in leases)]
        try:
            moved = await self._move(unused)
            self._aside.extend(self._refused.owed())
            await self._put_aside()
        except QueueUnavailable:
            self._say_lost(unused)
            raise
        if self._is_pipe and not self._ended:
            log.warning(
                "pipe_left",
                lines=self._lines.number,
                on_queue=moved,
                cure=f"run takes them from the queue; give it the rest of the input: tail -n +{self._lines.number + 1}",
            )
        for lines in (self._in_flight, self._ready, self._ahead, self._dead, self._later):
            lines.clear()

    async def _move(self, reads: Sequence[_Read]) -> int:
        """Put these lines on the queue behind, durably, and malformed ones aside; how many requests they were."""
        requests: list[tuple[Request, bytes]] = []
        wrong: list[tuple[_Read, Malformed]] = []
        for read in reads:
            try:
                requests.append(self._parser.to_push(read.line.message(), read.at, origin=self._origin_of(read)))
            except Malformed as malformed:
                wrong.append((read, malformed))
        if requests:
            await self._producer.push(requests)
        for read, reason in wrong:
            self._refuse(read, reason)
        await self._put_aside()
        return len(requests)

    def _say_lost(self, reads: Sequence[_Read]) -> None:
        if reads:
            log.error(
                "lines_not_kept",
                lines=len(reads),
                first=min(read.line.number for read in reads),
                cure="they stand nowhere: give the input again from that line on (tail -n +NUMBER); who is done is a "
                "duplicate",
            )

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
