"""What only SQS has: messages that come twice, counts that lie, polls that are open at the end, dead letters."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

import pytest

from tests.adapters.queues.rigs import SqsQueues
from tests.adapters.queues.test_every_queue import ids, lease
from tests.support.emulators import fresh
from tests.support.messages import PARSER, body, push_raw, pushed, until
from tests.support.sqs_proxy import Proxy
from worker.adapters.queues.sqs.queue import SqsQueue
from worker.core.errors import UsageError
from worker.core.ports import Backlog, Pushed
from worker.requests.lines import digest


async def holds(queue: SqsQueue, number: int) -> None:
    """Return when so many messages wait in the worker for their turn."""

    async def enough() -> bool:
        queue._receiver.want()
        return queue._in_flight.ahead >= number

    await until(enough)


async def goes_empty(queue: SqsQueue, seconds: float = 10.0) -> None:
    """Ask as the worker does, which looks for messages first."""

    async def is_empty() -> bool:
        assert list(await queue.lease(1)) == []
        return await queue.is_empty()

    await until(is_empty, seconds)


# --- leasing ----------------------------------------------------------------------------------------------------------


async def test_of_the_messages_that_are_here_the_earliest_deadline_comes_first(sqs_queues: SqsQueues) -> None:
    async with sqs_queues.open() as queue:
        await queue.push(pushed(*(body(id=str(seconds), expires_in=seconds) for seconds in (50, 20, 40, -10, 30))))
        await holds(queue, 5)
        assert ids(list(await queue.lease(3))) == ["-10", "20", "30"]
        assert ids(list(await queue.lease(3))) == ["40", "50"]


async def test_workers_share_the_messages_and_none_is_forgotten(sqs_queues: SqsQueues) -> None:
    async with sqs_queues.open("one") as one, sqs_queues.open("two") as two:
        await one.push(pushed(*(body(f"user {number}") for number in range(40))))
        got: Counter[str] = Counter()

        async def all_came() -> bool:
            for queue in (one, two):
                for found in await queue.lease(3):
                    got[found.request.username] += 1
                    await queue.acknowledge(found)
            return len(got) == 40

        await until(all_came)
        await until(lambda: no_backlog(one))


async def no_backlog(queue: SqsQueue) -> bool:
    return await queue.backlog() == Backlog(0)


async def test_a_message_that_comes_again_while_it_is_worked_on_is_no_second_lease(
    sqs_queues: SqsQueues, proxy: Proxy
) -> None:
    async with sqs_queues.client() as sqs, sqs_queues.open(endpoint=proxy.url, visibility=30) as queue:
        await queue.push(pushed(body(id="1")))
        [found] = await lease(queue, 1)
        old = found.receipt.handle  # type: ignore[attr-defined]
        await sqs.change_message_visibility(QueueUrl=sqs_queues.url, ReceiptHandle=old, VisibilityTimeout=0)

        async def came_again() -> bool:
            assert list(await queue.lease(9)) == []
            return proxy.received == 2

        await until(came_again)
        assert list(await queue.lease(9)) == []
        assert await queue.backlog() == Backlog(1)
        await queue.acknowledge(found)
        assert await queue.backlog() == Backlog(0), "the newest receipt handle is the one that deletes"


async def test_a_message_that_comes_again_after_its_delete_is_deleted_again(
    sqs_queues: SqsQueues, proxy: Proxy
) -> None:
    async with sqs_queues.open(endpoint=proxy.url, visibility=1) as queue:
        await queue.push(pushed(body(id="1")))
        [found] = await lease(queue, 1)
        proxy.swallowed["DeleteMessageBatch"] = 1
        await queue.acknowledge(found)

        async def deleted() -> bool:
            assert list(await queue.lease(9)) == []
            return proxy.received == 2 and await no_backlog(queue)

        await until(deleted)


async def test_a_session_without_times_ages_from_the_moment_it_was_sent(sqs_queues: SqsQueues) -> None:
    """Whoever sent it, and however often it comes."""
    async with sqs_queues.client() as sqs, sqs_queues.open() as queue:
        message = json.dumps({"username": "ana", "session": "s" * 40})
        sent = time.time()
        await sqs.send_message(QueueUrl=sqs_queues.url, MessageBody=message)
        [found] = await lease(queue, 1)
        await queue.give_back(found, 1)
        [again] = await lease(queue, 1)
        assert found.request.expires_at == again.request.expires_at
        assert -1 < found.request.expires_at - 180 - sent < 1


async def test_no_session_is_younger_than_its_message_whatever_a_clock_that_is_ahead_wrote(
    sqs_queues: SqsQueues,
) -> None:
    async with sqs_queues.open() as queue:
        session = {"username": "ana", "session": "s" * 40, "issued_at": "2099-12-31T23:59:59Z"}
        sent = time.time()
        await push_raw(queue, [json.dumps(session).encode()])
        [found] = await lease(queue, 1)
        assert -1 < found.request.expires_at - 180 - sent < 5


async def test_any_text_can_be_pushed(sqs_queues: SqsQueues) -> None:
    """SQS itself refuses U+FFFE and U+FFFF."""
    raw = json.dumps({"username": "\uffff\ufffe\x7f\u2028", "session": "s" * 40}, ensure_ascii=False).encode()
    now = time.time()
    async with sqs_queues.open() as queue:
        await queue.push([(PARSER.parse(raw, now), PARSER.body(raw, now))])
        [found] = await lease(queue, 1)
        assert found.request.username == "\uffff\ufffe\x7f\u2028"


# --- polls ------------------------------------------------------------------------------------------------------------


async def test_an_idle_worker_has_one_poll_open_and_a_busy_one_a_few(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    sqs_queues.long_polls = True
    async with sqs_queues.open(endpoint=proxy.url, look_ahead=1000) as queue:
        assert list(await queue.lease(1)) == []

        async def one_poll_ended() -> bool:
            assert list(await queue.lease(1)) == []
            return proxy.requests["ReceiveMessage"] == 2

        await until(one_poll_ended)
        assert proxy.most_open == 1
        await queue.push(pushed(*(body(f"user {number}") for number in range(60))))
        await holds(queue, 55)
        assert 1 < proxy.most_open <= 8


async def test_no_poll_is_open_while_enough_is_here_or_nobody_asks(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    async with sqs_queues.open(endpoint=proxy.url, look_ahead=12, visibility=30) as queue:
        assert proxy.requests["ReceiveMessage"] == 0
        await queue.push(pushed(*(body(f"user {number}") for number in range(30))))
        await holds(queue, 10)
        for _ in range(20):
            assert await queue.is_empty() is False
        assert (queue._in_flight.ahead, proxy.requests["ReceiveMessage"]) == (10, 1)
        assert len(await lease(queue, 30)) == 30
        queue._receiver._wanted_until = 0
        await until(lambda: _is(proxy.open == 0))
        asked = proxy.requests["ReceiveMessage"]
        await asyncio.sleep(0.5)
        assert proxy.requests["ReceiveMessage"] <= asked + 1


async def test_a_user_costs_a_third_of_a_request(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    async with sqs_queues.open(endpoint=proxy.url, look_ahead=40, visibility=30) as queue:
        await queue.push(pushed(*(body(f"user {number}") for number in range(40))))
        leases = await lease(queue, 40)
        await asyncio.gather(*(queue.acknowledge(found) for found in leases))
        queue._receiver._wanted_until = 0
        assert await queue.backlog() == Backlog(0)
        assert (proxy.requests["SendMessageBatch"], proxy.requests["DeleteMessageBatch"]) == (4, 4)
        assert proxy.requests["ReceiveMessage"] <= 10
        assert proxy.requests["ChangeMessageVisibilityBatch"] == 0


async def _is(fact: bool) -> bool:
    return fact


async def test_a_poll_that_is_open_at_the_end_swallows_nothing(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    sqs_queues.long_polls = True
    async with sqs_queues.open("two", visibility=30) as two:
        async with sqs_queues.open("one", endpoint=proxy.url, visibility=30) as one:
            await one.push(pushed(body(id="1"), body(id="2"), body(id="3")))
            done, _ = await lease(one, 2)
            await one.acknowledge(done)
            await holds(one, 1)
            await until(lambda: _is(proxy.open == 1))
            began = time.monotonic()
            closing = asyncio.create_task(one.close())
            await until(lambda: _is(one._receiver._closing))
            await two.push(pushed(body(id="4")))
            await closing
            assert time.monotonic() - began < 3
        assert len(await lease(two, 3)) == 3


# --- what is empty ----------------------------------------------------------------------------------------------------


async def test_a_queue_is_not_empty_while_another_worker_holds_a_message(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    sqs_queues.long_polls = True
    async with sqs_queues.open("other") as other, sqs_queues.open("one", endpoint=proxy.url) as one:
        await other.push(pushed(body(id="1")))
        [held] = await lease(other, 1)
        over = time.monotonic() + 1.6
        while time.monotonic() < over:
            assert list(await one.lease(1)) == []
            assert await one.is_empty() is False
            await asyncio.sleep(0.02)
        assert proxy.requests["GetQueueAttributes"] < 10
        await other.acknowledge(held)
        acknowledged = time.monotonic()
        await goes_empty(one)
        assert time.monotonic() - acknowledged >= 1.0


# --- malformed messages -----------------------------------------------------------------------------------------------


async def test_a_dead_letter_has_reason_and_digest_and_nothing_of_the_message(sqs_queues: SqsQueues) -> None:
    bad = b'{"session": "%s"}' % (b"s3cret" * 10)
    async with sqs_queues.open() as queue:
        await push_raw(queue, [bad])
        await lease_nothing_until_malformed(queue, sqs_queues, 1)
        await until(lambda: no_backlog(queue))
        await queue.put_aside("is not JSON", "0123456789abcdef")
        assert sqs_queues.malformed == 2
        assert await queue.counted() == (0, 0)
    aside = [("is not JSON", "0123456789abcdef", 1), ("has no username", digest(bad), 1)]
    assert sorted(await sqs_queues.put_aside()) == sorted(aside)
    assert {found["Body"] for found in sqs_queues.dead_letters} == {digest(bad), "0123456789abcdef"}
    assert "s3cret" not in str(sqs_queues.dead_letters)


async def lease_nothing_until_malformed(queue: SqsQueue, queues: SqsQueues, number: int) -> None:
    async def counted() -> bool:
        assert list(await queue.lease(9)) == []
        return queues.malformed >= number

    await until(counted)


async def test_a_malformed_message_stays_for_the_queues_own_redrive_policy_and_is_counted_once(
    sqs_queues: SqsQueues, proxy: Proxy
) -> None:
    async with sqs_queues.client() as sqs:
        dead = (await sqs.create_queue(QueueName=fresh("dead")))["QueueUrl"]
        arn = (await sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "500"})
        await sqs.set_queue_attributes(QueueUrl=sqs_queues.url, Attributes={"RedrivePolicy": redrive})
    async with sqs_queues.open(endpoint=proxy.url, dead_letter_url=None, visibility=1) as queue:
        await push_raw(queue, [b"{}"])

        async def came_again() -> bool:
            assert list(await queue.lease(9)) == []
            return proxy.received >= 2

        await until(came_again)
        await queue.put_aside("is not JSON", "0123456789abcdef")
        assert sqs_queues.malformed == 2
        assert await queue.backlog() == Backlog(1)


async def test_where_nothing_takes_malformed_messages_they_are_counted_and_deleted_so_that_the_run_can_end(
    sqs_queues: SqsQueues,
) -> None:
    async with sqs_queues.open(dead_letter_url=None) as queue:
        await push_raw(queue, [b"{}"])
        await lease_nothing_until_malformed(queue, sqs_queues, 1)
        await goes_empty(queue)
        assert sqs_queues.malformed == 1


# --- opening ----------------------------------------------------------------------------------------------------------


async def test_a_fifo_queue_is_refused(sqs_queues: SqsQueues) -> None:
    async with sqs_queues.client() as sqs:
        fifo = await sqs.create_queue(QueueName=fresh("queue") + ".fifo", Attributes={"FifoQueue": "true"})
        with pytest.raises(UsageError, match="FIFO"):
            async with sqs_queues.open(url=fifo["QueueUrl"]):
                pass


async def test_pushing_knows_no_duplicates(sqs_queues: SqsQueues) -> None:
    async with sqs_queues.open() as queue:
        assert await queue.push(pushed(body(id="1"), body(id="1"))) == Pushed(accepted=2)
        assert await queue.backlog() == Backlog(2)
