"""What happened, for people: the scenario, the timeline, and where everybody stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.scenario import Scenario
from tests.simulation.world import World

if TYPE_CHECKING:
    from worker.core.model import Enrolment

MAX_LINES = 2000


def tell(world: World) -> str:
    """The whole story, oldest first; of a very long one the end."""
    lines = [f"{at:9.3f}  {who:8} {what}" for at, who, what in world.story]
    if len(lines) > MAX_LINES:
        lines = [f"… {len(lines) - MAX_LINES} earlier lines", *lines[-MAX_LINES:]]
    return "\n".join([describe(world.scenario), "", *lines, "", *map(_stand, world.ledger.rows.values())])


def describe(scenario: Scenario) -> str:
    """The scenario as Python, one part a line."""
    parts = [f"    {name}={getattr(scenario, name)!r}," for name in scenario.__slots__]
    return "\n".join(["Scenario(", *parts, ")"])


def _stand(row: Enrolment) -> str:
    return f"{row.username}: {row.state} {row.reason or ''} generation {row.generation} settled {row.settled}"


def check(scenario: Scenario, hint: str = "") -> World:
    """Run ``scenario``; what does not hold is told as a story."""
    world = World(scenario)
    try:
        world.run()
    except AssertionError as violation:
        raise AssertionError(f"{violation}\n{hint}\n{tell(world)}") from None
    return world
