"""Cuts the power of a recorded run at any moment, and asks the next command what it makes of the files that are left.

The truth is what the fake Cognito had issued by then. ``python -m tests.crash.power_cut --states 5000`` tries as many
as one likes; the tests beside try some.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import recorded_writes
from tests.support.processes import COMMAND
from tests.support.recorded_writes import Recording
from tests.support.rollout import Rollout, rollout_in
from worker.adapters.queues.sqlite.queue import bodies
from worker.app import older
from worker.app.damage import refuse_damaged
from worker.app.stores import Purpose, open_stores
from worker.core.errors import PersonMustAct, UsageError, WorkerError
from worker.core.model import ENROLLED, Enrolment, State
from worker.settings import Settings, load

LEDGER, CHANNEL = "rollout.db", "enrolments.jsonl"
FILES = (LEDGER, f"{LEDGER}-wal", CHANNEL, f"{CHANNEL}.mark")
"""What a run leaves on a disk that matters."""
USERS = tuple(f"user-{number}" for number in range(24))
REPLACED = USERS[:8]
"""Users who are enrolled anew in the recorded run: their earlier secret is stale then."""


@dataclass(slots=True)
class Recorded:
    """A recorded run, with the truth about it."""

    recording: Recording
    issued: dict[str, list[tuple[float, str]]]
    """The secrets of each user, and when they were issued (UNIX seconds)."""
    secret_of: dict[str, str]
    """The secret of each attempt that was ever delivered or recorded."""
    rollout: Rollout


@dataclass(slots=True)
class Found:
    """What the next command made of the files."""

    refusal: WorkerError | None = None
    rows: dict[str, Enrolment] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    """Users of whom a request waits."""


async def recorded(rollout: Rollout, library: Path) -> Recorded:
    """Enrol everybody, and record a run in which some are enrolled anew, and others come."""
    some = [*REPLACED, *USERS[8:12]]
    await rollout.push(await rollout.sign_in(*some))
    assert (await rollout.run()).code == 0
    requests = await rollout.sign_in(*REPLACED)
    await rollout.push([{**each, "replace": True} for each in requests])
    await rollout.push(await rollout.sign_in(*USERS[12:]))
    await rollout.fake_cognito.set_faults("internal_error_acted@user-0=2x", "cut_after@user-13=1x")
    recording = Recording.begin(rollout.folder, FILES)
    notes = rollout.folder / "notes"
    environment = {**recorded_writes.variables(library, rollout.folder, notes)}
    ended = await rollout.run(command=COMMAND, env=environment)
    assert ended.code == 0, ended.err
    recording.read(notes)
    truth = await rollout.fake_cognito.truth()
    secrets = {record["attempt_id"]: record["secret_code"] for record in await rollout.delivered()}
    issued = {name: [(one.issued_at, one.secret_code) for one in user.secrets] for name, user in truth.items()}
    return Recorded(recording, issued, secrets, rollout)


def settings_in(folder: Path, rollout: Rollout) -> Settings:
    """The rollout's settings for files in another folder."""
    config = folder / "mfa-worker.toml"
    config.write_text(rollout.config.read_text("utf-8").replace(str(rollout.folder), str(folder)), "utf-8")
    return load(config, [], {})


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Let these files, and none beside them, be in the folder."""
    for name in (*FILES, f"{LEDGER}-shm"):
        (folder / name).unlink(missing_ok=True)
    for name, content in files.items():
        (folder / name).touch(0o600)
        (folder / name).write_bytes(content)


async def found(settings: Settings) -> Found:
    """What a run makes of the files before it calls anybody."""
    result = Found()
    try:
        async with open_stores(settings, Purpose.RUN) as stores:
            await refuse_damaged(stores)
            if refusal := await older.refusal(settings, stores):
                raise refusal
            result.rows = {row.username: row async for row in stores.ledger.every_row()}
            async for page in bodies(settings.queue.path):
                result.waiting |= {name for body in page if (name := _user_of(body)) is not None}
    except WorkerError as refusal:
        result.refusal = refusal
    return result


def _user_of(body: bytes) -> str | None:
    try:
        return str(json.loads(body)["username"])
    except (ValueError, KeyError, TypeError):
        return None  # a damaged request is put aside as malformed


def wrong_with(recorded: Recorded, at: float, left: Found, channel: bytes) -> list[str]:
    """Which promises the files break if a run goes on with them; ``at``: when the power failed."""
    wrong = []
    shown = delivered_in(channel)
    for username in USERS:
        issued = [secret for moment, secret in recorded.issued.get(username, []) if moment <= at]
        row = left.rows.get(username)
        if row is None and username not in left.waiting:
            wrong.append(f"lost: {username} has neither a row nor a request")
        if row is None and issued:
            wrong.append(f"unknown: {username} was called for and has no row")
        if row is None or row.state not in (*ENROLLED, State.SEALED) or row.sealed is None:
            continue
        if recorded.secret_of.get(row.sealed.attempt_id) != issued[-1]:
            wrong.append(f"stale: {username} is {row.state} with an earlier secret")
        if row.state in ENROLLED and row.sealed.attempt_id not in shown:
            wrong.append(f"missing: {username} is {row.state}, and no record of that is in the channel")
    return wrong


def delivered_in(channel: bytes) -> set[str]:
    """The attempts of which a whole line is in the channel."""
    attempts = set()
    for line in channel.split(b"\n"):
        try:
            told: dict[str, Any] = json.loads(line)
            base64.b64decode(told["sealed"], validate=True)
            attempts.add(told["attempt_id"])
        except (ValueError, KeyError, TypeError):
            continue
    return attempts


def moment_of(recording: Recording, cut: int) -> float:
    """UNIX seconds until which the world may have gone on before a power cut there."""
    return recording.notes[cut].at if cut < len(recording.notes) else float("inf")


# --- from the command line --------------------------------------------------------------------------------------------


async def try_honest(recorded: Recorded, folder: Path, dice: random.Random, states: int) -> Counter[str]:
    """Cut the power so often; raise ``AssertionError`` if anybody is lost, stale, or alarmed for nothing."""
    settings, tried = settings_in(folder, recorded.rollout), Counter[str]()
    for number in range(states):
        cut = dice.randint(0, len(recorded.recording.notes))
        files = recorded.recording.left_by(cut, dice)
        put(folder, files)
        left = await found(settings)
        assert left.refusal is None, f"state {number}, cut at {cut}: {left.refusal}"
        wrong = wrong_with(recorded, moment_of(recorded.recording, cut), left, files.get(CHANNEL, b""))
        assert not wrong, f"state {number}, cut at {cut}: {wrong}"
        tried["goes on"] += 1
    return tried


LIES: Sequence[tuple[str, ...]] = (
    (LEDGER, "-wal", CHANNEL, ".mark", ""),
    (LEDGER, "-wal"),
    (LEDGER,),
    ("-wal",),
    (CHANNEL,),
    (".mark",),
    (LEDGER, "-wal", CHANNEL),
)
"""Which files a disk lies about together; the empty name is the folder. Where it lies about all of them, everything is
of an earlier moment, and nothing on the host can tell."""


async def try_lying(recorded: Recorded, folder: Path, dice: random.Random, states: int) -> Counter[str]:
    """Let the disk lie so often; raise ``AssertionError`` where that could be found and was not."""
    settings, tried = settings_in(folder, recorded.rollout), Counter[str]()
    for number in range(states):
        cut = dice.randint(1, len(recorded.recording.notes))
        about, since = dice.choice(LIES), dice.randint(0, cut)
        files = recorded.recording.left_by(cut, dice, lies_from=dict.fromkeys(about, since))
        put(folder, files)
        left = await found(settings)
        if left.refusal is not None:
            assert isinstance(left.refusal, PersonMustAct | UsageError), f"state {number}: {left.refusal!r}"
            tried["refused"] += 1
            continue
        wrong = wrong_with(recorded, moment_of(recorded.recording, cut), left, files.get(CHANNEL, b""))
        kinds = {each.split(":")[0] for each in wrong}
        assert not kinds or "" in about, f"state {number}, cut at {cut}, {about} lie from {since}: {wrong}"
        tried[f"goes on, {'and ' + ', '.join(sorted(kinds)) if kinds else 'as it should'} ({about})"] += 1
    return tried


async def main() -> int:
    """Record one run, and try as many states as asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.power_cut", description=__doc__)
    parser.add_argument("--states", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = recorded_writes.library(folder)
        if library is None:
            print("no C compiler is installed", file=sys.stderr)
            return 2
        (folder / "run").mkdir()
        (folder / "state").mkdir()
        async with rollout_in(folder / "run") as rollout:
            run = await recorded(rollout, library)
            print(f"{len(run.recording.notes):,} changes and syncs were recorded")
            dice = random.Random(chosen.seed)
            for how, tried in (
                ("a disk that keeps its word", await try_honest(run, folder / "state", dice, chosen.states)),
                ("a disk that lies", await try_lying(run, folder / "state", dice, chosen.states)),
            ):
                print(how)
                for what, times in sorted(tried.items()):
                    print(f"  {times:6,} {what}")
        shutil.rmtree(folder / "state")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
