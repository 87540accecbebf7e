"""How much of the quota is used, and how little refused: pacer and client against the fake Cognito.

    python -m tests.benchmarks.quota [--seconds 20] [--rates 25,100,1000] [--only plain,faults,fast]

Prints a line for each row with the numbers that it must reach; exits 1 if one does not. Where a process waited for
a processor for more than a few per cent of the time, the machine was measured and not the worker.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.support.pace_stores import MemoryPaceStore
from worker.adapters.cognito.client import cognito
from worker.core.clock import EndpointClock, SystemClock
from worker.core.errors import WorkerError
from worker.core.model import CredentialKind, Issued, Request, Secret, Trouble, TryAgain
from worker.core.ports import Pacer, Provider
from worker.core.resilience.refusals import Refusals
from worker.core.resilience.throttling import Throttling
from worker.pacing.pacer import SharedPacer
from worker.rehearsal.fake_cognito.client import FakeCognito, Stats, start_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig

LATENCY = 0.05
"""Seconds that the fake Cognito takes for an answer."""
RETRY_BASE = 0.2
"""The most seconds until a throttled user is tried again: the default of ``retry.base``."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured, and what it must reach."""

    name: str
    faults: tuple[str, ...] = ()
    configured: float = 1.0
    """By the real quota."""
    settle: float = 2.0
    """Seconds before the measurement begins, at the least."""
    least_used: float = 0.99
    most_refused: float = 0.001
    window: bool = True
    """Whether any one second must be within the quota, but for one request or 0.5 %."""


ROWS = (
    Row("plain"),
    Row("faults", faults=("conflict=2%", "internal_error=2%"), least_used=0.98),
    Row("fast", configured=1.2, settle=20.0, least_used=0.95, most_refused=0.005, window=False),
)


async def measure(row: Row, quota: float, seconds: float) -> tuple[Stats, float]:
    """Work for ``seconds`` after the row's time to settle.

    Gives what the fake Cognito saw meanwhile, and which part of the time a process waited for a processor.
    """
    config = FakeCognitoConfig(quota=quota, latency=LATENCY, faults=row.faults)
    async with start_fake_cognito(config) as fake_cognito:
        requests = await _requests(fake_cognito, quota)
        clock = EndpointClock(SystemClock())
        concurrency = int(10 + 4 * quota * LATENCY)
        async with (
            cognito(config.region, endpoint_url=fake_cognito.url, concurrency=concurrency, clock=clock) as provider,
            SharedPacer(MemoryPaceStore(), row.configured * quota, clock) as pacer,
        ):
            waited = [_waited(pid) for pid in (os.getpid(), fake_cognito.pid)]
            started = time.monotonic()
            begin = started + row.settle
            end = begin + seconds
            refusals = Refusals(clock, _ends_nothing)
            throttling = Throttling(pacer, refusals)
            work = (_work(requests, provider, pacer, refusals, throttling, end) for _ in range(concurrency))
            await asyncio.gather(*work)
        waits = [_waited(pid) - before for pid, before in zip((os.getpid(), fake_cognito.pid), waited, strict=True)]
        return await fake_cognito.stats(since=begin, until=end), max(waits) / (time.monotonic() - started)


def _waited(pid: int) -> float:
    """Seconds that a process was ready and got no processor (Linux)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


async def _requests(fake_cognito: FakeCognito, quota: float) -> deque[Request]:
    """Users whose tokens serve again and again, enough of them that no user has two calls at once."""
    users = fake_cognito.sign_in_many(int(100 + quota), credential="token")
    kind = CredentialKind.ACCESS_TOKEN
    return deque([Request(one.username, kind, Secret(one.value), "1", one.expires_at) async for one in users])


def _ends_nothing(error: WorkerError) -> None:
    raise AssertionError(f"nobody is refused here: {error}")


async def _work(
    requests: deque[Request],
    provider: Provider,
    pacer: Pacer,
    refusals: Refusals,
    throttling: Throttling,
    end: float,
) -> None:
    """Call for one user after the other; who is throttled is tried again soon, as the worker does it."""
    while time.monotonic() < end:
        request, throttled = requests.popleft(), True
        while throttled and time.monotonic() < end:
            await pacer.acquire()
            sent_at, number = time.monotonic(), refusals.sent(request.username)
            reply = await provider.associate(request)
            if isinstance(reply, Issued):
                refusals.served(request.username, number)
            throttling.record_reply(request.username, reply, number, sent_at)
            if throttled := isinstance(reply, TryAgain) and reply.trouble is Trouble.THROTTLED:
                await asyncio.sleep(random.uniform(0, RETRY_BASE))
        requests.append(request)


def judge(row: Row, quota: float, stats: Stats, waited: float) -> bool:
    """Print a line, and say whether the row reached what it must."""
    used, refused = stats.utilisation or 0.0, stats.refused / max(1, stats.wire_requests)
    window = quota + max(1.0, 0.005 * quota)
    reached = used >= row.least_used and refused <= row.most_refused
    reached &= not row.window or stats.largest_window <= window
    limit = f" (at most {window:g})" if row.window else ""
    print(
        f"{row.name:7}{quota:6g}/s  used {used:.2%} (at least {row.least_used:.0%})"
        f"  refused {refused:.2%} (at most {row.most_refused:.1%})"
        f"  in one second {stats.largest_window}{limit}  waited for a processor {waited:.0%}"
        f"  {'holds' if reached else 'MISSED'}",
        flush=True,
    )
    return reached


async def main(rows: list[Row], quotas: list[float], seconds: float) -> bool:
    """Every row at every quota, one after the other."""
    return all([judge(row, quota, *await measure(row, quota, seconds)) for row in rows for quota in quotas])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rates", default="25,100,1000")
    parser.add_argument("--only", default=",".join(row.name for row in ROWS))
    options = parser.parse_args()
    chosen = [row for row in ROWS if row.name in options.only.split(",")]
    sys.exit(not uvloop.run(main(chosen, [float(rate) for rate in options.rates.split(",")], options.seconds)))
