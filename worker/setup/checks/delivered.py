"""Whether the channel still holds what the ledger says was delivered."""

from __future__ import annotations

from worker.adapters import channels
from worker.adapters.checks.findings import Finding, not_checked
from worker.adapters.checks.seen import Seen
from worker.settings import Settings


def look(settings: Settings, seen: Seen) -> list[Finding]:
    """Ask the channel, if it is one that this process may read."""
    if seen.delivered is None:
        return [not_checked("channel", "whether it holds what was delivered: the ledger was not counted")]
    if not seen.delivered:
        return []
    found = channels.kind_of(settings.channel).checks().look_at_delivered(settings.channel, seen.delivered)
    if found is None:
        said = f"whether the records of the {seen.delivered:,} users are there: the worker may not read this channel"
        return [not_checked("channel", said, "mfa-worker open, with the opener's rights, shows what is there")]
    return list(found)
