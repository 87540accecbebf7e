"""Queues that would lose requests or show them: refused before anything is touched, or told, with the line to type."""

from __future__ import annotations

import asyncio
import json
import shlex
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.adapters.queues.rigs import SqsQueues
from tests.adapters.queues.test_sqs import holds
from tests.support.emulators import Emulator, fresh
from tests.support.messages import body, pushed
from tests.support.sqs_proxy import Proxy
from worker.adapters.queues.sqs.fitness import dead_letter_troubles, redrive_policy, troubles
from worker.core.errors import ExitCode, QueueUnavailable, UsageError

URL = "https://sqs.eu-central-1.amazonaws.com/123456789012/requests"
ARN = "arn:aws:sqs:eu-central-1:123456789012:requests"
FIT = {"QueueArn": ARN, "SqsManagedSseEnabled": "true", "MessageRetentionPeriod": "86400", "DelaySeconds": "0"}

DEAD = {"QueueArn": f"{ARN}-dead", "SqsManagedSseEnabled": "true", "MessageRetentionPeriod": "345600"}


def redrive(receives: Any, target: str = "dead") -> dict[str, str]:
    arn = f"arn:aws:sqs:eu-central-1:123456789012:{target}"
    return {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": receives})}


@pytest.fixture
def emulator(ministack: Emulator, aws_credentials: None) -> Emulator:
    return ministack


def test_a_queue_as_init_makes_it_has_no_troubles() -> None:
    assert troubles(URL, FIT | redrive(1000)) == []
    assert troubles(URL, FIT) == [], "a queue without a redrive policy loses nothing"


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"SqsManagedSseEnabled": "false"}, "not encrypted"),
        ({"SqsManagedSseEnabled": ""}, "not encrypted"),
        (redrive(1), "maxReceiveCount is 1,"),
        (redrive("4"), "maxReceiveCount is 4,"),
        (redrive(None), "maxReceiveCount is 0,"),
        (redrive(1000, "requests"), "names the queue itself"),
        (redrive(1000, "dead.fifo"), "FIFO"),
    ],
)
def test_what_would_lose_or_show_requests_is_refused(attributes: dict[str, str], said: str) -> None:
    worst = troubles(URL, FIT | attributes | {"DelaySeconds": "5"})[0]
    assert (worst.is_refused, worst.loses) == (True, True)
    assert said in worst.said


@pytest.mark.parametrize(
    ("attributes", "said", "loses"),
    [
        (redrive(5), "maxReceiveCount is 5,", True),
        (redrive(99), "maxReceiveCount is 99,", True),
        ({"MessageRetentionPeriod": "60"}, "60 s", True),
        ({"MessageRetentionPeriod": "345600"}, "96 h", False),
        ({"DelaySeconds": "900"}, "900 s", False),
        ({"MaximumMessageSize": "1024"}, "1,024 bytes", False),
    ],
)
def test_what_hurts_is_told(attributes: dict[str, str], said: str, loses: bool) -> None:
    [trouble] = troubles(URL, FIT | attributes)
    assert (trouble.is_refused, trouble.loses) == (False, loses)
    assert said in trouble.said


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"QueueArn": ARN}, "is the queue of requests itself"),
        ({"RedriveAllowPolicy": '{"redrivePermission": "denyAll"}'}, "does not admit"),
        (
            {"RedriveAllowPolicy": '{"redrivePermission": "byQueue", "sourceQueueArns": ["arn:other"]}'},
            "does not admit",
        ),
        ({"MessageRetentionPeriod": "86400"}, "24 h, counted from when they were first sent"),
        (redrive(10, "third"), "has a dead-letter queue itself (third)"),
    ],
)
def test_a_dead_letter_queue_that_would_lose_what_comes_there_is_told(attributes: dict[str, str], said: str) -> None:
    [trouble] = dead_letter_troubles(f"{URL}-dead", DEAD | attributes, FIT | redrive(1000))
    assert said in trouble.said


def test_a_dead_letter_queue_as_it_should_be_has_no_troubles() -> None:
    admits = {"RedriveAllowPolicy": json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [ARN]})}
    for more in ({}, admits, {"RedriveAllowPolicy": "nonsense"}, {"RedriveAllowPolicy": "[]"}):
        assert dead_letter_troubles(f"{URL}-dead", DEAD | more, FIT | redrive(1000)) == []
    denies = {"RedriveAllowPolicy": '{"redrivePermission": "denyAll"}'}
    assert dead_letter_troubles(f"{URL}-dead", DEAD | denies, FIT) == [], "nothing is moved there"


def test_the_cure_is_a_line_that_can_be_typed() -> None:
    [trouble] = troubles(URL, FIT | redrive(1))
    words = shlex.split(trouble.cure)
    assert words[:5] == ["aws", "sqs", "set-queue-attributes", "--queue-url", URL]
    attributes = json.loads(words[words.index("--attributes") + 1])
    assert redrive_policy(attributes).receives == 1000
    assert redrive_policy(attributes).target.endswith(":dead")


def test_a_redrive_policy_that_is_none_counts_as_none() -> None:
    for text in ("", "{}", "[]", "nonsense", '{"maxReceiveCount": 3}'):
        assert redrive_policy({"RedrivePolicy": text}).target == ""


async def arn_of(queues: SqsQueues, url: str) -> str:
    async with queues.client() as sqs:
        return (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]


async def limit(queues: SqsQueues, receives: int) -> None:
    """Let SQS move what was received so often to the dead letters."""
    async with queues.client() as sqs:
        arn = await arn_of(queues, queues.dead_letter_url)
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": receives})
        await sqs.set_queue_attributes(QueueUrl=queues.url, Attributes={"RedrivePolicy": policy})


async def test_it_is_refused_for_work_and_may_still_be_looked_at(sqs_queues: SqsQueues) -> None:
    await limit(sqs_queues, 3)
    with pytest.raises(UsageError, match="maxReceiveCount is 3") as caught:
        async with sqs_queues.open():
            pass
    assert "aws sqs set-queue-attributes" in caught.value.hint
    async with sqs_queues.open(to_look=True) as queue:
        assert (await queue.backlog()).waiting == 0


async def test_an_unencrypted_queue_takes_no_request(sqs_queues: SqsQueues) -> None:
    async with sqs_queues.client() as sqs:
        plain = (await sqs.create_queue(QueueName=fresh("p"), Attributes={"SqsManagedSseEnabled": "false"}))["QueueUrl"]
        with pytest.raises(UsageError, match="not encrypted"):
            async with sqs_queues.open(url=plain):
                pass


@pytest.mark.parametrize("spelling", ["itself", "another host", "no account", "gone", "fifo"])
async def test_a_dead_letter_queue_that_cannot_be_one_is_refused(sqs_queues: SqsQueues, spelling: str) -> None:
    async with sqs_queues.client() as sqs:
        name = fresh("dead") + ".fifo"
        if spelling == "fifo":
            await sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})
        url = {
            "itself": sqs_queues.url,
            "another host": sqs_queues.url.replace("127.0.0.1", "localhost"),
            "no account": sqs_queues.url.rpartition("/")[2],
            "gone": f"{sqs_queues.url}-gone",
            "fifo": f"{sqs_queues.url.rpartition('/')[0]}/{name}",
        }[spelling]
        with pytest.raises(UsageError, match=r"the queue itself|no queue at queue\.dead_letter_url|FIFO"):
            async with sqs_queues.open(dead_letter_url=url):
                pass


async def test_a_redrive_policy_whose_queue_is_gone_is_told(sqs_queues: SqsQueues) -> None:
    await limit(sqs_queues, 1000)
    async with sqs_queues.client() as sqs:
        await sqs.delete_queue(QueueUrl=sqs_queues.dead_letter_url)
        with capture_logs() as logs:
            async with sqs_queues.open(dead_letter_url=None):
                pass
    assert ["which is gone" in log["cause"] for log in logs if log["event"] == "queue_unfit"] == [True]


async def test_a_message_that_the_queue_will_never_take_is_a_persons_to_mend(
    sqs_queues: SqsQueues, proxy: Proxy
) -> None:
    async with sqs_queues.open(endpoint=proxy.url) as queue:
        proxy.entries_refused["SendMessageBatch"] = "InvalidParameterValue"
        with pytest.raises(QueueUnavailable, match="refused 1 messages") as caught:
            await queue.push(pushed(body()))
    assert caught.value.exit_code is ExitCode.PERSON_MUST_ACT


async def test_who_may_not_look_at_the_dead_letters_may_push(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    """The policy of a migration script has only ``sqs:SendMessage`` there."""
    async with sqs_queues.client():
        proxy.refused_for[sqs_queues.dead_letter_url] = "AccessDenied"
        async with sqs_queues.open(endpoint=proxy.url) as queue:
            assert (await queue.push(pushed(body()))).accepted == 1


async def test_where_receives_are_few_the_worker_receives_a_second_of_work_ahead(sqs_queues: SqsQueues) -> None:
    await limit(sqs_queues, 5)
    with capture_logs() as logs:
        async with sqs_queues.open(look_ahead=40, seconds_ahead=10.0) as queue:
            await queue.push(pushed(*(body(f"user {number}") for number in range(30))))
            await holds(queue, 4)
            assert queue._room() == 0
            assert (await queue.backlog()).waiting == 30
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["queue_unfit"]


@pytest.mark.parametrize("operation", ["ChangeMessageVisibilityBatch", "DeleteMessageBatch"])
@pytest.mark.parametrize("whole", [True, False], ids=["the request", "an entry"])
async def test_a_permission_that_is_missing_ends_the_run_and_loses_nothing(
    sqs_queues: SqsQueues, proxy: Proxy, operation: str, whole: bool
) -> None:
    async with sqs_queues.open() as other:
        with pytest.raises(QueueUnavailable) as caught:  # noqa: PT012
            async with sqs_queues.open(endpoint=proxy.url, visibility=1) as queue:
                await queue.push(pushed(body(id="1")))
                if whole:
                    proxy.errors[operation] = "AccessDenied"
                else:
                    proxy.entries_refused[operation] = "AccessDenied"
                while True:
                    for found in await queue.lease(9):
                        if operation == "DeleteMessageBatch":
                            await queue.acknowledge(found)
                    await queue.is_empty()
                    await asyncio.sleep(0.02)
        assert caught.value.exit_code is ExitCode.PERSON_MUST_ACT
        assert operation in caught.value.hint
        proxy.errors.clear()
        proxy.entries_refused.clear()
        assert (await other.backlog()).waiting == 1
