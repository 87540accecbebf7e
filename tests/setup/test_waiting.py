"""``check`` reads what waits in the embedded queue, and says whether its tokens are of this pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.rollout import Rollout
from worker.adapters.checks.findings import Level
from worker.settings import load
from worker.setup.checks import waiting


async def test_tokens_of_another_pool_are_found_before_anybody_is_called(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana", "ben"))
    (right,) = await waiting.look(rollout.settings())
    rollout.configure(cognito={"user_pool_id": "eu-central-1_Another99"})
    (wrong,) = await waiting.look(rollout.settings())

    assert right.level is Level.OK
    assert "2 waiting access tokens are of the pool" in right.said
    assert wrong.fails
    assert "2 of 2 waiting access tokens do not fit" in wrong.said
    assert "not of eu-central-1_Another99" in wrong.said


async def test_one_strange_token_among_others_is_advice(rollout: Rollout) -> None:
    ana, ben = await rollout.sign_in("ana", "ben")
    await rollout.push([ana, {**ben, "username": "cem"}])

    (found,) = await waiting.look(rollout.settings())

    assert found.level is Level.ADVICE
    assert "1 of 2" in found.said


async def test_what_there_was_no_time_for_is_said(rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
    await rollout.push(await rollout.sign_in("ana"))
    monkeypatch.setattr(waiting, "PATIENCE", -1.0)

    *_, found = await waiting.look(rollout.settings())

    assert found.level is Level.NOT_CHECKED


async def test_where_nothing_waits_nothing_is_claimed_and_sqs_is_not_read(tmp_path: Path) -> None:
    pool = "cognito.user_pool_id=eu-central-1_AbCdEfGhI"
    assert await waiting.look(load(None, [pool, f"queue.path={tmp_path / 'none.db'}"], {})) == []
    sqs = load(None, [pool, "queue.kind=sqs", "queue.url=https://q/1/q"], {})
    (found,) = await waiting.look(sqs)
    assert found.level is Level.NOT_CHECKED
