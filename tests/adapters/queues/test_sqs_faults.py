"""What an SQS queue does while SQS fails: in part, for a while, for good, or by answering half or too late."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from tests.adapters.queues.rigs import SqsQueues
from tests.adapters.queues.test_every_queue import ids, lease
from tests.adapters.queues.test_sqs import goes_empty
from tests.support.emulators import Emulator
from tests.support.messages import body, push_raw, pushed, until
from tests.support.sqs_proxy import Proxy
from worker.adapters.queues.sqs.queue import SqsQueue
from worker.core.errors import ExitCode, QueueUnavailable, UsageError
from worker.core.ports import Backlog, Lease, Pushed
from worker.core.resilience.backoff import Outage


@pytest.fixture
def emulator(ministack: Emulator, aws_credentials: None) -> Emulator:
    """One is enough: the faults are the proxy's."""
    return ministack


async def lease_raises(queue: SqsQueue) -> QueueUnavailable:
    """What ``lease`` raises in the end."""
    raised: list[QueueUnavailable] = []

    async def does() -> bool:
        try:
            assert list(await queue.lease(1)) == []
        except QueueUnavailable as unavailable:
            raised.append(unavailable)
        return bool(raised)

    await until(does)
    return raised[0]


async def test_batches_that_fail_in_part_are_repeated_in_part(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    async with sqs_queues.open(endpoint=proxy.url, visibility=30) as queue:
        for operation in ("SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"):
            proxy.failing[operation] = 1
        assert await queue.push(pushed(*(body(f"user {number}") for number in range(12)))) == Pushed(12)
        assert await queue.backlog() == Backlog(12)
        leases = await lease(queue, 12)
        for found in leases[:9]:
            await queue.acknowledge(found)
        for found in leases[9:]:
            await queue.give_back(found, 0)
        assert await queue.backlog() == Backlog(3)
        assert sorted(ids(await lease(queue, 3))) == sorted(ids(leases[9:]))
        assert not +proxy.failing


async def test_half_an_answer_is_no_success(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    """The SDK makes an empty success of it."""
    async with sqs_queues.open(endpoint=proxy.url) as queue:
        proxy.cut_off["SendMessageBatch"] = 1
        await queue.push(pushed(body(id="1")))
        assert proxy.requests["SendMessageBatch"] == 2
        [first, _] = await lease(queue, 2)
        proxy.cut_off["DeleteMessageBatch"] = 1
        await queue.acknowledge(first)
        assert await queue.backlog() == Backlog(1)
        assert proxy.requests["DeleteMessageBatch"] == 2
        proxy.cut_off["GetQueueAttributes"] = 1
        with pytest.raises(QueueUnavailable):
            await queue.backlog()


async def test_half_an_answer_proves_no_emptiness(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    sqs_queues.long_polls = True
    async with sqs_queues.open(endpoint=proxy.url, empty_after=0, visibility=1) as queue:
        await queue.push(pushed(body(id="1")))
        proxy.counts_lag = True
        proxy.cut_off["ReceiveMessage"] = 1
        leases: list[Lease] = []

        async def came() -> bool:
            assert await queue.is_empty() is False
            leases.extend(await queue.lease(1))
            return bool(leases)

        await until(came)
        await queue.acknowledge(leases[0])


async def test_counts_that_lag_make_no_queue_empty_whose_messages_are_in_hand(
    sqs_queues: SqsQueues, proxy: Proxy
) -> None:
    sqs_queues.long_polls = proxy.counts_lag = True
    async with sqs_queues.open(endpoint=proxy.url, empty_after=0, visibility=30) as queue:
        await queue.push(pushed(body(id="1"), body(id="2")))
        one, two = await lease(queue, 2)
        polls = proxy.requests["ReceiveMessage"]

        async def polled_twice_more() -> bool:
            assert await queue.is_empty() is False
            return proxy.requests["ReceiveMessage"] >= polls + 3

        await until(polled_twice_more)
        await queue.acknowledge(one)
        assert await queue.is_empty() is False, "its delete is on its way"
        await queue.acknowledge(two)
        await goes_empty(queue)
        proxy.counts_lag = False
        assert await queue.backlog() == Backlog(0)


async def test_a_short_outage_is_bridged(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    async with sqs_queues.open() as producer, sqs_queues.open(endpoint=proxy.url) as queue:
        await producer.push(pushed(body(id="1")))
        [first] = await lease(queue, 1)
        await producer.push(pushed(body(id="2")))
        proxy.down = True
        await queue.acknowledge(first)
        with capture_logs() as logs:

            async def noticed() -> bool:
                await _work(queue)
                assert await queue.is_empty() is False
                return queue._receiver.outage.failures > 1

            await until(noticed, 30)
            proxy.down = False

            async def all_done() -> bool:
                await _work(queue)
                return queue._receiver.outage.failures == 0 and await producer.backlog() == Backlog(0)

            await until(all_done, 30)
        assert [log["event"] for log in logs if log["log_level"] != "debug"] == ["queue_away", "queue_back"]


async def _work(queue: SqsQueue) -> None:
    for found in await queue.lease(9):
        await queue.acknowledge(found)


async def test_an_outage_that_lasts_ends_the_run_later(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    async with sqs_queues.open(endpoint=proxy.url) as queue:
        proxy.errors = dict.fromkeys(("ReceiveMessage", "GetQueueAttributes"), "InternalError")
        queue._receiver.outage = Outage(0.5)
        began = time.monotonic()
        unavailable = await lease_raises(queue)
        assert time.monotonic() - began >= 0.5
        assert unavailable.exit_code == ExitCode.DEPENDENCY_UNAVAILABLE
        assert "InternalError" in str(unavailable)
        with pytest.raises(QueueUnavailable):
            await queue.is_empty()


@pytest.mark.parametrize("operation", ["ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"])
async def test_a_missing_permission_ends_the_run_at_once(sqs_queues: SqsQueues, proxy: Proxy, operation: str) -> None:
    async with sqs_queues.open(endpoint=proxy.url) as queue:
        await queue.push(pushed(body(id="1"), body(id="2")))
        if operation != "ReceiveMessage":
            one, two = await lease(queue, 2)
            proxy.errors[operation] = "AccessDenied"
            await queue.acknowledge(one)
            await queue.give_back(two, 0)
        proxy.errors[operation] = "AccessDenied"
        raised: list[QueueUnavailable] = []

        async def does() -> bool:
            try:
                await queue.lease(1)
            except QueueUnavailable as unavailable:
                raised.append(unavailable)
            return bool(raised)

        await until(does)
        assert raised[0].exit_code == ExitCode.PERSON_MUST_ACT
        assert operation in raised[0].hint
        assert "echoes" not in str(raised[0]) + raised[0].hint
        proxy.errors.clear()


async def test_is_empty_says_which_permission_it_misses(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    async with sqs_queues.open(endpoint=proxy.url) as queue:
        proxy.errors["GetQueueAttributes"] = "AccessDenied"
        with pytest.raises(QueueUnavailable) as raised:
            await queue.is_empty()
        assert raised.value.exit_code == ExitCode.PERSON_MUST_ACT
        assert "GetQueueAttributes" in raised.value.hint


async def test_a_queue_that_is_not_there_is_said_so_when_it_is_opened(sqs_queues: SqsQueues) -> None:
    async with sqs_queues.client():
        with pytest.raises(UsageError, match="no queue at") as raised:
            async with sqs_queues.open(url=sqs_queues.url + "-not"):
                pass
    assert "mfa-worker init" in raised.value.hint


async def test_a_heartbeat_that_fails_stops_nothing(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    async with sqs_queues.open(endpoint=proxy.url, visibility=1) as queue:
        await queue.push(pushed(body(id="1")))
        proxy.errors["ChangeMessageVisibilityBatch"] = "InternalError"
        with capture_logs() as logs:
            [held] = await lease(queue, 1)

            async def told() -> bool:
                assert list(await queue.lease(9)) == []
                return bool(logs)

            await until(told)
        assert logs[0]["event"] == "heartbeat_failed"
        assert "echoes" not in str(logs)
        proxy.errors.clear()
        await queue.acknowledge(held)

        async def done() -> bool:
            assert list(await queue.lease(9)) == []
            return await queue.backlog() == Backlog(0)

        await until(done)


async def test_a_dead_letter_that_cannot_be_sent_keeps_its_message(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    async with sqs_queues.open() as producer, sqs_queues.open(endpoint=proxy.url, visibility=1) as queue:
        await push_raw(producer, [b"{}"])
        proxy.errors["SendMessageBatch"] = "AccessDenied"
        unavailable = await lease_raises(queue)
        assert "dead-letter" in str(unavailable)
        assert unavailable.exit_code == ExitCode.PERSON_MUST_ACT
        assert (sqs_queues.malformed, await producer.backlog()) == (0, Backlog(1))
        proxy.errors.clear()


async def test_a_close_that_fails_says_so_and_loses_nothing(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    async with sqs_queues.open() as other, sqs_queues.open(endpoint=proxy.url) as queue:
        await queue.push(pushed(body(id="1"), body(id="2")))
        done, _ = await lease(queue, 2)
        proxy.errors["ChangeMessageVisibilityBatch"] = "AccessDenied"
        await queue.acknowledge(done)
        with pytest.raises(QueueUnavailable):
            await queue.close()
        assert await other.backlog() == Backlog(1)
        assert len(await lease(other, 1)) == 1


async def test_a_close_that_gets_no_answer_ends_all_the_same(
    sqs_queues: SqsQueues, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.adapters.queues.sqs.queue._CLOSING", 0.5)
    async with sqs_queues.open(endpoint=proxy.url) as queue:
        await queue.push(pushed(body(id="1"), body(id="2")))
        done, _ = await lease(queue, 2)
        proxy.down = True
        await queue.acknowledge(done)
        closing = time.monotonic()
        with pytest.raises(QueueUnavailable, match="in time"):
            await queue.close()
        assert time.monotonic() - closing < 5


async def test_nothing_secret_is_logged_at_any_level(sqs_queues: SqsQueues, proxy: Proxy) -> None:
    secret = "s3cret" * 10
    with capture_logs() as logs:
        async with sqs_queues.open(endpoint=proxy.url, visibility=1) as queue:
            await push_raw(queue, [b'{"session": "%s"}' % secret.encode()])
            await queue.push(pushed(body(session=secret)))
            [found] = await lease(queue, 1)
            proxy.swallowed["DeleteMessageBatch"] = 9
            await queue.acknowledge(found)

            async def came_again() -> bool:
                assert list(await queue.lease(1)) == []
                return "came_after_delete" in {log["event"] for log in logs}

            await until(came_again)
            proxy.swallowed.clear()
    assert secret not in str(logs)
    assert "ana" not in str(logs)
