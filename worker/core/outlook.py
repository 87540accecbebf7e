"""Which waiting requests can still be saved: what a worker tells the queue when it leases messages to call for.

In overload, "earliest deadline first" alone serves only those who die in the next second: they die on the way to their
call, and each turn of the quota goes to the next one who will. So the earliest deadline comes first among those who
**can still make it**. The others are *passed over*: they are called only while a turn would be free otherwise, and
never once it is *too late* for a call to be worth its quota. *Dead* is whose credential has expired. With the *lead*,
the seconds that it takes at present from a lease to its call (``engine.lead_time``), and the margin of ``rules``:

::

               now       now + margin      now + margin + lead
     ── dead ───┼── too late ──┼── passed over ──┼── can still make it ──▸  deadline
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from worker.core.rules import DEADLINE_MARGIN


@dataclass(frozen=True, slots=True)
class Outlook:
    """The moment of a lease, and what leasing, claiming and waiting take at present. Judges deadlines (UTC seconds)."""

    now: float = -math.inf
    """By ``EndpointClock`` (UTC seconds). The default judges nobody: all come, earliest deadline first."""
    lead: float = 0.0
    """Seconds from the lease of a request to its call."""
    spacing: float = 0.0
    """Seconds between two users: who is leased ahead as the n-th of several waits n times as long as that, too."""

    @property
    def too_late_up_to(self) -> float:
        """Whose deadline is not later than this is not worth a call any more: they wait until they are dead."""
        return self.now + DEADLINE_MARGIN

    @property
    def passed_over_up_to(self) -> float:
        """Whose deadline is not later than this will hardly make it to their call."""
        return self.too_late_up_to + self.lead

    def passed_over_in_turn(self, number: int) -> float:
        """``passed_over_up_to`` for the one leased ahead who is called after so many others."""
        return self.passed_over_up_to + number * self.spacing


UNJUDGED = Outlook()
"""Earliest deadline first, whoever it is."""
