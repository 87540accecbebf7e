"""What a large rollout takes: a million users in the embedded ledger, and a million requests that wait.

Rows and messages are written in bulk with SQL; then each figure is taken from a process of its own, as the operating
system accounts for it. A command's time includes the start of Python, but not the time for which others had the
processor.

    python -m tests.benchmarks.large [--many 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from worker.app.run import run_async
from worker.app.stores import open_stores
from worker.rehearsal.fake_cognito.client import Credential, FakeCognito, start_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.sealing import age
from worker.settings import Settings, load

FEW = 10_000
"""Rows and messages at which memory is read first, to compare with many."""
WORKED_ON = 2_000
"""Users enrolled before the memory is read."""
LEFT = 20_000
"""Unfinished rows of a dead worker."""
POOL = "us-east-1_rehearsal"
RATE = 2_000.0
"""Requests/s of the runs that are measured: so high that the quota is not what takes the time."""

ROW_COLUMNS = (
    "username, version, state, reason, since, generation, worker, lease_until, doubt, crashes, before, request_id, "
    "kind, settled, sealed_generation, attempt_id, associated_at, session_expires_at, blob, replaces"
)
FINISHED = f"""
WITH RECURSIVE numbers (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :rows)
INSERT INTO users ({ROW_COLUMNS})
SELECT printf('row-%07d', n * 7919 % :rows), 'workeroflastweek:' || n, iif(n % 5, 'delivered', 'needs_session'),
    iif(n % 5, NULL, 'token_expired'), :now - 86400 + n * 0.001, 1790000000000 + n, NULL, 0, 0, 0, NULL, NULL,
    'access_token', '["' || lower(hex(randomblob(32))) || '"]', 1790000000000 + n, lower(hex(randomblob(16))),
    '2026-01-01T00:00:00.000Z', NULL, X'', NULL FROM numbers
"""
"""Four fifths of the users are delivered; the others need a session. (7919 is a prime: written in no order.)"""
UNFINISHED = f"""
WITH RECURSIVE numbers (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :rows)
INSERT INTO users ({ROW_COLUMNS})
SELECT printf('left-%07d', n), 'deadworker:' || n, :state, NULL, :now - 3600, 1790000000000 + n, 'deadworker',
    :now - 3500, 0, 0, NULL, 'request-' || n, 'access_token', '[]', iif(:sealed, 1790000000000 + n, NULL),
    iif(:sealed, lower(hex(randomblob(16))), NULL), iif(:sealed, '2026-01-01T00:00:00.000Z', NULL), NULL,
    iif(:sealed, randomblob(600), NULL), NULL FROM numbers
"""
"""Rows of a worker that died an hour ago, with a claim and without or with a sealed record that was not delivered."""
MESSAGES = """
WITH RECURSIVE numbers (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :rows)
INSERT INTO messages (username, request_id, deadline, body)
SELECT 'waiting-' || n, 'w' || n, :deadline, CAST(
    '{"username":"waiting-' || n || '","access_token":"' || :token || '","id":"w' || n || '"}' AS BLOB) FROM numbers
"""
"""They carry one user's token, which is found out only when it is their turn."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process: the largest resident size (MB), CPU seconds, and seconds from start to end.

    ``waited``: for so many of them its main thread was ready to run and had no processor.
    """

    memory: float
    cpu: float
    seconds: float
    began: float
    """Monotonic seconds of this host."""
    waited: float

    @property
    def net(self) -> float:
        """Seconds from start to end without those for which it waited for a processor."""
        return self.seconds - self.waited

    def __str__(self) -> str:
        waited = f" and {self.waited:.2f} s waiting for a processor" if self.waited > 0.05 * self.seconds else ""
        return f"{self.net:.2f} s{waited}, {self.cpu:.2f} s of CPU, {self.memory:.0f} MB"


def measure(*arguments: str) -> Usage:
    """Run ``mfa-worker`` with these arguments."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.monotonic() - began
    waited = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return Usage(usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime, seconds, began, waited)


class Rollout:
    """A rollout in a folder of its own, and how the commands are told of it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.database = folder / "mfa-worker.db"
        chosen = {
            "cognito.user_pool_id": POOL,
            "cognito.endpoint_url": url,
            "rate.requests_per_second": RATE,
            "queue.path": self.database,
            "channel.path": folder / "enrolments.jsonl",
            "seal.recipients": json.dumps([age.keygen("")[1]]),
        }
        self.flags = [flag for key, value in chosen.items() for flag in ("--set", f"{key}={value}")]

    @property
    def settings(self) -> Settings:
        """The settings that the flags make."""
        return load(None, self.flags[1::2], {})

    async def begin(self) -> None:
        """Make the file."""
        async with open_stores(self.settings):
            pass

    async def push(self, credentials: list[Credential]) -> None:
        """Queue requests of real users; they come before those that ``fill`` wrote."""
        bodies = [json.dumps({**credential.request(), "id": "real"}).encode() for credential in credentials]
        async with open_stores(self.settings) as stores:
            await stores.queue.push([(stores.parser.parse(body, time.time()), body) for body in bodies])

    def fill(self, sql: str, rows: int, values: Mapping[str, object] | None = None) -> None:
        """Write so many rows or messages at once, without the syncs that a real run makes.

        In a process of its own: what this one once needed would count as the memory of every process it starts.
        """
        numbers = {"rows": rows, "now": time.time(), **(values or {})}
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(_fill, self.database, sql, numbers).result()

    def run(self, *arguments: str) -> Usage:
        """Run a command on this rollout."""
        return measure(*arguments, *self.flags)


def _fill(database: Path, sql: str, values: Mapping[str, object]) -> None:
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -400000")
        connection.execute("BEGIN")
        connection.execute(sql, values)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()


async def compare(many: int, keep: Path | None) -> bool:
    """Print one line a figure; return whether all reached what is wanted."""
    verdicts = []

    def say(what: str, said: str, reached: bool | None = None) -> None:
        verdicts.append(reached is not False)
        mark = {None: "", True: " (reached)", False: " (NOT reached)"}[reached]
        sys.stdout.write(f"{what}: {said}{mark}\n")
        sys.stdout.flush()

    config = FakeCognitoConfig(quota=None, latency=0.02, user_pool_id=POOL)
    async with start_fake_cognito(config) as fake_cognito:
        few = await _worked(fake_cognito, FEW, None, say=None)
        usage = await _worked(fake_cognito, many, keep, say=say)
        ratio = usage.memory / few.memory
        say(
            f"memory of run at {many:,} rows and {many:,} messages",
            f"{usage.memory:.0f} MB, {ratio:.2f} times that at {FEW:,} ({few.memory:.0f} MB)",
            usage.memory <= 150 and ratio <= 1.1,
        )
        for state in ("in_progress", "sealed"):
            with tempfile.TemporaryDirectory() as name:
                rollout = Rollout(Path(name), fake_cognito.url)
                await rollout.begin()
                rollout.fill(FINISHED, many)
                alone = rollout.run("run")
                rollout.fill(UNFINISHED, LEFT, {"state": state, "sealed": state == "sealed"})
                usage = rollout.run("run")
                took = usage.net - alone.net
                say(f"{LEFT:,} rows {state} of a dead worker among {many:,}", f"{took:.2f} s ({usage})", took <= 5)
                say("a run that has nothing to do", str(alone))
    return all(verdicts)


async def _worked(fake_cognito: FakeCognito, rows: int, keep: Path | None, *, say: object) -> Usage:
    """Fill a rollout, measure the commands on it, and return what ``run`` took."""
    with tempfile.TemporaryDirectory() as name:
        rollout = Rollout(Path(name), fake_cognito.url)
        await rollout.begin()
        began = time.monotonic()
        rollout.fill(FINISHED, rows)
        credentials = await fake_cognito.sign_in([f"u{rows}-{n}" for n in range(WORKED_ON)], credential="token")
        far = {"token": credentials[0].value, "deadline": time.time() + 1_000_000}
        rollout.fill(MESSAGES, rows, far)
        await rollout.push(credentials)
        if keep is not None:
            shutil.copy(rollout.database, keep)
        if callable(say):
            size = rollout.database.stat().st_size / 1e6
            say("made", f"{rows:,} rows and messages in {time.monotonic() - began:.0f} s, {size:.0f} MB")
            first = await asyncio.to_thread(rollout.run, "status")
            usage = await asyncio.to_thread(rollout.run, "status")
            say("status", f"{usage} (the first time {first.net:.2f} s)", usage.net <= 1)
            page = str(rollout.database.with_name("report.html"))
            usage = await asyncio.to_thread(rollout.run, "report", "--html", page)
            say("report page", str(usage), usage.net <= 2)
            for name in ("row-0000001", "Row-0000001"):
                usage = await asyncio.to_thread(rollout.run, "show", name)
                say(f"show {name}", str(usage), usage.net <= 1)
            exported = rows * 4 // 5
            usage = await asyncio.to_thread(rollout.run, "export", "--state", "delivered")
            speed = exported / usage.net
            say(f"export of {exported:,} rows", f"{speed:,.0f} rows/s, {usage}", speed >= 200_000)
            usage = await asyncio.to_thread(rollout.run, "check")
            say("check", str(usage))
            await fake_cognito.reset_stats()
            usage = await asyncio.to_thread(rollout.run, "run", "--max-users", "1")
            stats = await fake_cognito.stats()
            assert stats.first_arrival is not None, "nobody was called"
            after = (stats.first_arrival - usage.began) * usage.net / usage.seconds
            say("first call of run", f"after {after:.2f} s", after <= 2)
        usage = await asyncio.to_thread(rollout.run, "run", "--max-users", str(WORKED_ON - 1))
        if callable(say):
            say(f"run of {WORKED_ON - 1:,} users", str(usage))
        return usage


def main() -> None:
    """Measure and print; exit with 1 where a figure does not reach what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="keep a copy of the filled database")
    arguments = parser.parse_args()
    sys.exit(0 if run_async(compare(arguments.many, arguments.keep)) else 1)


if __name__ == "__main__":
    main()
