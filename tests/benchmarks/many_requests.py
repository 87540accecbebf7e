"""What one user with very many requests costs everybody else: real processes on the embedded set-up.

    python -m tests.benchmarks.many_requests [--only beside,refused,dead,linear] [--requests 10000]

Prints a line for each row with what it must reach; exits 1 if one does not.

``beside``: their requests stand before those of 400 others. The quota must be used as well as where they have one
request, and the run must end soon after the last user, with one worker and with two.
``refused``: the same, but all of their credentials are refused, so that each takes a call.
``dead``: all are dead, and the row in the ledger must stay small. ``linear``: four times as many requests may cost four
times as much, by CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from tests.support.processes import Process, until
from tests.support.rollout import POOL, Request, Rollout
from worker.rehearsal.fake_cognito.client import start_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig

QUOTA = 50.0
"""Requests/s."""
OTHERS = 400
DEAD = 250
REFUSED = 300
LEAST_USED = 0.97
"""How much of the quota must be used, by what is used where the user has one request."""
LEAST_BESIDE_REFUSED = 0.94
"""The same where all requests of the user are refused: the user may take 3 %, and begins."""
MOST_AFTER = 5.0
"""Seconds in which the run must end once everybody has their secret: the user's messages are acknowledged meanwhile."""
MOST_SECONDS = 5.0
"""Seconds for a run over the dead requests; a run over nothing takes one."""
MOST_BYTES = 13_000
"""Bytes of what the row remembers of the settled requests."""
MOST_GROWTH = 1.3
"""How many times as much CPU a request may cost where they are four times as many."""
WITHIN = 300.0
"""Seconds after which a run counts as one that does not end."""


@asynccontextmanager
async def rollout(quota: float | None, faults: tuple[str, ...] = ()) -> AsyncIterator[Rollout]:
    """A rollout on this disk, against a fake Cognito with that quota."""
    config = FakeCognitoConfig(quota=quota, latency=0.05, user_pool_id=POOL, faults=faults)
    with tempfile.TemporaryDirectory() as folder:
        async with start_fake_cognito(config) as fake_cognito:
            here = Rollout(Path(folder), fake_cognito)
            here.configure(
                cognito={"call_timeout": 10.0, "patience": 60.0},
                rate={"requests_per_second": quota or 1_000},
                run={"concurrency": None, "poll": 0.2},
                ledger={"lease": 60.0, "clock_skew": 30.0},
            )
            try:
                yield here
            finally:
                for process in here.processes:
                    if not process.is_over:
                        await process.kill()


async def requests_of_one(here: Rollout, number: int, expires_in: float) -> list[Request]:
    """So many requests of one user."""
    [request] = await here.sign_in("ana", validity=7_200.0)
    expires = datetime.fromtimestamp(time.time() + expires_in, UTC).isoformat()
    return [{**request, "id": f"request {each}", "expires_at": expires} for each in range(number)]


async def ended(processes: list[Process]) -> float:
    """Wait until all have ended; how long that took, in seconds."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(WITHIN):
            for process in processes:
                await process.ended(WITHIN)
    except (TimeoutError, AssertionError):
        return WITHIN
    return time.monotonic() - began


def settled_bytes(here: Rollout) -> int:
    """The longest list of settled requests in the ledger."""
    with closing(sqlite3.connect(here.ledger)) as ledger:
        (found,) = ledger.execute("SELECT max(length(settled)) FROM users").fetchone()
    return int(found or 0)


def judge(name: str, line: str, *, reached: bool) -> bool:
    """Print the line, and give back whether it holds."""
    print(f"{name:18} {line}  {'holds' if reached else 'MISSED'}", flush=True)
    return reached


# --- rows -------------------------------------------------------------------------------------------------------------


async def beside(number: int) -> bool:
    """Four hundred others behind them."""
    return all([await _beside(number, workers) for workers in (1, 2)])


async def _beside(number: int, workers: int) -> bool:
    alone, _, _ = await _used(1, workers)
    used, after, duplicates = await _used(number, workers)
    line = f"used {used:.1%} of the quota, {used / alone:.1%} of what is used without them (at least {LEAST_USED:.0%})"
    line += f"  ended {after:.1f} s after the last user (at most {MOST_AFTER:g})  duplicates {duplicates}"
    reached = used >= LEAST_USED * alone and after <= MOST_AFTER and duplicates == number - 1
    return judge(f"beside, {workers} worker{'s'[: workers - 1]}", line, reached=reached)


async def _used(number: int, workers: int, faults: tuple[str, ...] = ()) -> tuple[float, float, int]:
    """The part of the quota that was used from the first call to the last; what the run took after it; duplicates."""
    async with rollout(QUOTA, faults) as here:
        await here.push(await requests_of_one(here, number, expires_in=3_600.0))
        await here.push(await here.sign_in(*(f"user {each}" for each in range(OTHERS)), validity=7_200.0))
        processes = [here.start("run") for _ in range(workers)]
        await here.until_called(1)
        began = time.monotonic()
        users = OTHERS + (not faults)
        delivered = lambda: here.channel.exists() and here.channel.read_bytes().count(b"\n") >= users  # noqa: E731
        await until(delivered, WITHIN)
        took = time.monotonic() - began
        after = await ended(processes)
        return users / QUOTA / took, after, (await here.status())["duplicates"]


async def refused(_: int) -> bool:
    """Every credential of theirs was revoked."""
    alone = (await _used(1, 1))[0]
    used, after, _ = await _used(REFUSED, 1, faults=("token_revoked@ana=100%",))
    line = f"used {used:.1%} of the quota for others, {used / alone:.1%} of what is used without them"
    line += f" (at least {LEAST_BESIDE_REFUSED:.0%})  ended {after:.1f} s after the last user"
    return judge("refused", line, reached=used >= LEAST_BESIDE_REFUSED * alone)


async def dead(_: int) -> bool:
    """All of them dead."""
    async with rollout(None) as here:
        await here.push(await requests_of_one(here, DEAD, expires_in=-3_600.0))
        seconds, size = await ended([here.start("run")]), settled_bytes(here)
    line = f"{seconds:.1f} s (at most {MOST_SECONDS:g})  row {size} bytes (at most {MOST_BYTES})"
    return judge("dead", line, reached=seconds <= MOST_SECONDS and size <= MOST_BYTES)


async def linear(number: int) -> bool:
    """A quarter of them, and all."""
    nothing, few, many = [await _cpu(each) for each in (1, number // 4, number)]
    growth = (many - nothing) / number / max(1e-9, (few - nothing) / (number // 4))
    each = (many - nothing) / number * 1e6
    line = f"{each:.0f} µs of CPU a request, {growth:.2f} times as much as with a quarter (at most {MOST_GROWTH:g})"
    return judge("linear", line, reached=growth <= MOST_GROWTH)


async def _cpu(number: int) -> float:
    """Seconds of CPU that a run takes over so many requests of a user."""
    async with rollout(None) as here:
        await here.push(await requests_of_one(here, number, expires_in=3_600.0))
        process, spent = here.start("run"), 0.0
        while not process.is_over:
            spent = max(spent, _spent(process.popen.pid))
            await asyncio.sleep(0.01)
    return spent


def _spent(pid: int) -> float:
    """Seconds of CPU that a process has used, by all its threads (Linux); 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


ROWS: dict[str, Callable[[int], Coroutine[Any, Any, bool]]] = {
    "beside": beside,
    "refused": refused,
    "dead": dead,
    "linear": linear,
}


async def main(names: list[str], number: int) -> bool:
    """The rows with these names, one after the other."""
    return all([await ROWS[name](number) for name in names])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ROWS))
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    sys.exit(not uvloop.run(main(options.only.split(","), options.requests)))
