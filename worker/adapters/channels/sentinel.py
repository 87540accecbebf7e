"""The sentinel: what a rollout puts into a channel that the worker may not read, so that a second one notices it.

It is something with a fixed name beside the records, which the service lets nobody put twice. Its refusal means that a
rollout delivers here already. Whether that is our own, the ledger knows (``app.beginning``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import WIRE, code, fault, status
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


async def put_once(put: Callable[[], Awaitable[Any]], *, there: Collection[str], what: str) -> Answer:
    """Send a request that puts the sentinel, and say what came of it.

    ``there``: the service's codes if it is there already; ``what``: the words for the channel in errors.
    """
    try:
        await put()
    except ClientError as error:
        again = bool(error.response.get("ResponseMetadata", {}).get("RetryAttempts"))
        if code(error) in there:
            return Answer(was_there=True, perhaps=again)
        decided = 400 <= status(error) < 500 and not again
        return Answer(perhaps=not decided, trouble=_trouble(error, what))
    except WIRE as error:
        return Answer(perhaps=True, trouble=_trouble(error, what))
    return Answer(is_put=True)


def _trouble(error: BaseException, what: str) -> ChannelUnavailable:
    found = fault(error, ChannelUnavailable, what)
    assert isinstance(found, ChannelUnavailable)
    return found
