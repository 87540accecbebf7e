"""A crash of the worker leaves no core dump, which would hold the credentials of everybody under way."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from tests.support.processes import COMMAND, Process, until
from tests.support.rollout import Rollout

DUMPS = (sys.executable, "-c", "import os; os.abort()")


def without_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def cores(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith("core")]


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGQUIT, signal.SIGILL])
async def test_a_crash_leaves_no_core_dump_whatever_the_limits_are(rollout: Rollout, number: signal.Signals) -> None:
    if number is signal.SIGABRT:
        await Process.start(rollout.folder, "any", command=DUMPS, limits=without_limit).ended()
        if not cores(rollout.folder):
            pytest.skip("this host keeps no core dumps in the working directory")
        for path in cores(rollout.folder):
            path.unlink()
    reading, writing = os.pipe()
    waiting = rollout.start("run", "--input", "-", "--follow", command=COMMAND, limits=without_limit, stdin=reading)
    os.close(reading)
    (request,) = await rollout.sign_in("ana")
    os.write(writing, json.dumps(request).encode() + b"\n")
    await until(lambda: rollout.channel.exists())

    waiting.signal(number)
    ended = await waiting.ended()
    os.close(writing)

    assert ended.code == -number
    assert cores(rollout.folder) == []


async def test_who_may_not_be_dumped_still_reads_its_own_descriptors(rollout: Rollout) -> None:
    requests = rollout.file(await rollout.sign_in("ana"))
    stream = os.open(requests, os.O_RDONLY)
    ended = await rollout.command("run", "--input", "/dev/stdin", command=COMMAND, stdin=stream)
    os.close(stream)
    assert ended.code == 0


async def test_what_a_command_makes_is_its_users_alone_whatever_the_umask_was(rollout: Rollout) -> None:
    template = rollout.folder / "template"
    ended = await rollout.command("letters-template", str(template), command=COMMAND, limits=lambda: os.umask(0))
    assert ended.code == 0, ended.err
    found = [template, *template.iterdir()]
    assert [oct(path.stat().st_mode & 0o077) for path in found] == ["0o0"] * len(found)
