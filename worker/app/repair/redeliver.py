"""``mfa-worker redeliver``: delivers again, byte for byte, what the ledger still holds sealed of delivered users.

It makes no call, and changes nothing of a row but its history, which tells why the user got two letters; not even that
where a worker has claimed the user. Where a worker is just replacing a user's secret, the record that it delivers has a
higher generation, so it wins whichever arrives last; such a user is left alone all the same.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import BinaryIO

import structlog

from worker.app import sealed_to
from worker.app.repair.users import Told, patiently, versions, with_each
from worker.app.stores import Purpose, open_channel, open_stores
from worker.core import rules
from worker.core.errors import ChannelUnavailable, RecordRefused
from worker.core.model import ENROLLED, UNFINISHED, Enrolment, Lost, Sealed
from worker.core.pipeline import DELIVERY_BACKOFF
from worker.core.resilience.backoff import retry
from worker.core.text import shortened
from worker.settings import Settings

log = structlog.get_logger()


async def redeliver(settings: Settings, stream: BinaryIO) -> Told:
    """Deliver again the records of the users that the file names.

    Raises ``UsageError`` if there is no ledger or the channel is not safe; ``LedgerUnavailable``,
    ``ChannelUnavailable``.
    """
    async with open_stores(settings, Purpose.EXISTING) as stores, open_channel(settings) as channel:
        version = versions(stores.worker)
        if before := sealed_to.earlier(stores.found):
            log.warning(
                "recipients_were_others",
                cause=f"what is delivered again was sealed when it was issued: {'; '.join(shortened(before, 5))}",
                cure="open those records with the keys of then; whoever shall be sealed to the new ones gets another "
                'secret: push a request with "replace": true',
            )

        async def one(username: str, told: Told) -> None:
            row = await patiently(partial(stores.ledger.read, username), settings)
            sealed = _kept(row)
            if sealed is None:
                told.leave(username, _why_left(row, keeps=settings.ledger.keep_sealed))
                return
            try:
                await retry(
                    lambda: channel.deliver(username, sealed),
                    on=ChannelUnavailable,
                    backoff=DELIVERY_BACKOFF,
                    patience=settings.channel.patience,
                )
            except RecordRefused as refused:
                told.leave(username, f"the channel refuses this record for good: {refused.code}")
            else:
                told.done += 1
                await tell(row)

        async def tell(row: Enrolment | None) -> None:
            while row is not None and row.worker is None:
                new = rules.redelivered(row, stores.clock.utc())._replace(version=next(version))
                put = partial(stores.ledger.put, new, row.version)
                with suppress(RecordRefused):  # the row is as large as it can be
                    result = await patiently(put, settings)
                    if isinstance(result, Lost):
                        row = result.row
                        continue
                return

        return await with_each(stream, one)


def _kept(row: Enrolment | None) -> Sealed | None:
    """The sealed record of somebody who has that secret, if the ledger holds it."""
    if row is None or row.state not in ENROLLED or row.sealed is None or not row.sealed.blob:
        return None
    return row.sealed


def _why_left(row: Enrolment | None, *, keeps: bool) -> str:
    if row is None:
        return "is not in the ledger: look at the username"
    if row.state in UNFINISHED:
        return f"is {row.state.value}: a run delivers them (mfa-worker run)"
    if row.state not in ENROLLED:
        return f"is {row.state.value}: has no secret that could be delivered; push a new request"
    since = "was delivered before ledger.keep_sealed was true, or purged" if keeps else "ledger.keep_sealed is false"
    return f'is {row.state.value}, and no sealed record is kept ({since}): push a request with "replace": true'
