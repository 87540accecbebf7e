"""Runs ``mfa-worker`` as what it is, a process: for tests that look from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.fork_server import Forked, ForkServer, hear_signals

COMMAND = (str(Path(sys.executable).with_name("mfa-worker")),)
WITHIN = 60.0
"""Seconds that anything may take before a test gives up on it."""


async def until(condition: Callable[[], bool | Awaitable[bool]], within: float = WITHIN) -> None:
    """Wait until the condition is true; a test that waits in vain fails."""
    deadline = time.monotonic() + within
    while True:
        answer = condition()
        if answer if isinstance(answer, bool) else await answer:
            return
        assert time.monotonic() < deadline, f"waited for {within:g} s in vain"
        await asyncio.sleep(0.01)


@cache
def fork_server() -> ForkServer:
    """The one of this test process, started when it is first needed."""
    return ForkServer()


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of that event."""
        found = [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]
        return [line for line in found if line.get("event") == event]


class Process:
    """A command that runs. What it says goes to files, so that a kill loses none of it."""

    def __init__(
        self, arguments: tuple[str, ...], popen: subprocess.Popen[bytes] | Forked, out: Path, err: Path
    ) -> None:
        self.arguments = arguments
        self.popen = popen
        self._out, self._err = out, err

    @property
    def is_over(self) -> bool:
        return self.popen.poll() is not None

    @property
    def command_line(self) -> str:
        """What anybody on this host can see of it."""
        return Path(f"/proc/{self.popen.pid}/cmdline").read_text("utf-8")

    @property
    def out(self) -> str:
        return self._out.read_text("utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text("utf-8")

    async def ended(self, within: float = WITHIN) -> Ended:
        """Wait for its end."""
        await until(lambda: self.is_over, within)
        code: int | None = self.popen.poll()
        assert code is not None
        return Ended(code, self.out, self.err)

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL: there is no goodbye."""
        self.popen.kill()
        await until(lambda: self.is_over)

    @classmethod
    def start(
        cls,
        folder: Path,
        name: str,
        *arguments: str,
        command: tuple[str, ...] | None = None,
        script: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
        limits: Callable[[], object] | None = None,
    ) -> Process:
        """Start a command in that folder, without the settings of whoever runs the tests.

        ``name``: of the files for what it says; ``script``: of Python, to run instead of ``mfa-worker``; ``limits`` is
        called in the new process. It is forked (``fork_server``) unless ``command``, such as ``COMMAND``, or ``limits``
        is given: then it is executed.
        """
        ours = ("MFA_WORKER_", "AWS_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        inherited = {key: text for key, text in os.environ.items() if not key.upper().startswith(ours)}
        env = {**inherited, **(env or {})}
        out, err = folder / f"{name}.out", folder / f"{name}.err"
        out.touch(0o600)  # or ``open`` and ``keygen`` would close it to others, and say so
        with out.open("wb") as to_out, err.open("wb") as to_err, Path(os.devnull).open("rb") as nothing:
            streams = (
                nothing.fileno() if stdin == subprocess.DEVNULL else stdin,
                to_out.fileno() if stdout is None else stdout,
                to_err.fileno() if stderr is None else stderr,
            )
            if command is None and limits is None:
                forked = fork_server().start(arguments, script=script, folder=folder, env=env, streams=streams)
                return cls(arguments, forked, out, err)

            def begin() -> None:
                hear_signals()
                if limits is not None:
                    limits()

            popen = subprocess.Popen(
                (*(command or COMMAND), *arguments),
                cwd=folder,
                env=env,
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
                preexec_fn=begin,
            )
        return cls(arguments, popen, out, err)
