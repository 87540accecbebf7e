"""``--input``: requests from a file or a pipe, taken no faster than they can be used."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import signal
import time

from tests.support.processes import Process, until
from tests.support.rollout import Request, Rollout


class LedgerWriter:
    """Whoever pipes requests into a run, as fast as the pipe takes them; knows how many whole lines it took."""

    def __init__(self, rollout: Rollout, requests: list[Request], *arguments: str) -> None:
        reading, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        self.process: Process = rollout.start("run", "--input", "-", *arguments, stdin=reading)
        os.close(reading)
        self._lines = [json.dumps(request).encode() + b"\n" for request in requests]
        self._rest = b""
        self.written = 0

    async def write(self, seconds: float = 60.0, most: int = 1_000_000) -> None:
        """Write for so long, or so many lines; stops when nobody reads any more."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and (self._rest or (self._lines and self.written < most)):
            self._rest = self._rest or self._lines.pop(0)
            try:
                self._rest = self._rest[os.write(self._pipe, self._rest) :]
            except BlockingIOError:
                await asyncio.sleep(0.01)
            except BrokenPipeError:
                return
            else:
                self.written += not self._rest

    def close(self) -> None:
        os.close(self._pipe)


async def test_a_fast_writer_is_braked_to_a_few_seconds_of_work(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 10}, run={"concurrency": None})
    writer = LedgerWriter(
        rollout, await rollout.sign_in(*(f"user-{number}" for number in range(300)), credential="session")
    )
    await writer.write(most=1)
    await rollout.until_called(1)

    await writer.write(seconds=3)
    called = (await rollout.fake_cognito.stats()).wire_requests
    ahead = writer.written - called

    assert ahead <= 50, "more than five seconds of work were taken in advance"
    writer.process.signal(signal.SIGTERM)
    await writer.process.ended()
    writer.close()


async def test_a_slow_writer_is_served_line_by_line(rollout: Rollout) -> None:
    writer = LedgerWriter(rollout, await rollout.sign_in("ana", "ben", "cleo", credential="session"))

    for number in (1, 2, 3):
        await writer.write(most=number)
        await rollout.until_called(number)
        assert not writer.process.is_over
    writer.close()

    assert (await writer.process.ended()).code == 0
    assert await rollout.states() == {"delivered": 3}


async def test_what_a_pipe_handed_over_is_kept_when_the_run_is_stopped(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 10})
    writer = LedgerWriter(
        rollout, await rollout.sign_in(*(f"user-{number}" for number in range(200)), credential="session")
    )
    await writer.write(most=1)
    await rollout.until_called(1)
    await writer.write(seconds=1)

    writer.process.signal(signal.SIGTERM)
    ended = await writer.process.ended()
    writer.close()

    assert ended.code == 4
    status = await rollout.status()
    assert status["malformed"] == 0
    assert status["states"]["delivered"] + status["backlog"] == writer.written
    rollout.configure(rate={"requests_per_second": 200})
    assert (await rollout.run()).code == 0
    assert (await rollout.states())["delivered"] == writer.written


async def test_a_kill_costs_few_lines_of_a_pipe_however_fast_its_writer(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 20})
    requests = await rollout.sign_in(*(f"user-{number}" for number in range(400)), credential="session")
    writer = LedgerWriter(rollout, requests)
    size = len(json.dumps(requests[0])) + 1

    await writer.write(seconds=1.0)  # before the worker has begun to read, too
    await rollout.until_called(20)
    await writer.write(seconds=1.0)
    writer.process.signal(signal.SIGKILL)
    await writer.process.ended()
    writer.close()

    status = await rollout.status()
    nowhere = writer.written - sum(status["states"].values()) - status["backlog"]
    assert nowhere * size <= 2 * 4_096 + 12 * size, f"{nowhere} of {writer.written} lines"


async def test_max_users_leaves_the_rest_of_a_pipe_on_the_queue(rollout: Rollout) -> None:
    writer = LedgerWriter(
        rollout,
        await rollout.sign_in(*(f"user-{number}" for number in range(12)), credential="session"),
        "--max-users",
        "5",
    )
    await writer.write()
    writer.close()

    assert (await writer.process.ended()).code == 5
    assert (await rollout.states())["delivered"] == 5
    assert (await rollout.status())["backlog"] == 7


async def test_a_file_can_be_read_again_after_an_interruption(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 20})
    file = rollout.file(await rollout.sign_in(*(f"user-{number}" for number in range(40))))

    running = rollout.start("run", "--input", file)
    await rollout.until_called(5)
    running.signal(signal.SIGTERM)
    assert (await running.ended()).code == 4
    rollout.configure(rate={"requests_per_second": 200})
    ended = await rollout.run("--input", file)

    assert ended.code == 0
    assert await rollout.states() == {"delivered": 40}
    assert (await rollout.fake_cognito.stats()).issued == 40


async def test_a_file_as_editors_on_any_system_write_it(rollout: Rollout) -> None:
    ana, ben, cleo = (json.dumps(request) for request in await rollout.sign_in("ana", "ben", "cleo"))
    path = rollout.folder / "windows.jsonl"
    path.write_bytes(codecs.BOM_UTF8 + f"{ana}\r\n\r\n   \n{ben}\r\n\n{cleo}".encode())

    ended = await rollout.run("--input", str(path))

    assert ended.code == 0
    assert await rollout.states() == {"delivered": 3}
    assert (await rollout.status())["malformed"] == 0


async def test_a_line_that_is_far_too_long_stops_nothing(rollout: Rollout) -> None:
    ana, ben = await rollout.sign_in("ana", "ben")

    ended = await rollout.run("--input", rollout.file([ana, "x" * 3_000_000, ben]))

    assert ended.code == 1
    assert "\nline 2: is longer than 256 KiB\n" in ended.err
    assert await rollout.states() == {"delivered": 2}
    assert (await rollout.status())["malformed"] == 1


async def test_what_waits_on_the_queue_is_worked_on_beside_a_file(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana"))

    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ben")))

    assert ended.code == 0
    assert await rollout.users("delivered") == {"ana": None, "ben": None}


async def test_a_named_pipe_that_nobody_opened_can_be_interrupted(rollout: Rollout) -> None:
    os.mkfifo(rollout.folder / "requests")
    running = rollout.start("run", "--input", str(rollout.folder / "requests"))
    await until(rollout.ledger.exists)
    await until(lambda: any((rollout.folder / "rollout.db.workers").glob("*")))

    running.signal(signal.SIGTERM)

    assert (await running.ended(within=5)).code in (0, 4)
