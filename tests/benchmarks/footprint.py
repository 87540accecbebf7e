"""What the worker needs: memory at ten thousand and at a million queued users, CPU at work and at rest, time to help.

Each figure is of a process of its own, as the operating system accounts for it.

    python -m tests.benchmarks.footprint [--many 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.app.run import run_async
from worker.app.stores import open_stores
from worker.core.model import Request
from worker.rehearsal.fake_cognito.client import start_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.sealing import age
from worker.settings import Settings, load

FEW = 10_000
"""Queued users at which memory is read first, to compare with many."""
WORKED_ON = 2_000
"""Users enrolled before the memory is read."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process: the largest resident size (MB), CPU seconds, and seconds from start to end."""

    memory: float
    cpu: float
    seconds: float


def measure(arguments: list[str], *, interrupt_after: float | None = None) -> Usage:
    """Run ``mfa-worker`` with these arguments, and end it after so many seconds if it would stay."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if interrupt_after is not None:
        time.sleep(interrupt_after)
        process.send_signal(signal.SIGTERM)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return Usage(usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime, time.perf_counter() - began)


def settings_of(folder: Path, url: str, rate: float) -> list[str]:
    """Flags for a rollout in ``folder``."""
    chosen = {
        "cognito.user_pool_id": "us-east-1_rehearsal",
        "cognito.endpoint_url": url,
        "rate.requests_per_second": rate,
        "queue.path": folder / "mfa-worker.db",
        "channel.path": folder / "enrolments.jsonl",
        "seal.recipients": json.dumps([age.keygen("")[1]]),
    }
    return [flag for key, value in chosen.items() for flag in ("--set", f"{key}={value}")]


async def fill(settings: Settings, url_token: str, users: int) -> None:
    """Queue so many requests; they all carry one user's token, which is found out only when it is their turn."""
    async with open_stores(settings) as stores:

        def requests() -> Iterator[tuple[Request, bytes]]:
            for number in range(users):
                body = json.dumps({"username": f"user-{number}", "access_token": url_token, "id": str(number)}).encode()
                yield stores.parser.parse(body, time.time()), body

        await stores.queue.push(requests())


async def compare(many: int) -> None:
    """Print one line a figure."""
    async with start_fake_cognito(
        FakeCognitoConfig(quota=None, latency=0.02, user_pool_id="us-east-1_rehearsal")
    ) as fake_cognito:
        sizes = {}
        for users in (FEW, many):
            with tempfile.TemporaryDirectory() as name:
                flags = settings_of(Path(name), fake_cognito.url, 2_000)
                settings = load(None, flags[1::2], {})
                real = await fake_cognito.sign_in([f"user-{number}" for number in range(WORKED_ON)], credential="token")
                await _push_real(settings, [json.dumps({**c.request(), "id": "first"}).encode() for c in real])
                await fill(settings, real[0].value, users - WORKED_ON)
                usage = await asyncio.to_thread(measure, ["run", "--max-users", str(WORKED_ON), *flags])
                sizes[users] = usage.memory
        _say(
            f"memory: {sizes[many] / sizes[FEW]:.2f} times as much at {many:,} queued users as at {FEW:,} "
            f"({sizes[many]:.0f} MB against {sizes[FEW]:.0f} MB)"
        )
        await _cpu(fake_cognito.url, fake_cognito)
    bare = min(_timed([sys.executable, "-c", "pass"]) for _ in range(5))
    helped = min(_timed([sys.executable, "-m", "worker", "--help"]) for _ in range(5))
    _say(f"help: {helped:.2f} s, {helped / bare:.1f} times a bare interpreter")


async def _push_real(settings: Settings, bodies: list[bytes]) -> None:
    async with open_stores(settings) as stores:
        await stores.queue.push([(stores.parser.parse(body, time.time()), body) for body in bodies])


async def _cpu(url: str, fake_cognito: object) -> None:
    from worker.rehearsal.fake_cognito.client import FakeCognito

    assert isinstance(fake_cognito, FakeCognito)
    with tempfile.TemporaryDirectory() as name:
        flags = settings_of(Path(name), url, 20)
        started = await asyncio.to_thread(measure, ["run", *flags])
        idle = await asyncio.to_thread(measure, ["run", "--follow", *flags], interrupt_after=20)
        real = await fake_cognito.sign_in([f"cpu-{number}" for number in range(400)], credential="token")
        await _push_real(load(None, flags[1::2], {}), [json.dumps(c.request()).encode() for c in real])
        busy = await asyncio.to_thread(measure, ["run", *flags])
    _say(f"waiting with an empty queue: {(idle.cpu - started.cpu) / (idle.seconds - started.seconds):.1%} of a core")
    _say(f"working at 20/s: {(busy.cpu - started.cpu) / (busy.seconds - started.seconds):.1%} of a core")


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--many", type=int, default=1_000_000)
    run_async(compare(parser.parse_args().many))


if __name__ == "__main__":
    main()
