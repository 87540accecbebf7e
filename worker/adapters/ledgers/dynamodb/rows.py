"""A user's row as a DynamoDB item, and back without loss.

What conditions, the index and counting look at is an attribute of its own; the rest is one JSON text, since every
attribute more costs the SDK time in every request (measured: a third of what a row in a transaction costs).
"""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

from worker.adapters.ledgers.dynamodb.schema import KEY, SHARD
from worker.core.model import UNFINISHED, CredentialKind, Enrolment, Reason, Sealed, State

Item = dict[str, Any]
"""Attribute → value as the low-level client has it, such as ``{"S": "text"}``."""

USER = "user#"
"""What the key of every user's item begins with, and of no other item."""
VERSION = "version"
"""Attribute (S): the version of the row, which conditional writes compare."""
STATE = "state"
"""Attribute (S): the user's state, for counting and for ``export``."""
REASON = "reason"
"""Attribute (S): the reason of the state, where there is one."""
ROW = "row"
"""Attribute (S): the other fields of the row, as one JSON text."""
BLOB = "blob"
"""Attribute (B): the sealed record, where the ledger holds one."""
ROSTER = "roster"
"""Attribute (BOOL) of a user who is expected and has no row yet; also what such a user counts as."""
SHARDS = tuple("0123")
"""Values of the index's partition key. A user enters and leaves the index once, at 1,000 writes/s a partition."""

_DEFAULTS = Enrolment("", State.IN_PROGRESS, 0.0, 0)
_PLAIN = ("worker", "lease_until", "doubt", "crashes", "before", "request_id", "kind", "settled")
"""Fields that are in the JSON text where they differ from their default."""


def user_key(username: str) -> Item:
    """The key of a user's item; no other item's key begins as it does."""
    return {KEY: {"S": USER + username}}


def shard(username: str) -> str:
    """Where in the index the user is while unfinished: the same in every process."""
    return SHARDS[crc32(username.encode()) % len(SHARDS)]


def to_item(row: Enrolment) -> Item:
    """The whole item that stands for ``row``."""
    fields: dict[str, Any] = {"since": row.since, "generation": row.generation}
    for name in _PLAIN:
        value = getattr(row, name)
        if value != getattr(_DEFAULTS, name):
            fields[name] = value
    item: Item = {
        KEY: {"S": USER + row.username},
        VERSION: {"S": row.version},
        STATE: {"S": row.state.value},
    }
    if row.reason is not None:
        item[REASON] = {"S": row.reason.value}
    if row.state in UNFINISHED:
        item[SHARD] = {"S": shard(row.username)}
    if row.sealed is not None:
        sealed = row.sealed
        fields["sealed"] = [sealed.generation, sealed.attempt_id, sealed.associated_at, sealed.session_expires_at]
        item[BLOB] = {"B": sealed.blob}
    item[ROW] = {"S": json.dumps(fields, separators=(",", ":"))}
    return item


def to_enrolment(item: Item | None) -> Enrolment | None:
    """The row; ``None`` where there is no item, or a user who is only on the roster."""
    if not item or VERSION not in item:
        return None
    fields = json.loads(item[ROW]["S"])
    row = Enrolment(
        username=username_of(item),
        state=State(item[STATE]["S"]),
        since=fields["since"],
        generation=fields["generation"],
        version=item[VERSION]["S"],
        reason=Reason(item[REASON]["S"]) if REASON in item else None,
        worker=fields.get("worker"),
        lease_until=fields.get("lease_until", 0.0),
        doubt=fields.get("doubt", False),
        crashes=fields.get("crashes", 0),
        before=State(fields["before"]) if "before" in fields else None,
        request_id=fields.get("request_id"),
        kind=CredentialKind(fields["kind"]) if "kind" in fields else None,
        settled=tuple(fields.get("settled", ())),
    )
    if "sealed" not in fields:
        return row
    generation, attempt_id, associated_at, session_expires_at = fields["sealed"]
    blob = bytes(item[BLOB]["B"])
    return row._replace(sealed=Sealed(generation, attempt_id, associated_at, blob, session_expires_at))


def username_of(item: Item) -> str:
    """Whose item it is."""
    key: str = item[KEY]["S"]
    return key.removeprefix(USER)


# --- what is counted --------------------------------------------------------------------------------------------------

Bucket = str
"""What a user counts as: a state, ``state:reason``, or ``roster``."""


def bucket(row: Enrolment) -> Bucket:
    """What the row counts as."""
    return f"{row.state.value}:{row.reason.value}" if row.reason else row.state.value


def bucket_of(item: Item | None) -> Bucket | None:
    """The same of an item, of which ``state``, ``reason`` and ``roster`` are enough; ``None`` for what is no user."""
    if not item:
        return None
    if STATE in item:
        state: str = item[STATE]["S"]
        return f"{state}:{item[REASON]['S']}" if REASON in item else state
    return ROSTER if ROSTER in item else None
