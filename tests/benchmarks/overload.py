"""How many are saved where there are more Sessions than the quota can save; and how the dead are settled.

    python -m tests.benchmarks.overload [--only steady,mixed,dead] [--aws] [--quota 50] [--workers 1]

Prints a line for each row with what it must reach; exits 1 if one does not. ``--aws``: SQS and DynamoDB on an emulator,
where a queue keeps no order and less is wanted. What counts are the secrets that the fake Cognito issued.

``steady``: a feed of twice the quota, Sessions that live 15 s; of what the quota admits once the first ones have died,
so many calls must become enrolments. ``mixed``: 2,600 Sessions that live 40 s and are 0 to 45 s old. Beside the number
it says which part that is of the best that any order could save. ``dead``: 30,000 requests that are dead before 100
that live.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.support import emulators
from tests.support.aws_rollout import aws_rollout_in
from tests.support.processes import COMMAND, Process
from tests.support.rollout import POOL, Request, Rollout
from worker.app.run import run_async
from worker.rehearsal.fake_cognito.client import start_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig

LATENCY = 0.05
"""Seconds that the fake Cognito takes for an answer."""
STEADY_LIFE, STEADY_SECONDS, SETTLE = 15.0, 30.0, 20.0
"""Seconds that the Sessions of ``steady`` live, for which it is measured, and before: until the overload is steady."""
MIXED, MIXED_LIFE, MIXED_AGES = 2600, 40, 45
START = 1.0
"""Seconds that a worker may take from its start to the first call: reading its settings, opening its files."""
DEAD, LIVE = 30_000, 100
FIRST_CALL = 1.0
"""Seconds by which the dead may delay the first call."""


async def steady(rollout: Rollout, quota: float, workers: int, *, least: float) -> bool:
    """Feed twice the quota while the workers run."""
    rollout.configure(cognito={"session_validity": STEADY_LIFE}, channel={"min_validity": 1.0})
    processes = _start(rollout, workers, "--follow")
    started, pushed, before, settled = time.monotonic(), 0, 0, 0.0
    end = started + SETTLE + STEADY_SECONDS
    while (now := time.monotonic()) < end:
        wanted = int(2 * quota * (now - started)) - pushed
        if wanted > 0:
            names = [f"user-{pushed + number}" for number in range(wanted)]
            await rollout.push(await rollout.sign_in(*names, credential="session", validity=STEADY_LIFE))
            pushed += wanted
        if not settled and now >= started + SETTLE:
            before, settled = (await rollout.fake_cognito.stats()).issued, time.monotonic()
        await asyncio.sleep(0.25)
    issued, took = (await rollout.fake_cognito.stats()).issued - before, time.monotonic() - settled
    await _interrupt(processes)
    part = issued / (quota * took)
    return _say("steady", f"{part:.1%} of the quota became enrolments (at least {least:.0%})", part >= least)


async def mixed(rollout: Rollout, quota: float, workers: int, *, least: int, least_part: float) -> bool:
    """2,600 Sessions of mixed ages, all on the queue at the start."""
    rollout.configure(cognito={"session_validity": float(MIXED_LIFE)}, channel={"min_validity": 5.0})
    requests: list[Request] = []
    each = MIXED // MIXED_AGES
    for age in range(MIXED_AGES, -1, -1):
        number = each if age else MIXED - each * MIXED_AGES
        names = [f"age-{age}-{number}" for number in range(number)]
        requests += await rollout.sign_in(*names, credential="session", validity=float(MIXED_LIFE - age))
    await _push(rollout, requests)
    deadlines = [datetime.fromisoformat(request["expires_at"]).timestamp() for request in requests]
    best = _best(deadlines, time.time() + START, quota)
    await _ended(_start(rollout, workers))
    saved = (await rollout.fake_cognito.stats()).issued
    held = saved >= least and saved >= least_part * best
    return _say(
        "mixed",
        f"{saved} of {MIXED} were saved (at least {least}), {saved / best:.1%} of the best that any order could save "
        f"({best}; at least {least_part:.0%})",
        held,
    )


async def dead(rollout: Rollout, quota: float, workers: int) -> bool:
    """Thirty thousand dead requests before a hundred live ones."""
    rollout.configure(rate={"requests_per_second": quota})
    expired = datetime.fromtimestamp(time.time() - 60, UTC).isoformat()
    lines = [
        json.dumps({"username": f"dead-{number}", "session": "s" * 800, "id": str(number), "expires_at": expired})
        for number in range(DEAD)
    ]
    await _push(rollout, await rollout.sign_in(*(f"first-{number}" for number in range(LIVE)), validity=3600.0))
    alone = await _until_called(rollout, workers, LIVE)
    await _push(rollout, lines)
    await _push(rollout, await rollout.sign_in(*(f"live-{number}" for number in range(LIVE)), validity=3600.0))
    began, cpu = time.monotonic(), _cpu_of_children()
    first, all_called = await _until_called(rollout, workers, LIVE)
    took, used = time.monotonic() - began, _cpu_of_children() - cpu
    counts = await rollout.status()
    held = first <= alone[0] + FIRST_CALL and counts["reasons"].get("session_expired") == DEAD
    return _say(
        "dead",
        f"first call after {first:.2f} s, {LIVE} after {all_called:.2f} s (without the dead {alone[0]:.2f} and "
        f"{alone[1]:.2f}; at most {FIRST_CALL:g} s more); {DEAD} dead settled in {took:.1f} s, "
        f"{1000 * used / DEAD:.2f} ms of CPU each",
        held,
    )


async def _until_called(rollout: Rollout, workers: int, calls: int) -> tuple[float, float]:
    """Run to the end; seconds from the start until the first call, and until so many."""
    before = (await rollout.fake_cognito.stats()).issued
    began = time.monotonic()
    processes = _start(rollout, workers)
    first = await _issued(rollout, before + 1) - began
    all_called = await _issued(rollout, before + calls) - began
    await _ended(processes)
    return first, all_called


async def _issued(rollout: Rollout, number: int) -> float:
    """When so many secrets were issued (monotonic seconds)."""
    while (await rollout.fake_cognito.stats()).issued < number:  # noqa: ASYNC110 - the fake Cognito tells nobody
        await asyncio.sleep(0.02)
    return time.monotonic()


def _best(deadlines: Iterable[float], now: float, quota: float) -> int:
    """How many calls any order could make in time: the earliest deadline first, whoever cannot make it left out."""
    best = 0
    for deadline in sorted(deadlines):
        best += deadline - now > best / quota
    return best


async def _push(rollout: Rollout, requests: Sequence[Request | str]) -> None:
    for start in range(0, len(requests), 1000):
        await rollout.push(requests[start : start + 1000])


def _start(rollout: Rollout, workers: int, *arguments: str) -> list[Process]:
    return [rollout.start("run", *arguments, command=COMMAND) for _ in range(workers)]


async def _ended(processes: Iterable[Process]) -> None:
    for process in processes:
        ended = await process.ended(600.0)
        assert ended.code in (0, 1), ended.err


async def _interrupt(processes: Sequence[Process]) -> None:
    for process in processes:
        process.signal(signal.SIGINT)
    for process in processes:
        await process.ended(60.0)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _say(row: str, found: str, held: bool) -> bool:
    print(f"{row:7} {found}  {'holds' if held else 'MISSED'}", flush=True)
    return held


@asynccontextmanager
async def _embedded(quota: float) -> AsyncIterator[Rollout]:
    with tempfile.TemporaryDirectory() as folder:
        config = FakeCognitoConfig(user_pool_id=POOL, quota=quota, latency=LATENCY)
        async with start_fake_cognito(config) as served:
            yield _configured(Rollout(Path(folder), served), quota)


@asynccontextmanager
async def _on_aws(quota: float) -> AsyncIterator[Rollout]:
    with tempfile.TemporaryDirectory() as folder, emulators.ministack() as emulator, _credentials():
        async with aws_rollout_in(Path(folder), emulator, "s3", quota=quota, latency=LATENCY) as rollout:
            rollout.configure(queue={"visibility": 60.0, "empty_after": 2.0})
            yield _configured(rollout, quota)


def _configured(rollout: Rollout, quota: float) -> Rollout:
    rollout.configure(
        cognito={"call_timeout": 5.0},
        rate={"requests_per_second": quota},
        run={"concurrency": 64, "poll": 0.5},
        ledger={"lease": 30.0},
    )
    return rollout


@contextmanager
def _credentials() -> Iterator[None]:
    os.environ.update(emulators.CREDENTIALS)
    yield


async def main(rows: Sequence[str], quota: float, workers: int, *, aws: bool) -> bool:
    """Every row, one after the other."""
    held = True
    for row in rows:
        async with _on_aws(quota) if aws else _embedded(quota) as rollout:
            match row:
                case "steady":
                    held &= await steady(rollout, quota, workers, least=0.90 if aws else 0.97)
                case "mixed":
                    least = round((1500 if aws else 1750) * quota / 50)
                    held &= await mixed(rollout, quota, workers, least=least, least_part=0.75 if aws else 0.92)
                case "dead" if not aws:
                    held &= await dead(rollout, quota, workers)
    return held


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="steady,mixed,dead")
    parser.add_argument("--aws", action="store_true")
    parser.add_argument("--quota", type=float, default=50.0)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    sys.exit(not run_async(main(asked.only.split(","), asked.quota, asked.workers, aws=asked.aws)))
