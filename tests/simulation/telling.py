"""The invariants about what a user's row tells of what happened: enough to say why somebody got two secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.history import Delivery, Violation, Write
from tests.support.histories import forgotten, wrong_with
from worker.core.history import MOST

if TYPE_CHECKING:
    from tests.simulation.world import World


def a_history_fits_its_row(world: World, write: Write) -> None:
    """History. At most ten events, in order, whatever the clocks say; and the last one agrees with the state."""
    if wrong := wrong_with(write.row):
        raise Violation(f"history: of {write.row.username}: {wrong}: {write.row.events}")


def nothing_that_was_told_is_forgotten(world: World, write: Write) -> None:
    """History. A row goes on with the history of the one that it replaces."""
    if write.before is not None and (event := forgotten(write.before, write.row)):
        raise Violation(f"history: {write.row.username} is not told any more: {event}")


def every_delivered_secret_is_told(world: World, delivery: Delivery) -> None:
    """History. Whoever got a secret has it in their row, and so has whoever got two, while there is room."""
    row = world.ledger.rows[delivery.username]
    told = {event.detail for event in row.events if event.what == "sealed"}
    for other in world.users[delivery.username].deliveries:
        if str(other.sealed.generation) not in told and len(row.events) < MOST:
            raise Violation(f"history: {delivery.username} was sent {other.sealed.generation}: {row.events}")
