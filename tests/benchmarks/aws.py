"""How many users a second one process brings from SQS through DynamoDB to S3, and how many requests to AWS that takes.

    python -m tests.benchmarks.aws [--users 3000] [--rate 1000] [--concurrency 128]

Each service is an emulator process of its own, so that they are the limit as late as possible. Machines differ, so it
is compared with a bare aioboto3 loop that only makes the call, in the same run. Where that makes 1,300 calls
a second of CPU, 350 users are wanted in it; in that proportion here, and it exits with 1 below. So it does where a user
takes more than 2.1 requests to AWS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.peak import bare_alone
from tests.support import emulators
from tests.support.aws_rollout import AwsRollout, aws_rollout_in
from tests.support.emulators import Emulator
from tests.support.rollout import fake_cognito_for_rollouts

WANTED = 350 / 1300
"""Users a second of CPU, by the calls of a bare loop in the same time."""
MOST_REQUESTS = 2.1
"""Requests to AWS a user."""
ROOT = Path(__file__).resolve().parents[2]


async def measure(users: int, rate: float, concurrency: int) -> bool:
    """Print what was measured; gives whether it reached what is wanted."""
    with tempfile.TemporaryDirectory() as folder, _spread() as (emulator, pids):
        async with aws_rollout_in(Path(folder), emulator, "s3") as rollout:
            rollout.configure(
                rate={"requests_per_second": rate},
                run={"concurrency": concurrency},
                cognito={"call_timeout": 5.0},
                ledger={"lease": 60.0},
                queue={"visibility": 60.0, "empty_after": 2.0},
            )
            for start in range(0, users, 1_000):
                names = [f"user-{number}" for number in range(start, min(users, start + 1_000))]
                await rollout.push(await rollout.sign_in(*names))
            return await _run(rollout, users, pids)


async def _run(rollout: AwsRollout, users: int, pids: Mapping[str, int]) -> bool:
    counts, report = rollout.folder / "counts", rollout.folder / "report.json"
    before = {name: _cpu(pid) for name, pid in pids.items()}
    began = time.monotonic()
    running = rollout.start(
        str(counts),
        *("run", "--report", str(report)),
        command=(sys.executable, "-m", "tests.support.aws_calls"),
        env={"PYTHONPATH": str(ROOT)},
    )

    async def delivered() -> int:
        return (await rollout.fake_cognito.stats()).issued

    samples = []
    while not running.is_over:
        samples.append((time.monotonic() - began, await delivered()))
        await asyncio.sleep(0.2)
    ended = await running.ended()
    assert ended.code == 0, ended.err
    servers = {name: _cpu(pid) - before[name] for name, pid in pids.items()}
    calls = json.loads(counts.read_text("utf-8"))
    cpu = float(calls.pop("cpu_seconds"))
    speed = _steady(samples, users)
    print(f"{speed:.0f} users/s end to end")
    print(f"the worker: {cpu / users * 1000:.2f} ms of CPU a user, so {users / cpu:.0f}/s a core")
    print(
        "servers, ms of CPU a user: " + ", ".join(f"{name} {used / users * 1000:.2f}" for name, used in servers.items())
    )
    for name, number in sorted(calls.items()):
        print(f"  {name:36}{number / users:8.3f} a user")
    requests = sum(calls.values()) / users
    print(f"  {requests:.2f} requests to AWS a user, at most {MOST_REQUESTS} wanted")
    bare = await _yardstick()
    part = users / cpu / bare
    print(f"a bare loop makes {bare:.0f} calls a second of CPU: {part:.3f} users a call, wanted {WANTED:.3f}")
    return part >= WANTED and requests <= MOST_REQUESTS


async def _yardstick() -> float:
    """Calls a second of CPU of a loop that does nothing else, with aioboto3 as it is."""
    async with fake_cognito_for_rollouts() as fake_cognito:
        credentials = [each async for each in fake_cognito.sign_in_many(2_000, prefix="bare-", credential="token")]
        return 1000 / (await asyncio.to_thread(bare_alone, fake_cognito, credentials)).cpu


def _steady(samples: list[tuple[float, int]], users: int) -> float:
    """Users/s between a tenth and nine tenths of them."""
    inner = [(at, number) for at, number in samples if 0.1 * users <= number <= 0.9 * users]
    (start, first), (end, last) = inner[0], inner[-1]
    return (last - first) / (end - start)


@contextmanager
def _spread() -> Iterator[tuple[Emulator, dict[str, int]]]:
    with ExitStack() as stack:
        each = {name: stack.enter_context(emulators.ministack()) for name in ("sqs", "dynamodb", "s3")}
        yield (
            replace(each["sqs"], elsewhere={name: emulator.url for name, emulator in each.items()}),
            {name: emulator.pid for name, emulator in each.items()},
        )


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.aws", description=__doc__)
    parser.add_argument("--users", type=int, default=3_000)
    parser.add_argument("--rate", type=float, default=1_000)
    parser.add_argument("--concurrency", type=int, default=128)
    os.environ.update(emulators.CREDENTIALS)
    reached = asyncio.run(measure(**vars(parser.parse_args())))
    sys.exit(not reached)
