"""Tells the story of one seed: ``python -m tests.simulation --seed 123``."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.scenario import random_rollout, random_scenario
from tests.simulation.story import tell
from tests.simulation.world import World


def main() -> int:
    """Run one random scenario and print what happened; 1 if an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="which random scenario")
    parser.add_argument("--rollout", action="store_true", help="one in which users are signed in or activated")
    chosen = parser.parse_args()
    world = World((random_rollout if chosen.rollout else random_scenario)(chosen.seed))
    try:
        world.run()
    except AssertionError as violation:
        print(tell(world))
        print(f"\nVIOLATED: {violation}")
        return 1
    print(tell(world))
    print("\nEvery invariant holds.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
