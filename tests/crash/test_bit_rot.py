"""One bit of ledger, mark or delivered file is not what was written: it is named, or does no harm, and is no bug."""

from __future__ import annotations

from pathlib import Path

from tests.crash.bit_rot import sweep
from tests.support.rollout import rollout_in

BITS = 30
"""Bits that are changed here; ``python -m tests.crash.bit_rot`` changes more."""


async def test_whatever_bit_is_changed_no_command_fails_over_it_and_no_row_is_believed(tmp_path: Path) -> None:
    for name in ("run", "state"):
        (tmp_path / name).mkdir()
    async with rollout_in(tmp_path / "run") as rollout:
        counted = await sweep(rollout, tmp_path / "state", BITS, seed=3)

    assert not [what for what in counted if "BUG" in what or "UNSEEN" in what], counted
    assert counted["rollout.db: refused, exit code 3"] > 0
