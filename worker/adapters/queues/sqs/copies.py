"""Putting a message on the queue once more: with the same body and attributes, and no younger than it is.

SQS counts the receives of a message, and says when it was sent; a copy begins both anew, and has another message id.
So what the age of a Session rests on is written into the copy, as ``requests.message`` reads it: no Session is younger
than its first message. A request with a password that has no id gets that of its first message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

LONGEST_DELAY = 900
"""Seconds: the longest delay of one message (SQS API reference, SendMessage)."""


def copy_of(message: Mapping[str, Any], *, delay: int = 0) -> dict[str, Any]:
    """The entry for SendMessageBatch that sends a received message again, ``delay`` seconds later."""
    sent = message.get("Attributes", {}).get("SentTimestamp")
    body = str(message["Body"])
    body = named(dated(body, float(sent) / 1000) if sent else body, str(message.get("MessageId", "")))
    entry: dict[str, Any] = {"MessageBody": body}
    attributes = {name: _sendable(value) for name, value in message.get("MessageAttributes", {}).items()}
    if attributes:
        entry["MessageAttributes"] = attributes
    return {**entry, "DelaySeconds": min(delay, LONGEST_DELAY)} if delay else entry


def dated(body: str, sent_at: float) -> str:
    """The body of a request that was sent at that time (UTC seconds): a Session's ``issued_at`` is no later.

    Whatever is no request with a Session stays as it is, byte for byte.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(fields, dict) or not fields.get("session"):
        return body
    issued = fields.get("issued_at")
    if issued is None and fields.get("expires_at") is not None:
        return body
    if issued is not None and (at := _seconds(issued)) is not None and at <= sent_at:
        return body
    moment = datetime.fromtimestamp(sent_at, UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({**fields, "issued_at": moment}, ensure_ascii=False)


def named(body: str, message_id: str) -> str:
    """The body of a request with a password: its ``id`` is that of its message, unless it has one.

    Whatever is no such request stays as it is, byte for byte.
    """
    if '"password"' not in body and "\\u" not in body:
        return body
    try:
        fields = json.loads(body.strip().removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return body
    if not isinstance(fields, dict) or not fields.get("password") or fields.get("id") is not None or not message_id:
        return body
    return json.dumps({**fields, "id": message_id}, ensure_ascii=False)


def _seconds(text: object) -> float | None:
    with suppress(ValueError, TypeError, OverflowError):
        moment = datetime.fromisoformat(str(text).upper())
        return moment.timestamp() if moment.tzinfo else None
    return None


def _sendable(value: Mapping[str, Any]) -> dict[str, Any]:
    """A message attribute as it is sent: SQS takes no lists, though it names them."""
    return {name: value[name] for name in ("DataType", "StringValue", "BinaryValue") if name in value}
