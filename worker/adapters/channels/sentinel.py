"""The sentinel: what a rollout puts into a channel that the worker may not read, so that a second one notices it.

It is something with a fixed name beside the records, which the service lets nobody put twice. Its refusal means that a
rollout delivers here already. Whether that is our own, the ledger knows (``app.beginning``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from worker.core.errors import ChannelUnavailable

NAME = ".rollout"
"""Its name below the channel's prefix. No user is called so there: a user's segment never begins with a full stop."""
SAYS = "A rollout of mfa-worker delivers here. While this is here, no other rollout begins here unless it is told to."
"""What people read in it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of putting the sentinel."""

    is_put: bool = False
    """It was put now."""
    was_there: bool = False
    """It was there before."""
    perhaps: bool = False
    """The SDK sent the request more than once, or its answer is missing: an earlier one may have put it."""
    trouble: ChannelUnavailable | None = None
    """Why it is not known whether it is there."""


@runtime_checkable
class TakesSentinel(Protocol):
    """A channel that the worker may not read, and into which it puts a sentinel."""

    async def put_sentinel(self) -> Answer:
        """Put the sentinel, unless it is there. Raises nothing that the service can cause."""
