"""``status --watch``: the rollout seen from another terminal, from before it begins until somebody has seen enough."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import pty
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.processes import Process
from tests.support.processes import until as until_true
from tests.support.rollout import Rollout

WITHIN = 30.0
"""Seconds within which something is shown on a machine that is busy."""


@asynccontextmanager
async def terminal(rollout: Rollout, *arguments: str) -> AsyncIterator[tuple[Process, list[str]]]:
    """Start the command on a terminal of its own; the list grows by what it draws there."""
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    drawn: list[str] = []
    decoder = codecs.getincrementaldecoder("utf-8")()  # a piece may end within a character
    loop = asyncio.get_running_loop()

    def came() -> None:
        try:
            drawn.append(decoder.decode(os.read(ours, 65_536)))
        except OSError:  # the last process that had the terminal open has ended
            loop.remove_reader(ours)

    loop.add_reader(ours, came)
    process = rollout.start(*arguments, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        yield process, drawn
    finally:
        loop.remove_reader(ours)
        os.close(ours)


async def until(drawn: list[str], text: str) -> None:
    """Wait until the text was drawn."""
    await until_true(lambda: text in " ".join(plain("".join(drawn)).split()), WITHIN)  # wherever a line is broken


def plain(text: str) -> str:
    """Without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


async def test_a_watcher_waits_for_the_ledger_sees_the_rollout_and_ends_with_ctrl_c(rollout: Rollout) -> None:
    async with terminal(rollout, "status", "--watch") as (process, drawn):
        await until(drawn, "the first push or run")
        await rollout.push(await rollout.sign_in("ana", "ben"))
        await until(drawn, "0 of 2 users")
        await until(drawn, "a worker: none runs. Begin one: mfa-worker run")
        assert (await rollout.run()).code == 0
        await until(drawn, "2 of 2 users · 100 %")
        process.signal(signal.SIGINT)
        assert (await process.ended()).code == 0
        assert "Traceback" not in "".join(drawn)
        assert "".join(drawn).rstrip().endswith("\x1b[?25h")  # the cursor is shown again


async def test_for_scripts_there_is_an_object_a_line(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana", "ben"))
    process = rollout.start("status", "--watch", "--json", "--set", "log.interval=100ms")
    await until_true(lambda: process.out.count("\n") > 1)
    process.signal(signal.SIGTERM)
    ended = await process.ended()
    assert ended.code == 0
    found = [json.loads(line) for line in ended.out.splitlines()]
    assert (found[-1]["users_done"], found[-1]["users_left"], found[-1]["workers"]) == (0, 2, 0)
    assert found[-1]["backlog"] == 2


async def test_where_nothing_can_be_drawn_there_is_a_line(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana"))
    process = rollout.start("status", "--watch")
    await until_true(lambda: "\n" in process.out)
    process.signal(signal.SIGINT)
    ended = await process.ended()
    assert ended.code == 0
    assert re.match(r"\S+Z 0 of 1 users \(0 delivered\); 0\.0 users/s, no worker runs; waits for a worker", ended.out)


async def test_what_does_not_go_together_is_said(rollout: Rollout) -> None:
    ended = await rollout.command("status", "--watch", "--malformed")
    assert (ended.code, ended.out) == (2, "")
    assert "leave out --watch" in ended.err


async def test_a_run_on_a_terminal_ends_as_one_picture_and_one_table(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(20))))
    async with terminal(rollout, "run") as (process, drawn):
        assert (await process.ended()).code == 0
    said = plain("".join(drawn))
    assert "20 of 20 users · 100 % · ended after" in said
    assert said.count("delivered   ") == 1
