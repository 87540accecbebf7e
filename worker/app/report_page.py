"""What the command ``report`` does: it reads the ledger at one moment, and changes nothing but the page's file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import cast

from worker.app import older
from worker.app.beginning import ledger_name, say_new
from worker.app.stores import Purpose, StoredLedger, open_stores, stamp
from worker.app.written_files import refuse_wrong_files
from worker.core.errors import RowUnreadable, WorkerError
from worker.core.model import NOT_ACTIVATED, Counts, Listed, State
from worker.report.facts import Facts, Left, UnderWay
from worker.report.file import write
from worker.report.page import render
from worker.report.verdict import verdict
from worker.settings import Settings

MOST_NAMED = 2_000
"""Users of one state whom a page names: a browser shows so many at once, and the page stays below a megabyte."""
MOST_LOOKED_AT = 20_000
"""Unfinished rows that are read to find those under way for longest: as many as a dead worker may have left, in less
than half a second."""
LONGEST = 10
"""So many of them are shown."""


async def write_page(settings: Settings, path: Path, *, command: Sequence[str], usernames: bool) -> str:
    """Write the page, and return its verdict.

    ``command``: how a command for this rollout begins; ``usernames``: whether users may be named. Raises ``UsageError``
    where the file is not to be written or there is no ledger, and ``DependencyUnavailable``.
    """
    refuse_wrong_files(settings, page=path)
    facts = await look(settings, command=command, usernames=usernames)
    write(path, render(facts))
    return verdict(facts.counts, facts.backlog).sentence


async def look(settings: Settings, *, command: Sequence[str], usernames: bool) -> Facts:
    """Return what the page is made from. Raises ``UsageError`` if there is no ledger."""
    async with open_stores(settings, Purpose.EXISTING) as stores:
        say_new(settings, stores.found)
        warnings = []
        try:
            if refusal := await older.refusal(settings, stores):
                warnings.append(f"{refusal}. These numbers are those of then: {refusal.hint}")
        except WorkerError:  # who may only read need not be allowed to ask for a table's id
            pass
        counts = replace(await stores.counts(), unrequested=await stores.ledger.roster_count())
        under_way, looked_at, all_read = await _under_way(stores.ledger)
        if not all_read:
            warnings.append("a row of the ledger is damaged or of a later version of the worker; run says whose it is")
        return Facts(
            made_at=stores.clock.utc(),
            version=version("mfa-worker"),
            stamp=stores.found.stamp or stamp(settings),
            ledger=ledger_name(settings),
            counts=counts,
            backlog=await stores.queue.backlog(),
            command=command,
            settings_file=str(settings.file or ""),
            makes_tickets=settings.sign_in.flow == "custom_auth",
            minutes=[minute async for minute in stores.ledger.figures()],
            under_way=under_way,
            looked_at=looked_at,
            left=await _left(stores.ledger, counts) if usernames else None,
            warnings=warnings,
        )


async def _under_way(ledger: StoredLedger) -> tuple[Sequence[UnderWay], int, bool]:
    """Return who has been under way for longest, how many were looked at, and whether all rows could be read."""
    found: list[UnderWay] = []
    all_read = True
    async with aclosing(ledger.unfinished()) as rows:
        try:
            async for row in rows:
                found.append(UnderWay(row.username, row.state, row.since))
                if len(found) == MOST_LOOKED_AT:
                    break
        except RowUnreadable:
            all_read = False
    return sorted(found, key=lambda user: user.since)[:LONGEST], len(found), all_read


async def _left(ledger: StoredLedger, counts: Counts) -> Sequence[Left]:
    """Return who is left to a person, or the first of them, by state."""
    inactive = sum(counts.reasons.get(reason, 0) for reason in NOT_ACTIVATED)
    totals = {
        State.NEEDS_SESSION: counts.states.get(State.NEEDS_SESSION, 0),
        State.FAILED: counts.states.get(State.FAILED, 0),
        State.DELIVERED: inactive,
    }
    return [
        Left(state, await _first(ledger, state, min(total, MOST_NAMED)), total)
        for state, total in totals.items()
        if total
    ]


async def _first(ledger: StoredLedger, state: State, most: int) -> Sequence[Listed]:
    """Return up to so many users of that state who are left to a person, by reason and name."""
    found: list[Listed] = []
    async with aclosing(cast("AsyncGenerator[Sequence[Listed]]", ledger.listed(state))) as pages:
        async for page in pages:
            found += [user for user in page if state is not State.DELIVERED or user.reason in NOT_ACTIVATED]
            if len(found) >= most:
                break
    return sorted(found[:most], key=lambda user: (user.reason or "", user.username))
