"""Targets: what SQS, DynamoDB, S3 and Secrets Manager, or whatever stands in their place, answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from botocore.exceptions import ClientError

from tests.fuzzing.harness import MARKER, Target, text_of
from tests.fuzzing.of_requests import NOW, PARSERS, REQUESTS
from worker.adapters.aws.direct import _Json
from worker.adapters.aws.errors import WIRE, faults, refusal
from worker.adapters.aws.naming import digest_of, secret_segment, segment, username_of
from worker.adapters.channels.s3.keys import ENDING, key_of, parsed
from worker.adapters.ledgers.dynamodb.counters import counts, snapshot
from worker.adapters.ledgers.dynamodb.figures import _minutes
from worker.adapters.ledgers.dynamodb.pace import _pace
from worker.adapters.ledgers.dynamodb.rows import to_enrolment, to_item, to_listed
from worker.adapters.queues.sqs.copies import copy_of
from worker.adapters.queues.sqs.dead_letters import dead_letter_queues, kind_of
from worker.adapters.queues.sqs.fitness import dead_letter_troubles, refuse_unfit
from worker.core.errors import Malformed, PersonMustAct, QueueUnavailable, RowUnreadable, UsageError, WorkerError
from worker.core.record import is_line

URL = "https://sqs.us-east-1.amazonaws.com/123456789012/requests"


def _object(data: bytes) -> dict[str, Any] | None:
    """The object in these bytes, as the SDK has it; ``None``: there is none, so the SDK raises."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def sqs_body(data: bytes) -> str:
    """A copy of a message is the same request, and no younger."""
    body = text_of(data)
    texts = {
        "reason": {"DataType": "String", "StringValue": body[:99]},
        body[:9]: {"DataType": "Binary", "BinaryValue": data},
    }
    message = {
        "MessageId": "id",
        "ReceiptHandle": "handle",
        "Body": body,
        "Attributes": {"SentTimestamp": "1750000000000", "ApproximateReceiveCount": "3"},
        "MessageAttributes": texts,
    }
    kind_of(message, "arn:aws:sqs:us-east-1:123456789012:requests")
    copied, said = copy_of(message), ""
    for parser in PARSERS:
        try:
            first = parser.parse(body.encode("utf-8", "surrogatepass"), NOW, latest=NOW, origin="id")
        except Malformed as reason:
            said += str(reason)
            continue
        again = parser.parse(copied["MessageBody"].encode(), NOW + 100, latest=NOW + 100, origin="another")
        if first.mismatch != "unreadable":  # such a token is refused, and lives for a day from when it is looked at
            assert again == first
    return said


def sqs_attributes(data: bytes) -> None:
    """What a queue says of itself: a dead-letter queue's policy may be anybody's text."""
    found = {"RedrivePolicy": data.decode("utf-8", "replace"), "RedriveAllowPolicy": data.decode("utf-8", "replace")}
    attributes: Mapping[str, Any] = {
        "SqsManagedSseEnabled": "true",
        "QueueArn": "arn:aws:sqs:us-east-1:1:requests",
    } | found
    dead_letter_queues(URL, attributes, None)
    dead_letter_troubles(URL, attributes, attributes)
    refuse_unfit(URL, attributes)


def aws_errors(data: bytes) -> str:
    """An error of any service: only its code may be repeated."""
    found = _object(data) or {"Error": {"Code": data.decode("latin-1"), "Message": data.decode("latin-1")}}
    error = ClientError(cast("Any", found), "SendMessageBatch")
    said = ""
    try:
        with faults(QueueUnavailable, "the queue"):
            raise error
    except WorkerError as fault:
        said = f"{fault} {fault.hint}"
    told = refusal(error)
    return f"{said} {told} {told.hint}"


def object_keys(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = parsed(text)
    if text and len(text) < 128:
        for names in ("username", "hash"):
            key = key_of("a/prefix", text, cast("Any", names), 7, "attempt")
            assert key.endswith(ENDING)
            again = parsed(key)
            assert again is not None
            assert again.generation == 7
            assert names == "hash" or again.user == ("username", text)
        secret_segment(text, "username")
        assert username_of(segment(text, "username")) == text
    assert found is None or 0 <= found.generation < 10**19
    digest_of(text)


async def _by_sdk(**_: Any) -> dict[str, Any]:
    raise AssertionError("not called")


READER = _Json(cast("Any", None), _by_sdk, "GetItem")


def json_answers(data: bytes) -> None:
    """What SQS and DynamoDB answer, read without the SDK."""
    for status in (200, 400, 500):
        for headers in ({}, {"x-amz-crc32": "1"}, {"x-amz-crc32": data.decode("latin-1")}):
            try:
                READER._read(status, headers, data)
            except WIRE:
                continue


def _item(data: bytes) -> dict[str, Any]:
    """The item in an answer of DynamoDB; empty where there is none that could be read."""
    try:
        return READER._read(200, {}, data)
    except WIRE:
        return {}


def dynamodb_row(data: bytes) -> str:
    """A row that was read is written without loss."""
    item = _item(data)
    if not isinstance(item.get("key"), dict):
        return ""
    row = to_enrolment(item)
    if row is None:
        return ""
    again = to_enrolment(to_item(row))
    assert repr(again) == repr(row)
    row.settled.__contains__("id")
    return repr(to_listed(item)._replace(username="")) if row.detail is None else ""


def dynamodb_figures(data: bytes) -> None:
    for minute in _minutes(_item(data)):
        minute.dump()


def dynamodb_counts(data: bytes) -> None:
    counts(snapshot(_item(data)).sums)


def dynamodb_pace(data: bytes) -> None:
    _pace(_item(data))


def secret_value(data: bytes) -> None:
    is_line(text_of(data))


def _row(**fields: object) -> bytes:
    text = json.dumps({"since": 1.5, "generation": 7, **fields})
    plain = {"key": {"S": "user#ana"}, "version": {"S": "1"}, "state": {"S": "in_progress"}, "row": {"S": text}}
    return json.dumps(plain | {"blob": {"B": "AAAA"}, "activation": {"B": "AAAA"}}).encode()


MINUTE = '{"s":{"delivered":3},"a":{},"c":[0,{}],"u":[1.5,{"0.5":3,"":1}],"m":1,"r":[20,20]}'
PACE = {"reserved_until": "1.5", "rate": "20", "changed_at": "9" * 38, "version": "3", "length": "1e-130"}

ROWS = (
    _row(),
    _row(
        sealed=[7, "attempt", "2025-01-31T12:00:00Z", None], settled=[{"newest": ["A" * 22], "older": "eNoDAAAAAAE="}]
    ),
    _row(activation=["session", 5.0, True, False], kind="session+activation", before="delivered:verify_refused"),
    _row(events=[1750000000000, [0, "c"], [5, "a", MARKER.decode()], [1, "d", "", 3]], settled=["plain"]),
    _row()
    .replace(b'"in_progress"', b'"failed"')
    .replace(b'"blob"', b'"reason": {"S": "refused"}, "detail": {"S": "x"}, "blob"'),
)

TARGETS = {
    "sqs_body": Target(
        sqs_body,
        REQUESTS,
        shapes={
            "brackets": lambda n: b"[" * n,
            "objects": lambda n: b'{"session":' * (n // 11),
            "password": lambda n: b'{"password":' * (n // 12),
        },
    ),
    "sqs_attributes": Target(
        sqs_attributes,
        (
            b'{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:1:dead","maxReceiveCount":"1000"}',
            b'{"redrivePermission":"byQueue","sourceQueueArns":["arn"]}',
        ),
        documented=(UsageError,),
        repeats=lambda _: True,  # a queue's name stands in these
        shapes={"brackets": lambda n: b"[" * n, "colons": lambda n: b'{"deadLetterTargetArn":"' + b":" * n + b'"}'},
    ),
    "aws_errors": Target(
        aws_errors,
        (
            b'{"Error":{"Code":"AccessDenied","Message":"%s"},"ResponseMetadata":{"HTTPStatusCode":403}}' % MARKER,
            b'{"Error":{"Code":"%s"}}' % MARKER,
            b'{"Error":{"Code":"PermanentRedirect","Region":"eu-west-1"}}',
        ),
    ),
    "object_keys": Target(
        object_keys,
        (b"p/ana@example.org/7-a.age", b"_base64.YW5h", "zoë".encode(), b"p/=C3=A9/12-b.age", b"_sha256." + b"0" * 64),
        documented=(ValueError,),
        shapes={
            "slashes": lambda n: b"/" * n,
            "escapes": lambda n: b"p/" + b"=41" * (n // 3) + b"/1-a.age",
            "digits": lambda n: b"p/a/" + b"1" * n,
        },
    ),
    "json_answers": Target(
        json_answers,
        (
            *ROWS,
            b'{"__type":"com.amazonaws#ConditionalCheckFailedException","Item":{"a":{"B":"AAAA"}}}',
            b'{"Messages":[]}',
        ),
        documented=(ClientError,),
        shapes={"brackets": lambda n: b"[" * n, "halves": lambda n: rb'{"a":"' + rb"\ud800" * (n // 6)},
    ),
    "dynamodb_row": Target(
        dynamodb_row,
        ROWS,
        documented=(RowUnreadable,),
        repeats=lambda _: True,  # a state or reason that is unknown
        shapes={
            "brackets": lambda n: _row(x="["),
            "settled": lambda n: _row(settled=["a"] * (n // 6)),
            "events": lambda n: _row(events=[1750000000000, *([[1, "c"]] * (n // 12))]),
        },
    ),
    "dynamodb_figures": Target(
        dynamodb_figures,
        (
            json.dumps({"key": {"S": "figures#000486111#w"}, "m5": {"S": MINUTE}}).encode(),
            '{"key":{"S":"figures#1#w"},"m²":{"S":""},"m１":{"S":"[]"}}'.encode(),
        ),
        documented=WIRE,
    ),
    "dynamodb_counts": Target(
        dynamodb_counts,
        (b'{"revision":{"N":"3"},"base failed:refused:Code":{"N":"5"},"worker w":{"M":{"active":{"N":"-1"}}}}',),
        documented=(PersonMustAct, *WIRE),
    ),
    "dynamodb_pace": Target(
        dynamodb_pace,
        (json.dumps({name: {"N": text} for name, text in PACE.items()}).encode(),),
        documented=WIRE,
    ),
    "secret_value": Target(secret_value, (b'{"username":"ana","generation":7,"sealed":"AAAA"}', b"[" * 2_000)),
}
