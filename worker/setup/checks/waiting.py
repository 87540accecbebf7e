"""What ``check`` reads of the requests that wait in the embedded queue: whether their tokens are of this pool."""

from __future__ import annotations

import time
from contextlib import aclosing

from worker.adapters.checks.findings import Finding, advice, fails, not_checked, ok
from worker.app.stores import parser_of, waiting
from worker.core.errors import WorkerError
from worker.core.model import MISMATCHES, CredentialKind
from worker.requests.lines import Line
from worker.settings import Settings
from worker.setup.checks.requests import Content

PATIENCE = 3.0
"""Seconds for which requests are read: some 100,000 of them. A dry run reads all."""


async def look(settings: Settings) -> list[Finding]:
    """Read waiting requests, without leasing any, until time is up."""
    if settings.queue.kind != "sqlite":
        return [not_checked("requests", "what waits in SQS is not read: receiving would hide messages from workers")]
    content, end, is_cut = Content(), time.monotonic() + PATIENCE, False
    parser = parser_of(settings)
    try:
        async with aclosing(waiting(settings)) as pages:
            async for bodies in pages:
                content.add((Line(0, body) for body in bodies), parser)
                if is_cut := time.monotonic() > end:
                    break
    except WorkerError as error:
        return [fails("requests", str(error), error.hint)]
    return _judged(content, settings.cognito.user_pool_id, is_cut=is_cut)


def _judged(content: Content, pool: str, *, is_cut: bool) -> list[Finding]:
    tokens, found = content.kinds[CredentialKind.ACCESS_TOKEN], list[Finding]()
    level = fails if content.mismatched.total() == tokens else advice
    for mismatch, number in content.mismatched.most_common():
        not_of = f", not of {pool}" if mismatch == "pool" else ""
        said = f"{number:,} of {tokens:,} waiting access tokens do not fit: {MISMATCHES[mismatch]}{not_of}"
        cure = "correct cognito.user_pool_id, or what signs these users in: they would be failed: credential_mismatch"
        found.append(level("requests", said, cure))
    if tokens and not content.mismatched:
        found.append(ok("requests", f"{tokens:,} waiting access tokens are of the pool {pool}"))
    if content.malformed:
        said = f"{content.malformed.total():,} of those that wait are malformed"
        found.append(advice("requests", said, "mfa-worker run --dry-run says why; a run puts them aside"))
    if is_cut:
        found.append(not_checked("requests", f"those after the first {content.requests:,}; run --dry-run reads all"))
    return found
