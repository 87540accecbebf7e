"""Changes single bits of what a rollout keeps on its disk, and asks the commands what they make of it.

``python -m tests.crash.bit_rot --bits 5000`` tries as many as one likes; the tests beside try some.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.crash.power_cut import CHANNEL, FILES, LEDGER, found, put, settings_in
from tests.support.rollout import Rollout, rollout_in
from worker.app import commands, show, standing
from worker.core.errors import WorkerError
from worker.core.model import Enrolment, State
from worker.settings import Settings

USERS = tuple(f"user-{number}" for number in range(12))


async def kept(rollout: Rollout) -> tuple[dict[str, bytes], dict[str, Enrolment]]:
    """The files of a rollout with users in several states and a request that waits, and the users' rows."""
    await rollout.push(await rollout.sign_in(*USERS[:8]))
    await rollout.fake_cognito.set_faults("token_revoked@user-1=1")
    await rollout.run()
    await rollout.fake_cognito.set_faults("internal_error_acted@user-2=20x")
    await rollout.push([{**each, "replace": True} for each in await rollout.sign_in("user-2", "user-3")])
    await rollout.run()
    await rollout.push(await rollout.sign_in(*USERS[8:]))
    files = {name: (rollout.folder / name).read_bytes() for name in FILES if (rollout.folder / name).exists()}
    return files, (await found(rollout.settings())).rows


async def tried(settings: Settings, files: Mapping[str, bytes], rows: Mapping[str, Enrolment]) -> str:
    """What the commands made of these files. Raises what is no error of ours, which would be exit code 70."""
    put(settings.ledger.path.parent, files)
    said = Counter[str]()
    left = await found(settings)
    for about in ("status", "show", "export"):
        try:
            if about == "status":
                await standing.standing(settings, measures=False)
            elif about == "show":
                await show.look_up(settings, "user-3")
            else:
                await commands.export(settings, State.DELIVERED, io.StringIO())
        except WorkerError as error:
            said[about] = int(error.exit_code)
    if left.refusal is not None:
        return f"refused, exit code {int(left.refusal.exit_code)}"
    if any(left.rows.get(name) != row for name, row in rows.items()):
        return "UNSEEN: " + ", ".join(name for name, row in rows.items() if left.rows.get(name) != row)
    return "no harm"


def with_a_bit_changed(files: Mapping[str, bytes], name: str, dice: random.Random) -> tuple[dict[str, bytes], int]:
    """The files with one bit of one of them changed, and in which byte."""
    data = bytearray(files[name])
    at = dice.randrange(len(data))
    if name == LEDGER and dice.random() < 0.7:  # where something is written
        while not data[at]:
            at = dice.randrange(len(data))
    data[at] ^= 1 << dice.randrange(8)
    return {**files, name: bytes(data)}, at


async def sweep(rollout: Rollout, folder: Path, bits: int, seed: int) -> Counter[str]:
    """Change so many bits, one at a time, and count what was made of them."""
    files, rows = await kept(rollout)
    settings, dice, counted = settings_in(folder, rollout), random.Random(seed), Counter[str]()
    for _ in range(bits):
        name = dice.choice((LEDGER, LEDGER, LEDGER, CHANNEL, f"{CHANNEL}.mark"))
        damaged, at = with_a_bit_changed(files, name, dice)
        try:
            counted[f"{name}: {await tried(settings, damaged, rows)}"] += 1
        except Exception as bug:  # noqa: BLE001 - whatever it is, is counted
            place = traceback.extract_tb(bug.__traceback__)[-1]
            counted[f"{name}: BUG {bug!r} in {place.name}, first at byte {at:,}"[:200]] += 1
    return counted


async def main() -> int:
    """Change as many bits as asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.bit_rot", description=__doc__)
    parser.add_argument("--bits", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for each in ("run", "state"):
            (Path(name) / each).mkdir()
        async with rollout_in(Path(name) / "run") as rollout:
            for what, times in sorted((await sweep(rollout, Path(name) / "state", chosen.bits, chosen.seed)).items()):
                print(f"{times:6,} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
