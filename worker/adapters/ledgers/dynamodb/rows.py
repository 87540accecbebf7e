"""Converts a user's row to a DynamoDB item, and back without loss.

Fields that conditions, the index or counting need are attributes of their own. The others are together in one JSON
text, because each additional attribute costs the SDK time in every request (measured: with all of them, a third of the
cost of a row in a transaction).
"""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

from worker.adapters.ledgers.dynamodb.schema import KEY, SHARD
from worker.adapters.ledgers.guarded import before_of, kind_of, read_before, read_kind
from worker.adapters.ledgers.reading import readable, recorded
from worker.core import history
from worker.core.model import Activation, CredentialKind, Enrolment, Listed, Reason, Recorded, Sealed, State, digest_of
from worker.core.settled import load as load_settled

Item = dict[str, Any]
"""Attribute → value in the form of the low-level client, such as ``{"S": "text"}``."""

USER = "user#"
"""The prefix of the keys of all users' items; no other item's key has it."""
VERSION = "version"
"""Attribute (S): the version of the row, which conditional writes compare."""
STATE = "state"
"""Attribute (S): the user's state, for counting and for ``export``."""
REASON = "reason"
"""Attribute (S): the reason of the state, where there is one."""
DETAIL = "detail"
"""Attribute (S): Cognito's code for a refusal, where the row has one."""
ROW = "row"
"""Attribute (S): the other fields of the row, as one JSON text."""
BLOB = "blob"
"""Attribute (B): the user's newest sealed record; empty once it is delivered."""
DIGEST = "digest"
"""Attribute (B): ``Sealed.digest``, where the record itself, of which it is made, is not in the item any more."""
ACTIVATION = "activation"
"""Attribute (B): what activation needs, sealed to the worker's own identity; absent once that is over."""
ROSTER = "roster"
"""Attribute (BOOL) of a user who is on the roster; also the bucket of those who have no row."""
SHARDS = tuple("0123")
"""Values of the index's partition key. A user is written to the index once and deleted from it once, and one partition
takes 1,000 writes/s (DynamoDB developer guide)."""

RECORDED = (KEY, STATE, REASON, ROW, BLOB, DIGEST)
"""The attributes that ``to_recorded`` reads."""
_DEFAULTS = Enrolment("", State.IN_PROGRESS, 0.0, 0)
_PLAIN = ("worker", "lease_until", "doubt", "crashes", "request_id")
"""Fields that are in the JSON text if they differ from their default."""


def user_key(username: str) -> Item:
    """The key of a user's item."""
    return {KEY: {"S": USER + username}}


def shard(username: str) -> str:
    """The index partition of the user while unfinished: the same in every process."""
    return SHARDS[crc32(username.encode()) % len(SHARDS)]


def to_item(row: Enrolment) -> Item:
    """The item for ``row``."""
    fields: dict[str, Any] = {"since": row.since, "generation": row.generation}
    for name in _PLAIN:
        value = getattr(row, name)
        if value != getattr(_DEFAULTS, name):
            fields[name] = value
    guarded = {"before": before_of(row), "kind": kind_of(row)}
    fields |= {name: text for name, text in guarded.items() if text is not None}
    if settled := row.settled.dump():
        fields["settled"] = settled
    item: Item = {
        KEY: {"S": USER + row.username},
        VERSION: {"S": row.version},
        STATE: {"S": row.state.value},
    }
    if row.reason is not None:
        item[REASON] = {"S": row.reason.value}
    if row.detail is not None:
        item[DETAIL] = {"S": row.detail}
    if row.is_unfinished:
        item[SHARD] = {"S": shard(row.username)}
    if row.sealed is not None:
        sealed = row.sealed
        fields["sealed"] = [sealed.generation, sealed.attempt_id, sealed.associated_at, sealed.session_expires_at]
        item |= _bytes_of(sealed)
    if row.activation is not None:
        blob, *plain = row.activation
        fields["activation"] = plain
        item[ACTIVATION] = {"B": blob}
    text = json.dumps(fields, separators=(",", ":"))
    if row.events:
        text = f'{text[:-1]},"events":{history.dump(row.events)}}}'
    item[ROW] = {"S": text}
    return item


def to_enrolment(item: Item | None) -> Enrolment | None:
    """The row of an item; ``None`` if there is no item, or if the user is only on the roster.

    Raises ``RowUnreadable``.
    """
    if not item or VERSION not in item:
        return None
    return readable(username_of(item), item, _converted)


def _converted(item: Item) -> Enrolment:
    fields = json.loads(item[ROW]["S"])
    before, before_reason = read_before(fields.get("before"))
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
        before=before,
        before_reason=before_reason,
        request_id=fields.get("request_id"),
        kind=read_kind(fields.get("kind")),
        settled=load_settled(fields.get("settled", ())),
        detail=item[DETAIL]["S"] if DETAIL in item else None,
        events=history.load(fields.get("events")),
    )
    if "activation" in fields:
        kind, expires_at, *flags = fields["activation"]
        needs = Activation(bytes(item[ACTIVATION]["B"]), CredentialKind(kind), expires_at, *flags)
        row = row._replace(activation=needs)
    if "sealed" not in fields:
        return row
    generation, attempt_id, associated_at, session_expires_at = fields["sealed"]
    blob = bytes(item[BLOB]["B"])
    return row._replace(sealed=Sealed(generation, attempt_id, associated_at, blob, session_expires_at, _digest(item)))


def _bytes_of(sealed: Sealed) -> Item:
    """The attributes with the sealed record, or with the digest that is left of it."""
    if sealed.blob or not sealed.digest:
        return {BLOB: {"B": sealed.blob}}
    return {BLOB: {"B": b""}, DIGEST: {"B": bytes.fromhex(sealed.digest)}}


def _digest(item: Item) -> str:
    """``Sealed.digest``. An earlier version writes the whole item without it."""
    if blob := bytes(item[BLOB]["B"]):
        return digest_of(blob)
    return bytes(item[DIGEST]["B"]).hex() if DIGEST in item else ""


def to_recorded(item: Item) -> Recorded:
    """What the item says of its user's newest secret; it has the attributes ``RECORDED``."""
    return recorded(username_of(item), item, _recorded)


def _recorded(item: Item) -> Recorded:
    fields = json.loads(item[ROW]["S"])
    sealed, reason = fields.get("sealed"), item[REASON]["S"] if REASON in item else None
    told = (sealed[0], _digest(item)) if sealed else (None, "")
    return Recorded(username_of(item), item[STATE]["S"], reason, fields["since"], *told)


def to_listed(item: Item) -> Listed:
    """What a list of users says of this one; the item has the attributes ``key``, ``reason``, ``detail``, ``row``."""
    reason, detail = (item[name]["S"] if name in item else None for name in (REASON, DETAIL))
    return Listed(username_of(item), reason, json.loads(item[ROW]["S"])["since"], detail)


def username_of(item: Item) -> str:
    """The username to which an item belongs."""
    key: str = item[KEY]["S"]
    return key.removeprefix(USER)


# --- counting ---------------------------------------------------------------------------------------------------------

Bucket = str
"""The class in which a user is counted: a state, ``state:reason``, ``state:reason:code``, or ``roster``."""


def bucket(row: Enrolment) -> Bucket:
    """The bucket of a row."""
    return _bucket(row.state.value, row.reason.value if row.reason else None, row.detail)


def bucket_of(item: Item | None) -> Bucket | None:
    """The bucket of an item, by its ``state``, ``reason``, ``detail`` and ``roster``.

    ``None`` for no item, or no user's item.
    """
    if not item:
        return None
    if STATE in item:
        state, reason, detail = (item[name]["S"] if name in item else None for name in (STATE, REASON, DETAIL))
        return _bucket(str(state), reason, detail)
    return ROSTER if ROSTER in item else None


def _bucket(state: str, reason: str | None, detail: str | None) -> Bucket:
    if reason is None:
        return state
    return f"{state}:{reason}:{detail}" if detail else f"{state}:{reason}"
