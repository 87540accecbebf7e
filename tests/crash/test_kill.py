"""Workers that die without a goodbye, at any moment: nobody is forgotten, and nobody holds a stale secret."""

from __future__ import annotations

from tests.crash.long_kill import long_kill
from tests.processes import Rollout


async def test_six_kills_over_a_few_hundred_users_with_tokens_lose_nobody(rollout: Rollout) -> None:
    outcome = await long_kill(rollout, users=400, kills=6, seed=1, credential="token")

    assert outcome.holds, outcome
    assert outcome.lost == 0, "a token can be used again, so nothing needs to be reported"


async def test_twenty_kills_over_two_thousand_users_with_sessions_report_what_was_lost(rollout: Rollout) -> None:
    outcome = await long_kill(rollout, users=2_000, kills=20, seed=2, credential="session")

    assert outcome.holds, outcome
    assert outcome.lost > 0, "no kill met a call in flight: this proved nothing"
