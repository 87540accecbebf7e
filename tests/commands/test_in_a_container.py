"""A run as a container has it: process 1, a user without rights, and only the rollout's folder may be written.

Linux's namespaces make the place, so no container engine is needed, but root is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.processes import COMMAND, Process, until
from tests.support.rollout import Rollout, rollout_in

USER = 10001
"""The user and the group of the Dockerfile."""
PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")
READ_ONLY_ROOT = 'mount --bind "$1" "$1" && mount -o remount,bind,ro / && shift && exec "$@"'
"""For ``sh -c``: nothing but the folder that is named first can be written, as with ``--read-only`` and a volume."""
UNPRIVILEGED = (
    "setpriv",
    f"--reuid={USER}",
    f"--regid={USER}",
    "--clear-groups",
    "--bounding-set=-all",
    "--no-new-privs",
)


def contained(folder: Path, *command: str) -> tuple[str, ...]:
    """The command as process 1 of a container that may write this folder."""
    return (*PROCESS_1, "sh", "-c", READ_ONLY_ROOT, "sh", str(folder), *UNPRIVILEGED, *command)


@cache
def refusal() -> str:
    """What keeps this machine from having such a place; empty where it has."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(contained(Path(folder), *COMMAND, "--version"), check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            return str(error)
        except subprocess.CalledProcessError as error:
            return str(error.stderr).strip() or f"exit {error.returncode}"
    return ""


@pytest.fixture
async def rollout() -> AsyncIterator[Rollout]:
    """In a folder that the user of the container can reach: pytest's own are closed to others."""
    if why := refusal():
        pytest.skip(f"no namespaces of a container here: {why}")
    with tempfile.TemporaryDirectory() as folder:
        async with rollout_in(Path(folder)) as rollout:
            yield rollout


def start(rollout: Rollout, *arguments: str) -> Process:
    """Start ``mfa-worker`` so."""
    for path in (rollout.folder, *rollout.folder.iterdir()):
        os.chown(path, USER, USER)
    return rollout.start(*arguments, command=contained(rollout.folder, *COMMAND))


def signal_process_1(container: Process, number: signal.Signals) -> None:
    """``unshare`` waits for its only child and passes no signals on."""
    parent = container.popen.pid
    (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()
    os.kill(int(child), number)


async def test_everybody_is_delivered_where_only_the_rollouts_folder_can_be_written(rollout: Rollout) -> None:
    requests = rollout.file(await rollout.sign_in("ana", "ben"))

    ended = await start(rollout, "run", "--input", requests).ended()

    assert ended.code == 0, ended.err
    assert sorted(rollout.opened()) == ["ana", "ben"]


async def test_what_a_channel_outside_of_it_cannot_take_is_kept_and_delivered_later(rollout: Rollout) -> None:
    rollout.configure(channel={"path": "/enrolments.jsonl", "patience": 0.2})
    requests = rollout.file(await rollout.sign_in("ana"))

    ended = await start(rollout, "run", "--input", requests).ended()

    assert ended.code == 75, ended.err
    assert "/enrolments.jsonl: Read-only file system" in ended.err
    rollout.configure(channel={"path": str(rollout.channel)})
    assert (await start(rollout, "run").ended()).code == 0
    assert sorted(rollout.opened()) == ["ana"]
    assert (await rollout.fake_cognito.stats()).issued == 1


async def test_process_1_that_is_told_to_stop_delivers_whom_it_called_and_ends(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 5})
    run = start(rollout, "run", "--input", rollout.file(await rollout.sign_in(*(f"user-{n}" for n in range(100)))))
    await until(lambda: rollout.channel.exists() and rollout.channel.stat().st_size > 0)

    signal_process_1(run, signal.SIGTERM)

    ended = await run.ended()
    assert ended.code == 4, ended.err
    assert len(rollout.opened()) == (await rollout.fake_cognito.stats()).issued < 100
