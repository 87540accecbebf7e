"""Which identity of its own a worker activates with: the one that this ledger was begun with, and no other.

Its recipient is a part of the ledger's stamp, which the first write of an activating worker brings along. From then on
no other identity is taken, and none is made in place of one that is gone: only that one opens what is under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from worker.adapters.ledgers.found import RECIPIENT
from worker.core.errors import RowUnreadable, UsageError
from worker.core.ports import Found, Ledger
from worker.sealing.own import OwnAgeSealer, make_own, read_own
from worker.settings import Settings

LOST = "where it is lost for good: mfa-worker recover --lost-identity shows whom that concerns"
"""What to do about an identity that nobody has any more."""


def own_identity(settings: Settings, found: Found) -> OwnAgeSealer | None:
    """Return the worker's own identity, which is made where it may be; ``None`` where the worker activates nobody.

    ``found``: what the ledger says of itself. Raises ``UsageError``, also if the identity opens delivered secrets.
    """
    mode, file = settings.activation.mode, settings.activation.identity
    if mode == "none":
        return None
    assert file is not None
    stamped = found.stamp.get(RECIPIENT) if found.has_users else None
    if not file.exists():
        if stamped is not None:
            raise UsageError(
                f"the activation identity {file} is gone; this rollout was begun with the one of {stamped}",
                f"restore the file from its backup, or name where it is: activation.identity; {LOST}",
            )
        if not settings.makes_identity:
            raise UsageError(
                f"activation.identity names {file}, which does not exist",
                f"make it once, and give it to every worker of this ledger: mfa-worker keygen -o {file}",
            )
        make_own(file, datetime.now(UTC).date().isoformat())
    own = read_own(file)
    if own.recipient in settings.seal.recipients:
        raise UsageError(
            "activation.identity and seal.recipients name the same key: the worker could open what it delivers",
            "take it out of seal.recipients, and keep the identities that open delivered secrets away from the worker; "
            "or name a file of its own: activation.identity",
        )
    return own


def recipient_stamp(own: OwnAgeSealer | None) -> Mapping[str, str]:
    """Return the part of the stamp that binds the ledger to this identity."""
    return {RECIPIENT: own.recipient} if own is not None else {}


async def refuse_under_way(ledger: Ledger) -> None:
    """Raise ``UsageError`` if somebody's activation is under way, which a worker that does not activate cannot end."""
    with suppress(RowUnreadable):  # the run itself says so
        async for row in ledger.unfinished():
            if row.activation is not None and row.is_unfinished:
                raise UsageError(
                    f"activation.mode is none, and the activation of users is under way, such as {row.username!r}",
                    'set activation.mode = "verify" (or "prefer") with the same activation.identity, and run until '
                    f"they are done; {LOST}",
                )
