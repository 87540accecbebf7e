"""What ``run --dry-run`` adds to ``check``: it reads every waiting request as a run would, without leasing any.

Requests in SQS are not read: receiving a message hides it from workers, and brings it nearer to the dead letters.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from worker.adapters.checks.findings import Finding, advice, fails, not_checked, ok
from worker.adapters.checks.seen import Seen
from worker.app.stores import parser_of, waiting
from worker.core.errors import Malformed
from worker.core.forecast import a_user_costs, must_be_lost
from worker.core.model import MISMATCHES, CredentialKind
from worker.requests.lines import Line, read_lines
from worker.requests.message import Parser
from worker.requests.refused import Refused
from worker.settings import Settings
from worker.telemetry.logs import clean


@dataclass(slots=True)
class Content:
    """How many requests were read, and of which kinds."""

    kinds: Counter[CredentialKind] = field(default_factory=Counter)
    """How many well-formed requests were read, by the kind of their credential."""
    tickets: Counter[float] = field(default_factory=Counter)
    """How many tickets expire by each full minute (UTC seconds)."""
    expired: int = 0
    mismatched: Counter[str] = field(default_factory=Counter)
    """How many of them have an access token that does not fit, by what about it does not (``model.MISMATCHES``)."""
    replacing: int = 0
    """How many of them replace a secret."""
    refused: Refused = field(default_factory=Refused)
    """The malformed messages."""

    @property
    def malformed(self) -> Counter[str]:
        """How many messages are malformed, by reason."""
        return self.refused.reasons

    @property
    def requests(self) -> int:
        """How many well-formed requests were read."""
        return self.kinds.total()

    def add(self, lines: Iterable[Line], parser: Parser) -> None:
        """Parse and count these messages."""
        for line in lines:
            now = time.time()
            try:
                request = parser.parse(line.message(), now)
            except Malformed as malformed:
                self.refused.add(line, str(malformed))
                continue
            self.kinds[request.kind] += 1
            if request.kind is CredentialKind.TICKET:
                self.tickets[math.ceil(request.expires_at / 60) * 60.0] += 1
            self.expired += request.expires_at <= now
            self.mismatched.update([request.mismatch] if request.mismatch else [])
            self.replacing += request.replace

    def seen(self) -> Seen:
        """Return the same numbers in the form in which a queue's are kept."""
        return Seen(self.requests, self.expired, self.kinds[CredentialKind.SESSION])


async def look(settings: Settings, source: str | None) -> tuple[list[Finding], Content]:
    """Read all requests in ``source`` (a file, or ``-`` for standard input), or without one in the SQLite queue."""
    content, parser = Content(), parser_of(settings)
    if source is not None:
        try:
            await asyncio.to_thread(_read_source, source, content, parser)
        except OSError as error:
            cure = "name a file of requests, one JSON object a line"
            return [fails("requests", f"cannot read {source}: {error.strerror}", cure)], content
    elif settings.queue.kind == "sqs":
        why = "a dry run does not read what waits in SQS: receiving would hide messages and raise their receive counts"
        return [not_checked("requests", why)], content
    else:
        async with aclosing(waiting(settings)) as pages:
            async for bodies in pages:
                content.add((Line(0, body) for body in bodies), parser)
    findings = list(_findings(content, settings, from_lines=source is not None))
    if source == "-":
        said = "what was read from standard input is used up: a run needs it again"
        findings.append(ok("requests", said))
    return findings, content


def _read_source(source: str, content: Content, parser: Parser) -> None:
    if source == "-":
        content.add(read_lines(sys.stdin.buffer), parser)
        return
    with _opened(source) as stream:
        content.add(read_lines(stream), parser)


def _opened(source: str) -> BinaryIO:
    """Open a regular file. Raises ``OSError``, whose ``strerror`` says what is wrong."""
    if not Path(source).is_file():  # reading a named pipe would take its requests, and might wait for a writer
        raise OSError(0, os.strerror(2) if not Path(source).exists() else "it is no regular file")
    return Path(source).open("rb")


_KINDS = (
    (CredentialKind.ACCESS_TOKEN, "access tokens"),
    (CredentialKind.SESSION, "sessions"),
    (CredentialKind.TICKET, "tickets"),
    (CredentialKind.PASSWORD, "passwords"),
)
"""The kinds of credentials in the order in which they are named, and their names."""


def _findings(content: Content, settings: Settings, *, from_lines: bool) -> Iterator[Finding]:
    words = [f"{content.kinds[kind]:,} {word}" for kind, word in _KINDS if content.kinds[kind]]
    with_what = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    yield ok("requests", f"{content.requests:,} well-formed{f': {with_what}' if with_what else ''}")
    for entry in content.refused.entries if from_lines else ():
        yield advice("requests", clean(str(entry)), "mend it there, or what writes it; a run puts it aside")
    commonest = content.malformed.most_common(8)  # more would not be read
    for reason, number in commonest:
        yield advice("requests", f"{number:,} malformed: {reason}", "mend what writes them; a run puts them aside")
    if len(content.malformed) > len(commonest):
        rest = content.malformed.total() - sum(number for _, number in commonest)
        yield advice("requests", f"{rest:,} malformed for other reasons", "mend the first ones, and look again")
    for mismatch, number in content.mismatched.most_common():
        said = f"{number:,} access tokens do not fit their requests: {MISMATCHES[mismatch]}"
        pool = f", not of {settings.cognito.user_pool_id}" if mismatch == "pool" else ""
        cure = "look at username and pool of what the script signs in: they would be failed: credential_mismatch"
        yield advice("requests", f"{said}{pool}", cure)
    if content.replacing:
        yield ok("requests", f"{content.replacing:,} replace a secret that was delivered")
    yield from _late_tickets(content, settings)


def _late_tickets(content: Content, settings: Settings) -> Iterator[Finding]:
    """How many tickets expire before their turn, if a run began now."""
    now = time.time()
    lost = must_be_lost(sorted(content.tickets.items()), now, settings.users_per_second)
    if not lost:
        return
    pace = f"{settings.rate.effective:g} calls/s{a_user_costs(settings.rate.effective, settings.calls_per_user)}"
    yield advice(
        "requests",
        f"{lost:,} of {content.kinds[CredentialKind.TICKET]:,} tickets expire before their turn at {pace}: they would "
        "be needs_session: credential_expired",
        "push these users again with tickets that live longer: mfa-worker push --usernames FILE --ticket-key KEYFILE "
        "--valid-for TIME",
    )
