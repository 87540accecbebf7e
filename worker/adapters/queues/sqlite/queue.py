"""The embedded queue: messages in a SQLite file on a local disk, earliest deadline first.

A message is leased for ``visibility`` seconds, and a heartbeat renews the leases of this worker. The messages that a
dead worker of this host had leased are visible again at once.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import structlog

from worker.adapters.queues.sqlite import wave
from worker.adapters.queues.sqlite.choice import (
    BEGINNING,
    Position,
    any_expired,
    deadlines,
    expired,
    others,
    sample,
    to_call,
)
from worker.adapters.queues.sqlite.messages import Found, Viewer
from worker.adapters.sqlite.database import Database
from worker.adapters.sqlite.erasing import empty_log
from worker.core.errors import Malformed, QueueUnavailable, WorkerError
from worker.core.model import Request
from worker.core.outlook import UNJUDGED, Outlook
from worker.core.ports import Backlog, Deadlines, Lease, Pushed, PutAside
from worker.requests.message import Parser

log = structlog.get_logger()

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT NOT NULL, request_id TEXT NOT NULL, deadline REAL NOT NULL,
    visible_at REAL NOT NULL DEFAULT 0, holder TEXT, body BLOB NOT NULL,
    UNIQUE (username, request_id)
);
CREATE INDEX IF NOT EXISTS by_deadline ON messages (deadline, id);
CREATE INDEX IF NOT EXISTS by_user ON messages (username, deadline);
CREATE INDEX IF NOT EXISTS held ON messages (holder) WHERE holder IS NOT NULL;
CREATE TABLE IF NOT EXISTS put_aside (
    digest TEXT NOT NULL, reason TEXT NOT NULL, number INTEGER NOT NULL, last_seen REAL NOT NULL,
    PRIMARY KEY (digest, reason)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_GATHER = 0.05
"""Seconds for which a delete waits at least for other writes, to share their commit: nothing depends on a quick delete.
"""
_PAGE = 500
"""Messages that are written in one commit while pushing, and that ``bodies`` reads at a time."""
_PURGE_PAGE = 5_000
"""Messages that are deleted in one commit at the end of a rollout: each commit is at most some tens of megabytes."""
_PURGED = "malformed, purged"
"""The counter of malformed messages whose reason and digest are deleted."""
_HIDDEN_BY_A_WRONG_CLOCK = 60.0
"""Seconds. No worker hides a message for longer than the visibility. One that is hidden for this much longer was hidden
by a clock that has been set back since; it counts as visible."""
_SAME_DEADLINE = 0.001
"""Seconds by which a deadline that is read again may differ: times in messages are rounded to microseconds."""


@dataclass(frozen=True, slots=True)
class _LeaseOrder:
    """How a worker chooses the messages that it leases. ``visibility``: seconds."""

    viewer: Viewer
    visibility: float
    choose: Callable[[sqlite3.Connection, Viewer], Sequence[Found]]


@dataclass(frozen=True, slots=True)
class _GiveBack:
    """One message to give back, and when it becomes visible again (UTC seconds)."""

    id: int
    holder: str
    visible_at: float


@dataclass(frozen=True, slots=True)
class _Correction:
    """A message whose body says another deadline than its row (UTC seconds)."""

    id: int
    known: float
    right: float
    wave: bool


@dataclass(frozen=True, slots=True)
class _ExpiredOrder:
    """What a worker asks for when it leases dead messages; those that it held itself until now are in ``held``."""

    viewer: Viewer
    visibility: float
    held: Sequence[_GiveBack]
    after: Position
    now: float
    most: int


class SqliteQueue:
    """``Queue`` and ``Producer`` in one file.

    ``holder``: this worker's identity, stored with the messages it leases; ``is_dead``: whether another worker is dead;
    ``visibility``: seconds; ``look_ahead``: how many messages may be leased in advance, because every lease costs a
    commit; ``gather``: for how many seconds a delete may wait for other writes to share their commit.
    """

    def __init__(
        self,
        database: Database,
        parser: Parser,
        *,
        holder: str,
        is_dead: Callable[[str], bool],
        visibility: float,
        look_ahead: int = 0,
        gather: float = 0.0,
    ) -> None:
        self._database = database
        self._parser = parser
        self._holder = holder
        self._is_dead = is_dead
        self._visibility = visibility
        self._look_ahead = look_ahead
        self._gather = max(gather, _GATHER)
        self._wave = False
        self._ahead: deque[Lease] = deque()
        self._passed_over: list[Lease] = []
        """Leased ahead, and passed over since (``Outlook``): when their turn came they could hardly make it."""
        self._expired_after = BEGINNING
        """Where the search for dead messages goes on."""
        self._heartbeat: asyncio.Task[None] | None = None
        self.malformed_found = 0

    async def open(self) -> None:
        """Open the file. Raises ``QueueUnavailable``, ``PersonMustAct``."""
        await self._database.open(_SCHEMA, QueueUnavailable)

    async def close(self) -> None:
        """Stop the heartbeat, and give back all leases. The database stays open: the caller closes it."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None
        self._ahead.clear()
        self._passed_over.clear()
        await self._database.write(_free, self._holder, QueueUnavailable)

    async def only(self, usernames: Collection[str]) -> None:
        """Lease only the messages of these users from now on; the queue counts as empty when they have none left."""
        await self._database.write(wave.begin, usernames, QueueUnavailable)
        self._wave = True

    async def lease(self, most: int, outlook: Outlook = UNJUDGED) -> Sequence[Lease]:
        """See ``ports.Queue``."""
        await self._keep_beating()
        leases = self._take_ahead(most, outlook)
        if len(leases) < most and not self._ahead:
            choose = partial(
                _to_call,
                is_dead=self._is_dead,
                outlook=outlook,
                most=max(most, self._look_ahead),
                at_once=most,
                passed_over=max(0, most - len(self._passed_over)),
            )
            leased = await self._lease(choose)
            self._ahead.extend(leased)  # only now: ``lease_expired`` may have put another deque there meanwhile
            leases += self._take_ahead(most - len(leases), outlook)
        if len(leases) < most:
            leases += self._take_passed_over(most - len(leases), outlook)
        return leases

    def _take_ahead(self, most: int, outlook: Outlook) -> list[Lease]:
        """Those leased ahead that can still make it, earliest deadline first; the others among them are kept."""
        taken: list[Lease] = []
        while self._ahead and len(taken) < most:
            lease = self._ahead.popleft()
            (taken if lease.request.expires_at > outlook.passed_over_up_to else self._passed_over).append(lease)
        return taken

    def _take_passed_over(self, most: int, outlook: Outlook) -> list[Lease]:
        """Those that hardly can, latest deadline first; whoever is not worth a call any more is kept."""
        self._passed_over.sort(key=lambda lease: lease.request.expires_at)
        taken: list[Lease] = []
        while (
            self._passed_over
            and len(taken) < most
            and self._passed_over[-1].request.expires_at > outlook.too_late_up_to
        ):
            taken.append(self._passed_over.pop())
        return taken

    async def _lease(self, choose: Callable[[sqlite3.Connection, Viewer], Sequence[Found]]) -> list[Lease]:
        order = _LeaseOrder(self._viewer(), self._visibility, choose)
        return await self._parsed(await self._database.write(_lease, order, QueueUnavailable))

    async def lease_elsewhere(self, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``; only messages whose credential is not known to be dead."""
        await self._keep_beating()
        leases = await self._lease(partial(sample, most=most))
        while self._ahead and len(leases) < most:  # no others are left: the latest of those that were leased ahead
            leases.append(self._ahead.pop())
        return leases

    async def _keep_beating(self) -> None:
        """Begin to renew this worker's leases, unless that is under way."""
        if self._heartbeat is None:
            await self._database.write(_free_leases_of_the_dead, self._is_dead, QueueUnavailable)
            self._heartbeat = asyncio.create_task(self._beat())

    async def lease_expired(self, most: int, now: float) -> Sequence[Lease]:
        """See ``ports.Queue``; the queue knows of all requests of a user."""
        if not await self._database.read(lambda found: any_expired(found, now), QueueUnavailable):
            return ()
        dead = [lease for lease in (*self._ahead, *self._passed_over) if lease.request.expires_at <= now]
        self._ahead = deque(lease for lease in self._ahead if lease.request.expires_at > now)
        self._passed_over = [lease for lease in self._passed_over if lease.request.expires_at > now]
        held = [_GiveBack(cast("int", lease.receipt), self._holder, 0.0) for lease in dead]
        order = _ExpiredOrder(self._viewer(), self._visibility, held, self._expired_after, now, most)
        while True:
            rows, self._expired_after = await self._database.write(_lease_expired, order, QueueUnavailable)
            leases = await self._parsed(rows)
            living = [lease for lease in leases if lease.request.expires_at > now]
            # Their deadline was found to be a later one: they wait for their turn like all others.
            await asyncio.gather(*(self.give_back(lease, 0.0) for lease in living))
            if len(living) < len(leases) or not living:
                return [lease for lease in leases if lease.request.expires_at <= now]
            order = replace(order, held=(), after=self._expired_after)

    async def lease_others(self, username: str, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``."""
        if most <= 0:
            return ()
        return await self._lease(partial(others, username=username, most=most))

    def _viewer(self) -> Viewer:
        now = time.time()
        return Viewer(self._holder, now, now + self._visibility + _HIDDEN_BY_A_WRONG_CLOCK, self._wave)

    async def _parsed(self, rows: Sequence[Found]) -> list[Lease]:
        """The requests in these messages. Deadlines that were noted by another ``session_validity`` are corrected."""
        now = time.time()
        leases = []
        corrections = []
        for id_, _, body, deadline, has_others in rows:
            try:
                request = self._parser.parse(body, now, origin=f"message {id_}")
            except Malformed as malformed:
                self.malformed_found += 1
                discarded = (id_, self._parser.digest(body), str(malformed), now)
                await self._database.write(_discard, discarded, QueueUnavailable)
            else:
                leases.append(Lease(request, id_, bool(has_others)))
                if abs(request.expires_at - deadline) > _SAME_DEADLINE:
                    corrections.append(_Correction(id_, deadline, request.expires_at, self._wave))
        if corrections:
            await self._database.write(_correct, corrections, QueueUnavailable)
        return leases

    async def deadlines(self, now: float) -> Deadlines:
        """See ``ports.Queue``; all requests are counted, of which a million take some 0.1 s in the reading thread."""
        return Deadlines(await self._database.read(lambda connection: deadlines(connection, now), QueueUnavailable))

    async def acknowledge(self, lease: Lease) -> None:
        """See ``ports.Queue``."""
        await self._database.write(_delete, lease.receipt, QueueUnavailable, gather=self._gather)

    async def give_back(self, lease: Lease, delay: float) -> None:
        """See ``ports.Queue``; ``delay`` is limited to the visibility."""
        assert isinstance(lease.receipt, int)
        visible_at = time.time() + min(delay, self._visibility) if delay > 0 else 0.0
        await self._database.write(_give_back, _GiveBack(lease.receipt, self._holder, visible_at), QueueUnavailable)

    async def backlog(self) -> Backlog:
        """See ``ports.Queue``."""
        return await self._database.read(lambda connection: _backlog(connection, time.time()), QueueUnavailable)

    async def is_empty(self) -> bool:
        """See ``ports.Queue``."""
        if self._wave:
            return not await self._database.write(wave.any_left, None, QueueUnavailable)
        return await self._database.read(_is_empty, QueueUnavailable)

    async def push(self, requests: Iterable[tuple[Request, bytes]]) -> Pushed:
        """See ``ports.Producer``."""
        accepted = duplicates = 0
        page: list[tuple[str, str, float, bytes]] = []
        for request, body in requests:
            page.append((request.username, request.id, request.expires_at, body))
            if len(page) == _PAGE:
                accepted += (added := await self._database.write(_push, page, QueueUnavailable))
                duplicates += _PAGE - added
                page = []
        if page:
            accepted += (added := await self._database.write(_push, page, QueueUnavailable))
            duplicates += len(page) - added
        return Pushed(accepted, duplicates)

    async def put_aside(self, reason: str, digest: str, number: int = 1, before: int = 0) -> None:
        """See ``ports.Producer``."""
        order = (digest, reason, before + number, time.time())
        await self._database.write(_put_aside_at_least, order, QueueUnavailable)

    async def put_aside_list(self) -> AsyncGenerator[Sequence[PutAside]]:
        """See ``ports.QueueStats``."""
        after = ("", "")
        while page := await self._database.read(partial(_put_aside_page, after=after), QueueUnavailable):
            yield page
            after = (page[-1].digest, page[-1].reason)

    async def counted(self) -> tuple[int, int]:
        """See ``ports.QueueStats``."""
        return await self._database.read(_counted, QueueUnavailable)

    async def dead_letters(self, notes: int) -> int:  # noqa: ARG002
        """See ``ports.QueueStats``; always zero: this queue moves no request away."""
        return 0

    async def purge(self) -> None:
        """Delete every message, whoever has leased it, and the list of malformed ones, whose number stays.

        It may be interrupted and done again. Erased is what was deleted once the write-ahead log is (``Ledger.tidy``).
        """
        while await self._database.write(_purge, None, QueueUnavailable):
            pass

    async def tidy(self) -> bool:
        """See ``ports.Ending``."""
        return await self._database.read(empty_log, QueueUnavailable)

    async def sessions(self) -> int:
        """See ``ports.QueueStats``."""
        return await self._database.read(_sessions, QueueUnavailable)

    def watched_for(self) -> float | None:
        """See ``ports.QueueStats``; this queue is known to be empty at once."""
        return None

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._visibility / 3)
            try:
                await self._database.write(_renew, (self._holder, time.time() + self._visibility), QueueUnavailable)
                await self._database.write(_free_leases_of_the_dead, self._is_dead, QueueUnavailable)
            except WorkerError as failed:  # a lost lease is harmless: the claim protects the user
                log.warning("heartbeat_failed", cause=str(failed), cure=failed.hint)


async def bodies(path: Path) -> AsyncGenerator[Sequence[bytes]]:
    """The bodies of all messages, page by page, in the order in which they were pushed.

    There are none if the file does not exist or contains no queue. Raises ``QueueUnavailable``, ``PersonMustAct``.
    """
    if not await asyncio.to_thread(path.exists):
        return
    database = Database(path)
    try:
        await database.open("", QueueUnavailable)
        after = 0
        while rows := await database.read(lambda connection, after=after: _page(connection, after), QueueUnavailable):  # type: ignore[misc]
            yield [body for _, body in rows]
            after = rows[-1][0]
    finally:
        await database.close()


# --- in the database's threads ----------------------------------------------------------------------------------------


def _lease(connection: sqlite3.Connection, orders: Sequence[_LeaseOrder]) -> Sequence[Sequence[Found]]:
    results = []
    for order in orders:
        results.append(rows := order.choose(connection, order.viewer))
        _hold(connection, order.viewer, order.visibility, rows)
    return results


def _to_call(
    connection: sqlite3.Connection,
    viewer: Viewer,
    *,
    is_dead: Callable[[str], bool],
    outlook: Outlook,
    most: int,
    at_once: int,
    passed_over: int,
) -> Sequence[Found]:
    """See ``choice.to_call``; where there are too few, those that dead workers have leased come too."""
    rows = to_call(connection, viewer, outlook, most=most, at_once=at_once, passed_over=passed_over)
    if len(rows) < most and any(_free_leases_of_the_dead(connection, [is_dead])):
        rows = to_call(connection, viewer, outlook, most=most, at_once=at_once, passed_over=passed_over)
    return rows


def _lease_expired(
    connection: sqlite3.Connection, orders: Sequence[_ExpiredOrder]
) -> Sequence[tuple[Sequence[Found], Position]]:
    results = []
    for order in orders:
        _give_back(connection, order.held)
        rows, after = expired(connection, order.viewer, order.after, order.now, order.most)
        _hold(connection, order.viewer, order.visibility, rows)
        results.append((rows, after))
    return results


def _hold(connection: sqlite3.Connection, viewer: Viewer, visibility: float, rows: Sequence[Found]) -> None:
    if rows:
        connection.execute(
            f"UPDATE messages SET holder = ?, visible_at = ? WHERE id IN ({', '.join('?' * len(rows))})",  # noqa: S608
            (viewer.holder, viewer.now + visibility, *(row.id for row in rows)),
        )


def _free_leases_of_the_dead(
    connection: sqlite3.Connection, is_dead: Sequence[Callable[[str], bool]]
) -> Sequence[bool]:
    """Whether there were any. All callers in a batch belong to one worker, so the first ``is_dead`` answers for all."""
    holders = connection.execute("SELECT DISTINCT holder FROM messages WHERE holder IS NOT NULL").fetchall()
    dead = [holder for (holder,) in holders if is_dead[0](holder)]
    _free(connection, dead)
    return [bool(dead)] * len(is_dead)


def _free(connection: sqlite3.Connection, holders: Sequence[str]) -> Sequence[None]:
    for holder in holders:
        connection.execute("UPDATE messages SET visible_at = 0, holder = NULL WHERE holder = ?", (holder,))
    return [None] * len(holders)


def _renew(connection: sqlite3.Connection, renewals: Sequence[tuple[str, float]]) -> Sequence[None]:
    for holder, visible_at in renewals:
        connection.execute("UPDATE messages SET visible_at = ? WHERE holder = ?", (visible_at, holder))
    return [None] * len(renewals)


def _give_back(connection: sqlite3.Connection, messages: Sequence[_GiveBack]) -> Sequence[None]:
    for message in messages:
        connection.execute(
            "UPDATE messages SET visible_at = ?, holder = NULL WHERE id = ? AND holder = ?",
            (message.visible_at, message.id, message.holder),
        )
    return [None] * len(messages)


def _correct(connection: sqlite3.Connection, found: Sequence[Sequence[_Correction]]) -> Sequence[None]:
    for correction in (each for corrections in found for each in corrections):
        connection.execute("UPDATE messages SET deadline = ? WHERE id = ?", (correction.right, correction.id))
        if correction.wave:
            wave.correct(connection, correction.id, correction.known, correction.right)
    return [None] * len(found)


def _delete(connection: sqlite3.Connection, ids: Sequence[int]) -> Sequence[None]:
    connection.execute(f"DELETE FROM messages WHERE id IN ({', '.join('?' * len(ids))})", list(ids))  # noqa: S608
    return [None] * len(ids)


def _discard(connection: sqlite3.Connection, found: Sequence[tuple[int, str, str, float]]) -> Sequence[None]:
    _put_aside(connection, [message for _, *message in found])
    return _delete(connection, [id_ for id_, *_ in found])


def _push(connection: sqlite3.Connection, pages: Sequence[Sequence[tuple[str, str, float, bytes]]]) -> Sequence[int]:
    accepted = []
    for page in pages:
        before = connection.total_changes
        connection.executemany(
            "INSERT OR IGNORE INTO messages (username, request_id, deadline, body) VALUES (?, ?, ?, ?)", page
        )
        accepted.append(connection.total_changes - before)
        if refused := len(page) - accepted[-1]:
            connection.execute(
                "INSERT INTO counters VALUES ('refused', ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                (refused,),
            )
    return accepted


def _put_aside(connection: sqlite3.Connection, found: Sequence[Sequence[object]]) -> Sequence[None]:
    connection.executemany(
        "INSERT INTO put_aside VALUES (?, ?, 1, ?) "
        "ON CONFLICT DO UPDATE SET number = number + 1, last_seen = excluded.last_seen",
        found,
    )
    return [None] * len(found)


def _put_aside_at_least(connection: sqlite3.Connection, found: Sequence[Sequence[object]]) -> Sequence[None]:
    """Note so many malformed messages of a kind, unless as many are noted: they are the same ones, read again."""
    connection.executemany(
        "INSERT INTO put_aside VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET number = max(number, excluded.number), last_seen = excluded.last_seen",
        found,
    )
    return [None] * len(found)


def _put_aside_page(connection: sqlite3.Connection, after: tuple[str, str]) -> Sequence[PutAside]:
    rows = connection.execute(
        "SELECT reason, digest, number, last_seen FROM put_aside WHERE (digest, reason) > (?, ?) "
        "ORDER BY digest, reason LIMIT ?",
        (*after, _PAGE),
    )
    return [PutAside(*row) for row in rows]


def _backlog(connection: sqlite3.Connection, now: float) -> Backlog:
    waiting, expired = connection.execute(
        "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM messages WHERE deadline <= ?)", (now,)
    ).fetchone()
    return Backlog(waiting, expired)


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM messages LIMIT 1").fetchone() is None


def _counted(connection: sqlite3.Connection) -> tuple[int, int]:
    counters = dict(connection.execute("SELECT name, value FROM counters WHERE name IN ('refused', ?)", (_PURGED,)))
    malformed = connection.execute("SELECT total(number) FROM put_aside").fetchone()
    return counters.get("refused", 0), int(malformed[0]) + counters.get(_PURGED, 0)


def _purge(connection: sqlite3.Connection, asked: Sequence[object]) -> Sequence[bool]:
    """Whether there was anything to delete."""
    page = "DELETE FROM messages WHERE id IN (SELECT id FROM messages LIMIT ?)"
    messages = connection.execute(page, (_PURGE_PAGE,)).rowcount
    (aside,) = connection.execute("SELECT total(number) FROM put_aside").fetchone()
    if aside:
        connection.execute(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
            (_PURGED, int(aside)),
        )
        connection.execute("DELETE FROM put_aside")
    return [bool(messages or aside)] * len(asked)


def _sessions(connection: sqlite3.Connection) -> int:
    # Most bodies need no parsing: where the word appears nowhere, the key is not there.
    (number,) = connection.execute(
        "SELECT count(*) FROM messages WHERE instr(body, CAST('\"session\"' AS BLOB)) "
        "AND CASE WHEN json_valid(CAST(body AS TEXT)) "
        "THEN json_extract(CAST(body AS TEXT), '$.session') IS NOT NULL END"
    ).fetchone()
    return int(number)


def _page(connection: sqlite3.Connection, after: int) -> Sequence[tuple[int, bytes]]:
    has_queue = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'messages'").fetchone()
    if not has_queue:
        return []
    query = "SELECT id, body FROM messages WHERE id > ? ORDER BY id LIMIT ?"
    rows: Sequence[tuple[int, bytes]] = connection.execute(query, (after, _PAGE)).fetchall()
    return rows
