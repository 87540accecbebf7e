"""One rollout in a folder of its own against the fake Cognito, driven from outside and compared with the truth.

    async with rollout_in(tmp_path) as rollout:
        requests = await rollout.sign_in("ana", "ben")
        ended = await rollout.run("--input", rollout.file(requests))
        assert ended.code == 0

Nothing that a command says may hold a secret: whatever was run is searched for all of them at the end.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.support.processes import WITHIN, Ended, Process, until
from worker.app import commands, standing
from worker.rehearsal.fake_cognito.client import FakeCognito, serve_fake_cognito
from worker.rehearsal.fake_cognito.config import CredentialKind, FakeCognitoConfig
from worker.rehearsal.fake_cognito.triggers import Trigger
from worker.sealing import age
from worker.sealing.open import open_files
from worker.settings import Settings, load
from worker.telemetry import report

POOL = "us-east-1_rehearsal"
TELL_SECRETS = ("open", "keygen")
"""The commands whose result is secret."""

Request = dict[str, Any]
Record = dict[str, Any]


SomeRollout = TypeVar("SomeRollout", bound="Rollout")


@dataclass
class Audit:
    """What is wrong with what was delivered, going by what the fake Cognito really issued; each names users."""

    stale: set[str] = field(default_factory=set)
    """Delivered, and the newest record is not the newest secret."""
    twice: set[str] = field(default_factory=set)
    """With several secrets in the channel."""
    lost: set[str] = field(default_factory=set)
    """A secret was issued that is in no channel."""


class Rollout:
    """One rollout in a folder of its own: settings, identity, requests, and whatever was run."""

    def __init__(self, folder: Path, fake_cognito: FakeCognito) -> None:
        self.folder = folder
        self.fake_cognito = fake_cognito
        self.identity = folder / "identity.txt"
        self.ledger = folder / "rollout.db"
        self.channel = folder / "enrolments.jsonl"
        text, self.recipient = age.keygen("today")
        age.write_identity(self.identity, text)
        self.processes: list[Process] = []
        self.credentials: set[str] = set()
        self.secrets: set[str] = set()
        self.variables: dict[str, str] = {}
        """Of the environment of every command."""
        self._files = 0
        self._settings: dict[str, dict[str, Any]] = {}
        self.configure(
            cognito={
                "user_pool_id": POOL,
                "endpoint_url": fake_cognito.url,
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
        credentials = await self.fake_cognito.sign_in(usernames, credential=credential, validity=validity)
        self.credentials |= {each.value for each in credentials}
        return [dict(each.request()) for each in credentials]

    def file(self, lines: Iterable[Request | str]) -> str:
        """The path of a new file with these lines."""
        self._files += 1
        path = self.folder / f"requests-{self._files}.jsonl"
        path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
        return str(path)

    # --- commands ---

    def start(self, *arguments: str, env: Mapping[str, str] | None = None, config: bool = True, **more: Any) -> Process:
        """Start a command in the rollout's folder, with its settings unless ``config`` is false."""
        env = {**({"MFA_WORKER_CONFIG": str(self.config)} if config else {}), **self.variables, **(env or {})}
        self.processes.append(Process.start(self.folder, str(len(self.processes)), *arguments, env=env, **more))
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
        look = (await standing.standing(self.settings(), measures=False)).look
        return report.status(look.counts, look.backlog)

    def has_ledger(self) -> bool:
        """Whether a command made one already."""
        return self.ledger.exists()

    async def states(self) -> dict[str, int]:
        """The states that somebody is in."""
        return {state: number for state, number in (await self.status())["states"].items() if number}

    async def users(self, state: str) -> dict[str, str | None]:
        """Who is in that state, and why."""
        text = io.StringIO()
        await commands.export(self.settings(), commands.state(state), text)
        return {row["username"]: row["reason"] for row in map(json.loads, text.getvalue().splitlines())}

    def opened(self) -> dict[str, Record]:
        """The newest record of each user, opened with the identity."""
        if not self.channel.exists():
            return {}
        text = io.StringIO()
        assert open_files([str(self.channel)], [self.identity], text) == 0
        records = [json.loads(line) for line in text.getvalue().splitlines()]
        self.secrets |= {secret for record in records for secret in _secrets(record)}
        return {record["username"]: record for record in records}

    async def audit(self, *files: Path) -> Audit:
        """Compare what was delivered (into ``files``, where it is not the channel's present one) with the truth."""
        found: dict[str, dict[int, str]] = {}
        for record in await self.delivered(*files):
            found.setdefault(record["username"], {})[record["generation"]] = record["secret_code"]
        truth = {
            name: [each.secret_code for each in user.secrets]
            for name, user in (await self.fake_cognito.truth()).items()
        }
        newest = {name: secrets[max(secrets)] for name, secrets in found.items()}
        return Audit(
            stale={name for name in await self.users("delivered") if newest.get(name) != truth.get(name, [""])[-1]},
            twice={name for name, secrets in found.items() if len(set(secrets.values())) > 1},
            lost={name for name, secrets in truth.items() if set(secrets) - set(found.get(name, {}).values())},
        )

    async def delivered(self, *files: Path) -> list[Record]:
        """Every record in the channel, opened, older ones too."""
        lines = [
            json.loads(line)
            for file in files or (self.channel,)
            for line in (file.read_text("utf-8").splitlines() if file.exists() else ())
            if line.endswith("}")  # else it is torn
        ]
        return self.open_blobs(base64.b64decode(line["sealed"]) for line in lines)

    async def attempts(self) -> dict[str, set[str]]:
        """The attempts whose records are in the channel, by user."""
        found: dict[str, set[str]] = {}
        for line in self.channel.read_bytes().splitlines() if self.channel.exists() else ():
            if line.endswith(b"}"):  # else it is torn
                record = json.loads(line)
                found.setdefault(record["username"], set()).add(record["attempt_id"])
        return found

    def open_blobs(self, blobs: Iterable[bytes]) -> list[Record]:
        """The records in these age files."""
        opener = age.AgeOpener([self.identity])
        return [json.loads(opener.open(blob)) for blob in blobs]

    # --- waiting ---

    async def until_called(self, times: int) -> None:
        """Wait until so many requests arrived at the fake Cognito."""

        async def called() -> bool:
            return (await self.fake_cognito.stats()).wire_requests >= times

        await until(called)

    async def until_answered(self) -> None:
        """Wait until the fake Cognito works on no request any more, also none of a worker that was killed."""

        async def answered() -> bool:
            return not (await self.fake_cognito.stats()).in_flight

        await until(answered)

    async def until_delivered(self, users: int) -> None:
        """Wait until the channel's file has so many lines."""
        await until(lambda: self.channel.exists() and self.channel.read_bytes().count(b"\n") >= users)

    async def until_in(self, state: str, users: int) -> None:
        """Wait until so many users are in that state."""

        async def reached() -> bool:
            await asyncio.sleep(0.05)
            return self.has_ledger() and (await self.states()).get(state, 0) >= users

        await until(reached)

    # --- secrets ---

    async def known_secrets(self) -> set[str]:
        """Every credential that was minted and every secret that was issued."""
        truth = await self.fake_cognito.truth()
        issued = {secret.secret_code for user in truth.values() for secret in user.secrets}
        return self.credentials | self.secrets | issued

    def told(self) -> str:
        """Everything that was said or reported by commands whose result is not secret."""
        said = [each.out + each.err for each in self.processes if each.arguments[0] not in TELL_SECRETS]
        return "\n".join([*said, *(file.read_text("utf-8") for file in sorted(self.folder.glob("*.json")))])


def _secrets(record: Record) -> set[str]:
    return {record["secret_code"], record.get("session", record["secret_code"])}


def found_in(text: str, secrets: Collection[str]) -> list[str]:
    """Which of these secrets are in a text, each named by its beginning alone."""
    return [f"{secret[:4]}…" for secret in secrets if secret in text]


@asynccontextmanager
async def rollout_in(folder: Path, **fake_cognito: Any) -> AsyncIterator[Rollout]:
    """A rollout against a fake Cognito without a quota; ``fake_cognito``: its settings."""
    async with fake_cognito_for_rollouts(**fake_cognito) as served, ended_well(Rollout(folder, served)) as rollout:
        yield rollout


def fake_cognito_for_rollouts(
    *, trigger: Trigger | None = None, **settings: Any
) -> AbstractAsyncContextManager[FakeCognito]:
    """A fake Cognito without a quota that answers at once, save for ``settings``; ``trigger``: its Lambda function."""
    free = {"quota": None, "sign_in_quota": None, "read_quota": None, "latency": 0.0}
    return serve_fake_cognito(FakeCognitoConfig(**{"user_pool_id": POOL, **free, **settings}), trigger=trigger)


@asynccontextmanager
async def ended_well(rollout: SomeRollout) -> AsyncIterator[SomeRollout]:
    """Ends what is still running, and looks for secrets in all that was said."""
    try:
        yield rollout
    finally:
        for process in rollout.processes:
            if not process.is_over:
                await process.kill()
    assert found_in(rollout.told(), await rollout.known_secrets()) == []
