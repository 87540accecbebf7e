"""Messages in which a request is wrapped, or that another service sent: named, with the setting that mends it.

Only a message that is malformed anyway is looked at. Of its content nothing is ever repeated.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json

_RAW = "turn on raw message delivery for the queue's subscription"
_ITSELF = "put the request itself on the queue"


def _has(*keys: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda message: all(key in message for key in keys)


def _is_of_s3(records: object) -> bool:
    return isinstance(records, list) and any(
        isinstance(each, dict) and each.get("eventSource") == "aws:s3" for each in records
    )


_OBJECTS: tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...] = (
    (
        lambda message: message.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation"),
        "is a question of SNS whether to subscribe: confirm the subscription, and " + _RAW,
    ),
    (_has("Type", "TopicArn", "Message"), "is an SNS notification with something in it: " + _RAW),
    (
        lambda message: (
            _has("detail-type", "source", "detail")(message)
            and isinstance(message["detail"], dict)
            and "username" in message["detail"]
        ),
        "is an EventBridge event with a request in it: set the target's input path to $.detail",
    ),
    (_has("detail-type", "source"), "is an EventBridge event that holds no request: let the rule match requests only"),
    (
        lambda message: message.get("Event") == "s3:TestEvent" or _is_of_s3(message.get("Records")),
        "is an event notification of S3: give the queue of requests to no bucket",
    ),
    (
        lambda message: "Records" in message,
        "is a batch of another service's records: " + _ITSELF + ", one a message",
    ),
    (_has("MessageId", "ReceiptHandle"), "is a message as ReceiveMessage returns it: push its Body"),
    (_has("MessageBody"), "is the input of SendMessage: push its MessageBody"),
    (
        lambda message: any(key in message for key in ("TaskToken", "taskToken", "ExecutionArn", "executionArn")),
        "is the input or result of a Step Functions task: set the task's MessageBody to the request alone",
    ),
    (_has("eventName", "dynamodb"), "is a record of a DynamoDB stream: a pipe's input template makes a request of it"),
    (
        lambda message: "Item" in message or _is_dynamodb(message.get("username")),
        'is DynamoDB\'s own JSON, with types such as {"S": …}: write plain JSON',
    ),
)
"""How to tell what an object is, and what to say of it. The first one that fits counts."""

_WRAPPERS = (
    "users",
    "requests",
    "items",
    "records",
    "messages",
    "data",
    "body",
    "payload",
    "responsePayload",
    "message",
    "default",
    "after",
    "value",
)
"""Keys under which requests are found where a whole file or answer was pushed, or where a service put its own data
around one (CloudEvents, Kafka, Debezium, API Gateway, a Lambda destination)."""


def named(raw: bytes) -> str | None:
    """Return what the JSON of a malformed message is and how to mend it, as the rest of a sentence; ``None``: no idea.

    The beginning of a sentence is "The message" or "Line 3".
    """
    try:
        message = from_json(raw)
    except ValueError:
        return None
    if isinstance(message, str):
        return _text(message)
    if isinstance(message, list):
        return _array(message)
    if not isinstance(message, dict):
        return None
    if "username" in message and not _is_dynamodb(message["username"]):
        return None
    return next((said for fits, said in _OBJECTS if fits(message)), None) or _wrapped(message)


def _wrapped(message: Mapping[str, Any]) -> str | None:
    for key in _WRAPPERS:
        if isinstance(inner := message.get(key), list):
            return f"holds its requests in a list under {key}: take them out (jq -c '.{key}[]')"
        if isinstance(inner, dict) and "username" in inner:
            return f"holds its request under {key}: take it out (jq -c .{key})"
        if isinstance(inner, str) and inner.lstrip().startswith("{"):
            return f"holds its request as text under {key}: take it out (jq -c '.{key} | fromjson')"
    return None


def not_json(raw: bytes) -> str | None:
    """The same for a message that is no JSON at all."""
    if re.fullmatch(rb"[A-Za-z0-9+/_-]{16,}={0,2}", raw):
        with_padding = raw + b"=" * (-len(raw) % 4)
        try:
            inner = base64.b64decode(with_padding, altchars=b"-_" if re.search(rb"[-_]", raw) else None)
        except ValueError:
            inner = b""
        if inner.lstrip().startswith((b"{", b"[", b'"')):
            return "is base64 with JSON in it: put the JSON itself on the queue (base64 -d)"
        if inner.startswith(b"\x1f\x8b"):
            return "is base64 of something compressed: put plain JSON on the queue"
    if raw.startswith(b"<"):
        return "is XML or HTML: write one JSON object"
    if re.match(rb"(Action=|username=|[\w%]+=[^&\s]*&)", raw):
        return "is the text of a form (name=value&…): write one JSON object"
    if raw.startswith((b"---", b"username:")):
        return "is YAML: write one JSON object"
    if re.match(rb"\{\s*'", raw):
        return "is not JSON: names and texts stand in double quotes (json.dumps, not str)"
    if raw.startswith(b"{") and raw.endswith(b"},"):
        return "is not JSON: a comma follows the object; for a list of objects: jq -c '.[]'"
    return None


def _array(message: list[Any]) -> str:
    first = message[0] if message else None
    if isinstance(first, str) and first.endswith(("PayloadS3Pointer", "MessageS3Pointer")):
        return (
            "is a pointer to a message that the SQS Extended Client keeps in S3: send requests without that client, or "
            "raise its payload size threshold to 256 KiB"
        )
    return (
        "is a JSON array: write one object a line (jq -c '.[]') or message; "
        "from an EventBridge pipe: an input template that makes one object of each event"
    )


def _text(message: str) -> str | None:
    if message.lstrip().startswith(("{", "[", '"')):
        return "is JSON in a JSON text, encoded twice: encode it once (jq -r .)"
    return not_json(message.encode("utf-8", "replace"))


def _is_dynamodb(value: object) -> bool:
    types = {"S", "N", "B", "M", "L", "NULL", "BOOL"}
    return isinstance(value, dict) and len(value) == 1 and not types.isdisjoint(value)
