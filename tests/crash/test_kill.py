"""Workers that die without a goodbye, at any moment: nobody is forgotten, and nobody holds a stale secret."""

from __future__ import annotations

import pytest

from tests.crash.long_kill import long_kill
from tests.processes import Rollout
from worker.rehearsal.standin_config import CredentialKind


@pytest.mark.parametrize("credential", ["session", "token"])
async def test_six_kills_over_a_few_hundred_users(rollout: Rollout, credential: CredentialKind) -> None:
    outcome = await long_kill(rollout, users=400, kills=6, seed=1, credential=credential)

    assert outcome.holds, outcome
    assert outcome.lost <= outcome.users / 5


async def test_twenty_kills_over_two_thousand_users(rollout: Rollout) -> None:
    outcome = await long_kill(rollout, users=2_000, kills=20, seed=2, credential="session")

    assert outcome.holds, outcome
