"""What the commands ``push`` and ``export`` do, without the command line."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import BinaryIO, TextIO

from worker.app import older
from worker.app.beginning import say_new
from worker.app.feed import feed
from worker.app.push_time import learn_time
from worker.app.stores import Purpose, Stores, open_stores, parser_of
from worker.app.tickets import Progress, Tickets
from worker.core.causes import UNREQUESTED
from worker.core.errors import Malformed, QueueUnavailable, UsageError
from worker.core.model import Listed, Reason, Request, State
from worker.core.ports import Pushed, PutAside
from worker.core.record import rfc3339
from worker.core.words import several
from worker.requests.feed import BATCH, Feed
from worker.requests.lines import Line, read_lines
from worker.requests.message import Parser
from worker.requests.refused import Aside, Refused, safe_reason
from worker.requests.usernames import named_lines, why_not
from worker.settings import Settings
from worker.telemetry.report import Reasons, explained


@dataclass(slots=True)
class PushResult:
    """What became of the lines that were pushed."""

    accepted: int = 0
    duplicates: int = 0
    refused: Refused = field(default_factory=Refused)
    """The malformed ones."""

    @property
    def malformed(self) -> Counter[str]:
        """How many lines were malformed, by reason."""
        return self.refused.reasons


async def push(settings: Settings, stream: BinaryIO, tickets: Tickets | None = None) -> PushResult:
    """Put every line of ``stream`` on the queue, durably; malformed ones are put aside by reason and digest.

    ``tickets``: makes requests of usernames, or judges the tickets of requests.
    """
    result = PushResult(refused=Refused(parser_of(settings).digest))
    async with open_stores(settings) as stores:
        say_new(settings, stores.found)
        await learn_time(settings, stores.clock)
        lines, progress = read_lines(stream), Progress(settings.log.interval)
        if tickets is not None:
            tickets.begin(stores.clock.utc())
        read = _as_it_is if tickets is None else tickets.read
        ended = False
        while not ended:
            batch, asides, ended = _next_batch(lines, stores, result.refused, read)
            pushed = await stores.queue.push(batch) if batch else Pushed()
            result.accepted += pushed.accepted
            result.duplicates += pushed.duplicates
            await asyncio.gather(*(stores.queue.put_aside(*aside) for aside in asides))
            progress.tell(accepted=result.accepted, duplicate=result.duplicates, malformed=result.refused.total)
        if tickets is not None:
            await tickets.warn_if_too_short(stores, result.accepted)
    return result


Read = Callable[[Parser, Line, float], tuple[Request, bytes]]
"""Makes of a line, read at a time (UTC seconds), a request and the message to push. Raises ``Malformed``."""


def _as_it_is(parser: Parser, line: Line, now: float) -> tuple[Request, bytes]:
    return parser.to_push(line.message(), now)


def _next_batch(
    lines: Iterator[Line], stores: Stores, refused: Refused, read: Read
) -> tuple[list[tuple[Request, bytes]], list[Aside], bool]:
    """Return the next requests to push together, what to put aside, and whether no lines are left."""
    batch: list[tuple[Request, bytes]] = []
    asides: list[Aside] = []
    for line in lines:
        now = stores.clock.utc()
        try:
            batch.append(read(stores.parser, line, now))
        except Malformed as malformed:
            if aside := refused.add(line, str(malformed)):
                asides.append(aside)
        if len(batch) + len(asides) >= BATCH:
            return batch, asides, False
    return batch, [*asides, *refused.owed()], True


async def push_fresh(settings: Settings, stream: BinaryIO) -> PushResult:
    """Put lines on the queue as ``push`` does, but no faster than the workers use the credentials."""
    refused = Refused(parser_of(settings).digest)
    pushing: list[Coroutine[None, None, None]] = []
    async with feed(settings) as opened:
        for line in read_lines(stream):
            await opened.room()
            pushing.append(_push_one(opened, line, refused))
            if not opened.is_lasting or len(pushing) == BATCH:  # what ages is pushed at once
                await asyncio.gather(*pushing)
                pushing.clear()
        await asyncio.gather(*pushing)
        await opened.put_aside(refused.owed())
        return PushResult(opened.accepted, opened.duplicates, refused)


async def _push_one(opened: Feed, line: Line, refused: Refused) -> None:
    with suppress(Malformed):  # the feed has put it aside and counted it
        await opened.push_line(line, refused)


async def add_to_roster(settings: Settings, stream: BinaryIO) -> tuple[int, Refused]:
    """Put the users that a file names on the roster; return how many are new, and which lines were no username."""
    refused = Refused()

    def named() -> Iterator[str]:
        for line, username in named_lines(stream):
            if username is None:
                refused.add(line, why_not(line))
            else:
                yield username

    async with open_stores(settings) as stores:
        say_new(settings, stores.found)
        added = await stores.ledger.add_to_roster(named())
    return added, refused


async def malformed(settings: Settings) -> list[PutAside] | None:
    """Return the malformed messages that were put aside; ``None`` where the queue shows none of them now."""
    async with open_stores(settings, Purpose.EXISTING) as stores:
        found: list[PutAside] = []
        with suppress(QueueUnavailable):  # this role may not look at them: ``told`` says where they are
            async for page in stores.queue.put_aside_list():
                found += [replace(aside, reason=safe_reason(aside.reason)) for aside in page]
        if not found and settings.queue.kind == "sqs":
            return None
        return sorted(found, key=lambda aside: aside.last_seen)


def told(aside: Sequence[PutAside] | None, settings: Settings) -> Iterator[str]:
    """Yield lines of text about malformed messages, or about where they are."""
    if aside is not None:
        yield f"{'last seen':<26}{'number':>8}  {'digest':<18}reason" if aside else "no message was malformed"
        for each in aside:
            yield f"{rfc3339(each.last_seen):<26}{each.number:>8,}  {each.digest:<18}{each.reason}"
    elif settings.queue.dead_letter_url:
        yield "reason and digest of each malformed message are attributes of the messages in queue.dead_letter_url:"
        yield f"  {settings.queue.dead_letter_url}"
    else:
        yield "this queue keeps no list: set queue.dead_letter_url; the log of each run says malformed_deleted"


def state(text: str) -> State:
    """Return the state of that name. Raises ``UsageError``, which suggests the most similar name."""
    try:
        return State(text)
    except ValueError:
        names = [*(state.value for state in State), UNREQUESTED]
        near = difflib.get_close_matches(text, names, 1) or [", ".join(names)]
        raise UsageError(
            f"there is no state {text!r}",
            f"did you mean {near[0]}? mfa-worker export --state {near[0].partition(',')[0]}",
        ) from None


async def export(settings: Settings, wanted: State, out: TextIO) -> Reasons:
    """Write the users in that state to ``out``, one JSON object per line; control characters are escaped.

    Returns how many there were, by state, reason and detail.
    """
    found: Counter[tuple[str, str | None, str | None]] = Counter()
    async with open_stores(settings, Purpose.EXISTING) as stores:
        say_new(settings, stores.found)
        await older.warn(settings, stores)
        async for page in stores.ledger.listed(wanted):
            out.write("".join(_lines(wanted, page)))
            found.update((wanted.value, user.reason, _told_apart(user)) for user in page)
    return found


def _told_apart(user: Listed) -> str | None:
    """The detail, which is counted: not why somebody was dismissed, of which there are as many texts as people like."""
    return None if user.reason == Reason.DISMISSED else user.detail


def _lines(state: State, users: Sequence[Listed]) -> Iterator[str]:
    """Yield the line of each user: the same as ``json.dumps`` of an object, but several times as fast."""
    reasons = {reason: json.dumps(reason) for reason in {user.reason for user in users}}
    # All names of a page are encoded in one call. An encoded name holds no line break, so they can be told apart.
    names = json.dumps([user.username for user in users], separators=("\n", ":"))[1:-1].split("\n") if users else []
    for name, (_, reason, since, detail) in zip(names, users, strict=True):
        said = f'"state": "{state.value}", "reason": {reasons[reason]}, "since": "{rfc3339(since)}"'
        if detail is not None:
            said += f', "detail": {json.dumps(detail)}'
        yield f'{{"username": {name}, {said}}}\n'


async def export_unrequested(settings: Settings, out: TextIO) -> Reasons:
    """Write the users of the roster for whom no worker has seen a request, one JSON object per line.

    Returns how many there were.
    """
    number = 0
    async with open_stores(settings, Purpose.EXISTING) as stores:
        say_new(settings, stores.found)
        await older.warn(settings, stores)
        async for username in stores.ledger.unrequested():
            out.write(json.dumps({"username": username, "state": UNREQUESTED}) + "\n")
            number += 1
    return {(UNREQUESTED, None, None): number}


def exported(wanted: str, reasons: Reasons) -> Iterator[str]:
    """Yield lines for people about what was exported: how many users, each reason's cause and cure, the next step."""
    number = sum(reasons.values())
    of_them = f"{wanted}: {several(number, 'user')}"
    if not number:
        yield f"{of_them}; all states: mfa-worker status"
        return
    yield of_them
    yield from explained(reasons)
    if wanted in (State.NEEDS_SESSION, State.FAILED):
        yield "Next: add a credential to each of these lines (tickets: push --usernames), then mfa-worker push FILE"
