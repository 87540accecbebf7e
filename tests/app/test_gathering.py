"""How long writes to files on this host wait for each other: long at the quota's pace, not at all flat out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker.adapters.channels.file.channel import FileChannel
from worker.app.stores import MAX_GATHER, gather_time, open_channel
from worker.sealing import age
from worker.settings import Settings, load


def settings(folder: Path, **chosen: object) -> Settings:
    values = {
        "cognito.user_pool_id": "us-east-1_rehearsal",
        "queue.path": folder / "mfa-worker.db",
        "channel.path": folder / "enrolments.jsonl",
        "seal.recipients": json.dumps([age.keygen("")[1]]),
        **{key.replace("__", "."): value for key, value in chosen.items()},
    }
    return load(None, [f"{key}={value}" for key, value in values.items()], {})


@pytest.mark.parametrize(
    ("rate", "concurrency", "seconds"),
    [(20, 40, MAX_GATHER), (0.1, 16, MAX_GATHER), (1_000, 256, 0.0128), (20, 4, 0.01), (10_000, 64, 0.0)],
)
def test_a_wait_takes_a_twentieth_of_the_time_for_which_concurrency_lasts_at_the_rate(
    tmp_path: Path, rate: float, concurrency: int, seconds: float
) -> None:
    chosen = settings(tmp_path, rate__requests_per_second=rate, run__concurrency=concurrency)
    assert gather_time(chosen) == pytest.approx(seconds)


async def test_deliveries_to_a_file_wait_as_long(tmp_path: Path) -> None:
    chosen = settings(tmp_path, rate__requests_per_second=20, run__concurrency=40)
    async with open_channel(chosen) as channel:
        assert isinstance(channel, FileChannel)
        assert channel.gather == MAX_GATHER
