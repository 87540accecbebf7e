"""Workers as real processes: one is killed, one joins late; nobody is called twice, and the rate is used, not passed.

How well they share the quota is measured by ``tests.benchmarks.workers``; here the limits allow for a busy machine.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.benchmarks.workers import fleet

QUOTA = 25.0
SECONDS = 12.0


@pytest.mark.parametrize("stores", ["one SQLite file", "SQS and DynamoDB"])
async def test_workers_come_and_go_and_the_quota_is_used_and_not_passed(
    tmp_path: Path, stores: str, request: pytest.FixtureRequest, aws_credentials: None
) -> None:
    emulator = None if stores == "one SQLite file" else request.getfixturevalue("ministack")
    async with fleet(tmp_path, QUOTA, 4, seconds=SECONDS, emulator=emulator) as here:
        victim, *_ = (here.join() for _ in range(3))
        await here.all_send()
        await victim.process.kill()
        lost = await here.lost(time.monotonic(), 3.0)
        here.join(shift=-30.0)
        await here.all_send()
        seen = await here.work(SECONDS / 2, here.workers[1:])

        assert not any(worker.process.is_over for worker in here.workers[1:])
        assert lost < 2.0
        assert seen.used >= 0.8
        assert seen.largest_window <= QUOTA * (1.15 + seen.waited)
        assert seen.apart < 0.5
        assert seen.twice == 0
        told = here.workers[-1].process.err
        assert "Traceback" not in told
