"""From a list of users to active MFA, with conflicts, internal errors, lost replies and workers that are killed.

All rollouts go on at once, because each of them waits much: whoever was verified when a reply was lost, or a worker
killed, is asked for the code of the next half minute. The full size, 2,000 users, is run by hand: see ``activated``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.crash.activated import Outcome, activated, rollout_on
from tests.support.emulators import Emulator

ROLLOUTS = {
    "from usernames": ("usernames", False, "embedded", 80),
    "from passwords": ("passwords", False, "embedded", 80),
    "from passwords in a pool that requires MFA": ("passwords", True, "embedded", 60),
    "from usernames on SQS and DynamoDB": ("usernames", False, "aws", 30),
    "from passwords on SQS and DynamoDB": ("passwords", False, "aws", 30),
}
"""What each rollout begins with, whether by Session, where its stores are, and how many users there are."""


@pytest.mark.usefixtures("aws_credentials")
@pytest.mark.timeout(300)
async def test_everybody_is_active_and_signs_in_with_the_delivered_secret(
    tmp_path: Path, ministack: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CLIENT_ID", "ROLLOUT_ENDS", "KEY_SECRET"):  # of the triggers: gone after the test
        monkeypatch.setenv(name, "")

    async def outcome(number: int, origin: str, by_session: bool, where: str, users: int) -> Outcome:
        folder = tmp_path / str(number)
        folder.mkdir()
        async with rollout_on(where, folder, ministack if where == "aws" else None) as rollout:
            return await activated(
                rollout, origin=origin, users=users, kills=3, seed=number, rate=100, by_session=by_session
            )

    outcomes = await asyncio.gather(*(outcome(number, *each) for number, each in enumerate(ROLLOUTS.values())))

    assert {name: each.wrong for name, each in zip(ROLLOUTS, outcomes, strict=True) if each.wrong} == {}
