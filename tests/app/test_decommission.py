"""``decommission``: everything that a rollout made is gone, a reconciliation stays, and any interruption can go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support import ended_rollout as over
from tests.support.emulators import Emulator, fresh
from worker.adapters import channels
from worker.adapters.aws import stacks
from worker.app.ending import decommission as module
from worker.app.ending.decommission import Options, decommission
from worker.app.ending.plan import Plan
from worker.app.stores import Purpose, open_stores
from worker.core.errors import DependencyUnavailable, UsageError
from worker.settings import Settings


@pytest.fixture
async def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a rollout where the parameter says."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    if request.param == "here":
        return over.here(tmp_path)
    request.getfixturevalue("aws_credentials")
    kind, _, emulator = request.param.partition(" on ")
    return await over.on_aws(tmp_path, request.getfixturevalue(emulator), kind)


def rollouts(*where: str) -> pytest.MarkDecorator:
    """The test is made for a rollout in each of these places."""
    return pytest.mark.parametrize("settings", where, indirect=True)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return over.here(tmp_path)


async def ended(settings: Settings, *, act: bool = True, **more: Any) -> Plan:
    shown: list[Plan] = []
    plan = await decommission(settings, Options(act=act, **more), show=shown.append, tell=lambda _: None)
    assert shown == [plan]
    return plan


def reconciliation() -> dict[str, Any]:
    path = Path(f"decommissioned-{over.POOL}.json")
    assert path.stat().st_mode & 0o777 == 0o600
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


@rollouts("here", "secretsmanager on ministack")
async def test_everything_goes_and_the_reconciliation_stays(settings: Settings, tmp_path: Path) -> None:
    await over.put(settings, *over.everybody())
    foreign = await over.put_foreign_secret(settings)
    before = await over.kept(settings)
    plan = await ended(settings, act=False)
    assert not plan.in_the_way
    assert plan.removes[-1].what.startswith("the ledger")
    assert any(item.what in ("2 secrets", "the file of 2 sealed secrets") for item in plan.removes), plan.removes
    assert any("2 users delivered and not known to be active" in item.note for item in plan.removes)
    assert await over.kept(settings) == before, "a plan changes nothing"

    done = await ended(settings)

    assert not done.troubles
    assert not done.left
    assert len(done.done) == len(done.removes) + 1
    told = reconciliation()
    assert told["states"]["delivered"] == 2
    assert {each["username"]: (each["state"], each["reason"]) for each in told["users"]} == {
        name: (row.state.value, row.reason and row.reason.value) for name, row in before.items()
    }
    assert not over.traces(tmp_path), "nothing that was sealed is in any file"
    again = await ended(settings)
    assert again.done == ["nothing of this rollout is left where these settings say"]
    assert reconciliation() == told
    assert over.names(tmp_path) <= {"work"}
    assert await foreign(), "another application's secret is left"


class Killed(BaseException):
    """The process ends here."""


@rollouts("here", "sqs on ministack")
async def test_killed_after_each_step_it_goes_on_and_nobody_begins_meanwhile(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await over.put(settings, *over.everybody())
    steps = len((await ended(settings, act=False)).removes)
    do = module._Decommission._do

    async def dies_after(self: Any, step: Any) -> bool:
        await do(self, step)
        raise Killed

    monkeypatch.setattr(module._Decommission, "_do", dies_after)
    for left in reversed(range(steps)):
        with pytest.raises(Killed):
            await ended(settings)
        if left:
            assert len(await over.kept(settings)) == 4, "the ledger is the last"
            with pytest.raises(UsageError, match=r"is being taken away|there is no queue"):
                async with open_stores(settings, Purpose.RUN):
                    pass
    assert (await ended(settings)).done == ["nothing of this rollout is left where these settings say"]
    assert len(reconciliation()["users"]) == 4
    assert not over.traces(tmp_path)


async def test_a_step_that_fails_keeps_the_ledger_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ministack: Emulator, aws_credentials: None
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = await over.on_aws(tmp_path, ministack, "sqs")
    await over.put(settings, *over.everybody())
    monkeypatch.setattr(module._Decommission, "_do", failing_at(0))

    broken = await ended(settings)

    assert [str(trouble) for trouble in broken.troubles] == ["it is away"]
    assert "stays until everything else is gone" in broken.left[0][0]
    assert len([line for line in broken.done if line.startswith("took away")]) == 2
    assert len(await over.kept(settings)) == 4
    assert reconciliation()["planned"]


def failing_at(number: int) -> Callable[..., Any]:
    """The step with that number fails after it did its work: its answer is lost."""
    original, seen = module._Decommission._do, []

    async def do(self: Any, step: Any) -> bool:
        seen.append(step)

        async def lost() -> Any:
            await step.do()
            raise DependencyUnavailable("it is away", "run it again")

        failing = module.Step(step.item, lost, step.keeps_ledger)
        return await original(self, failing if len(seen) - 1 == number else step)

    return do


async def test_nothing_is_touched_while_somebody_is_not_finished_or_waits(alone: Settings, tmp_path: Path) -> None:
    await over.put(alone, *over.everybody(), over.unfinished())
    await over.push(alone, "uma")

    plan = await ended(alone)

    said = " ".join(said for said, _ in plan.in_the_way)
    assert "not finished: 'zoe'" in said
    assert "1 request waits on the queue" in said
    assert not plan.done
    assert over.names(tmp_path / "work") == set()
    assert not (await ended(alone, even_unfinished=True)).in_the_way


async def test_nothing_is_touched_while_a_worker_is_alive(alone: Settings) -> None:
    await over.put(alone, *over.everybody())
    async with open_stores(alone, Purpose.RUN) as stores:
        with stores.alive:
            plan = await ended(alone, even_unfinished=True)

    assert "a worker is at work" in plan.in_the_way[0][0]
    assert len(await over.kept(alone)) == 4


async def test_another_rollouts_settings_are_refused(alone: Settings, tmp_path: Path) -> None:
    await over.put(alone, *over.everybody())
    other = over.here(tmp_path, "cognito.user_pool_id=eu-central-1_Another")
    with pytest.raises(UsageError, match="belongs to another rollout"):
        await ended(other)

    unused = over.here(tmp_path, f"ledger.path={tmp_path / 'new.db'}", f"queue.path={tmp_path / 'new.db'}")
    assert "there is no ledger" in (await ended(unused)).in_the_way[0][0]
    assert alone.ledger.path.exists()


async def test_a_ledger_without_users_shows_nothing_so_nothing_is_deleted(alone: Settings) -> None:
    await over.push(alone, "uma")

    plan = await ended(alone, even_unfinished=True)

    assert "no user has a row" in plan.in_the_way[0][0]
    assert alone.ledger.path.exists()


async def test_settings_that_change_on_the_way_are_refused(
    alone: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await over.put(alone, *over.everybody())
    monkeypatch.setattr(module._Decommission, "_do", failing_at(0))
    await ended(alone)

    changed = over.here(tmp_path, f"channel.path={tmp_path / 'elsewhere.jsonl'}")

    assert "it began with the queue" in (await ended(changed)).in_the_way[0][0]


async def test_a_file_that_is_no_reconciliation_is_never_written_over(alone: Settings, tmp_path: Path) -> None:
    await over.put(alone, *over.everybody())
    precious = tmp_path / "precious.json"
    precious.write_text('{"mine": 1}')

    with pytest.raises(UsageError, match="is no reconciliation of this rollout"):
        await ended(alone, report=precious)

    assert len(await over.kept(alone)) == 4


async def test_a_half_erased_ledger_is_finished(alone: Settings, tmp_path: Path) -> None:
    await over.put(alone, *over.everybody())
    alone.ledger.path.rename(tmp_path / ".mfa-worker-erasing-rollout.db")
    (tmp_path / "enrolments.jsonl").unlink()

    assert (await ended(alone)).done == ["erased what was left"]

    assert not over.traces(tmp_path)


async def test_a_link_is_not_followed(alone: Settings, tmp_path: Path) -> None:
    await over.put(alone, *over.everybody())
    target = tmp_path / "somebody-elses"
    (tmp_path / "enrolments.jsonl").rename(target)
    (tmp_path / "enrolments.jsonl").symlink_to(target)

    plan = await ended(alone)

    assert plan.troubles
    assert target.name in over.traces(tmp_path, '"sealed"')
    assert len(await over.kept(alone)) == 4


# --- on AWS -----------------------------------------------------------------------------------------------------------


async def test_only_this_rollouts_keys_are_deleted_with_all_their_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto: Emulator, aws_credentials: None
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = await over.on_aws(tmp_path, moto)
    await over.put(settings, *over.everybody())
    bucket = settings.ledger.table or ""
    prefix = f"{bucket}/secrets"
    theirs = [f"{prefix}/nested/ana/1-x.age", f"{prefix}/nested/.rollout", f"{prefix}-more/ana/1-x.age", "notes.txt"]
    async with moto.aws() as aws:
        s3 = await aws.s3()
        for key in [*theirs, f"{prefix}/.rollout", f"{prefix}/ana/1-x.age", f"{prefix}/ana/1-x.age"]:
            await s3.put_object(Bucket=bucket, Key=key, Body=b"age")
        await s3.delete_object(Bucket=bucket, Key=f"{prefix}/ana/1-x.age")

        assert not (await ended(settings)).troubles

        found = await s3.list_object_versions(Bucket=bucket)
        assert {each["Key"] for each in found.get("Versions", [])} == set(theirs)
        assert not found.get("DeleteMarkers")


async def test_a_locked_object_keeps_the_ledger_and_is_named_with_its_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ministack: Emulator, aws_credentials: None
) -> None:
    monkeypatch.chdir(tmp_path)
    name = fresh("locked")
    async with ministack.aws() as aws:
        s3 = await aws.s3()
        await s3.create_bucket(
            Bucket=name,
            ObjectLockEnabledForBucket=True,
            CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
        )
        settings = await over.on_aws(tmp_path, ministack, "s3", f"channel.bucket={name}")
        await over.put(settings, *over.everybody())
        key = channels.kind_of(settings.channel).source(settings.channel).partition(f"{name}/")[2] + "/uma/1-x.age"
        until = datetime(2031, 2, 3, tzinfo=UTC)
        await s3.put_object(
            Bucket=name, Key=key, Body=b"age", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until
        )

    plan = await ended(settings)

    assert "1 object version of" in plan.left[0][0]
    assert "before 2031-02-03 (object lock)" in plan.left[0][0]
    assert len(await over.kept(settings)) == 4, "the ledger stays as long as secrets do"


async def test_what_a_stack_made_is_left_to_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ministack: Emulator, aws_credentials: None
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = await over.on_aws(tmp_path, ministack)
    await over.put(settings, *over.everybody())

    async def in_a_stack(_: Any, physical_id: str) -> stacks.Stack | None:
        return stacks.Stack("theirs", frozenset({physical_id})) if physical_id == settings.queue.url else None

    monkeypatch.setattr(stacks, "stack_of", in_a_stack)
    plan = await ended(settings)

    assert "belongs to the stack theirs" in plan.left[0][0]
    assert "aws cloudformation delete-stack --stack-name theirs" in plan.left[0][1]
    assert await over.messages(ministack, settings.queue.url) == 0, "it is still there"
    assert len(await over.kept(settings)) == 4


@rollouts("s3 on moto")
async def test_dead_letters_are_in_the_way_also_where_the_queue_of_requests_is_gone(
    settings: Settings, moto: Emulator
) -> None:
    await over.put(settings, *over.everybody()[:1])
    async with moto.aws() as aws:
        sqs = await aws.sqs()
        await sqs.send_message(QueueUrl=settings.queue.dead_letter_url or "", MessageBody="{}")
        await sqs.delete_queue(QueueUrl=settings.queue.url or "")

    plan = await ended(settings)

    assert [said.partition(",")[0] for said, _ in plan.in_the_way] == ["1 dead letter waits"]
    assert not plan.done
    assert await over.messages(moto, settings.queue.dead_letter_url) == 1
