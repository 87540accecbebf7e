"""Runs ``mfa-worker`` as what it is, a process, against the stand-in: for tests that look from outside.

    async with rollout_in(tmp_path) as rollout:
        requests = await rollout.sign_in("ana", "ben")
        ended = await rollout.run("--input", rollout.file(requests))
        assert ended.code == 0

Nothing that a command says may hold a secret: whatever was run is searched for all of them at the end.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker import commands, opening, sealing
from worker.rehearsal.standin_config import CredentialKind, StandInConfig
from worker.rehearsal.standin_process import StandIn, serve_standin
from worker.settings import Settings, load
from worker.telemetry import report

POOL = "us-east-1_rehearsal"
COMMAND = (str(Path(sys.executable).with_name("mfa-worker")),)
WITHIN = 60.0
"""Seconds that anything may take before a test gives up on it."""
TELL_SECRETS = ("open", "keygen")
"""The commands whose result is secret."""

Request = dict[str, Any]


async def until(condition: Callable[[], bool | Awaitable[bool]], within: float = WITHIN) -> None:
    """Wait until it holds; a test that waits in vain fails."""
    deadline = time.monotonic() + within
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return
        assert time.monotonic() < deadline, f"waited for {within:g} s in vain"
        await asyncio.sleep(0.01)


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

    def __init__(self, arguments: tuple[str, ...], popen: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.arguments = arguments
        self.popen = popen
        self._out, self._err = out, err

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_over(self) -> bool:
        return self.popen.poll() is not None

    @property
    def out(self) -> str:
        return self._out.read_text("utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text("utf-8")

    async def ended(self, within: float = WITHIN) -> Ended:
        """Wait for its end."""
        await until(lambda: self.is_over, within)
        return Ended(self.popen.returncode, self.out, self.err)

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL: there is no goodbye."""
        self.popen.kill()
        await until(lambda: self.is_over)


@dataclass
class Audit:
    """What is wrong with what was delivered, going by what the stand-in really issued; each names users."""

    stale: set[str] = field(default_factory=set)
    """Delivered, and the newest record is not the newest secret."""
    twice: set[str] = field(default_factory=set)
    """With several secrets in the channel."""
    lost: set[str] = field(default_factory=set)
    """A secret was issued that is in no channel."""


class Rollout:
    """One rollout in a folder of its own: settings, identity, requests, and whatever was run."""

    def __init__(self, folder: Path, standin: StandIn) -> None:
        self.folder = folder
        self.standin = standin
        self.identity = folder / "identity.txt"
        self.ledger = folder / "rollout.db"
        self.channel = folder / "enrolments.jsonl"
        text, self.recipient = sealing.keygen("today")
        sealing.write_identity(self.identity, text)
        self.processes: list[Process] = []
        self.credentials: set[str] = set()
        self.secrets: set[str] = set()
        self._files = 0
        self._settings: dict[str, dict[str, Any]] = {}
        self.configure(
            cognito={
                "user_pool_id": POOL,
                "endpoint_url": standin.url,
                "session_handoff": True,
                "call_timeout": 1.0,
                "patience": 2.0,
            },
            rate={"requests_per_second": 200},
            run={"concurrency": 32, "poll": 0.05, "grace": 5.0},
            queue={"path": str(self.ledger)},
            ledger={"lease": 3.0, "clock_skew": 0.0},
            channel={"path": str(self.channel)},
            seal={"recipients": [self.recipient]},
            otp={"issuer": "Example"},
            retry={"base": 0.02, "cap": 0.1},
        )

    # --- settings ---

    @property
    def config(self) -> Path:
        return self.folder / "mfa-worker.toml"

    def configure(self, **sections: Mapping[str, Any]) -> None:
        """Change the settings file; ``None`` takes a key out."""
        for section, changes in sections.items():
            keys = {**self._settings.get(section, {}), **changes}
            self._settings[section] = {key: value for key, value in keys.items() if value is not None}
        tables = (
            f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
            for section, keys in self._settings.items()
        )
        self.config.write_text("\n".join(tables), "utf-8")

    def settings(self) -> Settings:
        return load(self.config, [], {})

    # --- requests ---

    async def sign_in(
        self, *usernames: str, credential: CredentialKind = "token", validity: float | None = None
    ) -> list[Request]:
        """What a migration script does: sign users in, and make a request of each credential."""
        credentials = await self.standin.sign_in(usernames, credential=credential, validity=validity)
        self.credentials |= {each.value for each in credentials}
        return [dict(each.request()) for each in credentials]

    def file(self, lines: Iterable[Request | str]) -> str:
        """The path of a new file with these lines."""
        self._files += 1
        path = self.folder / f"requests-{self._files}.jsonl"
        path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
        return str(path)

    # --- commands ---

    def start(
        self,
        *arguments: str,
        command: tuple[str, ...] = COMMAND,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
        limits: Callable[[], object] | None = None,
        config: bool = True,
    ) -> Process:
        """Start a command in the rollout's folder, with its settings, and without those of whoever runs the tests."""
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("MFA_WORKER_", "AWS_"))}
        if config:
            inherited["MFA_WORKER_CONFIG"] = str(self.config)
        number = len(self.processes)
        out, err = self.folder / f"{number}.out", self.folder / f"{number}.err"
        with out.open("wb") as to_out, err.open("wb") as to_err:
            popen = subprocess.Popen(
                (*command, *arguments),
                cwd=self.folder,
                env={**inherited, **(env or {})},
                stdin=stdin,
                stdout=to_out if stdout is None else stdout,
                stderr=to_err,
                preexec_fn=limits,
            )
        self.processes.append(Process(arguments, popen, out, err))
        return self.processes[-1]

    async def command(self, *arguments: str, within: float = WITHIN, **more: Any) -> Ended:
        """Run a command to its end."""
        return await self.start(*arguments, **more).ended(within)

    async def run(self, *arguments: str, **more: Any) -> Ended:
        """``mfa-worker run``."""
        return await self.command("run", *arguments, **more)

    async def push(self, requests: Iterable[Request | str]) -> commands.PushResult:
        """What ``mfa-worker push`` does, without a process of its own."""
        lines = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in requests)
        return await commands.push(self.settings(), io.BytesIO(lines.encode()))

    # --- what came of it ---

    async def status(self) -> dict[str, Any]:
        """What ``status --json`` says, without a process of its own."""
        return report.status(*await commands.status(self.settings()))

    async def states(self) -> dict[str, int]:
        """The states that somebody is in."""
        return {state: number for state, number in (await self.status())["states"].items() if number}

    async def users(self, state: str) -> dict[str, str | None]:
        """Who is in that state, and why."""
        text = io.StringIO()
        await commands.export(self.settings(), commands.state(state), text)
        return {row["username"]: row["reason"] for row in map(json.loads, text.getvalue().splitlines())}

    def opened(self, *files: Path) -> dict[str, dict[str, Any]]:
        """The newest record of each user, opened with the identity."""
        if not files and not self.channel.exists():
            return {}
        text = io.StringIO()
        names = [str(file) for file in files or (self.channel,)]
        assert opening.open_files(names, [self.identity], text) == 0
        records = [json.loads(line) for line in text.getvalue().splitlines()]
        for record in records:
            self.secrets |= {record["secret_code"], record.get("session", record["secret_code"])}
        return {record["username"]: record for record in records}

    def records(self, *files: Path) -> list[dict[str, Any]]:
        """Every record in the channel, opened one by one, in order."""
        opened: list[dict[str, Any]] = []
        single = self.folder / "single.jsonl"
        for file in files or (self.channel,):
            for line in file.read_bytes().splitlines(keepends=True):
                single.write_bytes(line)
                opened += self.opened(single).values()
        single.unlink(missing_ok=True)
        return opened

    async def audit(self, *files: Path) -> Audit:
        """Hold what was delivered against the truth."""
        audit = Audit()
        newest = self.opened(*files)
        enrolled = (await self.users("delivered")).keys()
        truth = await self.standin.truth()
        found: dict[str, set[str]] = {}
        for record in self.records(*files) if newest else ():
            found.setdefault(record["username"], set()).add(record["secret_code"])
        audit.twice = {username for username, secrets in found.items() if len(secrets) > 1}
        for username in enrolled:
            valid = truth[username].secrets[-1].secret_code if username in truth else None
            if username not in newest or newest[username]["secret_code"] != valid:
                audit.stale.add(username)
        for username, user in truth.items():
            if {secret.secret_code for secret in user.secrets} - found.get(username, set()):
                audit.lost.add(username)
        return audit

    async def known_secrets(self) -> set[str]:
        """Every credential that was minted and every secret that was issued."""
        truth = await self.standin.truth()
        issued = {secret.secret_code for user in truth.values() for secret in user.secrets}
        return self.credentials | self.secrets | issued

    def told(self) -> str:
        """Everything that was said or reported by commands whose result is not secret."""
        said = [each.out + each.err for each in self.processes if each.arguments[0] not in TELL_SECRETS]
        return "\n".join([*said, *(file.read_text("utf-8") for file in sorted(self.folder.glob("*.json")))])


def found_in(text: str, secrets: Collection[str]) -> list[str]:
    """Which of these secrets a text holds, each named by its beginning alone."""
    return [f"{secret[:4]}…" for secret in secrets if secret in text]


@asynccontextmanager
async def rollout_in(folder: Path, **standin: Any) -> AsyncIterator[Rollout]:
    """A rollout against a stand-in without a quota; ``standin``: its settings."""
    config = StandInConfig(**{"user_pool_id": POOL, "quota": None, "latency": 0.0, **standin})
    async with serve_standin(config) as served:
        rollout = Rollout(folder, served)
        try:
            yield rollout
        finally:
            for process in rollout.processes:
                if not process.is_over:
                    await process.kill()
        assert found_in(rollout.told(), await rollout.known_secrets()) == []
