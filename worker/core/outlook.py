"""What a worker knows of time when it takes requests from a queue: who can still be saved, who hardly, who is dead.

In overload, "earliest deadline first" alone serves only those who die in the next second: they die on the way to their
call, and each turn of the quota goes to the next one who will. So the earliest deadline comes first among those who
**can still make it**; the others are passed over, and used only while a turn would be free otherwise.

::

    now          now + margin           now + lead + margin
     │ dead  ◂──── │ not worth a call ──▸ │ passed over ──▸ │ can still make it, earliest first ──▸  deadline
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from worker.core.rules import DEADLINE_MARGIN


@dataclass(frozen=True, slots=True)
class Outlook:
    """The moment of a lease, and what leasing, claiming and waiting take at present. Judges deadlines (UTC seconds)."""

    now: float = -math.inf
    """The time, by the corrected clock (UTC seconds). The default judges nobody: all come, earliest deadline first."""
    lead: float = 0.0
    """Seconds from the lease of a request to its call."""
    spacing: float = 0.0
    """Seconds between two calls: who is leased ahead as the n-th of several waits n times as long as that, too."""

    @property
    def hopeless(self) -> float:
        """Whose deadline is not later than this is not worth a call any more; they wait for their death."""
        return self.now + DEADLINE_MARGIN

    @property
    def late(self) -> float:
        """Whose deadline is not later than this will hardly make it to their call."""
        return self.hopeless + self.lead

    def late_as(self, number: int) -> float:
        """``late`` for the one leased ahead who is called after so many others."""
        return self.late + number * self.spacing


UNJUDGED = Outlook()
"""Earliest deadline first, whoever it is."""
