"""What one user costs in the embedded set-up (SQLite queue and ledger in one file, file channel): CPU and system calls.

At the pace that the quota allows and flat out, all steps included, less what the start of the program costs: the same
is run with few and with many users, and the difference counts. CPU is user and system time of the worker's process
alone, as the operating system accounts for it. Where ``strace`` is installed, system calls are counted too.

The same code costs several times as much at 20/s as flat out, because every time other programs have had the
processor and its caches since. So a bare aioboto3 loop is measured in turn, at the same pace.

    python -m tests.benchmarks.cost [--rounds 3] [--only 20,flat]

Prints a line for each row with what it must reach; exits 1 if one does not. The figures are asked of a machine that
does nothing else, and on which one call of a bare loop costs 0.38 ms flat out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aioboto3

from tests.benchmarks.footprint import settings_of
from tests.benchmarks.peak import bare_alone
from worker.app.run import run_async
from worker.app.stores import open_stores
from worker.rehearsal.fake_cognito.client import Credential, FakeCognito, start_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.settings import load

BARE_CALLS = 1_500
"""Calls of the bare loop that are measured flat out in each round."""
PACED_CALLS = 100
"""Calls of the bare loop that are measured at a pace in each round, after as many that warm up."""
COUNTED = ("fdatasync", "pwrite64", "futex", "epoll_wait", "epoll_pwait", "write")
"""The system calls that are shown one by one: syncs, writes of pages, hand-overs between threads, wake-ups."""


@dataclass(frozen=True, slots=True)
class Row:
    """One pace, the two numbers of users, the seconds that a call takes, and the milliseconds of CPU to reach."""

    name: str
    rate: float
    few: int
    many: int
    latency: float
    most: float


ROWS = (
    Row("20", rate=20, few=60, many=360, latency=0.05, most=1.2),
    Row("flat", rate=100_000, few=1_000, many=5_000, latency=0.0, most=0.6),
)


async def measure(row: Row, rounds: int) -> tuple[list[tuple[float, float, float]], dict[str, float]]:
    """CPU milliseconds of a user, of a bare call flat out and of one at the row's pace; the system calls of a user."""
    config = FakeCognitoConfig(quota=None, latency=row.latency, user_pool_id="us-east-1_rehearsal")
    costs = []
    async with start_fake_cognito(config) as fake_cognito:
        for number in range(rounds):
            few = await _run(fake_cognito, row, row.few, f"few-{number}-")
            many = await _run(fake_cognito, row, row.many, f"many-{number}-")
            flat = await _credentials(fake_cognito, BARE_CALLS, f"bare-{number}-")
            paced = await _credentials(fake_cognito, 2 * PACED_CALLS, f"paced-{number}-")
            bare = await asyncio.to_thread(bare_alone, fake_cognito, flat)
            at_pace = await asyncio.to_thread(asyncio.run, _bare_at(row.rate, fake_cognito, paced))
            costs.append((1000 * (many - few) / (row.many - row.few), bare.cpu, at_pace))
        counts = {}
        if shutil.which("strace"):
            less, more = [await _count(fake_cognito, row, users, f"strace-{users}-") for users in (row.few, row.many)]
            counts = {name: (more[name] - less.get(name, 0)) / (row.many - row.few) for name in more}
    return costs, counts


async def _bare_at(rate: float, fake_cognito: FakeCognito, credentials: list[Credential]) -> float:
    """CPU milliseconds of a call of a bare loop that makes ``rate`` a second."""
    async with aioboto3.Session().client(
        "cognito-idp",
        region_name="us-east-1",
        endpoint_url=fake_cognito.url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
    ) as client:
        used = 0.0
        for half in (credentials[:PACED_CALLS], credentials[PACED_CALLS:]):
            began, cpu = time.monotonic(), time.process_time()
            async with asyncio.TaskGroup() as group:
                for number, credential in enumerate(half):
                    await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                    group.create_task(client.associate_software_token(AccessToken=credential.value))
            used = time.process_time() - cpu
    return 1000 * used / PACED_CALLS


async def _run(fake_cognito: FakeCognito, row: Row, users: int, prefix: str) -> float:
    """CPU seconds of a worker that enrols so many users."""
    with tempfile.TemporaryDirectory() as name:
        command = await _prepared(fake_cognito, row, users, prefix, Path(name))
        return await asyncio.to_thread(_cpu_of, command)


async def _count(fake_cognito: FakeCognito, row: Row, users: int, prefix: str) -> dict[str, int]:
    """System calls of a worker that enrols so many users, by name, and ``all``."""
    with tempfile.TemporaryDirectory() as name:
        command = await _prepared(fake_cognito, row, users, prefix, Path(name))
        return await asyncio.to_thread(_calls_of, command, Path(name, "strace"))


async def _prepared(fake_cognito: FakeCognito, row: Row, users: int, prefix: str, folder: Path) -> list[str]:
    flags = settings_of(folder, fake_cognito.url, row.rate)
    bodies = [json.dumps(one.request()).encode() for one in await _credentials(fake_cognito, users, prefix)]
    async with open_stores(load(None, flags[1::2], {})) as stores:
        await stores.queue.push([(stores.parser.parse(body, time.time()), body) for body in bodies])
    return [sys.executable, "-m", "worker", "run", *flags]


async def _credentials(fake_cognito: FakeCognito, users: int, prefix: str) -> list[Credential]:
    return [one async for one in fake_cognito.sign_in_many(users, prefix=prefix, credential="token")]


def _calls_of(command: list[str], table: Path) -> dict[str, int]:
    _cpu_of(["strace", "-f", "-c", "-o", str(table), *command])
    rows = [line.split() for line in table.read_text().splitlines() if line[:1] == " "]
    counts = {row[-1]: int(row[3]) for row in rows if row[3].isdecimal()}
    counts["all"] = sum(number for name, number in counts.items() if name != "total")
    return counts


def _cpu_of(command: list[str]) -> float:
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        assert process.returncode == 0, f"the run ended with {process.returncode}: {log.read()[-2_000:]}"
    return usage.ru_utime + usage.ru_stime


async def main(rows: list[Row], rounds: int) -> bool:
    """Every row, one after the other; whether all reached what they must."""
    reached = True
    for row in rows:
        costs, counts = await measure(row, rounds)
        cpu, flat, paced = (statistics.median(side) for side in zip(*costs, strict=True))
        ratio = statistics.median(ours / call for ours, _, call in costs)
        reached &= cpu <= row.most
        print(
            f"{row.name:5} {cpu:.2f} ms a user (at most {row.most:.1f}); {ratio:.2f} times a bare call at this pace "
            f"({paced:.2f} ms; flat out {flat:.2f} ms)  {'holds' if cpu <= row.most else 'MISSED'}",
            flush=True,
        )
        if counts:
            shown = ", ".join(f"{counts[name]:.1f} {name}" for name in ("all", *COUNTED) if counts.get(name))
            print(f"      system calls a user: {shown}", flush=True)
    return reached


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(row.name for row in ROWS))
    options = parser.parse_args()
    chosen = [row for row in ROWS if row.name in options.only.split(",")]
    sys.exit(not run_async(main(chosen, options.rounds)))
