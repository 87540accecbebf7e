"""What ``check`` finds about the worker's own identity, with which a worker goes on after a crash. It makes none."""

from __future__ import annotations

from worker.adapters.checks.findings import Finding, fails, ok
from worker.adapters.ledgers.found import RECIPIENT, refuse_another
from worker.app.beginning import ledger_name
from worker.app.own_identity import own_identity, recipient_stamp, refuse_under_way
from worker.core.errors import UsageError
from worker.core.model import Counts
from worker.core.ports import Found, Ledger
from worker.settings import Settings


def look(settings: Settings, found: Found) -> list[Finding]:
    """Return the findings about ``activation.identity`` beside a ledger of which ``found`` is known."""
    file, stamp = settings.activation.identity, found.stamp if found.has_users else {}
    if settings.activation.mode == "none" or file is None:
        return []
    if not file.exists() and settings.makes_identity and RECIPIENT not in stamp:
        return [
            ok("activation", f"the worker's own identity will be made: {file}; it belongs into the ledger's backup")
        ]
    try:
        own = own_identity(settings, found)
        refuse_another(stamp, recipient_stamp(own), ledger_name(settings), "ledger")
    except UsageError as refused:
        return [fails("activation", str(refused), refused.hint)]
    whose = "the ledger's" if RECIPIENT in stamp else "new, and this ledger will be bound to it"
    return [ok("activation", f"the worker's own identity {file} is there, closed to others, and {whose}")]


async def under_way(settings: Settings, ledger: Ledger, counts: Counts) -> list[Finding]:
    """Return what stops a run that does not activate: users whom an earlier one left in the middle of it."""
    if settings.activation.mode != "none" or not counts.unfinished:
        return []
    try:
        await refuse_under_way(ledger)
    except UsageError as refused:
        return [fails("activation", str(refused), refused.hint)]
    return []
