"""What is sent without the SDK is what the SDK would send, and whatever is no success the SDK does again.

Over a real wire on loopback. No emulator looks at a signature, so these tests compute it themselves.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.emulators import CREDENTIALS, REGION
from tests.support.wire import Behaviour, Wire, answer, listening
from worker.adapters.aws.direct import MOST_USELESS
from worker.adapters.aws.session import Aws, AwsTarget

pytestmark = pytest.mark.usefixtures("aws_credentials")

ROW = {"key": {"S": "user#zoë"}, "blob": {"B": b"\x00sealed\xff"}, "count": {"N": "1"}}
PUT: dict[str, Any] = {"TableName": "ledger", "Item": ROW, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
OBJECT: dict[str, Any] = {"Bucket": "secrets", "IfNoneMatch": "*", "ServerSideEncryption": "aws:kms"}
STORED = answer(b"", "200 OK", 'ETag: "1"')
AWAY = answer(b"<html>", "503 Service Unavailable")
OF_ONE_REQUEST = {"authorization", "x-amz-date", "x-amz-checksum-sha256", "content-length", "x-amz-content-sha256"}


def said(body: bytes, status: str = "200 OK") -> bytes:
    """An answer of DynamoDB, with its checksum."""
    return answer(body, status, f"x-amz-crc32: {zlib.crc32(body)}")


@asynccontextmanager
async def client(service: str, does: Behaviour | bytes) -> AsyncIterator[tuple[Any, Wire]]:
    """A client of the service, and the wire that it speaks to."""
    async with listening() as wire, Aws(AwsTarget(REGION, endpoints={service: wire.url})) as aws:
        wire.does = does
        yield await aws.client(service), wire


def parsed(head: str) -> tuple[str, dict[str, str]]:
    """The request line without the version, and the headers in lower case."""
    first, *lines = head.strip().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return first.removesuffix(" HTTP/1.1"), {name.lower(): text for name, text in pairs}


def by_sdk(wire: Wire) -> list[bool]:
    """Of each request whether the SDK sent it: it numbers its attempts."""
    return ["amz-sdk-request" in parsed(head)[1] for head, _ in wire.seen]


def signature(head: str, body: bytes) -> str:
    """The signature that AWS expects (AWS general reference, "Signature Version 4"), by what arrived."""
    line, headers = parsed(head)
    method, _, target = line.partition(" ")
    path, _, query = target.partition("?")
    scope, signed, _ = (part.partition("=")[2] for part in headers["authorization"].split(", "))
    _, *scope_parts = scope.split("/")
    names = signed.split(";")
    assert {"host", *(name for name in headers if name.startswith("x-amz-"))} - {"x-amzn-trace-id"} <= set(names)
    listed = "".join(f"{name}:{headers[name]}\n" for name in names)
    canonical = "\n".join([method, path, query, listed, signed, hashlib.sha256(body).hexdigest()])
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], "/".join(scope_parts), digest])
    key = b"AWS4" + CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode()
    for part in (*scope_parts, text):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


async def test_a_write_is_sent_as_the_sdk_sends_it_and_signed_as_aws_asks() -> None:
    async with client("dynamodb", said(b"{}")) as (dynamodb, wire):
        assert "ResponseMetadata" in await dynamodb.put_item(**PUT)
        assert await dynamodb.put_item(**PUT) == {}
    assert by_sdk(wire) == [True, False]
    (first, first_body), (second, second_body) = wire.seen
    assert json.loads(first_body) == json.loads(second_body)
    (line, sdks), (same_line, ours) = parsed(first), parsed(second)
    assert line == same_line
    left_out = {name for name in sdks if name.startswith("amz-sdk-")} | OF_ONE_REQUEST
    assert {name: sdks[name] for name in sdks.keys() - left_out} == {
        name: ours[name] for name in ours.keys() - left_out
    }
    for head, body in wire.seen:
        assert parsed(head)[1]["authorization"].endswith(f"Signature={signature(head, body)}")


@pytest.mark.parametrize("key", ["secrets/ana/1-a.age", "a folder/zoë + 100 %/(1)~'*.age", "//a//../b"])
async def test_an_object_is_sent_as_the_sdk_sends_it_and_signed_as_aws_asks(key: str) -> None:
    async with client("s3", STORED) as (s3, wire):
        await s3.put_object(Key="first", Body=b"1", ChecksumSHA256="MQ==", **OBJECT)
        put = await s3.put_object(Key=key, Body=b"22", ChecksumSHA256="MjI=", **OBJECT)
        assert put == {"ETag": '"1"'}
        await s3.put_object(Key=key, Body=b"22", ChecksumSHA256="MjI=", **OBJECT, ContentType="text/plain")
    assert by_sdk(wire) == [True, False, True], "what differs in more than key and body is the SDK's"
    (_, _), (ours, body), (sdks, _) = wire.seen
    assert body == b"22"
    assert parsed(ours)[0] == parsed(sdks)[0]
    left_out = {"amz-sdk-invocation-id", "amz-sdk-request", "authorization", "x-amz-date", "content-type", "expect"}
    found, wanted = parsed(ours)[1], parsed(sdks)[1]
    assert "expect" not in found, "a small body needs no round trip of its own"
    assert {name: found[name] for name in found.keys() - left_out} == {
        name: wanted[name] for name in wanted.keys() - left_out
    }
    for head, body in wire.seen:
        assert parsed(head)[1]["authorization"].endswith(f"Signature={signature(head, body)}")


async def test_bytes_arrive_as_bytes() -> None:
    old = {"Attributes": {"blob": {"B": "AP8="}, "B": {"M": {"B": {"S": "text"}}}}, "ConsumedCapacity": None}
    async with client("dynamodb", said(json.dumps(old).encode())) as (dynamodb, wire):
        through_sdk = await dynamodb.put_item(**PUT)
        directly = await dynamodb.put_item(**PUT)
    assert by_sdk(wire) == [True, False]
    assert directly == {"Attributes": through_sdk["Attributes"]}
    assert directly["Attributes"]["blob"] == {"B": b"\x00\xff"}


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("ConditionalCheckFailedException", {"Item": {"key": {"S": "a"}, "blob": {"B": "AP8="}}}),
        ("TransactionCanceledException", {"CancellationReasons": [{"Code": "None"}, {"Item": {"b": {"B": "AP8="}}}]}),
    ],
)
async def test_a_condition_that_is_not_met_is_an_answer_and_is_not_asked_again(code: str, body: dict[str, Any]) -> None:
    refused = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no", **body}).encode()
    async with client("dynamodb", said(b"{}")) as (dynamodb, wire):
        raised: list[ClientError] = []
        for _ in range(2):  # by the SDK, which has no draft, and directly
            wire.does = said(refused, "400 Bad Request")
            with pytest.raises(ClientError) as error:
                await dynamodb.put_item(**PUT)
            raised.append(error.value)
            wire.does = said(b"{}")
            await dynamodb.put_item(**PUT)
    assert by_sdk(wire) == [True, True, False, False]
    by_the_sdk, directly = ({**each.response, "ResponseMetadata": None, "Error": None} for each in raised)
    assert {name: by_the_sdk[name] for name in body} == {name: directly[name] for name in body}
    for each in raised:
        assert each.operation_name == "PutItem"
        assert each.response["Error"]["Code"] == code
        assert each.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def once(bad: bytes, well: bytes = said(b"{}")) -> Behaviour:
    """Answer once like this, and end the connection; and well ever after."""
    answers = iter([bad])

    async def does(writer: Any) -> None:
        this = next(answers, well)
        writer.write(this)
        if this is bad:
            writer.close()

    return does


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(AWAY, id="unavailable"),
        pytest.param(said(b'{"__type":"x#ThrottlingException"}', "400 Bad Request"), id="throttled"),
        pytest.param(said(b'{"__type":"x#ExpiredTokenException"}', "400 Bad Request"), id="credentials"),
        pytest.param(answer(b"{}", "307 Temporary Redirect", "Location: http://127.0.0.1:1/"), id="redirect"),
        pytest.param(answer(b"{}", "200 OK", "x-amz-crc32: 1"), id="damaged"),
        pytest.param(said(b"[]"), id="no object"),
        pytest.param(said(b"<html>"), id="no JSON"),
        pytest.param(said(b"{}").replace(b"Length: 2", b"Length: 9"), id="cut off"),
        pytest.param(b"", id="no answer"),
    ],
)
async def test_whatever_is_no_success_the_sdk_does_again_and_then_it_goes_on_directly(bad: bytes) -> None:
    async with client("dynamodb", said(b"{}")) as (dynamodb, wire):
        for _ in range(2):
            await dynamodb.put_item(**PUT)
        wire.does = once(bad)
        await dynamodb.put_item(**PUT)
        await dynamodb.put_item(**PUT)
    assert by_sdk(wire) == [True, False, False, True, False]


async def test_an_object_that_something_else_than_s3_took_is_put_again() -> None:
    async with client("s3", STORED) as (s3, wire):
        for number in range(2):
            await s3.put_object(Key=f"{number}", Body=b"1", ChecksumSHA256="MQ==", **OBJECT)
        wire.does = once(answer(b"<html>"), STORED)
        await s3.put_object(Key="2", Body=b"1", ChecksumSHA256="MQ==", **OBJECT)
    assert by_sdk(wire) == [True, False, False, True]


async def test_errors_are_those_of_the_sdk() -> None:
    async with client("dynamodb", said(b"{}")) as (dynamodb, wire):
        for _ in range(2):
            await dynamodb.put_item(**PUT)
        wire.does = said(b'{"__type":"x#ResourceNotFoundException","message":"gone"}', "400 Bad Request")
        with pytest.raises(ClientError, match="gone"):
            await dynamodb.put_item(**PUT)
    assert by_sdk(wire) == [True, False, False, True]


async def test_where_direct_requests_never_succeed_they_end_soon() -> None:
    async def does(writer: Any) -> None:
        writer.write(said(b"{}") if by_sdk(wire)[-1] else AWAY)

    async with client("dynamodb", does) as (dynamodb, wire):
        for _ in range(10 + MOST_USELESS):
            await dynamodb.put_item(**PUT)
    assert by_sdk(wire).count(False) == MOST_USELESS
    assert by_sdk(wire).count(True) == 10 + MOST_USELESS


async def test_an_outage_of_a_thousand_requests_does_not_end_them() -> None:
    async with client("dynamodb", said(b"{}")) as (dynamodb, wire):
        for _ in range(2 * MOST_USELESS):
            await dynamodb.put_item(**PUT)
            await dynamodb.put_item(**PUT)
            wire.does = once(AWAY)
            await dynamodb.put_item(**PUT)
            wire.does = said(b"{}")
        wire.seen.clear()
        await dynamodb.put_item(**PUT)
    assert by_sdk(wire) == [False]


async def test_a_condition_that_is_not_met_is_no_failure() -> None:
    refused = said(b'{"__type":"x#ConditionalCheckFailedException"}', "400 Bad Request")
    async with client("dynamodb", said(b"{}")) as (dynamodb, wire):
        for _ in range(2 * MOST_USELESS):
            wire.does = said(b"{}")
            await dynamodb.put_item(**PUT)  # by the SDK
            wire.does = refused
            with pytest.raises(ClientError):
                await dynamodb.put_item(**PUT)
            wire.does = once(AWAY, refused)
            with pytest.raises(ClientError):
                await dynamodb.put_item(**PUT)
    assert by_sdk(wire) == [True, False, False, True] * (2 * MOST_USELESS)


@pytest.fixture
def renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that are about to expire whenever they are asked for, so that the SDK renews them each time."""
    script = tmp_path / "credentials.py"
    script.write_text(
        "import datetime, json, pathlib\n"
        f"count = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "number = int(count.read_text() if count.exists() else 0) + 1\n"
        "count.write_text(str(number))\n"
        "soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': 'a', 'SecretAccessKey': 's',\n"
        "                  'SessionToken': f'token-{number}', 'Expiration': soon.isoformat()}))\n"
    )
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


async def test_credentials_are_renewed_by_the_sdk(renewed: None) -> None:
    async with client("dynamodb", said(b"{}")) as (dynamodb, wire):
        for _ in range(3):
            await dynamodb.put_item(**PUT)
    assert by_sdk(wire) == [True, False, False]
    tokens = [parsed(head)[1]["x-amz-security-token"] for head, _ in wire.seen]
    assert len(set(tokens)) == 3
