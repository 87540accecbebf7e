"""What the Secrets Manager channel promises beyond the port: the highest generation of a user is the current one."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING

import pytest

from tests.adapters.channels.rigs import (
    CUT,
    KEY,
    arrival,
    before,
    delivered_secrets,
    record,
    refused,
)
from tests.support.emulators import Emulator, fresh
from tests.support.rows import NASTY_NAMES
from worker.adapters.aws.naming import Names, secret_segment
from worker.adapters.aws.session import Aws
from worker.adapters.channels.secretsmanager.channel import KEPT, MAX_BYTES, SecretsManagerChannel
from worker.core.errors import ChannelUnavailable, ExitCode, RecordRefused
from worker.core.record import record_line
from worker.core.resilience.backoff import Backoff

if TYPE_CHECKING:
    from types_aiobotocore_secretsmanager import SecretsManagerClient


async def channel_at(
    aws: Aws, prefix: str = "", key: str | None = None, names: Names = "username"
) -> tuple[SecretsManagerChannel, SecretsManagerClient, str]:
    client, prefix = await aws.secretsmanager(), prefix or fresh("rollout")
    return SecretsManagerChannel(client, prefix, kms_key_id=key, names=names), client, prefix


async def current(client: SecretsManagerClient, name: str) -> int:
    """The generation that who asks for a secret gets."""
    value = await client.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")
    assert value["VersionId"] == record(json.loads(value["SecretString"])["generation"]).attempt_id
    return int(json.loads(value["SecretString"])["generation"])


async def test_a_secret_holds_the_line_of_the_file_channel(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        channel, client, prefix = await channel_at(aws)
        await channel.deliver("ana", record(7))
        value = await client.get_secret_value(SecretId=f"{prefix}/ana", VersionStage="AWSCURRENT")
        assert value["SecretString"].encode() == record_line("ana", record(7))
        assert value["VersionId"] == record(7).attempt_id


async def test_the_highest_generation_is_current_in_whatever_order_they_come(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        channel, client, prefix = await channel_at(aws)
        for number, order in enumerate(itertools.permutations((1, 2, 30))):
            highest = 0
            for generation in order:
                await channel.deliver(f"user-{number}", record(generation))
                highest = max(highest, generation)
                assert await current(client, f"{prefix}/user-{number}") == highest
        assert len(await delivered_secrets(client, prefix)) == 18


async def test_a_record_that_comes_again_late_stays_behind_the_newer_one(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        channel, client, prefix = await channel_at(aws)
        for generation in (1, 2, 1, 2, 1):
            await channel.deliver("ana", record(generation))
        assert await current(client, f"{prefix}/ana") == 2
        assert sorted(await delivered_secrets(client, prefix)) == [arrival("ana", record(n)) for n in (1, 2)]


async def test_workers_that_deliver_at_the_same_time_agree(emulator: Emulator) -> None:
    async with emulator.aws() as aws, emulator.aws() as elsewhere:
        prefix = fresh("rollout")
        channels = [(await channel_at(each, prefix))[0] for each in (aws, elsewhere)]
        client = await aws.secretsmanager()
        for number in range(4):
            order = [(3, 1, 2, 5, 4), (5, 4, 3, 2, 1), (1, 2, 3, 4, 5), (2, 5, 1, 4, 3)][number]
            await asyncio.gather(
                *(channels[each % 2].deliver(f"user-{number}", record(each)) for each in order),
                channels[1].deliver(f"user-{number}", record(5)),
            )
            assert await current(client, f"{prefix}/user-{number}") == 5
        assert len(await delivered_secrets(client, prefix)) == 20


async def test_the_same_attempt_with_other_bytes_changes_nothing(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        channel, client, prefix = await channel_at(aws)
        await channel.deliver("ana", record(1))
        await channel.deliver("ana", record(1, blob=b"something else"))
        assert await delivered_secrets(client, prefix) == [arrival("ana", record(1))]


async def test_labels_stay_below_what_a_secret_may_have_and_no_version_is_lost(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        channel, client, prefix = await channel_at(aws)
        generations = [*range(1, 2 * KEPT), *range(100, 103), 50, 1]
        for generation in generations:
            await channel.deliver("ana", record(generation))
            versions = (await client.describe_secret(SecretId=f"{prefix}/ana"))["VersionIdsToStages"]
            assert sum(len(labels) for labels in versions.values()) < 20
        assert await current(client, f"{prefix}/ana") == 102


async def test_a_worker_that_died_half_way_is_made_up_for(emulator: Emulator) -> None:
    """After creating the secret, and after writing the version."""
    async with emulator.aws() as aws:
        channel, client, prefix = await channel_at(aws)
        await client.create_secret(Name=f"{prefix}/ana")
        await channel.deliver("ana", record(1))
        assert await current(client, f"{prefix}/ana") == 1
        await client.put_secret_value(
            SecretId=f"{prefix}/ana",
            ClientRequestToken=record(2).attempt_id,
            SecretString=record_line("ana", record(2)).decode(),
            VersionStages=["generation-2"],
        )
        await channel.deliver("ana", record(1))
        assert await current(client, f"{prefix}/ana") == 2


@pytest.mark.parametrize("operation", ["CreateSecret", "PutSecretValue", "DescribeSecret", "UpdateSecretVersionStage"])
async def test_a_confirmation_that_was_lost_is_made_up_for(emulator: Emulator, operation: str) -> None:
    async with before(emulator, operation, CUT) as (aws, _):
        channel, client, prefix = await channel_at(aws)
        for generation in (1, 2):
            await channel.deliver("ana", record(generation))
        assert await current(client, f"{prefix}/ana") == 2
        assert sorted(await delivered_secrets(client, prefix)) == [arrival("ana", record(n)) for n in (1, 2)]


async def test_a_label_that_another_worker_moved_first_is_looked_at_again(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.adapters.channels.secretsmanager.channel.BACKOFF", Backoff(0.0, 0.0))
    faster = refused("InvalidParameterException")
    async with emulator.aws() as direct:
        prefix = (await channel_at(direct))[2]
        await (await channel_at(direct, prefix))[0].deliver("ana", record(1))
    async with before(emulator, "UpdateSecretVersionStage", faster, faster) as (aws, _):
        channel, client, _ = await channel_at(aws, prefix)
        await channel.deliver("ana", record(2))
        assert await current(client, f"{prefix}/ana") == 2
    async with before(emulator, "UpdateSecretVersionStage", *[faster] * 20) as (aws, _):
        channel, client, _ = await channel_at(aws, prefix)
        with pytest.raises(ChannelUnavailable, match="did not settle"):
            await channel.deliver("ana", record(3))


async def test_any_name_makes_a_secret_that_says_whose_it_is(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        channel, client, prefix = await channel_at(aws)
        for name in (*NASTY_NAMES, "日" * 128, "maria-sophia"):
            await channel.deliver(name, record(1))
            assert await current(client, f"{prefix}/{secret_segment(name, 'username')}") == 1


async def test_hashes_and_a_key_are_used_where_asked_for(emulator: Emulator) -> None:
    async with before(emulator, "CreateSecret") as (aws, proxy):
        channel, _, prefix = await channel_at(aws, key=KEY, names="hash")
        await channel.deliver("ana", record(1))
        ((_, body),) = proxy.requests
    asked = json.loads(body)
    assert asked.pop("ClientRequestToken")
    assert asked == {"Name": f"{prefix}/{secret_segment('ana', 'hash')}", "KmsKeyId": KEY}


# --- what a person has to mend ----------------------------------------------------------------------------------------


async def test_a_secret_that_is_being_deleted_is_named_with_what_to_do(emulator: Emulator) -> None:
    async with emulator.aws() as aws:
        channel, client, prefix = await channel_at(aws)
        await channel.deliver("ana", record(1))
        await client.delete_secret(SecretId=f"{prefix}/ana", RecoveryWindowInDays=7)
        for generation in (1, 2):
            with pytest.raises(RecordRefused, match="InvalidRequestException"):
                await channel.deliver("ana", record(generation))
        await channel.deliver("ben", record(1))
        await client.restore_secret(SecretId=f"{prefix}/ana")
        await channel.deliver("ana", record(2))
        assert await current(client, f"{prefix}/ana") == 2


@pytest.mark.parametrize(
    ("operation", "code", "said", "hint"),
    [
        ("CreateSecret", "LimitExceededException", "is full", "500,000"),
        ("DescribeSecret", "AccessDeniedException", "AccessDeniedException", "DescribeSecret"),
        ("PutSecretValue", "AccessDeniedException", "AccessDeniedException", "PutSecretValue"),
    ],
)
async def test_what_a_person_has_to_mend_says_how(
    emulator: Emulator, operation: str, code: str, said: str, hint: str
) -> None:
    async with before(emulator, operation, *[refused(code)] * (4 if code.startswith("Limit") else 1)) as (aws, _):
        channel, _, _ = await channel_at(aws)
        with pytest.raises(ChannelUnavailable, match=said) as caught:
            await channel.deliver("ana", record(1))
        assert caught.value.exit_code is ExitCode.PERSON_MUST_ACT
        assert hint in caught.value.hint
        assert "SECRET" not in str(caught.value) + caught.value.hint
        await channel.deliver("ana", record(1))


async def test_a_record_that_no_secret_can_hold_is_refused_before_anything_is_created(
    moto: Emulator, aws_credentials: None
) -> None:
    async with moto.aws() as aws:
        channel, client, prefix = await channel_at(aws)
        with pytest.raises(RecordRefused):
            await channel.deliver("ana", record(1, blob=b"x" * MAX_BYTES))
        assert await delivered_secrets(client, prefix) == []


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("CreateSecret", "InvalidRequestException"),
        ("CreateSecret", "InvalidParameterException"),
        ("PutSecretValue", "InvalidParameterException"),
        ("PutSecretValue", "ResourceExistsException"),
        ("PutSecretValue", "LimitExceededException"),
    ],
)
async def test_a_secret_that_never_takes_a_record_is_one_users_own_affair(
    emulator: Emulator, operation: str, code: str
) -> None:
    async with before(emulator, operation, *[refused(code)] * (4 if code.startswith("Limit") else 1)) as (aws, _):
        channel, client, prefix = await channel_at(aws)
        with pytest.raises(RecordRefused) as caught:
            await channel.deliver("ana", record(1))
        assert caught.value.code == code
        await channel.deliver("ben", record(1))
        assert await current(client, f"{prefix}/ben") == 1


async def test_the_largest_record_that_is_known_to_fit_fits(moto: Emulator, aws_credentials: None) -> None:
    async with moto.aws() as aws:
        channel, client, prefix = await channel_at(aws)
        for username in ("ana", "😀" * 64):
            await channel.deliver(username, record(1, blob=b"x" * channel.most_sealed(username)))
        assert len(await delivered_secrets(client, prefix)) == 2
