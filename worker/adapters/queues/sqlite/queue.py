"""The embedded queue: messages in a SQLite file on a local disk, earliest deadline first.

A message is leased for ``visibility`` seconds, and a heartbeat renews the leases of this worker. The messages that a
dead worker of this host had leased are visible again at once.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from worker.adapters.queues.sqlite import wave
from worker.adapters.sqlite.database import Database
from worker.core.errors import DependencyUnavailable, Malformed, QueueUnavailable
from worker.core.model import Request
from worker.core.ports import Backlog, Lease, Pushed
from worker.requests.lines import digest
from worker.requests.message import Parser

log = structlog.get_logger()

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT NOT NULL, request_id TEXT NOT NULL, deadline REAL NOT NULL,
    visible_at REAL NOT NULL DEFAULT 0, holder TEXT, body BLOB NOT NULL,
    UNIQUE (username, request_id)
);
CREATE INDEX IF NOT EXISTS by_deadline ON messages (deadline, id);
CREATE INDEX IF NOT EXISTS held ON messages (holder) WHERE holder IS NOT NULL;
CREATE TABLE IF NOT EXISTS put_aside (
    digest TEXT NOT NULL, reason TEXT NOT NULL, number INTEGER NOT NULL, last_seen REAL NOT NULL,
    PRIMARY KEY (digest, reason)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_Row = tuple[int, str, bytes, int]
"""Of a message: id, username, body, and whether its user has other messages."""
_OTHERS = "EXISTS (SELECT 1 FROM main.messages o WHERE o.username = m.username AND o.id <> m.id)"
"""Whether the user of the message ``m`` has others. The index of the UNIQUE constraint answers it in one step."""
_NOBODY_IS_AT_WORK = (
    "m.username NOT IN "
    "(SELECT username FROM main.messages WHERE holder IS NOT NULL "
    "AND (holder = :holder OR visible_at > :now AND visible_at <= :latest))"
)
"""That no message of the user of ``m`` is leased. SQLite lists the leased ones once for a query, by the index ``held``;
they are few."""
_GATHER = 0.05
"""Seconds for which a delete waits at least for other writes, to share their commit: nothing depends on a quick delete.
"""
_PAGE = 500
"""Messages that are written in one commit while pushing, and that ``bodies`` reads at a time."""
_HIDDEN_BY_A_WRONG_CLOCK = 60.0
"""Seconds. No worker hides a message for longer than the visibility. One that is hidden for this much longer was hidden
by a clock that has been set back since; it counts as visible."""


@dataclass(frozen=True, slots=True)
class _LeaseOrder:
    """What a worker asks for when it leases messages."""

    holder: str
    most: int
    now: float
    visibility: float
    is_dead: Callable[[str], bool]
    wave: bool
    elsewhere: bool
    """Not those with the earliest deadlines, but from anywhere in the queue."""


@dataclass(frozen=True, slots=True)
class _OthersOrder:
    """Whose messages a worker asks for, wherever they stand."""

    username: str
    holder: str
    most: int
    now: float
    visibility: float


@dataclass(frozen=True, slots=True)
class _GiveBack:
    """One message to give back, and when it becomes visible again (UTC seconds)."""

    id: int
    holder: str
    visible_at: float


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
        self._heartbeat: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the file. Raises ``QueueUnavailable``, ``PersonMustAct``."""
        await self._database.open(_SCHEMA, QueueUnavailable)

    async def close(self) -> None:
        """Stop the heartbeat, and give back all leases. The database stays open: the caller closes it."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None
        self._ahead.clear()
        await self._database.write(_free, self._holder, QueueUnavailable)

    async def only(self, usernames: Collection[str]) -> None:
        """Lease only the messages of these users from now on; the queue counts as empty when they have none left."""
        await self._database.write(wave.begin, usernames, QueueUnavailable)
        self._wave = True

    async def lease(self, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``."""
        await self._keep_beating()
        if not self._ahead:
            self._ahead.extend(await self._lease(max(most, self._look_ahead)))
        return [self._ahead.popleft() for _ in range(min(most, len(self._ahead)))]

    async def lease_elsewhere(self, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``; only messages whose credential is not known to be dead."""
        await self._keep_beating()
        leases = list(await self._lease(most, elsewhere=True))
        while self._ahead and len(leases) < most:  # no others are left: the latest of those that were leased ahead
            leases.append(self._ahead.pop())
        return leases

    async def _keep_beating(self) -> None:
        """Begin to renew this worker's leases, unless that is under way."""
        if self._heartbeat is None:
            await self._database.write(_free_leases_of_the_dead, self._is_dead, QueueUnavailable)
            self._heartbeat = asyncio.create_task(self._beat())

    async def _lease(self, most: int, *, elsewhere: bool = False) -> Sequence[Lease]:
        now = time.time()
        order = _LeaseOrder(self._holder, most, now, self._visibility, self._is_dead, self._wave, elsewhere)
        rows: Sequence[_Row] = await self._database.write(_lease, order, QueueUnavailable)
        return await self._leases(rows, now)

    async def lease_others(self, username: str, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``."""
        if most <= 0:
            return ()
        now = time.time()
        order = _OthersOrder(username, self._holder, most, now, self._visibility)
        rows: Sequence[_Row] = await self._database.write(_lease_others, order, QueueUnavailable)
        return await self._leases(rows, now)

    async def _leases(self, rows: Sequence[_Row], now: float) -> Sequence[Lease]:
        leases = []
        for id_, _, body, others in rows:
            try:
                leases.append(Lease(self._parser.parse(body, now), id_, bool(others)))
            except Malformed as malformed:
                await self._database.write(_discard, (id_, digest(body), str(malformed), now), QueueUnavailable)
        return leases

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
        return (await self.backlog()).waiting == 0

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

    async def put_aside(self, reason: str, digest: str) -> None:
        """See ``ports.Producer``."""
        await self._database.write(_put_aside, (digest, reason, time.time()), QueueUnavailable)

    async def counted(self) -> tuple[int, int]:
        """See ``ports.QueueStats``."""
        return await self._database.read(_counted, QueueUnavailable)

    async def sessions(self) -> int:
        """See ``ports.QueueStats``."""
        return await self._database.read(_sessions, QueueUnavailable)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._visibility / 3)
            try:
                await self._database.write(_renew, (self._holder, time.time() + self._visibility), QueueUnavailable)
                await self._database.write(_free_leases_of_the_dead, self._is_dead, QueueUnavailable)
            except DependencyUnavailable as unavailable:  # a lost lease is harmless: the claim protects the user
                log.warning("heartbeat_failed", cause=str(unavailable))


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


def _lease(connection: sqlite3.Connection, orders: Sequence[_LeaseOrder]) -> Sequence[Sequence[_Row]]:
    return [_lease_one(connection, order) for order in orders]


def _lease_one(connection: sqlite3.Connection, order: _LeaseOrder) -> Sequence[_Row]:
    rows = _visible(connection, order)
    if len(rows) < order.most and any(_free_leases_of_the_dead(connection, [order.is_dead])):
        rows = _visible(connection, order)
    first_of_each: dict[str, _Row] = {}
    for row in rows:
        first_of_each.setdefault(row[1], row)
    return _held(connection, list(first_of_each.values()), order)


def _held(connection: sqlite3.Connection, rows: Sequence[_Row], order: _LeaseOrder | _OthersOrder) -> Sequence[_Row]:
    if rows:
        connection.execute(
            f"UPDATE messages SET holder = ?, visible_at = ? WHERE id IN ({', '.join('?' * len(rows))})",  # noqa: S608
            (order.holder, order.now + order.visibility, *(row[0] for row in rows)),
        )
    return rows


def _visible(connection: sqlite3.Connection, order: _LeaseOrder) -> Sequence[_Row]:
    """Messages that may be leased, of users of whom nobody holds any."""
    latest = order.now + order.visibility + _HIDDEN_BY_A_WRONG_CLOCK
    if order.elsewhere:
        return _sample(connection, order, latest)
    if order.wave:
        return wave.visible(connection, order.most, order.holder, order.now, latest)
    return connection.execute(
        f"SELECT m.id, m.username, m.body, {_OTHERS} FROM messages m INDEXED BY by_deadline "  # noqa: S608
        "WHERE (m.visible_at <= :now OR m.visible_at > :latest) AND m.holder IS NOT :holder "
        f"AND {_NOBODY_IS_AT_WORK} ORDER BY m.deadline, m.id LIMIT :most",
        {"now": order.now, "latest": latest, "holder": order.holder, "most": order.most},
    ).fetchall()


def _lease_others(connection: sqlite3.Connection, orders: Sequence[_OthersOrder]) -> Sequence[Sequence[_Row]]:
    return [_held(connection, _others(connection, order), order) for order in orders]


def _others(connection: sqlite3.Connection, order: _OthersOrder) -> Sequence[_Row]:
    """Messages of one user that nobody holds, in the order of the index, so that no others are looked at."""
    return connection.execute(
        "SELECT id, username, body, 1 FROM messages WHERE username = :username AND (holder IS NULL OR "
        "holder <> :holder AND (visible_at <= :now OR visible_at > :latest)) LIMIT :most",
        {
            "username": order.username,
            "holder": order.holder,
            "now": order.now,
            "latest": order.now + order.visibility + _HIDDEN_BY_A_WRONG_CLOCK,
            "most": order.most,
        },
    ).fetchall()


def _sample(connection: sqlite3.Connection, order: _LeaseOrder, latest: float) -> Sequence[_Row]:
    """Visible messages of living credentials, each the next one after a random id.

    Each is looked for by itself, because messages that were pushed together may have something in common.
    """
    if order.wave:
        return wave.sample(connection, order.most, order.holder, order.now, latest)
    first, last = connection.execute("SELECT min(id), max(id) FROM messages").fetchone()
    if last is None:
        return []
    found: dict[int, _Row] = {}
    for _ in range(order.most):
        start = random.randint(first, last)  # noqa: S311 - a sample, not a key
        for low, high in ((start, last), (first, start - 1)):
            row = connection.execute(
                f"SELECT m.id, m.username, m.body, {_OTHERS} FROM messages m "  # noqa: S608
                "WHERE m.id BETWEEN :low AND :high AND m.deadline > :now "
                "AND (m.visible_at <= :now OR m.visible_at > :latest) AND m.holder IS NOT :holder "
                f"AND {_NOBODY_IS_AT_WORK} ORDER BY m.id LIMIT 1",
                {"low": low, "high": high, "now": order.now, "latest": latest, "holder": order.holder},
            ).fetchone()
            if row is not None:
                found[row[0]] = row
                break
    return list(found.values())


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


def _backlog(connection: sqlite3.Connection, now: float) -> Backlog:
    waiting, expired = connection.execute(
        "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM messages WHERE deadline <= ?)", (now,)
    ).fetchone()
    return Backlog(waiting, expired)


def _counted(connection: sqlite3.Connection) -> tuple[int, int]:
    refused = connection.execute("SELECT value FROM counters WHERE name = 'refused'").fetchone()
    malformed = connection.execute("SELECT total(number) FROM put_aside").fetchone()
    return (refused[0] if refused else 0), int(malformed[0])


def _sessions(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute(
        "SELECT count(*) FROM messages WHERE CASE WHEN json_valid(CAST(body AS TEXT)) "
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
