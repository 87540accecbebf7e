"""What a few users who are always refused or throttled cost the others, and how fast a pool that refuses all stops.

    python -m tests.benchmarks.refused [--only "twelve at the front,totp off"]

Each row is a rollout of ``mfa-worker run`` in a process of its own against a fake Cognito in another one. Prints a line
for each row with the numbers that it must reach; exits 1 if one does not.

*Used*: the calls for the others and the first call for each refused user, as a part of what the rate allows until the
last of the others got their secret. *Tries*: all further calls for refused users, as a part of all calls. *End*:
seconds from the last secret to the end of the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.rollout import POOL, Rollout
from worker.rehearsal.fake_cognito.client import FakeCognito, start_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig

LATENCY = 0.05
"""Seconds that the fake Cognito takes for an answer."""
RATE = 50.0
"""Requests/s of the worker."""
LEAST_USED = 0.97
MOST_TRIES = 0.03
LONGEST_END = 20.0
LONGEST_STOP = 2.5
"""Seconds from the first call to the end of a run that the pool's refusals end: as long as before this was measured."""
WITHIN = 180.0
"""Seconds after which a run that does not end is killed, and its row is missed."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured, and what must come of it."""

    name: str
    fault: str = "client_gone"
    bad: int = 0
    """Users who are always answered with the fault; with 0, everybody is."""
    good: int = 300
    where: str = "front"
    """Where the refused users stand by their deadlines: at the front, spread over the queue, or at the end."""
    exit_code: int = 1
    least_used: float = LEAST_USED
    longest_stop: float | None = None
    """Seconds from the first call to the end of the run, at most."""


ROWS = (
    Row("twelve at the front", bad=12),
    Row("twelve spread", bad=12, where="spread"),
    Row("twelve at the end", bad=12, where="end"),
    Row("five of WAF", fault="waf", bad=5, where="spread"),
    Row("one limited", fault="limit_exceeded", bad=1),
    Row("three limited", fault="limit_exceeded", bad=3),
    Row("one of few", bad=1, good=20, least_used=0.5),
    Row("totp off", fault="totp_off", exit_code=3, longest_stop=LONGEST_STOP),
    Row("pool gone", fault="pool_gone", exit_code=3, longest_stop=LONGEST_STOP),
    Row("client gone", fault="client_gone", exit_code=3, longest_stop=LONGEST_STOP),
    Row("WAF for all", fault="waf", exit_code=3, longest_stop=55.0),
    Row("all three refused", fault="pool_gone", good=3, exit_code=3, longest_stop=LONGEST_STOP),
    Row("most refused", bad=60, good=20, where="spread", exit_code=3),
)


async def measure(row: Row) -> bool:
    """Run one row in a folder of its own; print its line, and say whether it reached what it must."""
    target = f"{row.fault}~bad-=1" if row.bad else f"{row.fault}=1"
    config = FakeCognitoConfig(user_pool_id=POOL, quota=None, latency=LATENCY, faults=(target,))
    with tempfile.TemporaryDirectory() as folder:
        async with start_fake_cognito(config) as fake_cognito:
            rollout = Rollout(Path(folder), fake_cognito)
            rollout.configure(
                rate={"requests_per_second": RATE}, run={"concurrency": None, "poll": None}, ledger={"lease": 30.0}
            )
            rollout.configure(cognito={"call_timeout": 5.0}, retry={"base": None, "cap": None})
            await rollout.push(await _requests(rollout, row))
            report = rollout.folder / "report.json"
            process = rollout.start("run", "--report", str(report))
            try:
                ended = await process.ended(WITHIN)
            except (TimeoutError, AssertionError):
                await process.kill()
                print(f"{row.name:26}did not end within {WITHIN:g} s  MISSED", flush=True)
                return False
            return await _judge(row, fake_cognito, ended.code, json.loads(report.read_text()))


async def _requests(rollout: Rollout, row: Row) -> list[dict[str, object]]:
    """Requests in the order of their deadlines."""
    good, bad = [f"good-{n}" for n in range(row.good)], [f"bad-{n}" for n in range(row.bad)]
    names = bad + good if row.where == "front" else good + bad
    if row.where == "spread" and bad:
        every = (row.good + row.bad) // row.bad
        rest = iter(good)
        names = [bad[n // every] if n % every == 0 and n // every < len(bad) else next(rest) for n in range(len(names))]
    requests = await rollout.sign_in(*names, validity=3600.0)
    now = time.time()
    for number, request in enumerate(requests):
        request["expires_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + 3000 + number))
    return requests


async def _judge(row: Row, fake_cognito: FakeCognito, code: int, report: dict[str, dict[str, object]]) -> bool:
    ended_at = time.time()
    stats, truth = await fake_cognito.stats(), await fake_cognito.truth()
    issued = [user.secrets[-1].issued_at for user in truth.values()]
    delivered, refused = (int(str(report["states"][state])) for state in ("delivered", "failed"))
    began = (stats.first_arrival or 0.0) + time.time() - time.monotonic()
    line, reached = f"{row.name:26}exit {code}", code == row.exit_code
    if row.exit_code == 1:
        calls_for_bad = sum(stats.faults.values())
        tries = max(0, calls_for_bad - row.bad)
        used = (row.good + row.bad) / (RATE * (max(issued) - began - LATENCY) + 1) if issued else 0.0
        share, end = tries / stats.wire_requests, ended_at - max(issued, default=began)
        allowed = max(2, MOST_TRIES * stats.wire_requests)
        reached &= used >= row.least_used and tries <= allowed and end <= LONGEST_END
        reached &= (delivered, refused) == (row.good, row.bad)
        line += (
            f"  delivered {delivered} of {row.good}, refused {refused} of {row.bad} {report.get('codes', {})}"
            f"  used {used:.1%} (at least {row.least_used:.0%})"
            f"  tries {share:.1%} (at most {allowed / stats.wire_requests:.1%})"
            f"  end {end:.1f} s (at most {LONGEST_END:g})"
        )
    else:
        took = ended_at - began
        reached &= refused == 0 and (row.longest_stop is None or took <= row.longest_stop)
        limit = f" (at most {row.longest_stop:g})" if row.longest_stop else ""
        line += f"  stopped after {took:.1f} s{limit}, {stats.wire_requests} calls"
        line += f", {delivered} delivered, {refused} failed"
    print(f"{line}  {'holds' if reached else 'MISSED'}", flush=True)
    return reached


async def main(rows: list[Row]) -> bool:
    """Every row, one after the other."""
    return all([await measure(row) for row in rows])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(row.name for row in ROWS))
    chosen = [row for row in ROWS if row.name in parser.parse_args().only.split(",")]
    sys.exit(not asyncio.run(main(chosen)))
