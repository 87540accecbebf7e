"""Peak throughput and cost of the whole worker, compared with a bare aioboto3 loop; in turn, against one server.

The bare loop has aioboto3's default settings and only makes the call: no queue, no ledger, no sealing, no delivery.

    python -m tests.benchmarks.peak [--users 5000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import resource
import statistics
import sys
import tempfile
import time
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import aioboto3

from worker.app.run import RunOptions, run_async, run_worker
from worker.app.stores import open_stores
from worker.rehearsal.fake_cognito.client import Credential, FakeCognito, start_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.sealing import age
from worker.settings import load

CONCURRENCY = 64
"""Calls in flight at once, of the worker and of the bare loop."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run cost: users/s, and CPU milliseconds a user of this process."""

    rate: float
    cpu: float


async def measure(users: int, rounds: int) -> list[tuple[Cost, Cost]]:
    """Pairs of (worker, bare loop)."""
    pairs = []
    config = FakeCognitoConfig(quota=None, latency=0.0, user_pool_id="us-east-1_rehearsal")
    async with start_fake_cognito(config) as fake_cognito:
        for number in range(rounds + 1):
            ours = await _worker(fake_cognito, await _credentials(fake_cognito, users, f"w{number}-"))
            bare = await asyncio.to_thread(
                bare_alone, fake_cognito, await _credentials(fake_cognito, users, f"b{number}-")
            )
            if number:  # the first round warms up
                pairs.append((ours, bare))
    return pairs


async def _credentials(fake_cognito: FakeCognito, users: int, prefix: str) -> list[Credential]:
    return [credential async for credential in fake_cognito.sign_in_many(users, prefix=prefix, credential="token")]


async def _worker(fake_cognito: FakeCognito, credentials: list[Credential]) -> Cost:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = {
            "cognito.user_pool_id": "us-east-1_rehearsal",
            "cognito.endpoint_url": fake_cognito.url,
            "rate.requests_per_second": 100_000,
            "run.concurrency": CONCURRENCY,
            "queue.path": folder / "mfa-worker.db",
            "channel.path": folder / "enrolments.jsonl",
            "seal.recipients": json.dumps([age.keygen("")[1]]),
        }
        settings = load(None, [f"{key}={value}" for key, value in chosen.items()], {})
        async with open_stores(settings) as stores:
            bodies = [json.dumps(credential.request()).encode() for credential in credentials]
            await stores.queue.push([(stores.parser.parse(body, time.time()), body) for body in bodies])
        with redirect_stderr(io.StringIO()):
            began, cpu = time.perf_counter(), _cpu()
            code = await run_worker(settings, RunOptions())
            took, used = time.perf_counter() - began, _cpu() - cpu
        assert code == 0, f"the run ended with {code}"
        return Cost(len(credentials) / took, 1000 * used / len(credentials))


def bare_alone(fake_cognito: FakeCognito, credentials: list[Credential]) -> Cost:
    """On asyncio's own loop, as a script would run it."""
    return asyncio.run(_bare(fake_cognito, credentials))


async def _bare(fake_cognito: FakeCognito, credentials: list[Credential]) -> Cost:
    slots = asyncio.Semaphore(CONCURRENCY)
    async with aioboto3.Session().client(
        "cognito-idp",
        region_name="us-east-1",
        endpoint_url=fake_cognito.url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
    ) as client:

        async def enrol(credential: Credential) -> None:
            async with slots:
                await client.associate_software_token(AccessToken=credential.value)

        began, cpu = time.perf_counter(), _cpu()
        async with asyncio.TaskGroup() as group:
            for credential in credentials:
                group.create_task(enrol(credential))
        took, used = time.perf_counter() - began, _cpu() - cpu
    return Cost(len(credentials) / took, 1000 * used / len(credentials))


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print one line with the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    pairs = run_async(measure(asked.users, asked.rounds))
    ratio = statistics.median(ours.rate / bare.rate for ours, bare in pairs)
    ours, bare = (statistics.median(cost.rate for cost in side) for side in zip(*pairs, strict=True))
    cpu, bare_cpu = (statistics.median(cost.cpu for cost in side) for side in zip(*pairs, strict=True))
    sys.stdout.write(
        f"peak: {ratio:.2f} of a bare aioboto3 loop ({ours:,.0f}/s against {bare:,.0f}/s); "
        f"CPU a user {cpu:.2f} ms against {bare_cpu:.2f} ms\n"
    )


if __name__ == "__main__":
    main()
