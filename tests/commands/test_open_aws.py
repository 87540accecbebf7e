"""Opening what was delivered through AWS: the newest of each user, over all sources, with the opener's identity."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.channels.rigs import KEY, before, new_bucket, new_queue, refused, take_messages
from tests.support.emulators import Emulator, fresh
from tests.support.rows import NASTY_NAMES
from worker.adapters.aws.naming import Names, segment
from worker.adapters.aws.session import Aws, AwsTarget
from worker.adapters.channels.s3.channel import S3Channel
from worker.adapters.channels.s3.source import LARGEST, copy_objects
from worker.adapters.channels.secretsmanager.channel import SecretsManagerChannel
from worker.adapters.channels.sqs.channel import SqsChannel
from worker.adapters.channels.sqs.source import drain
from worker.core.errors import ChannelUnavailable, ExitCode, UsageError
from worker.core.model import Sealed
from worker.core.ports import Channel
from worker.core.record import record_line
from worker.sealing.age import AgeSealer, keygen, write_identity
from worker.sealing.open import as_lines, open_sources

TEXT, RECIPIENT = keygen("now")
OTHER_TEXT, OTHER_RECIPIENT = keygen("now")
SEALER = AgeSealer([RECIPIENT])
PREFIX = "rollout"


def record(username: str, generation: int) -> dict[str, Any]:
    return {"username": username, "generation": generation, "secret_code": f"SECRET{generation}"}


def sealed(username: str, generation: int, sealer: AgeSealer = SEALER, **inner: Any) -> Sealed:
    blob = sealer.seal(json.dumps(record(username, generation) | inner).encode())
    return Sealed(generation, str(uuid.uuid4()), "2025-01-31T12:00:00.000Z", blob)


async def deliver(channel: Channel, *whom: tuple[str, int]) -> None:
    await asyncio.gather(*(channel.deliver(username, sealed(username, number)) for username, number in whom))


@dataclass
class Opener:
    """Who opens, with two identities."""

    folder: Path

    async def open(
        self, target: AwsTarget, *sources: str, into: Path | None = None, keys: Sequence[str] = ("other", "own")
    ) -> tuple[dict[str, int], ExitCode]:
        """The generation that came out for each user, and how it ended."""
        out = io.StringIO()
        identities = [self.folder / key for key in keys]
        code = await asyncio.to_thread(open_sources, sources, identities, as_lines(out), target=target, into=into)
        found = [json.loads(text) for text in out.getvalue().splitlines()]
        assert all(each == record(each["username"], each["generation"]) for each in found)
        users = {each["username"]: each["generation"] for each in found}
        assert len(users) == len(found)
        return users, code


@pytest.fixture
def opener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    monkeypatch.setattr("worker.adapters.channels.sqs.source.POLL", 0)
    write_identity(tmp_path / "own", TEXT)
    write_identity(tmp_path / "other", OTHER_TEXT)
    return Opener(tmp_path)


async def s3_at(aws: Aws, names: Names = "username") -> tuple[S3Channel, str]:
    bucket = await new_bucket(await aws.s3())
    return S3Channel(await aws.s3(), bucket, PREFIX, kms_key_id=KEY, names=names), bucket


async def secrets_at(aws: Aws, names: Names = "username") -> tuple[SecretsManagerChannel, str]:
    prefix = fresh("rollout")
    return SecretsManagerChannel(await aws.secretsmanager(), prefix, kms_key_id=None, names=names), prefix


# --- S3 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["username", "hash"])
async def test_the_newest_object_of_each_user_is_opened(emulator: Emulator, opener: Opener, names: Names) -> None:
    async with emulator.aws() as aws:
        channel, bucket = await s3_at(aws, names)
        await deliver(channel, ("ana", 9), ("ana", 10), ("ana", 2), ("ben", 1), *((name, 3) for name in NASTY_NAMES))
    opened = await opener.open(emulator.target, f"s3://{bucket}/{PREFIX}")
    assert opened == ({"ana": 10, "ben": 1} | dict.fromkeys(NASTY_NAMES, 3), ExitCode.DONE)


async def test_older_objects_are_not_even_fetched(
    moto: Emulator, opener: Opener, aws_credentials: None, tmp_path: Path
) -> None:
    async with before(moto, "GET") as (aws, proxy):
        channel, bucket = await s3_at(aws)
        await deliver(channel, *(("ana", number) for number in range(1, 8)), ("ben", 1))
        with (tmp_path / "lines").open("w+b") as file:
            assert await copy_objects(await aws.s3(), bucket, PREFIX, file) == 2
        assert len(proxy.requests) == 3


async def test_more_users_than_are_fetched_at_the_same_time_all_come(
    moto: Emulator, opener: Opener, aws_credentials: None
) -> None:
    async with moto.aws() as aws:
        channel, bucket = await s3_at(aws)
        users = [(f"user {number}", 1) for number in range(40)]
        await deliver(channel, *users)
    assert await opener.open(moto.target, f"s3://{bucket}") == (dict(users), ExitCode.DONE)


async def test_objects_that_are_altered_torn_or_moved_are_counted_and_hurt_nobody(
    emulator: Emulator, opener: Opener, capsys: pytest.CaptureFixture[str]
) -> None:
    async with emulator.aws() as aws:
        channel, bucket = await s3_at(aws)
        s3 = await aws.s3()
        await deliver(channel, ("ana", 1))
        whole = sealed("ben", 5).blob
        for key, body in {
            "torn/5-a.age": whole[:-9],
            "altered/5-a.age": whole[:-1] + bytes([whole[-1] ^ 1]),
            "somebody.else/5-a.age": whole,
            "ben/6-a.age": whole,
            "_sha256." + "0" * 64 + "/5-a.age": whole,
            "=zz/5-a.age": whole,
            "ben.age": whole,
            "huge/5-a.age": b"x" * (LARGEST + 1),
            "": b"",
            "notes.txt": b"",
        }.items():
            await s3.put_object(Bucket=bucket, Key=f"{PREFIX}/{key}", Body=body)
        await s3.put_object(Bucket=bucket, Key=f"{PREFIX}-two/cem/1-a.age", Body=sealed("cem", 1).blob)
    assert await opener.open(emulator.target, f"s3://{bucket}/{PREFIX}/") == ({"ana": 1}, ExitCode.SOME_LEFT_OUT)
    said = capsys.readouterr().err
    assert said.startswith("8 not opened")
    assert f", {PREFIX}/huge/5-a.age: no record" in said
    assert f", {PREFIX}/torn/5-a.age, torn, generation 5: damaged" in said


async def test_an_object_that_is_no_age_file_hides_no_older_record(
    emulator: Emulator, opener: Opener, capsys: pytest.CaptureFixture[str]
) -> None:
    async with emulator.aws() as aws:
        channel, bucket = await s3_at(aws)
        await deliver(channel, ("ana", 1), ("ana", 2), ("ben", 1))
        await (await aws.s3()).put_object(Bucket=bucket, Key=f"{PREFIX}/ana/9-a.age", Body=b"junk")
    opened = await opener.open(emulator.target, f"s3://{bucket}/{PREFIX}")
    assert opened == ({"ana": 2, "ben": 1}, ExitCode.SOME_LEFT_OUT)
    assert f", {PREFIX}/ana/9-a.age: no record" in capsys.readouterr().err


async def test_one_object_can_be_named_by_itself(emulator: Emulator, opener: Opener) -> None:
    async with emulator.aws() as aws:
        channel, bucket = await s3_at(aws)
        one = sealed("ana", 1)
        await channel.deliver("ana", one)
        await deliver(channel, ("ana", 2))
    source = f"s3://{bucket}/{PREFIX}/{segment('ana', 'username')}/1-{one.attempt_id}.age"
    assert await opener.open(emulator.target, source) == ({"ana": 1}, ExitCode.DONE)


async def test_another_identity_opens_nothing(emulator: Emulator, opener: Opener) -> None:
    async with emulator.aws() as aws:
        channel, bucket = await s3_at(aws)
        await deliver(channel, ("ana", 1))
    opened = await opener.open(emulator.target, f"s3://{bucket}/{PREFIX}", keys=["other"])
    assert opened == ({}, ExitCode.SOME_LEFT_OUT)


async def test_a_source_without_a_record_is_a_usage_error(emulator: Emulator, opener: Opener) -> None:
    async with emulator.aws() as aws:
        _, bucket = await s3_at(aws)
    for source in (f"s3://{bucket}/{PREFIX}", f"secretsmanager:{fresh('nothing')}"):
        with pytest.raises(UsageError, match="no sealed record"):
            await opener.open(emulator.target, source)


async def test_a_bucket_that_is_not_there_is_a_persons_to_mend(emulator: Emulator, opener: Opener) -> None:
    with pytest.raises(ChannelUnavailable, match="NoSuchBucket") as caught:
        await opener.open(emulator.target, "s3://bucket-that-is-not-there/x")
    assert caught.value.exit_code is ExitCode.PERSON_MUST_ACT


# --- Secrets Manager --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["username", "hash"])
async def test_the_current_version_of_each_secret_is_opened(emulator: Emulator, opener: Opener, names: Names) -> None:
    async with emulator.aws() as aws:
        channel, prefix = await secrets_at(aws, names)
        await deliver(channel, ("ana", 9), *((name, 3) for name in NASTY_NAMES))
        await deliver(channel, ("ana", 10))
        await deliver(channel, ("ana", 2))
        client = await aws.secretsmanager()
        await client.create_secret(Name=f"{prefix}/empty")
        await client.create_secret(
            Name=f"{prefix}-two/ana", SecretString=record_line("ana", sealed("ana", 99)).decode()
        )
    users, code = await opener.open(emulator.target, f"secretsmanager:{prefix}")
    assert users == {"ana": 10} | dict.fromkeys(NASTY_NAMES, 3)
    assert code is (ExitCode.DONE if emulator.name == "moto" else ExitCode.SOME_LEFT_OUT)  # there one is never empty


async def test_secrets_that_hold_something_else_are_counted(
    emulator: Emulator, opener: Opener, capsys: pytest.CaptureFixture[str]
) -> None:
    async with emulator.aws() as aws:
        channel, prefix = await secrets_at(aws)
        await deliver(channel, ("ana", 1))
        client = await aws.secretsmanager()
        await client.create_secret(Name=f"{prefix}/password", SecretString="hunter2")
        await client.create_secret(Name=f"{prefix}/eve", SecretString=record_line("ben", sealed("ben", 1)).decode())
    assert await opener.open(emulator.target, f"secretsmanager:{prefix}/") == ({"ana": 1}, ExitCode.SOME_LEFT_OUT)
    assert capsys.readouterr().err.startswith("2 not opened")


# --- SQS --------------------------------------------------------------------------------------------------------------


async def test_a_queue_is_moved_into_a_file_and_opened_there(
    emulator: Emulator, opener: Opener, tmp_path: Path
) -> None:
    into = tmp_path / "drained.jsonl"
    async with emulator.aws() as aws:
        sqs = await aws.sqs()
        url = await new_queue(sqs)
        users = {f"user {number}": 1 for number in range(23)} | {"ana": 2}
        await deliver(SqsChannel(sqs, url), *users.items(), ("ana", 1))
        for _ in range(2):
            assert await opener.open(emulator.target, f"sqs:{url}", into=into) == (users, ExitCode.DONE)
        assert await take_messages(sqs, url) == []
    assert into.stat().st_mode & 0o777 == 0o600
    assert len(set(into.read_bytes().splitlines())) == 25


async def test_what_a_killed_reader_left_hidden_is_waited_for(
    emulator: Emulator, opener: Opener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with emulator.aws() as aws:
        sqs = await aws.sqs()
        url = await new_queue(sqs, VisibilityTimeout="6")
        await deliver(SqsChannel(sqs, url), ("ana", 1), ("ben", 1))
        hidden = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        opened = await opener.open(emulator.target, f"sqs:{url}", into=tmp_path / "drained.jsonl")
        assert opened == ({"ana": 1, "ben": 1}, ExitCode.DONE)
        assert capsys.readouterr().err.startswith(f"{len(hidden['Messages'])} messages are hidden")


async def test_what_stays_hidden_is_said_and_nothing_is_called_complete(
    emulator: Emulator, opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.adapters.channels.sqs.source.LONGEST_WAIT", 0)
    monkeypatch.setattr("worker.adapters.channels.sqs.source.POLL", 0)
    async with emulator.aws() as aws:
        sqs = await aws.sqs()
        url = await new_queue(sqs, VisibilityTimeout="600")
        await deliver(SqsChannel(sqs, url), ("ana", 1))
        await sqs.receive_message(QueueUrl=url)
        await deliver(SqsChannel(sqs, url), ("ben", 1))
        with pytest.raises(ChannelUnavailable, match="1 messages of the SQS queue stay hidden") as caught:
            await opener.open(emulator.target, f"sqs:{url}", into=tmp_path / "drained.jsonl")
        assert caught.value.exit_code is ExitCode.DEPENDENCY_UNAVAILABLE
        assert "run it again in 600 seconds" in caught.value.hint
        assert len((tmp_path / "drained.jsonl").read_bytes().splitlines()) == 1, "what came is safe"


async def test_who_may_not_count_what_is_hidden_opens_what_came_and_is_told(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.adapters.channels.sqs.source.POLL", 0)
    async with emulator.aws() as aws:
        url = await new_queue(await aws.sqs())
        await deliver(SqsChannel(await aws.sqs(), url), ("ana", 1))
    said: list[str] = []
    async with before(emulator, "GetQueueAttributes", refused("AccessDenied")) as (behind, _):
        assert await drain(await behind.sqs(), url, tmp_path / "drained.jsonl", said.append) == 0
    assert "not looked at" in said[0]


async def test_messages_of_others_stay_in_the_queue(
    emulator: Emulator, opener: Opener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with emulator.aws() as aws:
        sqs = await aws.sqs()
        url = await new_queue(sqs, VisibilityTimeout="1")
        await deliver(SqsChannel(sqs, url), ("ana", 1))
        theirs = ['{"username": "ana", "session": "x"}', "hello", '{\n"username": "a", "generation": 1, "sealed": ""}']
        for body in theirs:
            await sqs.send_message(QueueUrl=url, MessageBody=body)
        opened = await opener.open(emulator.target, f"sqs:{url}", into=tmp_path / "drained.jsonl")
        assert opened == ({"ana": 1}, ExitCode.DONE)
        assert capsys.readouterr().err.startswith("3 messages")
        left: set[str] = set()
        async with asyncio.timeout(10):
            while len(left) < 3:
                left |= set(await take_messages(sqs, url))
        assert left == set(theirs)


async def test_what_could_not_be_written_stays_in_the_queue(emulator: Emulator, opener: Opener, tmp_path: Path) -> None:
    (binary := tmp_path / "ana.age").write_bytes(sealed("ana", 1).blob)
    async with emulator.aws() as aws:
        sqs = await aws.sqs()
        url = await new_queue(sqs)
        await deliver(SqsChannel(sqs, url), ("ana", 1))
        for into in (tmp_path / "missing" / "file", tmp_path, binary):
            with pytest.raises(UsageError):
                await opener.open(emulator.target, f"sqs:{url}", into=into)
        assert len(await take_messages(sqs, url)) == 1


async def test_what_could_not_be_deleted_is_in_the_file_already(
    emulator: Emulator, opener: Opener, tmp_path: Path
) -> None:
    into = tmp_path / "drained.jsonl"
    async with emulator.aws() as aws:
        url = await new_queue(await aws.sqs())
        await deliver(SqsChannel(await aws.sqs(), url), ("ana", 1))
    async with before(emulator, "DeleteMessageBatch", refused("AccessDeniedException")) as (aws, _):
        with pytest.raises(ChannelUnavailable, match="DeleteMessageBatch"):
            await drain(await aws.sqs(), url, into)
    assert json.loads(into.read_text())["username"] == "ana"


# --- together ---------------------------------------------------------------------------------------------------------


async def test_the_highest_generation_over_all_sources_wins(emulator: Emulator, opener: Opener, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_bytes(
        b"".join(record_line(name, sealed(name, n)) + b"\n" for name, n in (("ana", 4), ("ben", 1), ("file", 1)))
    )
    async with emulator.aws() as aws:
        hashing, bucket = await s3_at(aws, "hash")
        await deliver(hashing, ("ana", 3), ("ben", 2), ("s3", 1))
        secrets, prefix = await secrets_at(aws)
        await deliver(secrets, ("ana", 1), ("cem", 1))
        url = await new_queue(await aws.sqs())
        await deliver(SqsChannel(await aws.sqs(), url), ("cem", 2))
    sources = (str(lines), f"s3://{bucket}/{PREFIX}", f"secretsmanager:{prefix}", f"sqs:{url}")
    users, code = await opener.open(emulator.target, *sources, sources[0], into=tmp_path / "drained.jsonl")
    assert (users, code) == ({"ana": 4, "ben": 2, "cem": 2, "file": 1, "s3": 1}, ExitCode.DONE)
