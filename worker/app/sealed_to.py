"""Whom a rollout seals to: stamped in its ledger, so that nobody is added and nobody left out unseen.

A wrong settings file, or one that somebody changed who should not, would hand the secrets to others. So the recipients
are a part of the ledger's stamp, which a worker's first write brings along, and a run with others is refused until
``run --accept-recipients`` says that they are meant. A ledger of an earlier version has none and gets those of the next
run. Order, repetitions and comments mean nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import structlog

from worker.adapters.ledgers.found import RECIPIENTS, changed_recipients, refuse_other_recipients
from worker.app.beginning import ledger_name
from worker.core.errors import UsageError
from worker.core.ports import Beginning, Found
from worker.core.record import rfc3339
from worker.settings import Settings

log = structlog.get_logger()

UNTIL = "recipients until "
"""The note of those before a change, in the form of the stamp; the time follows, RFC 3339."""


class StampedLedger(Beginning, Protocol):
    """The ledger, as far as it is needed here."""

    async def restamp(self, name: str, value: str, instead_of: str) -> bool:
        """Change that part of the stamp, if it is ``instead_of`` now; whether it was."""


def recipients_stamp(settings: Settings) -> Mapping[str, str]:
    """Return the part of the stamp that names whom these settings seal to."""
    return {RECIPIENTS: "\n".join(sorted(settings.seal.recipients))}


def refuse_others(settings: Settings, found: Found, *, accept: bool = False) -> None:
    """Raise ``UsageError`` where this ledger was begun with other recipients, unless they are meant (``accept``)."""
    if found.has_users and not accept:
        refuse_other_recipients(found.stamp, recipients_stamp(settings), ledger_name(settings))


def say_recorded(found: Found) -> None:
    """Tell people where a ledger of an earlier version gets the recipients of this run."""
    if found.has_users and RECIPIENTS not in found.stamp:
        log.info(
            "recipients_recorded",
            cause="this ledger was begun by a version that did not keep whom it seals to: it keeps those of this run",
            cure="nothing is to be done where seal.recipients are those of this rollout",
        )


def stamp_to_open_with(settings: Settings, found: Found, *, accept: bool) -> Mapping[str, str]:
    """Return the recipients' part of the stamp: those of the settings; the ledger's, until ``accept`` changes them."""
    stamp = recipients_stamp(settings)
    return {RECIPIENTS: found.stamp.get(RECIPIENTS, stamp[RECIPIENTS])} if accept and found.has_users else stamp


async def accept(settings: Settings, ledger: StampedLedger, found: Found) -> Found:
    """Let those of the settings take the place of the ledger's, and say so in the log and in the ledger's notes.

    Return what the ledger says of itself now. Raises ``UsageError`` if another worker changed them just now.
    """
    stamp = recipients_stamp(settings)
    before = found.stamp.get(RECIPIENTS)
    if not found.has_users or before is None or before == stamp[RECIPIENTS]:
        return found
    came, went = changed_recipients(before, stamp[RECIPIENTS])
    if not await ledger.restamp(RECIPIENTS, stamp[RECIPIENTS], before):
        raise UsageError(
            "another worker changed the recipients of this ledger just now",
            "look whose are meant, and run again with those in seal.recipients",
        )
    note = UNTIL + rfc3339(time.time())
    await ledger.note(note, before, None)
    log.warning(
        "recipients_changed",
        came=came,
        went=went,
        cause="run --accept-recipients: from now on secrets are sealed to those of seal.recipients",
        cure="end the workers that still run with the earlier settings, and start them again. What was sealed before "
        "opens with the earlier keys alone: keep them; whoever must not read it any more needs the secrets replaced",
    )
    return replace(found, stamp={**found.stamp, **stamp}, notes={**found.notes, note: before})


def earlier(found: Found) -> list[str]:
    """Return until when others were sealed to, in words, the earliest first."""
    until = sorted(name.removeprefix(UNTIL) for name in found.notes if name.startswith(UNTIL))
    return [f"until {each} it was sealed to other recipients" for each in until]
