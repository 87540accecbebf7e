"""Opens only records that the ledger knows: age names no sender, so whoever may write to the channel can put a record
of their own there, sealed to the same recipients.

The ledger holds the digest of each user's newest sealed record. All sources are read first, and the ledger after that:
a secret is in the ledger before it is delivered, so whatever the worker put there the ledger knows by then. A record is
opened if user, generation and digest are those of the ledger, and the user's secret is the valid one. So what was
forged, however high its generation, never hides what is genuine.

Everything else is named with its reason, except a record that is older than the one that was opened of its user:
channels keep those.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import Protocol, TextIO

from worker.adapters.sqlite.compared import Compared, InChannel, InLedger
from worker.core.errors import ExitCode
from worker.core.model import ENROLLED, Recorded, State, digest_of
from worker.core.record import rfc3339
from worker.core.text import SHOWN, Named, escape, shortened
from worker.core.words import several
from worker.sealing.age import AgeOpener
from worker.sealing.blocks import Block, Source
from worker.sealing.newest import Progress, Take
from worker.sealing.records import NoRecord, Reader, Unopened, binary, found_in, place, torn_address

VALID = frozenset(state.value for state in {*ENROLLED, State.SEALED})
"""States of a user whose newest secret is valid; what is ``sealed`` may be in the channel, not confirmed yet."""
CLOCKS_DIFFER = 60.0
"""Seconds by which a worker's clock may differ from this machine's: who was delivered later than that before the
sources were read is not missed in them."""
_TOGETHER = 1_000
"""Records that are written to the temporary file in one statement."""


class Refused(Enum):
    """Why a record is not opened; ``CURES`` says what to do."""

    NEWER = "newer than any secret that the ledger has of the user: forged, or this ledger is an older copy"
    OTHER = "not the record that was delivered: forged, altered or damaged"
    UNKNOWN = "of nobody whom the ledger knows: forged, or of another rollout"
    OLDER = "older than the user's newest secret, which was not opened"
    NO_DIGEST = "no digest in the ledger: delivered by an earlier version, or recover took the user from the channel"
    NOT_VALID = "of users who have no valid secret now, by the ledger"


_INTRUDER = "find out who may write to the channel; nobody should use what these records hold"
_TAKEN_AWAY = "mfa-worker redeliver where ledger.keep_sealed is true, else push a request with replace"
CURES = {
    Refused.NEWER: (
        "where the ledger is a copy: discard what was opened of these users, take a new copy when no worker runs, and "
        f"open again; else {_INTRUDER}"
    ),
    Refused.OTHER: _INTRUDER,
    Refused.UNKNOWN: f"name the ledger of the rollout that delivered them; else {_INTRUDER}",
    Refused.OLDER: (
        "where the user's newest is named too, do what is said there; else name all sources: it is in another one, or "
        f"was taken away: {_TAKEN_AWAY}"
    ),
    Refused.NO_DIGEST: (
        "nobody can say whom these come from: open them without --against-ledger, or push a request with replace, "
        "which gets the user a new secret"
    ),
    Refused.NOT_VALID: (
        "mfa-worker show USER says what to do next; where another secret is being made, open again once it is delivered"
    ),
}
"""What to do about records that are not opened."""
_UNOPENED_CURE = (
    "name every identity with -i; what is torn is delivered again by the next run; what is damaged, or sealed to "
    "others, needs a request with replace"
)
"""What to do about what the ledger knows, and no identity opens, and about what is no record."""
_MISSING_CURE = f"name all sources of this rollout; where a record was taken away: {_TAKEN_AWAY}"
"""What to do about users of whom there is no record."""


class Ledger(Protocol):
    """The ledger, to compare with; ``name``: its name for people."""

    name: str

    def check(self) -> None:
        """Raise the error if it cannot be compared with. To be called before anything is read or moved."""

    def read(self, take: Callable[[Sequence[Recorded]], None]) -> None:
        """Give what it says of the users, in pages. Raises what ``check`` does."""


class Genuine:
    """The passes over all sources, as ``newest.Newest`` makes them; ``users``: only these are opened; ``None``: all."""

    def __init__(
        self,
        opener: AgeOpener,
        take: Take,
        ledger: Ledger,
        *,
        users: Collection[bytes] | None = None,
        progress: Progress = lambda _what, _done, _all: None,
    ) -> None:
        self._reader = Reader(opener)
        self._take, self._ledger, self._users, self._progress = take, ledger, users, progress
        self._began = time.time()
        self._sources: list[Source] = []
        self._compared = Compared()
        self._waiting: list[InChannel] = []
        self._unopened = Named()
        self._refused = {why: Named() for why in Refused}
        self._read = self._older = 0
        self._said = ""
        self._missing: tuple[int, list[str]] = (0, [])

    def look_through(self, source: Source) -> None:
        """The first pass: note every record. Raises ``UsageError`` for a file of another kind."""
        self._sources.append(source)
        has_records = False
        for block in source.blocks():
            self._read += 1
            self._progress("read", self._read, None)
            has_records |= self._note(source, block)
        if not has_records:
            source.refuse_other_kinds()

    def _note(self, source: Source, block: Block) -> bool:
        """Note the record in a block; whether it may be one."""
        try:
            address, sealed = found_in(block.content)
            binary(sealed, address)
        except (NoRecord, Unopened) as error:
            torn = torn_address(block.content) if isinstance(error, Unopened) else None
            if torn is None or self._is_wanted(torn[0]):
                self._unopened.add(f"{place(source, block.number, block.content)}: {error}")
            return isinstance(error, Unopened)
        user, generation = address or (None, None)
        if user is None or self._is_wanted(user):
            where = (len(self._sources) - 1, block.offset, block.number)
            self._waiting.append(InChannel(user, generation, digest_of(sealed), *where))
            if len(self._waiting) >= _TOGETHER:
                self._write()
        return True

    def open_all(self) -> None:
        """Ask the ledger, and open what it knows."""
        self._write()
        self._ledger.read(self._compared.know)
        users, last, with_digest = self._compared.begin()
        self._said = f"compared with the ledger {escape(self._ledger.name)}: {several(users, 'user')}"
        if users:
            self._said += f", {with_digest:,} with a digest, last changed {rfc3339(last)[:19]}Z"
        done = 0
        for page in self._compared.pages():
            opened = set[int]()
            for found, known in page:
                self._progress("opened", done := done + 1, None)
                if known is None or known.opened or known.id in opened or refusal(found, known) is not None:
                    continue
                if self._opens(found):
                    opened.add(known.id)
            self._compared.opened(opened)
        for page in self._compared.pages():
            for found, known in page:
                self._judge(found, known)
        self._missing = self._compared.missing(self._began - CLOCKS_DIFFER, SHOWN)

    def report(self, to: TextIO) -> ExitCode:
        """Say what was compared, what was not opened and why, and who is missing."""
        to.writelines(f"not used: {words}\n" for words in shortened(self._reader.unused))
        to.write(f"{self._said}\n")
        if self._older:
            to.write(f"{several(self._older, 'older record')} of users whose newest was opened: left unopened\n")
        code = ExitCode.DONE
        groups = [(self._unopened, "", _UNOPENED_CURE)]
        groups += [(named, f", {why.value}", CURES[why]) for why, named in self._refused.items()]
        for named, why, cure in groups:
            if named.total:
                code = ExitCode.SOME_LEFT_OUT
                to.write(f"{named.total:,} not opened{why}:\n")
                to.writelines(f"  {words}\n" for words in named.lines())
                to.write(f"  → {cure}\n")
        number, names = self._missing
        if number:
            code = ExitCode.SOME_LEFT_OUT
            to.write(f"no record here of {several(number, 'user')} whom the ledger has as delivered:\n")
            to.writelines(f"  {escape(name)}\n" for name in names)
            to.writelines([f"  and {number - len(names):,} more\n"] if number > len(names) else [])
            to.write(f"  → {_MISSING_CURE}\n")
        return code

    def close(self) -> None:
        """Close all sources."""
        self._compared.close()
        for source in self._sources:
            source.close()

    def _write(self) -> None:
        self._compared.found(self._waiting)
        self._waiting.clear()

    def _is_wanted(self, user: bytes) -> bool:
        return self._users is None or user in self._users

    def _opens(self, found: InChannel) -> bool:
        """Open a record that the ledger knows, and give it away; whether that could be done."""
        assert found.user is not None
        assert found.generation is not None
        source = self._sources[found.source]
        content = source.again(found.offset)
        try:
            address, sealed = found_in(content)
            is_same = digest_of(sealed) == found.digest
            record = self._reader.record_in(binary(sealed, address), (found.user, found.generation))
        except (NoRecord, Unopened) as error:
            self._unopened.add(f"{place(source, found.number, content)}: {error}")
            return False
        if is_same:
            self._take(record)
        else:
            self._unopened.add(f"{place(source, found.number, content)}: changed since it was compared")
        return is_same

    def _judge(self, found: InChannel, known: InLedger | None) -> None:
        """Note a record that was refused."""
        if found.user is None and self._users is not None:
            return  # an age file alone, of none of those who are wanted
        if (why := refusal(found, known)) is None:
            return
        if why is Refused.OLDER and known is not None and known.opened:
            self._older += 1
            return
        named, words = self._refused[why], ""
        if named.total < SHOWN:
            source = self._sources[found.source]
            words = place(source, found.number, source.again(found.offset))
            if why is Refused.NOT_VALID and known is not None:
                words += f": {known.state}" + (f", {known.reason}" if known.reason else "")
        named.add(words)


def refusal(found: InChannel, known: InLedger | None) -> Refused | None:
    """Why this record is not the one that the ledger has of its user; ``None``: it is."""
    if known is None:
        return Refused.UNKNOWN
    if known.state not in VALID or known.generation is None:
        return Refused.NOT_VALID
    assert found.generation is not None
    if found.generation > known.generation:
        return Refused.NEWER
    if found.generation < known.generation:
        return Refused.OLDER
    if not known.digest:
        return Refused.NO_DIGEST
    return None if found.digest == known.digest else Refused.OTHER
