"""How a rollout begins: said aloud, and never unseen beside the secrets of another one.

A ledger without a user's row is new. Or it is the wrong one: another folder, another table, a file that was lost. Then
everybody who was delivered would get a second secret, and the first one would stop working. The channel tells the
difference, for it holds no record before the first user has a row. So a new ledger beside a channel with records is
refused by ``run``, unless ``--new-rollout`` says that it is meant, and told by ``push``. Into a channel that the
worker may not read it puts a sentinel (``adapters.channels.sentinel``), whose refusal means that a rollout delivers
there already.

What was said and put stands in the ledger's notes, so that a crash at any moment, or another worker of the same
rollout, is not taken for another rollout.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Protocol

import structlog

from worker.adapters import channels
from worker.adapters.channels.kind import OpenableChannel
from worker.adapters.channels.sentinel import NAME, TakesSentinel
from worker.core.errors import DependencyUnavailable, UsageError, WorkerError
from worker.core.ports import Beginning, Found, Ledger
from worker.settings import Settings

log = structlog.get_logger()

MEANT = "new rollout"
"""The note that ``run --new-rollout`` was said."""
YES = "meant"
"""Its value."""
CHANNEL = "channel "
"""The note of a place where the rollout delivers, or delivered; the channel's source follows."""
ENDS = "decommission"
"""The note that the rollout is being taken away; its value is for ``app.ending.decommission``."""
USED = "used"
"""Its value."""
SENTINEL = "sentinel in "
"""The note about the sentinel; the channel's source, as ``open`` takes it, follows."""
PUT = "put"
"""Its value once our sentinel is there."""
NOT_OURS = "another's"
"""Its value where a ledger that had users already found the sentinel of another rollout."""
ASKING = "asking "
"""Its value while a worker puts it; the worker's identity follows. If that one dies, the sentinel may be there."""
ASK_AGAIN = 0.1
"""Seconds between two looks at a note while another worker puts the sentinel."""
MAKING = 2.0
"""Seconds for which a file that is no ledger yet may be one that another process is just making; that takes 10 ms."""
PATIENCE = 30.0
"""Seconds after which another worker that puts the sentinel counts as dead; one request takes a fraction of one."""
EXPOSED_CURE = "chmod 600 it, or mount it with the mode 0440"
"""What to do about a file that holds a secret and that everybody can open."""


class BeginningLedger(Ledger, Beginning, Protocol):
    """The ledger, as far as it is needed here."""


def ledger_name(settings: Settings) -> str:
    """Return the ledger's absolute path, or its table."""
    ledger = settings.ledger
    return str(ledger.path) if ledger.kind == "sqlite" else f"table {ledger.table}"


def say_new(settings: Settings, found: Found) -> None:
    """Tell people which ledger it is if it has no user yet."""
    if not found.has_users:
        log.warning(
            "new_ledger",
            ledger=ledger_name(settings),
            settings_file=str(settings.file or "none was read"),
            cause="no user has a row in this ledger: a rollout begins here",
            cure="if it has begun before, stop: correct the ledger's setting, or restore it from its backup",
        )


def say_exposed(settings: Settings) -> None:
    """Tell people of settings that are secret, and stand where everybody can read them."""
    for cause in settings.exposed.values():
        log.warning("secret_exposed", cause=cause, cure=EXPOSED_CURE)


class NoLedger(UsageError):  # noqa: N818 - it names what is missing
    """There is no ledger to read on this host, yet."""


async def existing(settings: Settings, ledger: Beginning) -> Found:
    """Return what the ledger says of itself. Raises ``UsageError`` if there is none to read."""
    since = time.monotonic()
    while not (found := await ledger.look(must_exist=settings.ledger.must_exist)).exists:
        if time.monotonic() - since > MAKING or not await asyncio.to_thread(settings.ledger.path.exists):
            raise NoLedger(
                f"there is no ledger at {ledger_name(settings)}",
                "the first push or run begins one (mfa-worker push FILE); if there was one, correct ledger.path or "
                "--config, or restore it",
            )
        await asyncio.sleep(ASK_AGAIN)
    return found


def refuse_ended(settings: Settings, found: Found) -> None:
    """Raise ``UsageError`` if the rollout is being taken away: nothing is begun any more."""
    if ENDS in found.notes:
        raise UsageError(
            f"the rollout of the ledger {ledger_name(settings)} is being taken away",
            "finish that: mfa-worker decommission --yes; for another rollout, name another ledger",
        )


def is_meant(found: Found) -> bool:
    """Whether ``run --new-rollout`` was said."""
    return MEANT in found.notes


async def remember_it_is_meant(ledger: Beginning, found: Found) -> Found:
    """Note that ``run --new-rollout`` was said; return what the ledger says of itself now."""
    await ledger.note(MEANT, YES, None)
    return replace(found, notes={**found.notes, MEANT: YES})


async def refuse_beside_records(settings: Settings, channel: OpenableChannel) -> None:
    """Raise ``UsageError`` if the channel of a new ledger holds records already."""
    if await channel.holds_records():
        raise UsageError(
            f"the ledger {ledger_name(settings)} has no user, and {_source(settings)} holds records already: "
            "of this rollout, whose ledger is another, or of another rollout",
            "correct the ledger's setting, or restore the ledger from its backup (a copy that is too old: mfa-worker "
            f"recover): whoever was delivered would get a second secret.{pushed_here(settings)} Only if a new rollout "
            "is meant, say so once: mfa-worker run --new-rollout",
        )


def warn_of(refusal: WorkerError, more: str = "") -> None:
    """Tell whoever only pushes that ``run`` will refuse this ledger; ``more``: what else to do."""
    log.warning("run_will_refuse", cause=str(refusal), cure=refusal.hint + more)


def pushed_here(settings: Settings) -> str:
    """What a restored ledger does to requests that were pushed meanwhile, where queue and ledger are one file."""
    queue, ledger = settings.queue, settings.ledger
    in_one_file = queue.kind == ledger.kind == "sqlite" and queue.path == ledger.path
    return " What was pushed into that file must then be pushed again." if in_one_file else ""


async def note_channel(settings: Settings, ledger: Beginning, found: Found) -> None:
    """Remember where the rollout delivers, and tell people if that was another place until now."""
    note = CHANNEL + _source(settings)
    if note in found.notes:
        return
    others = [name for name in found.notes if name.startswith(CHANNEL)]
    if found.has_users and others:
        log.warning(
            "another_channel",
            channel=_source(settings),
            before=[name.removeprefix(CHANNEL) for name in others],
            cause="this rollout delivered to another place until now: its records are in several",
            cure="if that is not meant, stop and correct the channel's settings; else open all of them together, since "
            "the newest record of a user may be in any",
        )
    elif not found.has_users:
        for name in others:  # nobody was delivered there
            await ledger.note(name, None, USED)
    await ledger.note(note, USED, None)


async def begin_at_channel(
    settings: Settings, ledger: BeginningLedger, worker: str, found: Found, channel: OpenableChannel
) -> None:
    """Put the rollout's sentinel, where the channel takes one, before anybody is called.

    A ledger with users belongs to a rollout that goes on whatever the answer is. Raises ``UsageError`` if a new one
    finds another rollout's sentinel, ``DependencyUnavailable``.
    """
    if is_meant(found):
        return
    if not isinstance(channel, TakesSentinel):
        if not found.has_users and await channel.holds_records() is None:
            log.warning(
                "channel_not_looked_at",
                cause=f"whether {_source(settings)} got secrets of another rollout cannot be seen",
                cure="be sure that nobody was delivered through it before",
            )
        return
    note = SENTINEL + _source(settings)
    if found.has_users and note in found.notes:
        return
    try:
        is_ours = await _Sentinel(ledger, note, worker, channel).put(found)
    except DependencyUnavailable:
        if found.has_users:
            return  # whether the channel can be used shows with the first delivery
        raise
    if is_ours:
        return
    if found.has_users:
        await ledger.note(note, NOT_OURS, None)
        return
    raise UsageError(
        f"the ledger {ledger_name(settings)} has no user, and a rollout delivers to {_source(settings)} already: "
        f"its sentinel ({NAME}) is there",
        "correct the ledger's setting, or restore the ledger from its backup: whoever was delivered would get a second "
        "secret. Only if a new rollout is meant, say so once: mfa-worker run --new-rollout",
    )


class _Sentinel:
    """Puts one sentinel, by one worker at a time: whoever is refused must know that nobody else of ours was faster."""

    def __init__(self, ledger: BeginningLedger, note: str, worker: str, channel: TakesSentinel) -> None:
        self._ledger, self._note, self._worker, self._channel = ledger, note, worker, channel

    async def put(self, found: Found) -> bool:
        """Return whether the sentinel is ours, or need not be."""
        mine, before = ASKING + self._worker, found.notes.get(self._note)
        while True:
            before = await self._nobody_asks(before)
            if before in (PUT, NOT_OURS):
                return True
            if not await self._ledger.note(self._note, mine, before):
                before = await self._now()
                continue
            answer = await self._channel.put_sentinel()
            # Where somebody who asked before us has died, or an earlier request of ours may have acted, it may be ours.
            perhaps = before is not None or answer.perhaps
            if answer.is_put or (answer.was_there and perhaps):
                await self._ledger.note(self._note, PUT, mine)
                return True
            if perhaps:
                assert answer.trouble is not None
                raise answer.trouble
            if await self._ledger.note(self._note, None, mine):
                if answer.trouble is not None:
                    raise answer.trouble
                return False
            before = await self._now()  # another worker took us for dead

    async def _now(self) -> str | None:
        return (await self._ledger.look()).notes.get(self._note)

    async def _nobody_asks(self, note: str | None) -> str | None:
        """Wait while another worker puts the sentinel; return the note once none does."""
        since = time.monotonic()
        while note is not None and note.startswith(ASKING):
            if self._ledger.is_dead(note.removeprefix(ASKING)) or time.monotonic() - since > PATIENCE:
                break
            await asyncio.sleep(ASK_AGAIN)
            note, before = await self._now(), note
            if note != before:
                since = time.monotonic()
        return note


def _source(settings: Settings) -> str:
    return channels.kind_of(settings.channel).source(settings.channel)
