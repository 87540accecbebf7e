"""What the SQS channel promises beyond the port: ten at a time, each confirmed by itself, and only where it is safe."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.adapters.channels.rigs import (
    CUT,
    Reply,
    before,
    new_queue,
    record,
    refused,
    take_messages,
)
from tests.support.emulators import Emulator, fresh
from worker.adapters.aws.session import Aws
from worker.adapters.channels.sqs.channel import SqsChannel
from worker.core.errors import ChannelUnavailable, ExitCode, RecordRefused, UsageError
from worker.core.record import record_line


async def channel_at(aws: Aws, url: str) -> SqsChannel:
    channel = SqsChannel(await aws.sqs(), url)
    await channel.open()
    return channel


async def queue_at(emulator: Emulator) -> str:
    async with emulator.aws() as aws:
        return await new_queue(await aws.sqs())


async def messages_at(emulator: Emulator, url: str) -> list[str]:
    async with emulator.aws() as aws:
        return await take_messages(await aws.sqs(), url)


async def test_a_message_is_the_line_of_the_file_channel_and_has_no_attributes(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        sqs = await aws.sqs()
        url = await new_queue(sqs)
        channel = await channel_at(aws, url)
        await channel.deliver("é\0", record(7))
        (message,) = (await sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"]))["Messages"]
        assert message["Body"].encode() == record_line("é\0", record(7))
        assert "MessageAttributes" not in message


async def test_what_waits_together_leaves_together_in_tens(emulator: Emulator) -> None:
    url = await queue_at(emulator)
    async with before(emulator, "SendMessageBatch") as (aws, proxy):
        channel = await channel_at(aws, url)
        await asyncio.gather(*(channel.deliver(f"user {number}", record(number)) for number in range(25)))
        assert sorted(len(json.loads(body)["Entries"]) for _, body in proxy.requests) == [5, 10, 10]
    assert len(await messages_at(emulator, url)) == 25


async def test_large_records_leave_in_several_requests(emulator: Emulator) -> None:
    url = await queue_at(emulator)
    large = b"x" * 60_000
    async with before(emulator, "SendMessageBatch") as (aws, proxy):
        channel = await channel_at(aws, url)
        await asyncio.gather(*(channel.deliver(f"user {number}", record(number, blob=large)) for number in range(7)))
        assert sorted(len(json.loads(body)["Entries"]) for _, body in proxy.requests) == [1, 3, 3]
    assert len(await messages_at(emulator, url)) == 7


async def test_one_that_was_refused_is_away_and_the_others_are_delivered(emulator: Emulator) -> None:
    reply = {
        "Successful": [{"Id": "0", "MessageId": "a", "MD5OfMessageBody": "b"}],
        "Failed": [{"Id": "1", "Code": "InternalError", "SenderFault": False, "Message": "told: SECRET"}],
    }
    url = await queue_at(emulator)
    async with before(emulator, "SendMessageBatch", Reply(200, json.dumps(reply))) as (aws, _):
        channel = await channel_at(aws, url)
        told = await asyncio.gather(
            *(channel.deliver(name, record()) for name in ("ana", "ben", "cem")), return_exceptions=True
        )
    assert told[0] is None
    assert [str(unavailable) for unavailable in told[1:]] == [
        "the SQS queue of the channel cannot be used: InternalError (SendMessageBatch)",
        "the SQS queue of the channel cannot be used: no confirmation (SendMessageBatch)",
    ]
    assert all(isinstance(unavailable, ChannelUnavailable) for unavailable in told[1:])


async def test_an_answer_that_came_torn_confirms_nobody(emulator: Emulator) -> None:
    url = await queue_at(emulator)
    async with before(emulator, "SendMessageBatch", Reply(200, "{}")) as (aws, _):
        channel = await channel_at(aws, url)
        with pytest.raises(ChannelUnavailable, match="no confirmation"):
            await channel.deliver("ana", record())
        await channel.deliver("ana", record())


async def test_a_confirmation_that_was_lost_brings_the_same_record_again(emulator: Emulator) -> None:
    url = await queue_at(emulator)
    async with before(emulator, "SendMessageBatch", CUT) as (aws, _):
        await (await channel_at(aws, url)).deliver("ana", record())
    assert set(await messages_at(emulator, url)) == {record_line("ana", record()).decode()}


async def test_everybody_who_waited_learns_of_a_refusal(emulator: Emulator) -> None:
    url = await queue_at(emulator)
    async with before(emulator, "SendMessageBatch", *[refused("KmsAccessDenied")] * 2) as (aws, _):
        channel = await channel_at(aws, url)
        told = await asyncio.gather(
            *(channel.deliver(f"user {number}", record()) for number in range(12)), return_exceptions=True
        )
        assert len({str(unavailable) for unavailable in told}) == 1
        assert all(
            isinstance(unavailable, ChannelUnavailable) and unavailable.exit_code is ExitCode.PERSON_MUST_ACT
            for unavailable in told
        )
        assert "SECRET" not in str(told[0])
        await channel.deliver("ana", record())


async def test_a_delivery_nobody_waits_for_any_more_holds_nobody_up(emulator: Emulator) -> None:
    url = await queue_at(emulator)
    async with emulator.aws() as aws:
        channel = await channel_at(aws, url)
        gone = asyncio.ensure_future(channel.deliver("gone", record()))
        stays = asyncio.ensure_future(channel.deliver("ana", record()))
        await asyncio.sleep(0)
        gone.cancel()
        await stays
        await channel.close()
    assert record_line("ana", record()).decode() in await messages_at(emulator, url)


async def test_closing_waits_for_what_is_being_sent(emulator: Emulator) -> None:
    url = await queue_at(emulator)
    async with emulator.aws() as aws:
        channel = await channel_at(aws, url)
        delivery = asyncio.ensure_future(channel.deliver("ana", record()))
        await asyncio.sleep(0)
        await channel.close()
        await delivery
    assert len(await messages_at(emulator, url)) == 1


# --- only where it is safe --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attributes", [{"SqsManagedSseEnabled": "true"}, {"KmsMasterKeyId": "alias/aws/sqs"}])
async def test_a_queue_that_is_encrypted_is_taken(emulator: Emulator, attributes: dict[str, str]) -> None:
    async with emulator.aws() as aws:
        sqs = await aws.sqs()
        url = (await sqs.create_queue(QueueName=fresh("queue"), Attributes=attributes))["QueueUrl"]  # type: ignore[arg-type]
        await channel_at(aws, url)


async def test_a_queue_that_is_not_encrypted_is_refused(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        sqs = await aws.sqs()
        url = (await sqs.create_queue(QueueName=fresh("q"), Attributes={"SqsManagedSseEnabled": "false"}))["QueueUrl"]
        with pytest.raises(UsageError, match="not encrypted") as caught:
            await channel_at(aws, url)
        assert "SqsManagedSseEnabled" in caught.value.hint


async def test_a_fifo_queue_is_refused(moto: Emulator, aws_credentials: None) -> None:
    async with moto.aws() as aws:
        with pytest.raises(UsageError, match="FIFO"):
            await channel_at(aws, f"{moto.url}/123456789012/records.fifo")


async def test_a_queue_that_is_not_there_is_a_persons_to_mend(emulator: Emulator) -> None:
    url = await queue_at(emulator)
    async with emulator.aws() as aws:
        with pytest.raises(ChannelUnavailable, match="GetQueueAttributes") as caught:
            await channel_at(aws, url + "-not")
        assert caught.value.exit_code is ExitCode.PERSON_MUST_ACT
        assert "settings" in caught.value.hint


async def test_a_message_that_the_queue_never_takes_is_refused_and_the_others_are_delivered(emulator: Emulator) -> None:
    reply = {
        "Successful": [{"Id": "0", "MessageId": "a", "MD5OfMessageBody": "b"}],
        "Failed": [{"Id": "1", "Code": "InvalidParameterValue", "SenderFault": True, "Message": "told: SECRET"}],
    }
    url = await queue_at(emulator)
    async with before(emulator, "SendMessageBatch", Reply(200, json.dumps(reply))) as (aws, _):
        channel = await channel_at(aws, url)
        told = await asyncio.gather(
            *(channel.deliver(name, record()) for name in ("ana", "ben")), return_exceptions=True
        )
    assert told[0] is None
    assert isinstance(told[1], RecordRefused)
    assert told[1].code == "InvalidParameterValue"


async def test_a_batch_that_is_too_long_is_sent_one_by_one(emulator: Emulator) -> None:
    url = await queue_at(emulator)
    too_long = refused("com.amazonaws.sqs#BatchRequestTooLong")
    async with before(emulator, "SendMessageBatch", too_long, too_long) as (aws, proxy):
        channel = await channel_at(aws, url)
        told = await asyncio.gather(
            *(channel.deliver(name, record()) for name in ("ana", "ben", "cem")), return_exceptions=True
        )
        assert [len(json.loads(body)["Entries"]) for _, body in proxy.requests] == [3, 1, 1, 1]
    assert isinstance(told[0], RecordRefused)
    assert told[1:] == [None, None]
    assert len(await messages_at(emulator, url)) == 2


async def test_the_longest_message_is_what_the_queue_says(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        sqs = await aws.sqs()
        url = await new_queue(sqs)
        await sqs.set_queue_attributes(QueueUrl=url, Attributes={"MaximumMessageSize": "4096"})
        channel = await channel_at(aws, url)
        most = channel.most_sealed("ana")
        assert 2_500 < most < 3_072
        await channel.deliver("ana", record(1, blob=b"x" * most))
        assert len(await messages_at(emulator, url)) == 1
