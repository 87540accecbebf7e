"""What ``check`` finds about the beginning of a rollout: whether it is being taken away, or has no user."""

from __future__ import annotations

from worker.adapters import channels
from worker.adapters.checks.findings import Finding, fails, not_checked, ok
from worker.app.beginning import is_meant, ledger_name, refuse_ended
from worker.app.stores import look_at_file
from worker.core.errors import UsageError, WorkerError
from worker.core.ports import Found
from worker.settings import Settings


async def look(settings: Settings, found: Found) -> list[Finding]:
    """Return the findings about a ledger of which ``found`` is known. A channel on AWS is not looked at."""
    try:
        refuse_ended(settings, found)
    except UsageError as error:
        return [fails("ledger", str(error), error.hint)]
    if found.has_users:
        return []
    name = ledger_name(settings)
    if settings.ledger.must_exist:
        return [fails("ledger", f"the ledger {name} has no user", "restore it, or correct the ledger's setting")]
    if is_meant(found):
        return [ok("ledger", f"the ledger {name} has no user: a new rollout begins, as was said (--new-rollout)")]
    if channels.kind_of(settings.channel).resources() is not None:
        return [
            ok("ledger", f"the ledger {name} has no user: a rollout begins"),
            not_checked("channel", "whether it holds secrets of another rollout: the worker may not read it"),
        ]
    try:
        await look_at_file(settings)
    except WorkerError as error:
        return [fails("ledger", str(error), error.hint)]
    return [ok("ledger", f"the ledger {name} has no user: a rollout begins, and the channel holds no record")]
