"""Dead letters: told from the worker's own notes and from other queues', counted, brought back, and rarely made."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.adapters.queues.rigs import SqsQueues
from tests.adapters.queues.test_every_queue import lease
from tests.adapters.queues.test_sqs_unfit import arn_of, limit
from tests.support.emulators import fresh
from tests.support.messages import PARSER, body, push_raw, pushed, until
from tests.support.sqs_proxy import Proxy
from worker.adapters.queues.sqs.attributes import COUNTS
from worker.adapters.queues.sqs.copies import copy_of, dated
from worker.adapters.queues.sqs.dead_letters import Letter, dead_letter_queues, kind_of
from worker.adapters.queues.sqs.queue import SqsQueue
from worker.adapters.queues.sqs.redrive import Redrive, Redriven
from worker.core.errors import QueueUnavailable, UsageError
from worker.core.ports import Backlog
from worker.requests.lines import digest

ARN = "arn:aws:sqs:eu-central-1:123456789012:requests"
SENT = 1_700_000_000.0
SENT_SAID = "2023-11-14T22:13:20Z"


def note(text: str = "0123456789abcdef") -> dict[str, Any]:
    attributes = {"reason": "is not JSON", "digest": text}
    return {
        "Body": text,
        "MessageAttributes": {name: {"DataType": "String", "StringValue": said} for name, said in attributes.items()},
    }


# --- which is which ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (note(), Letter.NOTE),
        ({"Body": "{}"}, Letter.DEAD),
        ({**note(), "Body": '{"username": "ana"}'}, Letter.DEAD),
        ({"Body": "{}", "Attributes": {"DeadLetterQueueSourceArn": ARN}}, Letter.DEAD),
        ({"Body": "{}", "Attributes": {"DeadLetterQueueSourceArn": f"{ARN}-of-others"}}, Letter.FOREIGN),
    ],
)
def test_a_message_is_a_note_a_dead_letter_or_somebody_elses(message: Mapping[str, Any], kind: Letter) -> None:
    assert kind_of(message, ARN) is kind


def test_dead_letters_are_where_the_redrive_policy_or_the_setting_says() -> None:
    url = "https://sqs.eu-central-1.amazonaws.com/123456789012/requests"
    dead, notes = f"{url}-dead", f"{url}-notes"
    policy = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": f"{ARN}-dead", "maxReceiveCount": 9})}

    def found(attributes: Mapping[str, str], setting: str | None) -> list[tuple[str, bool]]:
        return [(each.url, each.has_notes) for each in dead_letter_queues(url, attributes, setting)]

    assert found({}, None) == []
    assert found({}, notes) == [(notes, True)]
    assert found(policy, None) == [(dead, False)]
    assert found(policy, dead) == found(policy, f"{dead}") == [(dead, True)]
    assert found(policy, notes) == [(dead, False), (notes, True)]


# --- counting ---------------------------------------------------------------------------------------------------------


async def die(queues: SqsQueues, *bodies: bytes | str) -> None:
    """Put messages where SQS moves what was received too often."""
    async with queues.client() as sqs:
        for each in bodies:
            text = each if isinstance(each, str) else each.decode()
            await sqs.send_message(QueueUrl=queues.dead_letter_url, MessageBody=text)


async def waiting(queues: SqsQueues, url: str) -> int:
    async with queues.client() as sqs:
        found = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        attributes: Mapping[Any, str] = found["Attributes"]
        return sum(int(attributes[name]) for name in COUNTS)


async def test_notes_are_not_counted_and_dead_letters_beside_them_are_and_nothing_stays_hidden(
    sqs_queues: SqsQueues,
) -> None:
    async with sqs_queues.open(to_look=True) as queue:
        assert await queue.dead_letters(0) == 0
        for _ in range(13):
            await queue.put_aside("is not JSON", "0123456789abcdef")
        assert await queue.dead_letters(13) == 0
        await die(sqs_queues, *(body(f"user {number}") for number in range(12)))
        assert await queue.dead_letters(13) == 12
        async with sqs_queues.open(to_look=True) as another:
            assert await another.dead_letters(13) == 12, "what one look has received it gives back"


async def test_those_that_another_look_holds_count_as_far_as_they_cannot_be_notes(
    sqs_queues: SqsQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.adapters.queues.sqs.dead_letters.LOOKS_FOR", 0.5)
    async with sqs_queues.client() as sqs, sqs_queues.open(to_look=True) as queue:
        await die(sqs_queues, *(body(f"user {number}") for number in range(5)))
        await sqs.receive_message(QueueUrl=sqs_queues.dead_letter_url, MaxNumberOfMessages=10, VisibilityTimeout=30)
        assert await queue.dead_letters(notes=2) == 3


async def test_where_many_are_there_some_are_looked_at(sqs_queues: SqsQueues, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.adapters.queues.sqs.dead_letters.MOST_LOOKED_AT", 10)
    async with sqs_queues.open(to_look=True) as queue:
        await die(sqs_queues, *(body(f"user {number}") for number in range(30)))
        assert await queue.dead_letters(0) == 30


async def test_where_it_is_forbidden_they_are_not_looked_at_and_are_not_none(
    sqs_queues: SqsQueues, proxy: Proxy
) -> None:
    await die(sqs_queues, body())
    async with sqs_queues.open(endpoint=proxy.url, to_look=True) as queue:
        proxy.refused_for[sqs_queues.dead_letter_url] = "AccessDenied"
        with capture_logs() as logs:
            assert await queue.dead_letters(0) is None
        assert [log["event"] for log in logs] == ["dead_letters_not_looked_at"]
        assert "GetQueueAttributes" in logs[0]["cure"]
        proxy.refused_for.clear()
        proxy.errors["ReceiveMessage"] = "AccessDenied"
        with capture_logs() as logs:
            assert await queue.dead_letters(0) == 1
        assert [log["event"] for log in logs] == ["dead_letters_not_told_apart"]


async def test_a_dead_letter_queue_with_one_of_its_own_is_counted_without_receiving(
    sqs_queues: SqsQueues, proxy: Proxy
) -> None:
    async with sqs_queues.client() as sqs:
        last = (await sqs.create_queue(QueueName=fresh("last")))["QueueUrl"]
        policy = {"deadLetterTargetArn": await arn_of(sqs_queues, last), "maxReceiveCount": 1}
        await sqs.set_queue_attributes(
            QueueUrl=sqs_queues.dead_letter_url, Attributes={"RedrivePolicy": json.dumps(policy)}
        )
    await die(sqs_queues, body(), body())
    async with sqs_queues.open(endpoint=proxy.url, to_look=True) as queue:
        assert await queue.dead_letters(0) == 2
        assert proxy.requests["ReceiveMessage"] == 0


# --- the last receive -------------------------------------------------------------------------------------------------


async def test_what_is_given_back_after_its_last_receive_is_sent_anew_and_becomes_no_dead_letter(
    sqs_queues: SqsQueues,
) -> None:
    await limit(sqs_queues, 5)
    async with sqs_queues.open() as queue:
        await queue.push(pushed(body("ana")))
        for _ in range(12):
            [found] = await lease(queue, 1)
            await queue.give_back(found, 0)
        [found] = await lease(queue, 1)
        assert await waiting(sqs_queues, sqs_queues.dead_letter_url) == 0
        assert (await queue.backlog()).waiting == 1
        assert found.request.username == "ana"


async def test_workers_that_come_and_go_make_no_dead_letters(sqs_queues: SqsQueues) -> None:
    await limit(sqs_queues, 5)
    async with sqs_queues.open() as queue:
        await queue.push(pushed(*(body(f"user {number}") for number in range(20))))
    for _ in range(9):
        async with sqs_queues.open() as queue:
            await lease(queue, 5)
    async with sqs_queues.open() as queue:
        assert await waiting(sqs_queues, sqs_queues.dead_letter_url) == 0
        assert (await queue.backlog()).waiting == 20


async def test_a_copy_that_cannot_be_sent_leaves_the_message(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    await limit(sqs_queues, 5)
    async with sqs_queues.open() as other:
        with pytest.raises(QueueUnavailable):  # noqa: PT012
            async with sqs_queues.open(endpoint=proxy.url) as queue:
                await queue.push(pushed(body("ana")))
                for _ in range(4):
                    await queue.give_back((await lease(queue, 1))[0], 0)
                [found] = await lease(queue, 1)
                proxy.errors["SendMessageBatch"] = "AccessDenied"
                await queue.give_back(found, 0)
        left = await waiting(sqs_queues, sqs_queues.url) + await waiting(sqs_queues, sqs_queues.dead_letter_url)
        assert left == 1
        assert (await other.backlog()).waiting == 1


@pytest.mark.parametrize(
    ("fields", "issued_at"),
    [
        ({}, SENT_SAID),
        ({"issued_at": "2023-11-14T22:00:00Z"}, "2023-11-14T22:00:00Z"),
        ({"issued_at": "2099-01-01T00:00:00Z"}, SENT_SAID),
        ({"issued_at": "2023-11-14T23:13:20+02:00"}, "2023-11-14T23:13:20+02:00"),
        ({"issued_at": "2099-01-01T00:00:00Z", "expires_at": "2023-11-14T22:15:00Z"}, SENT_SAID),
        ({"expires_at": "2023-11-14T22:15:00Z"}, None),
    ],
)
def test_a_copied_session_is_no_younger_than_it_was(fields: dict[str, str], issued_at: str | None) -> None:
    message = json.dumps({"username": "zoë", "session": "s" * 40, **fields})
    copied = dated(message, SENT)
    assert json.loads(copied).get("issued_at") == issued_at
    before = PARSER.parse(message.encode(), SENT, latest=SENT)
    after = PARSER.parse(copied.encode(), SENT + 1000, latest=SENT + 1000)
    assert before == after


@pytest.mark.parametrize("text", ["nonsense", "[]", "7", "", '{"username": "a", "access_token": "x.y.z" }', "\ud800"])
def test_whatever_is_no_session_is_copied_as_it_is(text: str) -> None:
    assert dated(text, SENT) == text


def test_a_copy_keeps_the_attributes_that_can_be_sent() -> None:
    attribute = {"DataType": "String", "StringValue": "b", "StringListValues": []}
    entry = copy_of({"Body": "x", "MessageAttributes": {"a": attribute}}, delay=9_999)
    sendable = {"DataType": "String", "StringValue": "b"}
    assert entry == {"MessageBody": "x", "MessageAttributes": {"a": sendable}, "DelaySeconds": 900}
    assert copy_of({"Body": "x", "MessageAttributes": {}}) == {"MessageBody": "x"}


# --- bringing them back -----------------------------------------------------------------------------------------------


async def redriven(queues: SqsQueues, endpoint: str | None = None) -> Redriven:
    async with queues.client() as sqs:
        if endpoint is None:
            return await Redrive(sqs, queues.url, queues.dead_letter_url, PARSER).run()
        async with queues.at(endpoint) as behind:
            return await Redrive(behind, queues.url, queues.dead_letter_url, PARSER).run()


async def test_dead_letters_come_back_and_notes_and_what_is_no_request_stay(sqs_queues: SqsQueues) -> None:
    async with sqs_queues.open() as queue:
        await queue.put_aside("is not JSON", digest(b"x"))
        await die(sqs_queues, *(body(f"user {number}") for number in range(25)), "nonsense")
        done = await redriven(sqs_queues)
        assert (done.brought_back, done.notes, done.hidden) == (25, 1, 0)
        assert done.malformed == {"is not JSON": 1}
        assert {found.request.username for found in await lease(queue, 25)} == {f"user {n}" for n in range(25)}
        assert await waiting(sqs_queues, sqs_queues.dead_letter_url) == 2
        assert (await redriven(sqs_queues)).brought_back == 0, "and what stays is visible at once"


async def test_a_session_that_comes_back_has_not_become_younger(sqs_queues: SqsQueues) -> None:
    async with sqs_queues.open() as queue:
        before = time.time()
        await die(sqs_queues, json.dumps({"username": "ana", "session": "s" * 40}))
        await asyncio.sleep(1.5)
        await redriven(sqs_queues)
        [found] = await lease(queue, 1)
        assert found.request.expires_at <= before + 1 + 180


async def test_attributes_come_back_too(sqs_queues: SqsQueues) -> None:
    async with sqs_queues.client() as sqs:
        attributes: Any = {"trace": {"DataType": "String", "StringValue": "abc"}}
        await sqs.send_message(
            QueueUrl=sqs_queues.dead_letter_url, MessageBody=body().decode(), MessageAttributes=attributes
        )
        await redriven(sqs_queues)
        found = await sqs.receive_message(QueueUrl=sqs_queues.url, MessageAttributeNames=["All"], WaitTimeSeconds=2)
        assert found["Messages"][0]["MessageAttributes"]["trace"]["StringValue"] == "abc"


async def test_an_interruption_between_sending_and_deleting_loses_nobody(
    sqs_queues: SqsQueues, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.adapters.queues.sqs.redrive.HIDDEN_FOR", 3)
    async with sqs_queues.open() as queue:
        await die(sqs_queues, *(body(f"user {number}") for number in range(5)))
        proxy.errors["DeleteMessageBatch"] = "AccessDenied"
        with pytest.raises(QueueUnavailable, match="dead-letter"):
            await redriven(sqs_queues, proxy.url)
        proxy.errors.clear()
        await redriven(sqs_queues)
        found = Counter(each.request.username for each in await lease(queue, 10))
        assert set(found) == {f"user {number}" for number in range(5)}
        assert await waiting(sqs_queues, sqs_queues.dead_letter_url) == 0


async def test_what_the_queue_refuses_stays(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    async with sqs_queues.open() as queue:
        await die(sqs_queues, body())
        proxy.entries_refused["SendMessageBatch"] = "InvalidParameterValue"
        done = await redriven(sqs_queues, proxy.url)
        assert (done.brought_back, done.refused) == (0, {"InvalidParameterValue": 1})
        assert await queue.dead_letters(0) == 1


async def test_several_redrives_at_once_bring_back_everybody(sqs_queues: SqsQueues) -> None:
    """A queue of SQS may hand one message out twice, also to two redrives: the second request is a duplicate then."""
    async with sqs_queues.open() as queue:
        await die(sqs_queues, *(body(f"user {number}") for number in range(40)))
        done = await asyncio.gather(*(redriven(sqs_queues) for _ in range(3)))
        brought_back = sum(each.brought_back for each in done)
        assert 40 <= brought_back <= 42
        assert (await queue.backlog()).waiting == brought_back
        assert await queue.dead_letters(0) == 0


async def test_what_somebody_else_has_received_is_waited_for(sqs_queues: SqsQueues) -> None:
    async with sqs_queues.client() as sqs, sqs_queues.open() as queue:
        await die(sqs_queues, body())
        await sqs.receive_message(QueueUrl=sqs_queues.dead_letter_url, VisibilityTimeout=4)
        assert (await redriven(sqs_queues)).brought_back == 1
        assert (await queue.backlog()).waiting == 1


async def test_a_queue_that_would_make_dead_letters_again_gets_none_back(sqs_queues: SqsQueues) -> None:
    await limit(sqs_queues, 1)
    await die(sqs_queues, body())
    with pytest.raises(UsageError, match="maxReceiveCount is 1"):
        await redriven(sqs_queues)


async def test_without_a_dead_letter_queue_there_are_none(sqs_queues: SqsQueues) -> None:
    async with sqs_queues.client() as sqs, sqs_queues.open(dead_letter_url=None) as queue:
        with pytest.raises(UsageError, match="no dead-letter queue"):
            await Redrive(sqs, sqs_queues.url, None, PARSER).run()
        assert await queue.dead_letters(0) == 0
        await push_raw(queue, [b"{}"])
        await until(lambda: _gone(queue))


async def _gone(queue: SqsQueue) -> bool:
    assert list(await queue.lease(1)) == []
    return await queue.backlog() == Backlog(0)
