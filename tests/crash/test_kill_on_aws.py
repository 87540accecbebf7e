"""The same on AWS, where nobody knows that a worker is dead: its claims and its messages come back with time alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.long_kill import long_kill
from tests.support.aws_rollout import aws_rollout_in
from tests.support.emulators import Emulator


@pytest.mark.timeout(300)
async def test_kills_lose_nobody_on_sqs_and_dynamodb(
    tmp_path: Path, ministack: Emulator, aws_credentials: None
) -> None:
    # not S3: the emulator stores half an object where an upload was cut off, which S3 never does
    async with aws_rollout_in(tmp_path, ministack, "sqs") as rollout:
        outcome = await long_kill(rollout, users=80, kills=3, seed=3, credential="session", rate=60)

    assert outcome.holds, outcome
