"""How much of the quota is used where users are signed in when it is their turn, and activated: a whole worker.

    python -m tests.benchmarks.activation [--seconds 20] [--rates 25,100] [--only tokens,usernames,passwords,faults]

One worker in the embedded set-up, as a process of its own, against the fake Cognito, which answers after 50 to 300 ms.
Each user costs two or three calls of one quota. ``tokens`` come with the requests; ``usernames`` have a ticket, which
brings a token; ``passwords`` bring a Session.

Prints a line for each row with the numbers that it must reach; exits 1 if one does not. Where a process waited for
a processor for more than a few per cent of the time, the machine was measured and not the worker.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from tests.benchmarks.quota import _waited as waited_for_a_processor
from tests.support.processes import until
from tests.support.rollout import POOL, Request, Rollout
from worker.rehearsal.fake_cognito.client import FakeCognito, start_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.requests.ticket import make_ticket, new_key
from worker.requests.ticket import read_key as key_in

LATENCY, JITTER = 0.05, 0.25
"""Seconds that the fake Cognito takes for an answer at least, and more by chance at most."""
SETTLE = 6.0
"""Seconds from the first call to the measurement: until users at every step of their way are under way."""
CLIENT = "1rehearsal2rehearsal3rehea"
PASSWORD = "Correct-horse-9"
MIN_USED = 0.99
MIN_USED_DISTURBED = 0.98
"""The same with 2 % conflicts and 2 % internal errors in every operation."""
MAX_REFUSED = 0.001


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured."""

    name: str
    brings: str
    """What a request brings: ``access_token``, ``ticket`` or ``password``."""
    mode: str
    flow: str = "none"
    calls: int = 3
    least: float = MIN_USED
    pool: dict[str, Any] = field(default_factory=dict)
    """What is particular about the fake Cognito."""


FAULTS = {"faults": ("conflict=2%", "internal_error=2%")}
ROWS = (
    Row("tokens", "access_token", "prefer"),
    Row("usernames", "ticket", "prefer", "custom_auth"),
    Row("passwords", "password", "verify", "user_password", calls=2, pool={"mfa": "required"}),
    Row("faults", "ticket", "prefer", "custom_auth", least=MIN_USED_DISTURBED, pool=FAULTS),
)


async def measure(row: Row, quota: float, seconds: float, folder: Path) -> bool:
    """Work on more users than the quota suffices for, look for ``seconds``, and say what was seen."""
    key = folder / "tickets.key"
    key.touch(0o600)
    key.write_text(new_key())
    config = FakeCognitoConfig(
        quota=quota,
        sign_in_quota=None,
        read_quota=None,
        latency=LATENCY,
        jitter=JITTER,
        user_pool_id=POOL,
        client_id=CLIENT,
        ticket_key=key.read_text().strip(),
        password=PASSWORD,
        **row.pool,
    )
    async with start_fake_cognito(config) as fake_cognito:
        rollout = Rollout(folder, fake_cognito)
        sign_in = {"flow": row.flow, "client_id": CLIENT, "requests_per_second": 5 * quota}
        rollout.configure(
            cognito={"call_timeout": 10.0, "patience": 60.0},
            rate={"requests_per_second": quota},
            sign_in=sign_in if row.flow != "none" else {},
            activation={"mode": row.mode},
            run={"concurrency": None, "poll": 0.2},
            ledger={"lease": 60.0},
            retry={"base": None, "cap": None},
        )
        users = int(quota / row.calls * (seconds + SETTLE + 10))
        await rollout.push([request async for request in _requests(row, users, fake_cognito, key)])
        process = rollout.start("run")
        try:

            async def has_begun() -> bool:
                return (await fake_cognito.stats()).wire_requests > 0 or process.is_over

            await until(has_begun)
            await asyncio.sleep(SETTLE)
            if process.is_over:
                raise SystemExit((await process.ended()).err)
            pids = (process.popen.pid, fake_cognito.pid, os.getpid())
            since, waits = time.monotonic(), [waited_for_a_processor(pid) for pid in pids]
            await asyncio.sleep(seconds)
            waited = (
                max(waited_for_a_processor(pid) - before for pid, before in zip(pids, waits, strict=True)) / seconds
            )
            seen = await fake_cognito.stats(since=since, until=since + seconds)
            states = await rollout.status()
        finally:
            if not process.is_over:
                await process.kill()
    used, refused = seen.utilisation or 0.0, seen.refused / max(1, seen.wire_requests)
    held = used >= row.least and refused <= MAX_REFUSED
    print(
        f"{row.name:10}{quota:4g}/s  {row.calls} calls a user  used {used:.2%} (at least {row.least:.0%})"
        f"  refused {refused:.2%} (at most {MAX_REFUSED:.1%})  in one second {seen.largest_window}"
        f"  active {states['states']['active']}  waited for a processor {waited:.0%}  {'holds' if held else 'MISSED'}",
        flush=True,
    )
    return held


async def _requests(row: Row, users: int, fake_cognito: FakeCognito, key: Path) -> AsyncIterator[Request]:
    if row.brings == "access_token":
        async for credential in fake_cognito.sign_in_many(users, credential="token", validity=7200):
            yield dict(credential.request())
        return
    until_then = time.time() + 7200
    for name in (f"user-{number}" for number in range(users)):
        if row.brings == "password":
            yield {"username": name, "password": PASSWORD}
        else:
            ticket = make_ticket(key_in(key), user_pool_id=POOL, client_id=CLIENT, username=name, not_after=until_then)
            yield {"username": name, "ticket": ticket}


async def main(rows: list[Row], quotas: list[float], seconds: float) -> bool:
    """Every row at every quota, one after the other."""
    held = []
    for row in rows:
        for quota in quotas:
            with tempfile.TemporaryDirectory() as folder:
                held.append(await measure(row, quota, seconds, Path(folder)))
    return all(held)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rates", default="25,100")
    parser.add_argument("--only", default=",".join(row.name for row in ROWS))
    options = parser.parse_args()
    chosen = [row for row in ROWS if row.name in options.only.split(",")]
    sys.exit(not uvloop.run(main(chosen, [float(rate) for rate in options.rates.split(",")], options.seconds)))
