"""Whether the ledger is an older copy of itself: by its mark, or by the last secrets in the channel's file."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from worker.adapters import channels
from worker.adapters.confirmed_lines import missing
from worker.app.stores import StoredLedger, Stores
from worker.core.age_format import AGE
from worker.core.errors import PersonMustAct, RowUnreadable, WorkerError
from worker.core.record import Record, line_address, parse_object
from worker.settings import Settings

log = structlog.get_logger()

LAST_BYTES = 65_536
"""So many bytes at the end of the channel's file are looked at: some 60 lines, in one read."""
LAST_LINES = 8
"""So many of the last lines are compared with the ledger: each is a read of one row."""
SEALED = base64.b64encode(AGE).decode("ascii")
"""How every sealed record begins in a line."""
NEXT_DAY = 86_400_000
"""Milliseconds: a generation is at least the clock in milliseconds and little more, so what is beyond tomorrow is no
generation, and would hide every true one."""
CLOCKS_DIFFER = 60_000
"""Milliseconds by which the clock that numbered a secret may have differed from this machine's (``core.clock`` corrects
no more): what the channel shows of the first minute of a ledger may be the end of an earlier one."""


async def refusal(settings: Settings, stores: Stores) -> WorkerError | None:
    """Return the error with which a command refuses to work with this ledger, or ``None``.

    Raises ``LedgerUnavailable``, and what AWS's refusals become.
    """
    return (
        await stores.ledger.refusal()
        or await asyncio.to_thread(
            _lost_lines, settings, stores.ledger
        )  # first: a damaged line may look like a new one
        or await _behind_the_channel(settings, stores.ledger)
    )


async def warn(settings: Settings, stores: Stores) -> WorkerError | None:
    """Log a warning where ``refusal`` finds something, and return that: for commands that only read."""
    try:
        found = await refusal(settings, stores)
    except WorkerError:  # who may only read need not be allowed to ask for a table's id
        return None
    if found is not None:
        log.warning("ledger_is_older", cause=str(found), cure=found.hint)
    return found


async def _behind_the_channel(settings: Settings, ledger: StoredLedger) -> PersonMustAct | None:
    """The error if a secret at the end of the channel's file is newer than its user's row.

    A secret is in the ledger before it is delivered, so a kill cannot bring this about. It shows a copy whose mark is
    as old as itself.
    """
    path, since = channels.kind_of(settings.channel).file(settings.channel), ledger.since()
    if path is None or not since:
        return None
    for username, generation in _last_secrets(path):
        if generation <= since + CLOCKS_DIFFER:
            continue
        try:
            row = await ledger.read(username)
        except RowUnreadable:  # of a later version, so it is not older
            continue
        if row is None or row.generation < generation:
            return PersonMustAct(
                f"the ledger is an older copy: it does not know of secrets that are at the end of {path}",
                "restore the newest copy of the ledger, or bring this one up to date: mfa-worker recover shows how. "
                "(If another rollout delivers into this file: give each a channel.path of its own)",
            )
    return None


def _lost_lines(settings: Settings, ledger: StoredLedger) -> PersonMustAct | None:
    """The error if lines are gone from the channel's file that the ledger calls delivered.

    The file is synced before the ledger says so, so neither a kill nor a power cut can bring this about.
    """
    path, known = channels.kind_of(settings.channel).file(settings.channel), ledger.confirmed()
    if path is None or known is None:
        return None
    try:
        what = missing(path, known)
    except OSError:
        return None  # whether it can be used shows when it is opened
    if what is None:
        return None
    return PersonMustAct(
        f"the channel's file {path} lacks records that the ledger calls delivered: {what}",
        "stop all workers, look after the disk, and put the newest copy of the file back. Where there is none, the "
        "users whose record is gone must sign in again: mfa-worker recover shows them",
    )


def lost_since(settings: Settings, ledger: StoredLedger) -> float | None:
    """Since when (UTC seconds) delivered records may be gone from the channel's file; ``None``: none is gone."""
    path, known = channels.kind_of(settings.channel).file(settings.channel), ledger.confirmed()
    if path is None or known is None or _lost_lines(settings, ledger) is None:
        return None
    last = [generation for _, generation in _last_secrets(path)]
    return min([known.since, *(generation / 1000 for generation in last[:1])]) - 1


def _last_secrets(path: Path) -> Iterator[tuple[str, int]]:
    """The username and generation of the last lines of the file, the latest first; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - LAST_BYTES)
            file.seek(start)
            lines = file.read().split(b"\n")
    except OSError:
        return
    for line in lines[: None if start == 0 else 0 : -1][:LAST_LINES]:
        if (told := told_by(line)) is not None and "username" in told:
            yield told["username"], told["generation"]


def told_by(line: bytes, *, sealed: bool = True) -> Record | None:
    """Return what a line tells of a record, or ``None`` if it is not the line of one.

    ``sealed``: it must hold what is sealed, too; else it may be an address alone (``ChannelKind.list_records``).
    """
    try:
        told = parse_object(line)
        _, generation = line_address(told)
        is_record = bool(told["attempt_id"].encode() and told["associated_at"].encode())  # a text that can be written
        if sealed or "sealed" in told:
            is_record = is_record and told["sealed"].startswith(SEALED)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return told if is_record and 0 < generation <= time.time() * 1000 + NEXT_DAY else None
