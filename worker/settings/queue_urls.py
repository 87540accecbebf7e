"""What the URL of an SQS queue says: which queue it names, and whether it can be a queue of this rollout at all.

One queue has many URLs: another spelling of its host, a VPC endpoint's, a slash at the end. SQS goes by the account and
the name in the path alone, and so does this file. No message here repeats a URL, because it may be a secret that was
put in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator

from worker.settings.types import Optional

FIFO = ".fifo"
"""The end of the name of every FIFO queue, and of no other (SQS API reference, CreateQueue)."""
_ACCOUNT = re.compile(r"\d{12}")
"""An AWS account's number."""


class QueueName(NamedTuple):
    """A queue of one Region."""

    account: str
    """Twelve digits; empty where the URL has none."""
    name: str


def named(url_or_arn: str) -> QueueName:
    """The queue that a URL or an ARN names; the name is empty where it names none."""
    if url_or_arn.startswith("arn:"):
        parts = url_or_arn.split(":")
        return QueueName(parts[4], parts[5]) if len(parts) == 6 else QueueName("", "")
    url = _split(url_or_arn)
    parts = [unquote(part) for part in url.path.split("/") if part] if url else []
    account = parts[-2] if len(parts) > 1 and _ACCOUNT.fullmatch(parts[-2]) else ""
    return QueueName(account, parts[-1] if parts else "")


def same(one: str, other: str) -> bool:
    """Whether two URLs or ARNs name one queue; where one of them says no account, the name decides."""
    here, there = named(one), named(other)
    accounts = {here.account, there.account} - {""}
    return bool(here.name) and here.name == there.name and len(accounts) < 2


def beside(url: str, arn: str) -> str:
    """The URL of the queue with that ARN, which is in the same Region as the one with ``url``."""
    account, name = named(arn)
    parts = urlsplit(url)
    return parts._replace(path=f"/{account}/{name}", query="", fragment="").geturl()


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; ``None`` for what is none: Python's own error would repeat it."""
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _queue_url(value: str | None) -> str | None:
    if value is None:
        return None
    if value.startswith("arn:"):
        raise ValueError("is an ARN, and should be the URL of the queue: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
    url = _split(value)
    if url is None or url.scheme not in ("http", "https") or not url.hostname or not named(value).name:
        raise ValueError("should be the URL of a queue: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
    if named(value).name.endswith(FIFO):
        raise ValueError(
            "names a FIFO queue, which holds up all messages of a group behind one, and drops what looks like a copy; "
            "use a standard queue: the ledger keeps the order that counts"
        )
    return value.rstrip("/")


QueueUrl = Annotated[Optional, AfterValidator(_queue_url)]
"""The URL of a standard queue, or ``None``."""


def first_pair(queues: Mapping[str, str | None]) -> tuple[str, str] | None:
    """The names of the first two of these settings whose values name one queue."""
    given = [(key, url) for key, url in queues.items() if url]
    pairs = ((one, other) for at, one in enumerate(given) for other in given[:at] if same(one[1], other[1]))
    return next(((one[0], other[0]) for one, other in pairs), None)
