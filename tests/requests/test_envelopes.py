"""Requests in envelopes, and messages of others: each is named for what it is, with what mends it, and not repeated."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.messages import PARSER
from worker.core.errors import Malformed
from worker.requests import envelopes

SECRET = "S3cretThatIsNeverRepeated" * 2
REQUEST = {"username": "ada", "session": SECRET}
TEXT = json.dumps(REQUEST)


def why(raw: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        PARSER.parse(raw, 0.0)
    reason = str(caught.value)
    assert SECRET[:12] not in reason
    assert "\n" not in reason
    return reason


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"Type": "Notification", "TopicArn": "arn:…", "Message": TEXT},
            "is an SNS notification with something in it: turn",
        ),
        ({"Type": "SubscriptionConfirmation", "TopicArn": "a", "Token": SECRET}, "is a question of SNS whether"),
        ({"version": "0", "detail-type": "t", "source": "s", "detail": REQUEST}, "input path to $.detail"),
        (
            {"detail-type": "CloudWatch Alarm State Change", "source": "aws.cloudwatch", "detail": {}},
            "holds no request",
        ),
        ({"specversion": "1.0", "type": "t", "source": "s", "data": REQUEST}, "take it out (jq -c .data)"),
        ([REQUEST], "is a JSON array: write one object a line (jq -c '.[]') or message"),
        ([REQUEST, REQUEST], "an EventBridge pipe: an input template"),
        (["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "b"}], "the SQS Extended Client"),
        (["com.amazon.sqs.javamessaging.MessageS3Pointer", {"s3BucketName": "b"}], "the SQS Extended Client"),
        (
            {"version": "1.0", "requestContext": {}, "requestPayload": {}, "responsePayload": REQUEST},
            "take it out (jq -c .responsePayload)",
        ),
        ({"Records": [{"eventSource": "aws:s3", "s3": {}}]}, "is an event notification of S3"),
        ({"Service": "Amazon S3", "Event": "s3:TestEvent"}, "is an event notification of S3"),
        ({"Records": [{"eventSource": "aws:kinesis"}]}, "is a batch of another service's records"),
        ({"MessageId": "1", "ReceiptHandle": "2", "Body": TEXT}, "push its Body"),
        ({"MessageBody": TEXT, "QueueUrl": "u"}, "push its MessageBody"),
        ({"TaskToken": SECRET, "Input": REQUEST}, "a Step Functions task"),
        ({"ExecutionArn": "arn", "Output": TEXT}, "a Step Functions task"),
        ({"eventName": "INSERT", "dynamodb": {"NewImage": {}}}, "a DynamoDB stream"),
        ({"Item": {"username": {"S": "ada"}}}, "is DynamoDB's own JSON"),
        ({"username": {"S": "ada"}, "session": {"S": SECRET}}, "is DynamoDB's own JSON"),
        ({"schema": {}, "payload": REQUEST}, "jq -c .payload"),
        ({"before": None, "after": REQUEST, "op": "c"}, "jq -c .after"),
        ({"topic": "t", "partition": 0, "offset": 1, "value": TEXT}, "(jq -c '.value | fromjson')"),
        ({"httpMethod": "POST", "body": TEXT}, "(jq -c '.body | fromjson')"),
        ({"users": [REQUEST]}, "holds its requests in a list under users: take them out (jq -c '.users[]')"),
        ({"data": REQUEST}, "holds its request under data: take it out (jq -c .data)"),
        ({"default": TEXT}, "holds its request as text under default: take it out (jq -c '.default | fromjson')"),
        (TEXT, "is JSON in a JSON text, encoded twice: encode it once (jq -r .)"),
        (json.dumps(TEXT), "is JSON in a JSON text, encoded twice"),
        (base64.b64encode(TEXT.encode()).decode(), "is base64 with JSON in it"),
    ],
)
def test_what_a_message_is_and_what_mends_it(body: Any, said: str) -> None:
    assert said in why(json.dumps(body).encode())
    assert said in why(json.dumps(body, indent=2).encode())


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (base64.b64encode(TEXT.encode()), "is base64 with JSON in it"),
        (base64.b64encode(TEXT.encode()).rstrip(b"="), "is base64 with JSON in it"),
        (base64.urlsafe_b64encode('{"username": "ÿÿÿ>>>???"}'.encode()), "is base64 with JSON in it"),
        (base64.b64encode(gzip.compress(TEXT.encode())), "is base64 of something compressed"),
        (f"<request>{SECRET}</request>".encode(), "is XML or HTML"),
        (f"username=ada&session={SECRET}".encode(), "is the text of a form"),
        (f"Action=SendMessage&MessageBody={SECRET}".encode(), "is the text of a form"),
        (f"---\nusername: ada\nsession: {SECRET}".encode(), "is YAML"),
        (str(REQUEST).encode(), "names and texts stand in double quotes"),
        (SECRET.encode(), "is not JSON"),
    ],
)
def test_what_is_no_json_is_named_where_it_looks_like_something(raw: bytes, said: str) -> None:
    assert said in why(raw)


@pytest.mark.parametrize(
    "extra", [{"detail-type": 1, "source": 2}, {"Records": []}, {"body": "{"}, {"op": 1, "after": 2}]
)
def test_a_request_with_a_key_too_many_is_no_envelope(extra: dict[str, Any]) -> None:
    assert why(json.dumps({**REQUEST, **extra}).encode()).startswith("has the unknown key")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Type", "Records", "Item", "detail", "source", "body", "users", "username", "S"])
            | st.text(max_size=9),
            inner,
            max_size=4,
        )
    ),
    max_leaves=9,
)


@given(json_values)
def test_whatever_the_json_is_it_has_a_name_or_none(value: Any) -> None:
    said = envelopes.named(json.dumps(value).encode())
    assert said is None or ((said.isascii() or "…" in said) and "\n" not in said)


@given(st.binary(max_size=99) | st.from_regex(rb"\A[A-Za-z0-9+/_=-]{10,60}\Z"))
def test_whatever_the_bytes_are_they_have_a_name_or_none(raw: bytes) -> None:
    said = envelopes.not_json(raw)
    assert said is None or said.startswith("is ")
    assert envelopes.named(raw) is None or isinstance(envelopes.named(raw), str)
