"""From a list of users to active MFA, with conflicts, internal errors, lost replies and workers that are killed.

The full size, 2,000 users, is run by hand: see ``activated``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.activated import activated, rollout_on
from tests.support.emulators import Emulator


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the triggers of the pool are given is gone after the test."""
    for name in ("CLIENT_ID", "ROLLOUT_ENDS", "KEY_SECRET"):
        monkeypatch.setenv(name, "")


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize(("origin", "by_session"), [("usernames", False), ("passwords", False), ("passwords", True)])
async def test_everybody_is_active_and_signs_in_with_the_delivered_secret(
    tmp_path: Path, origin: str, by_session: bool
) -> None:
    async with rollout_on("embedded", tmp_path, None) as rollout:
        outcome = await activated(rollout, origin=origin, users=150, kills=3, seed=1, rate=200, by_session=by_session)

    assert outcome.holds, outcome


@pytest.mark.usefixtures("variables", "aws_credentials")
@pytest.mark.parametrize("origin", ["usernames", "passwords"])
async def test_the_same_on_sqs_and_dynamodb(tmp_path: Path, ministack: Emulator, origin: str) -> None:
    async with rollout_on("aws", tmp_path, ministack) as rollout:
        outcome = await activated(rollout, origin=origin, users=60, kills=3, seed=2, rate=100)

    assert outcome.holds, outcome
