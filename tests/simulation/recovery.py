"""What ``mfa-worker recover`` does to a ledger that was restored from an older copy, with the worker's own rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.scenario import EPOCH
from worker.core import older
from worker.core.older import Shown

if TYPE_CHECKING:
    from tests.simulation.world import World


def recover(world: World) -> None:
    """Nothing where the ledger is not behind its mark: then nothing was done in the world that it does not know."""
    ledger, mark = world.ledger, world.mark
    if ledger.number >= mark.number:
        return
    for username in world.users:
        row, now = ledger.rows.get(username), EPOCH + world.now
        after = older.recovered(username, row, _shown(world, username), mark.names.get(username), now)
        if after is not None:
            world.tell("ledger", f"recovered: {username} is {after.state} {after.reason or ''}")
            ledger.rows[username] = after._replace(version=f"recovered {username}")
            older.note(mark.names, after)
    ledger.number = mark.number = mark.number + 1


def recover_damaged(world: World) -> None:
    """The same command where rows are damaged."""
    ledger, mark = world.ledger, world.mark
    for username in sorted(ledger.damaged):
        after = older.damaged(username, _shown(world, username), mark.names.get(username), EPOCH + world.now)
        world.tell("ledger", f"recovered: {username} is {after.state} {after.reason or ''}")
        ledger.rows[username] = after._replace(version=f"recovered {username}")
        older.note(mark.names, after)
    ledger.damaged.clear()


def _shown(world: World, username: str) -> Shown | None:
    """The newest secret of the user in the channel."""
    sealed = [delivery.sealed for delivery in world.users[username].deliveries]
    if not sealed:
        return None
    newest = max(sealed, key=lambda each: each.generation)
    return Shown(newest.generation, newest.attempt_id, newest.associated_at)
