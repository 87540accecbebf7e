"""``mfa-worker dismiss``: says of users that they are not to be enrolled, so that they hold up no exit code any more.

A user whom a worker holds, whose secret is on its way, or who has it, is left alone. Every write is conditional like
a worker's own, so whoever is faster wins, and doing it again is harmless.
"""

from __future__ import annotations

from functools import partial
from typing import BinaryIO

from worker.app.repair.users import Told, patiently, versions, with_each
from worker.app.stores import Purpose, open_stores
from worker.core import rules
from worker.core.errors import UsageError
from worker.core.model import Enrolment, Lost, Reason, State
from worker.settings import Settings

LONGEST_WHY = 100
"""Characters of the reason that a person gives: it is stored with each user, and counted in ``status``."""


async def dismiss(settings: Settings, stream: BinaryIO, why: str) -> Told:
    """Make the users that the file names ``skipped: dismissed``.

    Raises ``UsageError`` if there is no ledger, or for a reason that cannot be stored; ``LedgerUnavailable``.
    """
    why = why.strip()
    if not why or len(why) > LONGEST_WHY or not why.isprintable():
        raise UsageError(
            f"--why is to be one line of 1 to {LONGEST_WHY} characters",
            'say why these users are not enrolled: mfa-worker dismiss FILE --why "left the company"',
        )
    async with open_stores(settings, Purpose.EXISTING) as stores:
        version = versions(stores.worker)

        async def one(username: str, told: Told) -> None:
            row = await patiently(partial(stores.ledger.read, username), settings)
            is_new = row is None
            while rules.may_be_dismissed(row) and not _is_dismissed(row, why):
                new = rules.dismissed(username, row, why, stores.clock.utc())
                new = new._replace(version=next(version))
                put = partial(stores.ledger.put, new, row.version if row else None)
                result = await patiently(put, settings)
                if not isinstance(result, Lost):
                    told.done += 1
                    if is_new:
                        told.unknown.add(repr(username))
                    return
                row, is_new = result.row, False
            if row is not None and row.state is State.SKIPPED:
                told.already += 1
            else:
                told.leave(username, _why_left(row))

        return await with_each(stream, one)


def _is_dismissed(row: Enrolment | None, why: str) -> bool:
    return row is not None and (row.reason, row.detail) == (Reason.DISMISSED, why)


def _why_left(row: Enrolment | None) -> str:
    if row is None:
        return "somebody else changed the row at the same time; dismiss them again"
    if row.is_unfinished:
        what = row.reason.value if row.reason else row.state.value
        return f"is {what}: let a run finish them first (mfa-worker run)"
    return f"is {row.state.value}: has a secret already, and holds up nothing"
