"""How a rollout begins beside a channel that it may not read: its sentinel, after crashes and beside other workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.messages import until
from tests.support.rows import row
from worker.adapters.channels.sentinel import Answer
from worker.adapters.ledgers.sqlite.ledger import SqliteLedger
from worker.adapters.sqlite.database import Database
from worker.adapters.sqlite.liveness import Liveness
from worker.app import beginning
from worker.app.stores import stamp
from worker.core.errors import ChannelUnavailable, UsageError
from worker.core.model import Sealed
from worker.sealing import age
from worker.settings import Settings, load

NOTE = beginning.SENTINEL + "s3://secrets/mfa-worker"
AWAY = ChannelUnavailable("the bucket does not answer", "look at the network")


class NoSentinel:
    """A queue: what was sent may have been read since."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def holds_records(self) -> None: ...

    async def deliver(self, username: str, sealed: Sealed) -> None: ...


class Bucket(NoSentinel):
    """A channel into which a sentinel can be put once; ``answers`` come first."""

    def __init__(self, *answers: Answer, is_taken: bool = False) -> None:
        self.answers = list(answers)
        self.is_taken = is_taken
        self.asked = 0
        self.slow = asyncio.Event()
        self.slow.set()

    async def put_sentinel(self) -> Answer:
        self.asked += 1
        await self.slow.wait()
        if self.answers:
            return self.answers.pop(0)
        was_there, self.is_taken = self.is_taken, True
        return Answer(was_there=True) if was_there else Answer(is_put=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(
        None,
        [
            "cognito.user_pool_id=eu-central-1_AbCdEfGhI",
            f"queue.path={tmp_path / 'rollout.db'}",
            "channel.kind=s3",
            "channel.bucket=secrets",
            f"seal.recipients={json.dumps([age.keygen('today')[1]])}",
        ],
        {},
    )


@asynccontextmanager
async def opened(settings: Settings, worker: str) -> AsyncIterator[SqliteLedger]:
    path = settings.ledger.path
    database, liveness = Database(path), Liveness(path, worker)
    ledger = SqliteLedger(database, liveness)
    try:
        await ledger.open(stamp(settings))
        with liveness:
            yield ledger
    finally:
        await database.close()


async def begin(settings: Settings, bucket: Bucket, worker: str = "one") -> str | None:
    """What a worker does at its start; the note about the sentinel afterwards."""
    async with opened(settings, worker) as ledger:
        await beginning.begin_at_channel(settings, ledger, worker, await ledger.look(), bucket)
        return (await ledger.look()).notes.get(NOTE)


async def test_a_rollout_puts_its_sentinel_once_and_knows_it_again(settings: Settings) -> None:
    bucket = Bucket()

    assert [await begin(settings, bucket) for _ in range(3)] == [beginning.PUT] * 3
    assert bucket.asked == 1


async def test_the_sentinel_of_another_rollout_is_refused_each_time_and_nothing_is_noted(settings: Settings) -> None:
    bucket = Bucket(is_taken=True)

    for _ in range(2):
        with pytest.raises(UsageError, match="a rollout delivers to s3://secrets/mfa-worker already") as refused:
            await begin(settings, bucket)
        assert "--new-rollout" in refused.value.hint
        async with opened(settings, "one") as ledger:
            assert (await ledger.look()).notes == {}


async def test_who_says_that_a_new_rollout_is_meant_is_not_asked_again(settings: Settings) -> None:
    async with opened(settings, "one") as ledger:
        await beginning.remember_it_is_meant(ledger, await ledger.look())

    bucket = Bucket(is_taken=True)
    await begin(settings, bucket)

    assert bucket.asked == 0


async def test_a_worker_that_died_after_the_request_does_not_lock_its_rollout_out(settings: Settings) -> None:
    async with opened(settings, "dead") as ledger:
        await ledger.note(NOTE, beginning.ASKING + "dead", None)

    assert await begin(settings, Bucket(is_taken=True)) == beginning.PUT


async def test_an_answer_that_never_came_is_trouble_now_and_no_refusal_later(settings: Settings) -> None:
    bucket = Bucket(Answer(perhaps=True, trouble=AWAY), is_taken=True)

    with pytest.raises(ChannelUnavailable):
        await begin(settings, bucket, "first")

    assert await begin(settings, bucket, "second") == beginning.PUT


async def test_a_missing_permission_is_no_reason_to_trust_the_next_refusal_less(settings: Settings) -> None:
    bucket = Bucket(Answer(trouble=AWAY), is_taken=True)
    with pytest.raises(ChannelUnavailable):
        await begin(settings, bucket)

    with pytest.raises(UsageError):
        await begin(settings, bucket)


@pytest.mark.parametrize("is_taken", [False, True])
async def test_workers_of_one_rollout_that_start_together_do_not_take_each_other_for_another(
    settings: Settings, is_taken: bool
) -> None:
    bucket = Bucket(is_taken=is_taken)
    bucket.slow.clear()
    starting = [asyncio.create_task(begin(settings, bucket, f"worker{number}")) for number in range(4)]
    await until(lambda: asyncio.sleep(0, bucket.asked > 0))
    bucket.slow.set()

    answers = await asyncio.gather(*starting, return_exceptions=True)

    if is_taken:
        assert [type(answer) for answer in answers] == [UsageError] * 4
    else:
        assert answers == [beginning.PUT] * 4
        assert bucket.asked == 1


@pytest.mark.parametrize(
    ("bucket", "note"),
    [
        (Bucket(), beginning.PUT),
        (Bucket(is_taken=True), beginning.NOT_OURS),
        (Bucket(Answer(trouble=AWAY)), None),
    ],
    ids=["free", "taken", "away"],
)
async def test_a_rollout_that_began_before_there_were_sentinels_goes_on_in_any_case(
    settings: Settings, bucket: Bucket, note: str | None
) -> None:
    async with opened(settings, "one") as ledger:
        await ledger.put(row(), None)

    with capture_logs() as logs:
        assert await begin(settings, bucket) == note
        assert await begin(settings, bucket, "two") == (note or beginning.PUT)
    assert logs == []


async def test_another_bucket_gets_a_sentinel_of_its_own(settings: Settings) -> None:
    await begin(settings, Bucket())
    corrected = load(
        None,
        [
            "cognito.user_pool_id=eu-central-1_AbCdEfGhI",
            f"queue.path={settings.ledger.path}",
            "channel.kind=s3",
            "channel.bucket=corrected",
            f"seal.recipients={json.dumps(settings.seal.recipients)}",
        ],
        {},
    )

    with pytest.raises(UsageError, match="s3://corrected/mfa-worker"):
        await begin(corrected, Bucket(is_taken=True))


async def test_where_nobody_can_look_it_is_said_once_while_the_ledger_is_new(settings: Settings) -> None:
    async def said() -> list[str]:
        with capture_logs() as logs:
            async with opened(settings, "one") as ledger:
                await beginning.begin_at_channel(settings, ledger, "one", await ledger.look(), NoSentinel())
        return [line["event"] for line in logs]

    assert await said() == ["channel_not_looked_at"]
    async with opened(settings, "one") as ledger:
        await ledger.put(row(), None)
    assert await said() == []


def test_a_secret_in_a_file_that_everybody_can_open_is_told_and_not_shown(tmp_path: Path) -> None:
    (config := tmp_path / "settings.toml").write_text('[sign_in]\nclient_secret = "hunter2hunter2"')
    config.chmod(0o644)
    needed = ["cognito.user_pool_id=us-east-1_AbCdEfGhI", "sign_in.flow=user_password", "sign_in.client_id=example"]
    with capture_logs() as logs:
        beginning.say_exposed(load(config, needed, {}))
    [told] = logs
    assert told["event"] == "secret_exposed"
    assert str(config) in told["cause"]
    assert "hunter2" not in str(told)
