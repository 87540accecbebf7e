"""Puts the sentinel on AWS. It is apart from ``sentinel``, which commands on one host need without the AWS SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import WIRE, code, fault, status
from worker.adapters.channels.sentinel import Answer
from worker.core.errors import ChannelUnavailable


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
