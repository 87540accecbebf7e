"""The command ``redrive``: brings dead letters back to the queue, once it is mended why they became some."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from worker.app.stores import aws_target, parser_of
from worker.core.errors import UsageError
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.adapters.queues.sqs.redrive import Redriven

EVERY = 5.0
"""Seconds between two lines that say how far it is: a person waits."""


async def redrive(settings: Settings, tell: Callable[[str], None]) -> Redriven:
    """Bring all dead letters back; ``tell`` is called now and then with a line that says how many are.

    Raises ``UsageError`` where there can be none, ``QueueUnavailable``, ``PersonMustAct``.
    """
    queue = settings.queue
    if queue.kind != "sqs" or queue.url is None:
        raise UsageError(
            "the queue is a file, which has no dead letters: whatever was pushed waits in it until it is done",
            "mfa-worker status says what waits",
        )
    from worker.adapters.aws.session import Aws
    from worker.adapters.queues.sqs.redrive import Redrive

    told_at = time.monotonic()

    def progress(done: Redriven) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= EVERY:
            told_at = time.monotonic()
            tell(f"{done.brought_back:,} brought back so far")

    async with Aws(aws_target(settings)) as aws:
        return await Redrive(await aws.sqs(), queue.url, queue.dead_letter_url, parser_of(settings), progress).run()
