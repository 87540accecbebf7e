"""What the command ``show`` finds out about one user: the row in the ledger, and what else is at hand on this host.

One read where the ledger knows the user, at any size. Only where it does not, the roster and names that differ little
from the one that was asked for are looked up, each by a read of its own.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterator

import structlog

from worker.adapters import channels
from worker.adapters.queues.sqlite.of_user import requests_of
from worker.app.stores import StoredLedger, open_ledger
from worker.core.errors import UsageError
from worker.requests.usernames import is_username
from worker.settings import Settings
from worker.telemetry.one_user import Known

log = structlog.get_logger()


async def look_up(settings: Settings, username: str) -> Known:
    """Return what is known of that user.

    Raises ``UsageError`` for what can be no username, or if there is no ledger; ``RowUnreadable``,
    ``LedgerUnavailable``, ``QueueUnavailable``, ``PersonMustAct``.
    """
    if not is_username(username):
        raise UsageError(
            "that can be no username: one has 1 to 128 characters, in UTF-8",
            "give Cognito's own username, as ListUsers prints it: mfa-worker show USER",
        )
    known = Known(username, time.time())
    if settings.queue.kind == "sqlite":
        known.waiting, known.waits_until = await requests_of(settings.queue.path, username)
    async with open_ledger(settings) as ledger:
        row = known.row = await ledger.read(username)
        if settings.ledger.kind == "sqlite" and (refusal := await ledger.refusal()):
            log.warning("ledger_is_older", cause=str(refusal), cure=refusal.hint)
        if row is None:
            known.is_on_roster = await ledger.is_unrequested(username)
            known.similar = await _similar(ledger, username)
            return known
        known.worker_is_dead = row.worker is not None and ledger.is_dead(row.worker)
    kind = channels.kind_of(settings.channel)
    if row.sealed is not None:
        known.place = kind.place(settings.channel, username, row.sealed)
        known.source = kind.source(settings.channel)
        known.is_moved = bool(kind.moved_from)
    return known


async def _similar(ledger: StoredLedger, username: str) -> str | None:
    for name in _variants(username):
        if await ledger.read(name) is not None:
            return name
    return None


def _variants(username: str) -> Iterator[str]:
    """Yield names that people mean who type this one: blanks around it, another case, another Unicode form."""
    bare = username.strip().strip("\"'")
    seen = {username}
    for name in (
        *(bare, bare.lower(), bare.casefold(), bare.upper(), bare.capitalize()),
        *(unicodedata.normalize(form, bare) for form in ("NFC", "NFD", "NFKC")),
    ):
        if name not in seen and is_username(name):
            seen.add(name)
            yield name
