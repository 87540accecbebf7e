"""Opens the newest record of each user in several sources.

The first pass finds the newest record of each user without opening any line; the second pass opens only those.

Where the newest record of a user cannot be opened, a third pass looks for an older one, but only if that newest is
surely none that the worker made: no age file at all, or one whose content is no record of that user and generation. A
record that is sealed to another identity, damaged or torn may well be the worker's own. Then the older ones are
probably stale, so they are withheld, and the user is named.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

from worker.core.errors import ExitCode
from worker.core.record import Address, Record
from worker.core.text import Named, shortened
from worker.sealing.age import AgeOpener
from worker.sealing.blocks import Source
from worker.sealing.records import NoRecord, Reader, Unopened, place, torn_address

_CURE = (
    "name every identity with -i; a torn line is delivered again by the next run. Where the newest record of a user is "
    "damaged or sealed to others, the older ones are withheld, as they may be stale: if nothing else helps, push a "
    "request with replace"
)
"""What to do about records that were not opened."""

Take = Callable[[Record], None]
"""Takes each record that was opened."""
Progress = Callable[[str, int, int | None], None]
"""Is told what is done ("read", "opened"), how many are done, and how many there are, if that is known."""


@dataclass(frozen=True, slots=True)
class _At:
    """Where a record is, and which generation it is by what stands around it."""

    generation: int
    source: Source
    offset: int
    number: int


class Newest:
    """The passes over all sources. Users go by the SHA-256 of their names. ``take`` gets the record of each.

    ``users``: only these are opened; ``None``: all.
    """

    def __init__(
        self,
        opener: AgeOpener,
        take: Take,
        *,
        users: Collection[bytes] | None = None,
        progress: Progress = lambda _what, _done, _all: None,
    ) -> None:
        self._reader = Reader(opener)
        self._take = take
        self._users = users
        self._progress = progress
        self._sources: list[Source] = []
        self._newest: dict[bytes, _At] = {}
        self._withheld: dict[bytes, int] = {}
        """The generation below which a user's records are withheld: there may be a newer one that cannot be opened."""
        self._hidden: set[bytes] = set()
        """Users whose newest record is none, so that an older one has to be looked for."""
        self._unopened = Named()
        self._read = 0
        """How many blocks the first pass has seen."""

    def look_through(self, source: Source) -> None:
        """The first pass: find the newest record of each user. Raises ``UsageError`` for a file of another kind."""
        self._sources.append(source)
        has_records = False
        for block in source.blocks():
            self._read += 1
            self._progress("read", self._read, None)
            try:
                user, generation = self._reader.address(block.content)
            except (NoRecord, Unopened) as error:
                torn = torn_address(block.content) if isinstance(error, Unopened) else None
                has_records |= isinstance(error, Unopened)
                if torn is None or self._wanted(torn[0]):
                    self._add(source, block.number, block.content, str(error))
                if torn:
                    self._withhold(*torn)
                continue
            has_records = True
            if not self._wanted(user):
                continue
            known = self._newest.get(user)
            if known is None or known.generation < generation:
                self._newest[user] = _At(generation, source, block.offset, block.number)
        if not has_records:
            source.refuse_other_kinds()

    def open_all(self) -> None:
        """The second pass, and the third where it is needed: open the newest of each user."""
        for done, (user, at) in enumerate(self._newest.items()):
            self._progress("opened", done, len(self._newest))
            if self._withheld.get(user, 0) > at.generation:
                continue  # a newer one is torn, and is named already
            content = b""
            try:
                content = at.source.again(at.offset)
                record = self._reader.record(content, (user, at.generation))
            except NoRecord as error:
                self._hidden.add(user)
                self._add(at.source, at.number, content, str(error))
            except Unopened as error:
                self._withhold(user, at.generation)
                self._add(at.source, at.number, content, str(error))
            else:
                self._take(record)
        self._open_older()

    def report(self, to: TextIO) -> ExitCode:
        """Say what was not opened, and what the key files hold that was not used."""
        to.writelines(f"not used: {words}\n" for words in shortened(self._reader.unused))
        if not self._unopened.total:
            return ExitCode.DONE
        to.write(f"{self._unopened.total:,} not opened:\n")
        to.writelines(f"  {words}\n" for words in self._unopened.lines())
        to.write(f"  → {_CURE}\n")
        return ExitCode.SOME_LEFT_OUT

    def close(self) -> None:
        """Close all sources."""
        for source in self._sources:
            source.close()

    def _open_older(self) -> None:
        """For those whose newest is none, or failed: find the newest that opens and is not withheld."""
        wanted = self._hidden | (self._withheld.keys() & self._newest.keys())
        best: dict[bytes, _At] = {}
        for source in self._sources if wanted else ():
            for block in source.blocks():
                with suppress(NoRecord, Unopened):
                    user, generation = self._reader.address(block.content)
                    if user not in wanted:
                        continue
                    tried, found = self._newest[user], best.get(user)
                    if (tried.source, tried.offset) == (source, block.offset):
                        continue
                    if generation < self._withheld.get(user, 0) or (found and found.generation >= generation):
                        continue
                    if self._opens(block.content, (user, generation)):
                        best[user] = _At(generation, source, block.offset, block.number)
        for user, at in best.items():
            if at.generation >= self._withheld.get(user, 0):
                self._take(self._reader.record(at.source.again(at.offset), (user, at.generation)))

    def _wanted(self, user: bytes) -> bool:
        return self._users is None or user in self._users

    def _opens(self, content: bytes, address: Address) -> bool:
        """Whether this is a record that opens; one that may be newer than others, and does not, withholds these."""
        try:
            self._reader.record(content, address)
        except Unopened:
            self._withhold(*address)
            return False
        return True

    def _withhold(self, user: bytes, generation: int) -> None:
        self._withheld[user] = max(generation, self._withheld.get(user, 0))

    def _add(self, source: Source, number: int, content: bytes, why: str) -> None:
        self._unopened.add(f"{place(source, number, content)}: {why}")
