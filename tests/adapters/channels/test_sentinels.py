"""What a rollout puts into a channel that it may not read: once, whatever becomes of answers, and no reader sees it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.adapters.channels.rigs import CUT, KEY, PREFIX, Reply, before, new_bucket, record, refused, refused_by_s3
from tests.support.emulators import Emulator, fresh
from worker.adapters.aws.session import Aws
from worker.adapters.channels.s3.channel import S3Channel
from worker.adapters.channels.s3.source import copy_objects
from worker.adapters.channels.secretsmanager.channel import SecretsManagerChannel
from worker.adapters.channels.secretsmanager.source import copy_secrets
from worker.adapters.channels.sentinel import NAME, SAYS, Answer

KINDS = [f"{kind} on {name}" for kind in ("s3", "secretsmanager") for name in ("moto", "ministack")]
OPERATION = {"s3": "PUT", "secretsmanager": "CreateSecret"}


@dataclass
class Place:
    """Somewhere that a rollout may deliver to."""

    kind: str
    emulator: Emulator
    name: str
    """The bucket, or the prefix of the secrets."""

    async def channel(self, aws: Aws) -> S3Channel | SecretsManagerChannel:
        if self.kind == "s3":
            return S3Channel(await aws.s3(), self.name, PREFIX, kms_key_id=KEY, names="username")
        return SecretsManagerChannel(await aws.secretsmanager(), self.name, kms_key_id=None, names="username")

    async def put(self, *spoil: Reply | str) -> Answer:
        """The sentinel, over a wire that spoils the first answers."""
        async with before(self.emulator, OPERATION[self.kind], *spoil) as (aws, _):
            return await (await self.channel(aws)).put_sentinel()

    async def copied(self, aws: Aws) -> tuple[int, bytes]:
        """What ``open`` reads."""
        file = io.BytesIO()
        if self.kind == "s3":
            number = await copy_objects(await aws.s3(), self.name, PREFIX, file)
        else:
            number = await copy_secrets(await aws.secretsmanager(), self.name, file)
        return number, file.getvalue()

    def refusal(self, code: str, status: int) -> Reply:
        return refused_by_s3(code, status) if self.kind == "s3" else refused(code, status)


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, aws_credentials: None) -> AsyncIterator[Place]:
    kind, _, name = request.param.partition(" on ")
    emulator: Emulator = request.getfixturevalue(name)
    async with emulator.aws() as aws:
        yield Place(kind, emulator, await new_bucket(await aws.s3()) if kind == "s3" else fresh(PREFIX))


async def test_it_is_put_once_and_refused_from_then_on(place: Place) -> None:
    assert await place.put() == Answer(is_put=True)
    assert [await place.put() for _ in range(2)] == [Answer(was_there=True)] * 2


async def test_whose_answer_was_lost_may_be_our_own(place: Place) -> None:
    answer = await place.put(CUT)

    # aiohttp repeats a PUT whose connection was lost by itself, once and unseen, so that S3's answer looks certain.
    assert answer.is_put or (answer.was_there and (answer.perhaps or place.kind == "s3"))
    assert await place.put() == Answer(was_there=True)


async def test_a_certain_refusal_means_that_nothing_was_put(place: Place) -> None:
    answer = await place.put(place.refusal("AccessDenied" if place.kind == "s3" else "AccessDeniedException", 403))

    assert answer == Answer(trouble=answer.trouble)
    assert "AccessDenied" in str(answer.trouble)
    assert await place.put() == Answer(is_put=True)


async def test_a_service_that_fails_for_long_may_have_put_it(place: Place) -> None:
    code = "InternalError" if place.kind == "s3" else "InternalServiceError"
    answer = await place.put(*[place.refusal(code, 500)] * 9)

    assert answer.perhaps
    assert answer.trouble is not None
    assert not answer.was_there


async def test_readers_see_the_records_and_not_the_sentinel(place: Place) -> None:
    async with place.emulator.aws() as aws:
        channel = await place.channel(aws)
        await channel.put_sentinel()
        assert await place.copied(aws) == (0, b"")
        await channel.deliver("ana", record())
        number, lines = await place.copied(aws)

    assert (number, lines.count(b"\n")) == (1, 1)
    assert b"ana" in lines


async def test_people_who_find_it_can_read_what_it_is(place: Place) -> None:
    async with place.emulator.aws() as aws:
        await (await place.channel(aws)).put_sentinel()
        read: dict[str, Callable[[], Awaitable[Any]]] = {
            "s3": lambda: _body(aws, place.name),
            "secretsmanager": lambda: _description(aws, place.name),
        }
        assert await read[place.kind]() == SAYS


async def _body(aws: Aws, bucket: str) -> str:
    reply = await (await aws.s3()).get_object(Bucket=bucket, Key=f"{PREFIX}/{NAME}")
    return (await reply["Body"].read()).decode()


async def _description(aws: Aws, prefix: str) -> str:
    return (await (await aws.secretsmanager()).describe_secret(SecretId=f"{prefix}/{NAME}"))["Description"]
