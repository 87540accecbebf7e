"""The feed beside real workers: what a migration script writes, and ``push --keep-fresh``, wait in time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time

import pytest
from structlog.testing import capture_logs

import worker
from tests.support.processes import until
from tests.support.rollout import Rollout
from worker.core.errors import Malformed

RATE = 20.0


def short_lived(rollout: Rollout, validity: float) -> None:
    rollout.configure(
        rate={"requests_per_second": RATE}, cognito={"session_validity": validity}, channel={"min_validity": 0}
    )


async def test_a_script_that_could_mint_much_faster_is_held_to_the_rate(rollout: Rollout) -> None:
    short_lived(rollout, 6.0)
    await rollout.push(await rollout.sign_in("already there"))
    running = rollout.start("run", "--follow")
    await rollout.until_in("delivered", 1)
    async with worker.feed(rollout.settings()) as feed:

        async def script(name: str) -> None:
            for number in range(30):
                await feed.room()
                (request,) = await rollout.sign_in(f"{name}-{number}", credential="session", validity=6.0)
                await feed.push(request)

        started = time.monotonic()
        await asyncio.gather(*(script(name) for name in ("ana", "ben", "cleo", "dora", "eve")))
        took = time.monotonic() - started
        assert (feed.accepted, feed.duplicates) == (150, 0)
    await rollout.until_in("delivered", 151)
    running.signal(signal.SIGTERM)

    assert (await running.ended()).code == 0
    assert took > (150 - 2.5 * RATE) / RATE
    assert await rollout.states() == {"delivered": 151}


async def test_a_feed_waits_for_a_worker_that_joins_late_and_counts_what_is_malformed(rollout: Rollout) -> None:
    short_lived(rollout, 60.0)
    rollout.configure(rate={"requests_per_second": 1})
    with capture_logs() as logs:
        async with worker.feed(rollout.settings()) as feed:
            with pytest.raises(Malformed, match=r'has the unknown key "sesion"; did you mean session\?'):
                await feed.push({"username": "ana", "sesion": "s" * 40})
            names = [f"user-{number}" for number in range(40)]
            requests = await rollout.sign_in(*names, credential="session", validity=60.0)
            pushing = asyncio.create_task(_push_all(feed, requests))
            await asyncio.sleep(1)
            waiting = (await rollout.status())["backlog"]
            rollout.configure(rate={"requests_per_second": 100})
            running = rollout.start("run", "--follow")
            await pushing
    await rollout.until_in("delivered", 40)
    running.signal(signal.SIGTERM)

    assert (await running.ended()).code == 0
    assert waiting < 40
    assert (await rollout.status())["malformed"] == 1
    assert {line["event"] for line in logs} <= {"new_ledger", "feed_waits"}


async def _push_all(feed: worker.Feed, requests: list[dict[str, object]]) -> None:
    for request in requests:
        await feed.push(json.dumps(request).encode())


async def test_push_keep_fresh_holds_a_file_back_and_ends_with_its_last_line(rollout: Rollout) -> None:
    short_lived(rollout, 60.0)
    requests = await rollout.sign_in(*(f"user-{number}" for number in range(700)), credential="session", validity=60.0)

    pushing = rollout.start("push", "--keep-fresh", rollout.file([*requests, "broken"]))
    await until(lambda: rollout.ledger.exists())
    await _until_backlog(rollout, 400)
    await asyncio.sleep(1)
    assert not pushing.is_over
    assert (await rollout.status())["backlog"] < 600
    rollout.configure(rate={"requests_per_second": 500})
    running = rollout.start("run", "--follow")
    pushed = await pushing.ended()
    await rollout.until_in("delivered", 700)
    running.signal(signal.SIGTERM)

    assert (await running.ended()).code == 0
    assert (pushed.code, pushed.out) == (1, "accepted 700, duplicate 0, malformed 1\n")


async def test_push_keep_fresh_brakes_a_pipe(rollout: Rollout) -> None:
    short_lived(rollout, 6.0)
    requests = await rollout.sign_in(*(f"user-{number}" for number in range(400)), credential="session", validity=6.0)
    reading, pipe = os.pipe()
    os.set_blocking(pipe, False)
    pushing = rollout.start("push", "--keep-fresh", "-", stdin=reading)
    os.close(reading)
    rest, lines, until_ = b"", [json.dumps(request).encode() + b"\n" for request in requests], time.monotonic() + 3
    while time.monotonic() < until_ and (rest or lines):
        rest = rest or lines.pop(0)
        try:
            rest = rest[os.write(pipe, rest) :]
        except BlockingIOError:
            await asyncio.sleep(0.01)
    os.close(pipe)

    assert len(lines) > 200, "it took many more lines than may wait"
    assert (await rollout.status())["backlog"] <= 2 * RATE + 1
    pushing.signal(signal.SIGTERM)
    await pushing.ended()


async def _until_backlog(rollout: Rollout, waiting: int) -> None:
    async def reached() -> bool:
        await asyncio.sleep(0.1)
        return bool((await rollout.status())["backlog"] >= waiting)

    await until(reached)
