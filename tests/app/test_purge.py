"""``purge``: what is secret and needed no more is gone from every file and queue, and the states stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support import ended_rollout as over
from tests.support.emulators import Emulator
from worker.adapters.aws import pool_ending, queue_ending, table_ending
from worker.app.ending.plan import Plan, unfinished
from worker.app.ending.purge import purge
from worker.app.standing import standing
from worker.app.stores import Purpose, open_stores
from worker.core.errors import DependencyUnavailable, ExitCode
from worker.core.model import CredentialKind, Reason, State
from worker.core.purging import Holds
from worker.core.purging import purged as core_purged
from worker.settings import Settings


@pytest.fixture(params=["here", "ministack"])
async def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "here":
        return over.here(tmp_path)
    request.getfixturevalue("aws_credentials")
    return await over.on_aws(tmp_path, request.getfixturevalue(request.param))


async def purged(settings: Settings, *, act: bool = True, **more: bool) -> Plan:
    options = {"even_unfinished": False, "activations": False, **more}
    shown: list[Plan] = []
    plan = await purge(settings, act=act, show=shown.append, tell=lambda _: None, **options)
    assert shown == [plan], "it is shown once, before anything is done"
    return plan


async def test_kept_records_are_erased_and_every_state_stays(settings: Settings, tmp_path: Path) -> None:
    await over.put(settings, *over.everybody(), delivers=False)
    before = await over.kept(settings)
    plan = await purged(settings, act=False)
    assert plan.removes[0].what.startswith("2 sealed records")
    assert not plan.done
    assert await over.kept(settings) == before, "a plan changes nothing"

    await purged(settings)

    after = await over.kept(settings)
    for name, row in before.items():
        same = after[name]._replace(version=row.version, sealed=row.sealed, events=row.events)
        assert same == row
    assert not any(row.sealed.blob for row in after.values() if row.sealed and row.username != "ned")
    assert after["ana"].events[-1].what == "purged"
    assert over.traces(tmp_path) <= {"rollout.db"}, "that is the activation, which was left to a person"
    assert (await standing(settings, measures=False)).look.counts.accepted == 4
    await purged(settings)
    assert await over.kept(settings) == after, "done again it changes nothing"


async def test_an_activation_left_to_a_person_is_given_up_only_if_that_is_said(
    tmp_path: Path,
) -> None:
    settings = over.here(tmp_path)
    await over.put(settings, *over.everybody(), delivers=False)
    await purged(settings)
    assert (await over.kept(settings))["ned"].activation is not None

    await purged(settings, activations=True)

    ned = (await over.kept(settings))["ned"]
    assert (ned.state, ned.reason, ned.activation) == (State.DELIVERED, Reason.VERIFY_REFUSED, None)
    assert not over.traces(tmp_path)


async def test_requests_and_notes_on_malformed_ones_go_only_if_that_is_said_and_their_number_stays(
    settings: Settings, tmp_path: Path
) -> None:
    await over.put(settings, *over.everybody()[:1], delivers=False)
    await over.push(settings, "uma", "vic")
    before = (await standing(settings, measures=False)).look
    plan = await purged(settings)
    assert [said.partition(" ")[0] for said, _ in plan.in_the_way] == ["2"]
    assert not plan.done

    await purged(settings, even_unfinished=True)

    look = (await standing(settings, measures=False)).look
    assert (look.backlog.waiting, look.counts.malformed) == (0, before.counts.malformed) == (0, 1)
    assert not over.traces(tmp_path)


async def test_the_outbox_stays_whatever_is_said(tmp_path: Path) -> None:
    settings = over.here(tmp_path)
    await over.put(settings, over.unfinished(), delivers=False)
    before = await over.kept(settings)
    (way,) = (await purged(settings, activations=True)).in_the_way
    assert "1 of them with a secret that is not delivered" in way[0]

    await purged(settings, activations=True, even_unfinished=True)

    assert await over.kept(settings) == before


async def test_while_a_worker_is_alive_nothing_is_touched_whatever_is_said(tmp_path: Path) -> None:
    settings = over.here(tmp_path)
    await over.put(settings, *over.everybody())
    async with open_stores(settings, Purpose.RUN) as stores:
        with stores.alive:
            plan = await purged(settings, even_unfinished=True)

    assert [said for said, _ in plan.in_the_way] == [
        "a worker is at work with this ledger, or its claims have not run out yet"
    ]
    assert over.traces(tmp_path)


async def test_a_claim_that_has_not_run_out_is_a_worker_too(
    tmp_path: Path, ministack: Emulator, aws_credentials: None
) -> None:
    settings = await over.on_aws(tmp_path, ministack)
    held = over.unfinished()._replace(worker="somebody", lease_until=9e9)
    await over.put(settings, held, delivers=False)

    plan = await purged(settings, even_unfinished=True)

    assert "its claims have not run out" in plan.in_the_way[0][0]


async def test_another_processs_reading_is_told_and_the_next_purge_ends_it(tmp_path: Path) -> None:
    settings = over.here(tmp_path)
    await over.put(settings, *over.everybody())
    async with open_stores(settings, Purpose.EXISTING) as reading:
        database: Any = reading.ledger
        connection = database._database._reading
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM users").fetchone()
        plan = await purged(settings)
        assert "another process reads" in str(plan.troubles[0])
        connection.execute("COMMIT")
    assert not (await purged(settings, activations=True)).troubles
    assert not over.traces(tmp_path) - {"enrolments.jsonl"}


async def test_dead_letters_of_another_queue_are_left(tmp_path: Path, moto: Emulator, aws_credentials: None) -> None:
    settings = await over.on_aws(tmp_path, moto)
    await over.put(settings, *over.everybody()[:1], delivers=False)
    url = settings.queue.dead_letter_url or ""
    async with moto.aws() as aws:
        sqs = await aws.sqs()
        await sqs.send_message(QueueUrl=url, MessageBody="somebody else's")
        arn = (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]
        policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 5}}'
        await sqs.create_queue(QueueName=f"{settings.ledger.table}-other", Attributes={"RedrivePolicy": policy})

    plan = await purged(settings)

    assert any(f"{settings.ledger.table}-other" in item.note for item in plan.stays)
    assert await over.messages(moto, url) == 1


class Purging:
    """SQS as far as it is asked here: the queue was purged a moment ago."""

    def __init__(self, times: int) -> None:
        self.left = times

    async def purge_queue(self, **_: Any) -> None:
        self.left -= 1
        if self.left >= 0:
            raise ClientError({"Error": {"Code": "AWS.SimpleQueueService.PurgeQueueInProgress"}}, "PurgeQueue")


async def test_a_purge_of_the_last_minute_is_waited_for_where_something_came_since() -> None:
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)

    sqs: Any = Purging(1)
    await queue_ending.purge(sqs, queue_ending.Waiting("url", 3), "the queue", pause)
    assert waits == [queue_ending.PURGE_EVERY + 1]
    sqs = Purging(1)
    await queue_ending.purge(sqs, queue_ending.Waiting("url", 0), "the queue", pause)
    assert len(waits) == 1, "nothing came since"


def test_a_purged_token_activation_asks_for_a_new_secret_and_never_for_the_blob_that_is_gone() -> None:
    ned = over.everybody()[3]
    assert ned.activation is not None
    replaced = ned._replace(activation=ned.activation._replace(replaces=True))
    new = core_purged(replaced, 2e9, activations=True)
    assert new is not None
    assert new.activation is not None
    assert (new.activation.blob, new.activation.kind, new.activation.replaces) == (b"", CredentialKind.SESSION, True)


class Refusing:
    """A service that permits nothing."""

    def __getattr__(self, name: str) -> Any:
        async def refused(**_: Any) -> Any:
            operation = name.title().replace("_", "")
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)

        return refused


async def test_a_missing_permission_names_what_was_to_be_done_and_to_what() -> None:
    client: Any = Refusing()
    for call, what in (
        (queue_ending.delete(client, "url", "the queue of requests https://sqs/x"), ("DeleteQueue", "https://sqs/x")),
        (table_ending.delete(client, "ledger"), ("DescribeTable", "ledger")),
        (pool_ending.delete_client(client, "pool", "id"), ("DeleteUserPoolClient", "the app client")),
    ):
        with pytest.raises(DependencyUnavailable) as denied:
            await call
        assert all(word in f"{denied.value} {denied.value.hint}" for word in what)
        assert denied.value.exit_code is ExitCode.PERSON_MUST_ACT


class Table:
    """DynamoDB as far as it is asked for one table: protected, and busy for a while."""

    def __init__(self, status: str, busy: int = 0) -> None:
        self.status, self.busy, self.protected = status, busy, True
        self.asked: list[str] = []

    async def describe_table(self, **_: Any) -> Any:
        return {"Table": {"TableStatus": self.status, "DeletionProtectionEnabled": self.protected}}

    async def update_table(self, **_: Any) -> None:
        self.asked.append("unprotected")
        self.protected = False

    async def delete_table(self, **_: Any) -> None:
        self.busy -= 1
        if self.busy >= 0:
            raise ClientError({"Error": {"Code": "ResourceInUseException"}}, "DeleteTable")
        self.asked.append("deleted")


async def test_a_protected_table_is_unprotected_waited_for_and_deleted_once() -> None:
    busy: Any = Table("ACTIVE", busy=1)
    await table_ending.delete(busy, "ledger")
    assert busy.asked == ["unprotected", "deleted"]
    going: Any = Table("DELETING")
    await table_ending.delete(going, "ledger")
    assert going.asked == [], "it is being deleted already"
    assert not await table_ending.is_there(going, "ledger")


def test_whatever_waits_names_the_option_that_gives_it_up() -> None:
    holds = Holds()
    holds.add(over.unfinished())

    found = unfinished(holds, 1, 2)

    assert len(found) == 3
    assert all("--even-unfinished" in cure for _, cure in found)
