"""What the commands here have in common: users named in a file, some at once, and what is said of them."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar

from worker.adapters.batching import some_at_once
from worker.core.errors import LedgerUnavailable, RowUnreadable
from worker.core.resilience.backoff import retry
from worker.core.resilience.writer import WRITE_BACKOFF
from worker.core.text import Named
from worker.requests.usernames import usernames
from worker.settings import Settings

Result = TypeVar("Result")

AT_ONCE = 64
"""Users who are worked on at the same time: the embedded ledger writes them in one commit, and an SDK has as many
connections."""


@dataclass(slots=True)
class Told:
    """What became of the users of one file."""

    done: int = 0
    already: int = 0
    """Users with whom nothing was left to do."""
    unknown: Named = field(default_factory=Named)
    """Users without a row in the ledger."""
    left: Named = field(default_factory=Named)
    """Users who were left as they are, each with the reason in words."""
    malformed: int = 0
    """Lines that are no username."""

    def leave(self, username: str, why: str) -> None:
        """Note a user who is left as they are."""
        self.left.add(f"{username!r} {why}")


async def with_each(stream: BinaryIO, do: Callable[[str, Told], Awaitable[None]]) -> Told:
    """Await ``do`` for every user that the file names, and return what it noted; blank lines are nothing.

    Raises what ``do`` raises, save for ``RowUnreadable``.
    """
    told = Told()

    async def one(username: str) -> None:
        try:
            await do(username, told)
        except RowUnreadable as unreadable:
            told.leave(username, f"{unreadable}; {unreadable.hint}")

    await some_at_once(one, _named(stream, told), AT_ONCE)
    return told


def _named(stream: BinaryIO, told: Told) -> Iterator[str]:
    for username in usernames(stream):
        if username is None:
            told.malformed += 1
        else:
            yield username


async def patiently(work: Callable[[], Awaitable[Result]], settings: Settings) -> Result:
    """Read or write a row, again for ``ledger.patience`` while the ledger is away. Raises ``LedgerUnavailable``."""
    return await retry(work, on=LedgerUnavailable, backoff=WRITE_BACKOFF, patience=settings.ledger.patience)


def versions(worker: str) -> Iterator[str]:
    """Versions for the writes of this process, which no other write has."""
    return (f"{worker}:{number}" for number in itertools.count(1))
