"""What the S3 channel promises beyond the port: objects that are written once, encrypted, and found by their key."""

from __future__ import annotations

import hashlib
import uuid

import pytest

from tests.adapters.channels.rigs import (
    CUT,
    KEY,
    PREFIX,
    arrival,
    before,
    delivered_objects,
    new_bucket,
    record,
    refused_by_s3,
)
from tests.support.emulators import Emulator
from worker.adapters.aws.naming import Names
from worker.adapters.aws.session import Aws
from worker.adapters.channels.s3.channel import ATTEMPTS, S3Channel
from worker.adapters.channels.s3.keys import key_of
from worker.core.errors import ChannelUnavailable, ExitCode, RecordRefused
from worker.core.resilience.backoff import Backoff

ANA = arrival("ana", record(1))
ANAS_KEY = f"{PREFIX}/ana/1-{record(1).attempt_id}.age"


async def channel_at(
    aws: Aws, bucket: str | None = None, key: str | None = KEY, names: Names = "username"
) -> tuple[S3Channel, str]:
    s3 = await aws.s3()
    bucket = bucket or await new_bucket(s3)
    return S3Channel(s3, bucket, PREFIX, kms_key_id=key, names=names), bucket


async def test_an_object_is_the_age_file_itself_where_the_contract_says(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        channel, bucket = await channel_at(aws)
        await channel.deliver("ana", record(1))
        s3 = await aws.s3()
        found = await s3.get_object(Bucket=bucket, Key=ANAS_KEY)
        assert await found["Body"].read() == record(1).blob
        assert found["ContentType"] == "application/octet-stream"
        assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", KEY)
        assert found["Metadata"] == {}


async def test_a_user_can_be_named_by_a_hash(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        channel, bucket = await channel_at(aws, names="hash")
        await channel.deliver("ana", record(1))
        ((user, *_),) = await delivered_objects(await aws.s3(), bucket)
        assert user == "_sha256." + hashlib.sha256(b"ana").hexdigest()


@pytest.mark.parametrize("key", [KEY, None])
async def test_encryption_and_a_checksum_are_asked_for_and_nothing_may_be_overwritten(
    moto: Emulator, aws_credentials: None, key: str | None
) -> None:
    async with before(moto, "PUT") as (aws, proxy):
        channel, _ = await channel_at(aws, key=key)
        await channel.deliver("ana", record(1))
        *_, (headers, body) = proxy.requests
        assert body == record(1).blob
        assert headers["If-None-Match"] == "*"
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        assert headers.get("x-amz-server-side-encryption-aws-kms-key-id") == key
        assert headers["x-amz-server-side-encryption-bucket-key-enabled"].lower() == "true"
        assert headers["x-amz-checksum-sha256"]


async def test_the_same_attempt_with_other_bytes_changes_nothing(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        channel, bucket = await channel_at(aws)
        await channel.deliver("ana", record(1))
        await channel.deliver("ana", record(1, blob=b"something else"))
        assert await delivered_objects(await aws.s3(), bucket) == [ANA]


async def test_a_confirmation_that_was_lost_is_made_up_for(emulator: Emulator) -> None:
    async with emulator.aws() as direct:
        bucket = await new_bucket(await direct.s3())
        async with before(emulator, "PUT", CUT) as (aws, proxy):
            channel, _ = await channel_at(aws, bucket)
            await channel.deliver("ana", record(1))
            await channel.deliver("ana", record(1))
            assert len(proxy.requests) == 3
        assert await delivered_objects(await direct.s3(), bucket) == [ANA]


async def test_an_upload_at_the_same_time_is_waited_for(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.adapters.channels.s3.channel.BACKOFF", Backoff(0.0, 0.0))
    conflict = refused_by_s3("ConditionalRequestConflict", 409)
    async with emulator.aws() as direct:
        bucket = await new_bucket(await direct.s3())
        async with before(emulator, "PUT", *[conflict] * (ATTEMPTS - 1)) as (aws, _):
            await (await channel_at(aws, bucket))[0].deliver("ana", record(1))
        assert await delivered_objects(await direct.s3(), bucket) == [ANA]
        async with before(emulator, "PUT", *[conflict] * ATTEMPTS) as (aws, proxy):
            with pytest.raises(ChannelUnavailable, match="ConditionalRequestConflict"):
                await (await channel_at(aws, bucket))[0].deliver("ana", record(2))
            assert len(proxy.requests) == ATTEMPTS


async def test_a_bucket_that_is_not_there_is_named_with_its_cure(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        channel, _ = await channel_at(aws, "bucket-that-is-not-there")
        with pytest.raises(ChannelUnavailable, match=r"bucket-that-is-not-there.*NoSuchBucket \(PutObject\)") as caught:
            await channel.deliver("ana", record(1))
        assert caught.value.exit_code is ExitCode.PERSON_MUST_ACT
        assert "settings" in caught.value.hint


async def test_a_missing_permission_is_named_and_nothing_of_the_record_is_told(emulator: Emulator) -> None:
    async with before(emulator, "PUT", refused_by_s3("AccessDenied", 403)) as (aws, _):
        channel, _ = await channel_at(aws, "bucket")
        with pytest.raises(ChannelUnavailable, match="AccessDenied") as caught:
            await channel.deliver("ana", record(1))
        assert caught.value.exit_code is ExitCode.PERSON_MUST_ACT
        assert "PutObject" in caught.value.hint
        assert "SECRET" not in str(caught.value) + caught.value.hint
        assert "ana" not in str(caught.value)


async def test_a_name_that_no_bucket_can_have_is_away_too(moto: Emulator, aws_credentials: None) -> None:
    async with moto.aws() as aws:
        channel, _ = await channel_at(aws, "no/bucket")
        with pytest.raises(ChannelUnavailable, match="ParamValidationError"):
            await channel.deliver("ana", record(1))


@pytest.mark.parametrize(("code", "status"), [("KeyTooLongError", 400), ("EntityTooLarge", 400)])
async def test_a_record_that_s3_never_takes_is_refused_and_the_next_one_is_delivered(
    emulator: Emulator, code: str, status: int
) -> None:
    async with emulator.aws() as direct:
        bucket = await new_bucket(await direct.s3())
        async with before(emulator, "PUT", refused_by_s3(code, status)) as (aws, _):
            channel, _ = await channel_at(aws, bucket)
            with pytest.raises(RecordRefused) as caught:
                await channel.deliver("ben", record(1))
            assert caught.value.code == code
            await channel.deliver("ana", record(1))
        assert await delivered_objects(await direct.s3(), bucket) == [ANA]


def test_the_key_of_the_longest_username_under_the_longest_prefix_is_no_longer_than_s3_allows() -> None:
    for username in ("😀" * 128, "\0" * 128, "x" * 128, "é" * 128):
        key = key_of("p" * 128, username, "username", 10**18, str(uuid.UUID(int=0)))
        assert len(key.encode()) <= 1_024
