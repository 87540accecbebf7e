"""What is durable: the ledger's rows, the queue's messages, the channel's records. Nobody's death changes it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.history import Acknowledgement, Delivery, UserHistory, Write
from tests.simulation.scenario import VISIBILITY
from worker.core import older
from worker.core.errors import RowDamaged
from worker.core.model import Enrolment, Lost, Request, Sealed, WriteResult, Written
from worker.core.outlook import Outlook
from worker.core.ports import Lease

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World


class Users(defaultdict[str, UserHistory]):
    """The history of every user."""

    def __init__(self) -> None:
        super().__init__(UserHistory)


class LedgerStore:
    """Rows by username, changed by compare-and-set only."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.rows: dict[str, Enrolment] = {}
        self.duplicates = 0
        self.number = 0
        """Of the last commit."""
        self.damaged: set[str] = set()
        """Users whose row is not what was written."""
        self.copies: list[dict[str, Enrolment]] = [{}]
        """The rows after each commit, where the scenario has a mark: one of them may be restored."""

    def read(self, username: str) -> Enrolment | None:
        if username in self.damaged:
            raise RowDamaged(username)
        return self.rows.get(username)

    def put(self, process: Process, row: Enrolment, replaces: str | None) -> WriteResult:
        stands = self.read(row.username)
        if stands is not None and stands.version == row.version:
            return Written(stands, repeated=True)
        if (stands.version if stands else None) != replaces:
            return Lost(stands)
        self.rows[row.username] = row
        self.number += 1
        if self._world.scenario.marked:
            self.copies.append(dict(self.rows))
        write = Write(self._world.now, process, row, stands)
        self._world.users[row.username].writes.append(write)
        self._world.happened(write)
        return Written(row)


class MarkStore:
    """The mark outside the ledger."""

    def __init__(self) -> None:
        self.number = 0
        self.names: dict[str, int] = {}

    def write(self, number: int, row: Enrolment) -> None:
        self.number = max(self.number, number)
        older.note(self.names, row)


@dataclass(eq=False, slots=True)
class Waiting:
    """A message on the queue."""

    request: Request
    pushed_at: float
    visible_at: float
    again: float | None = None
    holder: Process | None = None
    leased_at: dict[Process, float] = field(default_factory=dict)
    """When each of those got it who held it last."""


def _deadline(message: Waiting) -> float:
    return message.request.expires_at


class QueueStore:
    """Messages with leases; at least once, and sometimes once more."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.messages: list[Waiting] = []

    def push(self, request: Request, *, again: float | None = None) -> None:
        self.messages.append(Waiting(request, self._world.now, self._world.now, again))

    def lease(self, process: Process, most: int, outlook: Outlook, *, elsewhere: bool = False) -> list[Lease]:
        free = self._one_of_each([one for one in self._free() if _deadline(one) > outlook.too_late_up_to])
        if elsewhere:
            return self._lease(process, free[::-1][:most])
        chosen = [message for message in free if _deadline(message) > outlook.passed_over_up_to][:most]
        late = [message for message in reversed(free) if _deadline(message) <= outlook.passed_over_up_to]
        return self._lease(process, chosen + late[: most - len(chosen)])

    def lease_expired(self, process: Process, most: int, now: float) -> list[Lease]:
        alive = {message.request.username for message in self.messages if _deadline(message) > now}
        dead = [one for one in self._free() if _deadline(one) <= now and one.request.username not in alive]
        return self._lease(process, self._one_of_each(dead)[:most])

    def lease_others(self, process: Process, username: str, most: int) -> list[Lease]:
        of_user = [message for message in self.messages if message.request.username == username]
        return self._lease(process, [message for message in of_user if not self.is_held(message)][:most])

    def _free(self) -> list[Waiting]:
        return [one for one in self.messages if one.visible_at <= self._world.now and not self.is_held(one)]

    def _one_of_each(self, free: list[Waiting]) -> list[Waiting]:
        """Earliest first."""
        free = sorted(free, key=_deadline)
        if not self._world.scenario.one_at_a_time:
            return free
        held = {message.request.username for message in self.messages if self.is_held(message)}
        first = {message.request.username: message for message in reversed(free)}
        return [message for message in free if message in first.values() and message.request.username not in held]

    def _lease(self, process: Process, messages: list[Waiting]) -> list[Lease]:
        for message in messages:
            message.holder, message.leased_at[process] = process, self._world.now
        usernames = [message.request.username for message in self.messages]
        return [Lease(each.request, each, usernames.count(each.request.username) > 1) for each in messages]

    def is_held(self, message: Waiting) -> bool:
        """Whoever runs keeps his leases alive."""
        holder = message.holder
        if holder is None:
            return False
        if holder.is_dead and self._world.scenario.deaths_known:
            return False
        return holder.running or self._world.now < holder.stopped_at + VISIBILITY

    def acknowledge(self, process: Process, message: Waiting) -> None:
        if message not in self.messages:
            return
        self.messages.remove(message)
        event = Acknowledgement(self._world.now, process, message.request, message.leased_at[process])
        self._world.users[message.request.username].acknowledgements.append(event)
        self._world.happened(event)
        if message.again is not None:
            self._world.after(message.again, lambda: self._world.push(message.request))

    def give_back(self, process: Process, message: Waiting, delay: float) -> None:
        if message.holder is process:
            message.holder, message.visible_at = None, self._world.now + delay

    def purge(self) -> None:
        self.messages.clear()


class ChannelStore:
    """Records, in the order in which they arrived; nothing is ever overwritten."""

    def __init__(self, world: World) -> None:
        self._world = world

    def append(self, process: Process, username: str, sealed: Sealed, started_at: float, late: bool) -> None:
        delivery = Delivery(self._world.now, started_at, process, username, sealed, late)
        self._world.users[username].deliveries.append(delivery)
        self._world.happened(delivery)
