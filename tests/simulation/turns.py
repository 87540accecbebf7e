"""Invariant 13: no call's turn passes unused while a request waits that could use it.

To be judged from outside it has to be said more exactly. Let a worker run undisturbed: nobody kills, pauses or stops
it, no operation fails, its circuit breaker lets calls pass, it has room for another user, and no delivery is under way.
Let a request be visible on the queue all the while, unleased, of a user whom nobody works on and who would be called
for it, with a credential that lives for long enough. Then some call leaves within ``PATIENCE``.

It is looked at whenever time goes on: between two events nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.history import Violation
from worker.core.model import Enrolment, Reason, State
from worker.core.rules import DEADLINE_MARGIN

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.stores import Waiting
    from tests.simulation.world import World

PATIENCE = 8.0
"""Seconds: a worker that found nobody looks again after five, and then leases, claims and waits for its turn."""


class Turns:
    """Since when the conditions hold."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since = 0.0
        self._waits_since: dict[int, float] = {}

    def used(self) -> None:
        """A call leaves, or the rollout is disturbed."""
        self._since = self._world.now

    def pass_until(self, moment: float) -> None:
        """Nothing happens until then. Raises ``Violation``."""
        world = self._world
        workers = [process for process in world.processes if _could_call(process)]
        if not workers or any(_is_delivered_just_now(row) for row in world.ledger.rows.values()):
            self._since = moment
            return
        waiting = [one for one in world.queue.messages if all(self._could_use_it(one, each) for each in workers)]
        self._waits_since = {id(one): self._waits_since.get(id(one), world.now) for one in waiting}
        for one in waiting:
            if moment - max(self._since, self._waits_since[id(one)]) > PATIENCE:
                raise Violation(f"13: no call for {PATIENCE} s, while {one.request.id} could be called for")

    def _could_use_it(self, message: Waiting, worker: Process) -> bool:
        world, request = self._world, message.request
        if message.visible_at > world.now or world.queue.is_held(message):
            return False
        if not worker.worker._deliveries.admits(request.kind):
            return False
        if request.expires_at <= worker.worker._clock.utc() + DEADLINE_MARGIN:
            return False
        row = world.ledger.rows.get(request.username)
        if row is not None and (
            row.state not in (State.NEEDS_SESSION, State.FAILED) or row.lease_until or request.id in row.settled
        ):
            return False
        others = (other for other in world.queue.messages if other.request.username == request.username)
        return not any(world.queue.is_held(other) for other in others)


def _is_delivered_just_now(row: Enrolment) -> bool:
    """Or activated, which comes before anybody new."""
    return row.state is State.SEALED or row.reason is Reason.ACTIVATION_PENDING


def _could_call(process: Process) -> bool:
    worker = process.worker
    return (
        process.running
        and not process.is_dead
        and process.shutdown.reason is None
        and worker._time.known
        and worker._breaker.admits(probe=False)
        and worker._deliveries.waiting_for is None
        and worker._under_way < worker._config.concurrency
    )
