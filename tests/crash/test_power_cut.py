"""The power fails at any moment of a run: nobody is lost or stale, and a disk that kept its word raises no alarm."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.crash.power_cut import Recorded, recorded, try_honest, try_lying
from tests.support import recorded_writes
from tests.support.rollout import rollout_in

HONEST = 20
"""States that a disk which kept its word may leave, as many as are tried here: always the same ones for the same
recording; ``python -m tests.crash.power_cut`` tries more."""
LYING = 20
"""The same of a disk that reports syncs without doing them."""


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Recorded]:
    library = recorded_writes.library(tmp_path)
    if library is None:
        pytest.skip("no C compiler is installed: writes cannot be recorded")
    for name in ("run", "state"):
        (tmp_path / name).mkdir()
    async with rollout_in(tmp_path / "run") as rollout:
        yield await recorded(rollout, library)


async def test_whatever_a_power_cut_leaves_the_next_run_goes_on_or_says_what_the_disk_lost(
    run: Recorded, tmp_path: Path
) -> None:
    dice = random.Random(1)

    assert await try_honest(run, tmp_path / "state", dice, HONEST) == {"goes on": HONEST}
    lied = await try_lying(run, tmp_path / "state", dice, LYING)

    assert lied["refused"] > LYING // 10
