"""How well several workers share one quota: real processes against the fake Cognito's token bucket.

    python -m tests.benchmarks.workers [--rates 25,100] [--workers 2,4,8] [--only plain,killed,late,clocks,slow] [--aws]

They share one SQLite file, which others lock where it is to be slow; with ``--aws`` SQS, DynamoDB and S3 of an
emulator, where every request to DynamoDB takes longer.

Measured once all of them send. Prints a line for each scenario with what it must reach; exits 1 if one does not. Where
a worker waited for a processor for more than a few per cent of the time, the machine was measured and not the pace.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import sys
import tempfile
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.support import emulators
from tests.support.aws_rollout import AwsRollout
from tests.support.dynamodb_wire import Wire, wired
from tests.support.emulators import Emulator
from tests.support.processes import Process, until
from tests.support.rollout import POOL, Rollout
from worker.pacing.schedule import SHARED_MARGIN
from worker.rehearsal.fake_cognito.client import start_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig

MIN_USED = 0.99
"""The part of the quota that all workers together must use."""
MIN_USED_DISTURBED = 0.97
"""The same while one of them is killed, or the ledger is slow."""
MAX_APART = 0.15
"""How much the workers' shares may differ: the largest less the smallest, divided by their mean."""
MAX_LOST = 3.0
"""Seconds of the quota that may be lost when two of three workers are killed."""
SECONDS = 20.0
"""Seconds for which is measured."""
SETTLE = 2.0
"""Seconds between the first sends of all workers and the measurement."""
WRONG = 30.0
"""Seconds by which clocks are wrong, half of them fast and half slow."""
LOCKED = 0.3
"""Seconds for which a slow SQLite ledger is locked, again and again."""
UNLOCKED = 0.1
"""Seconds between two such locks."""
DELAY = 0.2
"""Seconds that a slow DynamoDB takes longer for every answer."""
LOCK = """
import sqlite3, sys, time
path, seconds, locked, unlocked = sys.argv[1], *map(float, sys.argv[2:])
ledger, end = sqlite3.connect(path, timeout=30, isolation_level=None), time.monotonic() + seconds
while time.monotonic() < end:
    ledger.execute("BEGIN IMMEDIATE"); time.sleep(locked); ledger.execute("ROLLBACK"); time.sleep(unlocked)
"""


@dataclass
class Worker:
    """One process, and when it sent."""

    process: Process
    trace: Path

    def sends(self, since: float = -math.inf, until: float = math.inf) -> int:
        moments = array("d", self.trace.read_bytes()) if self.trace.exists() else ()
        return sum(since <= moment < until for moment in moments)

    @property
    def waited(self) -> float:
        """Seconds that it was ready and got no processor (Linux)."""
        return int(Path(f"/proc/{self.process.popen.pid}/schedstat").read_text().split()[1]) / 1e9


@dataclass(frozen=True)
class Seen:
    """What came of a stretch of time."""

    used: float
    refused: int
    largest_window: int
    apart: float
    """The largest share less the smallest, by the mean, of the workers asked about."""
    twice: int
    """Users who were called more than once."""
    waited: float
    """Which part of the time a worker waited for a processor, at the most."""


class Fleet:
    """Workers on one rollout."""

    def __init__(self, rollout: Rollout, quota: float, wire: Wire | None) -> None:
        self.rollout, self.quota, self._wire = rollout, quota, wire
        self.workers: list[Worker] = []

    async def push(self, users: int) -> None:
        """Requests that no clock here can find expired."""
        signed_in = self.rollout.fake_cognito.sign_in_many(users, credential="token", validity=7200)
        await self.rollout.push([credential.request() async for credential in signed_in])

    def join(self, shift: float = 0.0) -> Worker:
        """Start one more, with a wall clock that is wrong by ``shift`` seconds."""
        trace = self.rollout.folder / f"{len(self.workers)}.trace"
        script = Path(__file__).with_name("traced.py")
        process = self.rollout.start(str(shift), str(trace), "run", script=script)
        self.workers.append(Worker(process, trace))
        return self.workers[-1]

    @asynccontextmanager
    async def slow_ledger(self, seconds: float) -> AsyncIterator[None]:
        """It answers slowly, for so many seconds."""
        if self._wire is not None:
            self._wire.delay = DELAY
            yield
            self._wire.delay = 0.0
            return
        arguments = [str(each) for each in (self.rollout.ledger, seconds, LOCKED, UNLOCKED)]
        locking = await asyncio.create_subprocess_exec(sys.executable, "-c", LOCK, *arguments)
        yield
        await locking.wait()

    async def all_send(self) -> None:
        """Wait until every worker sends, and a little longer."""
        await until(lambda: all(worker.sends() for worker in self.workers))
        await asyncio.sleep(SETTLE)

    async def seen(self, since: float, until: float, workers: list[Worker], waited: float = 0.0) -> Seen:
        """Between two moments (monotonic seconds), by the fake Cognito; shares by the workers themselves."""
        stats = await self.rollout.fake_cognito.stats(since=since, until=until)
        secrets = [len(user.secrets) async for user in self.rollout.fake_cognito.truth_lines()]
        shares = [worker.sends(since, until) for worker in workers]
        return Seen(
            used=stats.utilisation or 0.0,
            refused=stats.refused,
            largest_window=stats.largest_window,
            apart=(max(shares) - min(shares)) * len(shares) / max(1, sum(shares)),
            twice=sum(each > 1 for each in secrets) + sum(stats.overlapping.values()),
            waited=waited,
        )

    async def work(self, seconds: float, workers: list[Worker] | None = None) -> Seen:
        """What is seen from now on."""
        workers = workers or self.workers
        before, since = [worker.waited for worker in workers], time.monotonic()
        await asyncio.sleep(seconds)
        waits = [worker.waited - already for worker, already in zip(workers, before, strict=True)]
        return await self.seen(since, since + seconds, workers, max(waits) / seconds)

    async def lost(self, since: float, seconds: float) -> float:
        """Seconds of the quota that were not used, beyond the margin that never is."""
        await asyncio.sleep(max(0.0, since + seconds - time.monotonic()))
        admitted = (await self.rollout.fake_cognito.stats(since=since, until=since + seconds)).admitted
        return seconds - admitted * (1 + SHARED_MARGIN) / self.quota


@asynccontextmanager
async def fleet(
    folder: Path, quota: float, workers: int, *, seconds: float, emulator: Emulator | None = None
) -> AsyncIterator[Fleet]:
    """Work for so many seconds, and nobody there yet."""
    async with AsyncExitStack() as stack:
        config = FakeCognitoConfig(quota=quota, latency=0.05, user_pool_id=POOL)
        fake_cognito = await stack.enter_async_context(start_fake_cognito(config))
        rollout: Rollout
        wire: Wire | None = None
        if emulator is None:
            rollout = Rollout(folder, fake_cognito)
        else:
            rollout = AwsRollout(folder, fake_cognito, emulator, "s3")
            await rollout.initialise()
            wire, url = await stack.enter_async_context(wired(emulator))
            rollout.configure(queue={"visibility": 60.0}, aws={"dynamodb_endpoint_url": url})
        rollout.configure(
            cognito={"call_timeout": 10.0, "patience": 60.0},
            rate={"requests_per_second": quota},
            run={"concurrency": None, "poll": 0.2},
            ledger={"lease": 60.0, "clock_skew": 30.0},
        )
        here = Fleet(rollout, quota, wire)
        await here.push(int(quota * (seconds + 15 + 2 * workers)))
        try:
            yield here
        finally:
            for worker in here.workers:
                if not worker.process.is_over:
                    await worker.process.kill()


# --- scenarios --------------------------------------------------------------------------------------------------------


async def plain(here: Fleet, workers: int) -> bool:
    """All from the start."""
    for _ in range(workers):
        here.join()
    await here.all_send()
    return judge("plain", here, await here.work(SECONDS))


async def clocks(here: Fleet, workers: int) -> bool:
    """Every other wall clock is fast, the rest are slow."""
    for number in range(workers):
        here.join(WRONG / 2 if number % 2 else -WRONG / 2)
    await here.all_send()
    return judge("clocks", here, await here.work(SECONDS))


async def killed(here: Fleet, workers: int) -> bool:
    """One is killed midway; of three, two are."""
    victims = [here.join() for _ in range(workers)][: 2 if workers == 3 else 1]
    await here.all_send()
    since = time.monotonic()
    await asyncio.sleep(SECONDS / 2)
    for victim in victims:
        await victim.process.kill()
    died = time.monotonic()
    lost = await here.lost(died, SECONDS / 2)
    left = [worker for worker in here.workers if worker not in victims]
    seen = await here.seen(since, died + SECONDS / 2, left)
    return judge(
        f"killed {len(victims)}", here, seen, f"lost {lost:.2f} s", reached=lost < MAX_LOST, least=MIN_USED_DISTURBED
    )


async def late(here: Fleet, workers: int) -> bool:
    """One joins when the others have long been at it."""
    for _ in range(workers - 1):
        here.join()
    await here.all_send()
    last = here.join()
    await until(lambda: last.sends() > 0)
    began = time.monotonic()
    soon = await here.work(SETTLE)
    its = last.sends(began, began + SETTLE) * workers / (here.quota * SETTLE)
    told = f"in its first {SETTLE:g} s {its:.0%} of its share, used {soon.used:.1%}"
    return judge("late", here, await here.work(SECONDS), told)


async def slow(here: Fleet, workers: int) -> bool:
    """The ledger answers slowly; measured while it does, and after."""
    for _ in range(workers):
        here.join()
    await here.all_send()
    async with here.slow_ledger(SECONDS):
        meanwhile = await here.work(SECONDS)
    await asyncio.sleep(SETTLE)
    after = await here.work(SECONDS / 2)
    return all([judge("slow", here, meanwhile, least=MIN_USED_DISTURBED), judge("after", here, after)])


def judge(name: str, here: Fleet, seen: Seen, more: str = "", *, reached: bool = True, least: float = MIN_USED) -> bool:
    """Print a line, and say whether it reached what it must."""
    window = here.quota + max(1.0, 0.005 * here.quota)
    reached &= seen.used >= least and seen.largest_window <= window
    reached &= seen.apart < MAX_APART and seen.twice == 0
    print(
        f"{name:9}{len(here.workers):2} workers {here.quota:4g}/s  used {seen.used:.1%}  refused {seen.refused}"
        f"  in one second {seen.largest_window} (at most {window:g})  shares {seen.apart:.0%} apart"
        f"  twice {seen.twice}  waited for a processor {seen.waited:.0%}  {more}  {'holds' if reached else 'MISSED'}",
        flush=True,
    )
    return reached


SCENARIOS: dict[str, Callable[[Fleet, int], Awaitable[bool]]] = {
    each.__name__: each for each in (plain, killed, late, clocks, slow)
}


async def main(names: list[str], quotas: list[float], numbers: list[int], emulator: Emulator | None) -> bool:
    """Every scenario, one after the other."""
    reached = []
    for name in names:
        for quota in quotas:
            for workers in numbers:
                seconds = SECONDS * (1.5 if name == "slow" else 1.0) + 2 * SETTLE
                with tempfile.TemporaryDirectory() as folder:
                    async with fleet(Path(folder), quota, workers, seconds=seconds, emulator=emulator) as here:
                        reached.append(await SCENARIOS[name](here, workers))
    return all(reached)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="25,100")
    parser.add_argument("--workers", default="2,4,8")
    parser.add_argument("--only", default=",".join(SCENARIOS))
    parser.add_argument("--aws", action="store_true")
    options = parser.parse_args()
    os.environ.update(emulators.CREDENTIALS)
    with emulators.ministack() if options.aws else nullcontext() as emulated:
        asked = (
            options.only.split(","),
            [float(rate) for rate in options.rates.split(",")],
            [int(number) for number in options.workers.split(",")],
        )
        reached = uvloop.run(main(*asked, emulated))
    sys.exit(not reached)
