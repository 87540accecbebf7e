"""Starts the fake Cognito for tests and rehearsals, controls it, and asks it which secrets it really issued.

    async with start_fake_cognito(FakeCognitoConfig(quota=100)) as fake_cognito:  # its own process
        credentials = await fake_cognito.sign_in(["ana", "ben"])
        ...                                                             # run a worker against fake_cognito.url
        truth = await fake_cognito.truth()
        stats = await fake_cognito.stats()

`serve_fake_cognito` does the same in this process and event loop, with clocks that a test may inject.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import aiohttp

from worker.rehearsal.fake_cognito.config import CredentialKind, FakeCognitoConfig
from worker.rehearsal.fake_cognito.operations import Category
from worker.rehearsal.fake_cognito.server import FakeCognitoServer
from worker.rehearsal.fake_cognito.service import FakeUserPool
from worker.rehearsal.fake_cognito.triggers import Trigger
from worker.settings.environment import without_secrets


@dataclass(frozen=True, slots=True)
class Credential:
    """The credential that a user got from a sign-in."""

    username: str
    kind: CredentialKind
    value: str = field(repr=False)
    expires_at: float
    """UNIX seconds, by the service's clock."""

    def request(self) -> dict[str, str]:
        """Return the request for the worker: `username`, `session` or `access_token`, `expires_at` (RFC 3339)."""
        expires_at = datetime.fromtimestamp(self.expires_at, UTC).isoformat(timespec="milliseconds")
        key = "session" if self.kind == "session" else "access_token"
        return {"username": self.username, key: self.value, "expires_at": expires_at.replace("+00:00", "Z")}


@dataclass(frozen=True, slots=True)
class IssuedSecret:
    """One secret that the service issued, even if the answer with it was lost."""

    sequence: int
    """1 for the user's first secret."""
    secret_code: str = field(repr=False)
    issued_at: float
    """UNIX seconds, by the service's clock."""
    request_id: str
    credential: CredentialKind
    """The kind of credential that it was issued for."""
    credential_digest: str
    """Which credential that was: the first 16 hexadecimal digits of its SHA-256."""


@dataclass(frozen=True, slots=True)
class UserTruth:
    """What the service knows about a user: the secrets in the order of issue, the last one being valid."""

    username: str
    secrets: tuple[IssuedSecret, ...]
    verified: int | None
    """The sequence of the secret that was verified last."""
    preference: bool
    """Whether TOTP was set as the user's preference."""


@dataclass(frozen=True, slots=True)
class TrafficStats:
    """What arrived of one category of operations; each has a quota of its own."""

    wire_requests: int
    """Every request that arrived."""
    admitted: int
    """Those within the quota."""
    refused: int
    """Those over the quota."""
    largest_window: int
    """The most requests that arrived within any one second."""
    utilisation: float | None
    """Admitted requests after the first, divided by what the quota allowed from the first arrival to the last one; None
    if there is no quota or too few requests arrived."""
    first_arrival: float | None
    """Monotonic seconds (of this host)."""
    last_arrival: float | None
    """Monotonic seconds (of this host)."""


@dataclass(frozen=True, slots=True)
class Stats(TrafficStats):
    """What the service saw since its start or the last `reset_stats`.

    What is inherited is about the enrolments' category (*UserResourceUpdate*) alone.
    """

    categories: dict[Category, TrafficStats]
    """The same of every category."""
    acted: int
    """Calls that changed something: issued, verified or preferred."""
    issued: int
    """Secrets issued."""
    looked: int
    """How often GetUser told somebody's factors; asking without a token, as for the time, is none."""
    operations: dict[str, int]
    """Wire requests by operation."""
    signed: dict[str, int]
    """Those that carried a signature, by operation."""
    errors: dict[str, int]
    """Errors answered, by code, injected ones included."""
    faults: dict[str, int]
    """Faults injected, by name."""
    overlapping: dict[str, int]
    """For each user: calls that arrived while another one for the same user was in flight (enrolments' category)."""
    sign_ins_overlapping: dict[str, int]
    """The same for sign-ins and their answers."""
    most_in_flight: int
    """The most calls that were in flight at the same time."""
    most_in_flight_one_user: int
    """The most calls that were in flight for one user: 1 where no two calls for a user overlapped."""
    in_flight: int
    """Calls in flight now."""


class FakeCognitoError(Exception):
    """The fake Cognito refused what it was asked for, or did not start."""


class FakeCognito:
    """A running fake Cognito. Its methods raise FakeCognitoError if it refuses the request."""

    def __init__(self, url: str, config: FakeCognitoConfig, *, pid: int, http: aiohttp.ClientSession) -> None:
        self.url = url
        """Such as `http://127.0.0.1:41234`: the endpoint for clients of Cognito."""
        self.config = config
        """The configuration with which it was started."""
        self.pid = pid
        """The id of the process that serves; of this process for `serve_fake_cognito`."""
        self._http = http

    async def sign_in(
        self,
        usernames: Iterable[str],
        *,
        credential: CredentialKind = "session",
        validity: float | None = None,
        scope: str | None = None,
    ) -> list[Credential]:
        """Sign users in, in order; `validity` in seconds (default `session_validity`, and 3,600 for a token)."""
        asked = {"usernames": list(usernames), "credential": credential, "validity": validity, "scope": scope}
        return [Credential(**item) async for item in self._lines("POST", "sign-in", asked)]

    async def sign_in_many(
        self,
        count: int,
        *,
        prefix: str = "user-",
        start: int = 0,
        credential: CredentialKind = "session",
        validity: float | None = None,
    ) -> AsyncIterator[Credential]:
        """Sign in `PREFIX<start>` to `PREFIX<start + count - 1>`, streamed: a million of them take no memory."""
        asked = {"count": count, "prefix": prefix, "start": start, "credential": credential, "validity": validity}
        async for item in self._lines("POST", "sign-in", asked):
            yield Credential(**item)

    async def add_users(self, usernames: Iterable[str], **user: Any) -> None:
        """Add users, or change them, by what `worker.rehearsal.fake_cognito.users.User` has.

        `{username}` in `password` stands for the name.
        """
        await self._ask("POST", "users", {"usernames": list(usernames), **user})

    async def revoke(self, usernames: Iterable[str]) -> None:
        """Revoke every access token that these users hold now."""
        await self._ask("POST", "revoke", {"usernames": list(usernames)})

    async def configure(self, **changes: Any) -> None:
        """Change what FakeCognitoConfig marks as live: quota, burst, latency, jitter, faults, clock_skew, …."""
        await self._ask("POST", "configure", changes)

    async def set_faults(self, *faults: str) -> None:
        """Replace all faults: `await fake_cognito.set_faults("conflict=2%", "cut_after@ana=1x")`; none clears them."""
        await self.configure(faults=faults)

    async def set_quota(self, quota: float | None, burst: float | None = None) -> None:
        """Change the quota, in requests/s."""
        await self.configure(quota=quota, burst=burst)

    async def set_latency(self, latency: float, jitter: float = 0.0) -> None:
        """Change the latency, in seconds."""
        await self.configure(latency=latency, jitter=jitter)

    async def truth(self) -> dict[str, UserTruth]:
        """Return what the service knows about every user to whom a secret was issued, by username."""
        return {user.username: user async for user in self.truth_lines()}

    async def truth_lines(self) -> AsyncIterator[UserTruth]:
        """Stream what `truth` returns, user by user, for very many users."""
        async for item in self._lines("GET", "truth"):
            yield UserTruth(
                item["username"],
                tuple(IssuedSecret(**secret) for secret in item["secrets"]),
                item["verified"],
                item["preference"],
            )

    async def stats(self, *, since: float | None = None, until: float | None = None) -> Stats:
        """Return what the service saw; `since` and `until` (monotonic seconds) limit which arrivals are counted."""
        bounds = {name: str(bound) for name, bound in (("since", since), ("until", until)) if bound is not None}
        told = await self._ask("GET", "stats", params=bounds)
        categories = {Category(name): TrafficStats(**each) for name, each in told.pop("categories").items()}
        return Stats(categories=categories, **told)

    async def reset_stats(self) -> None:
        """Forget the counts, not the users."""
        await self._ask("POST", "reset-stats")

    async def _ask(self, method: str, what: str, body: object = None, params: dict[str, str] | None = None) -> Any:
        address = f"{self.url}/_control/{what}"
        async with self._http.request(method, address, json=body, params=params) as response:
            await _check(response)
            return await response.json()

    async def _lines(self, method: str, what: str, body: object = None) -> AsyncIterator[Any]:
        async with self._http.request(method, f"{self.url}/_control/{what}", json=body) as response:
            await _check(response)
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status == HTTPStatus.OK:
        return
    if response.content_type == "application/json":
        raise FakeCognitoError((await response.json())["error"])
    raise FakeCognitoError(f"the fake Cognito answered HTTP {response.status}")


@asynccontextmanager
async def start_fake_cognito(config: FakeCognitoConfig | None = None) -> AsyncIterator[FakeCognito]:
    """Serve from a separate process, which ends with this one at the latest. Raises FakeCognitoError if it cannot."""
    config = config or FakeCognitoConfig()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # so that a folder named `worker` in the current directory is not imported
        "-m",
        "worker.rehearsal.fake_cognito.server",
        "--config-stdin",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=without_secrets(os.environ),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(config.to_json().encode() + b"\n")
        ready = await process.stdout.readline()
        if not ready:
            raise FakeCognitoError("the fake Cognito did not start; it says why on standard error")
        async with _client() as http:
            yield FakeCognito(json.loads(ready)["url"], config, pid=process.pid, http=http)
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(5.0):  # it ends when its standard input is closed
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def serve_fake_cognito(
    config: FakeCognitoConfig | None = None,
    *,
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    trigger: Trigger | None = None,
) -> AsyncIterator[FakeCognito]:
    """Serve from this process and event loop; `wall` (UNIX seconds), `monotonic` and `trigger` may be injected."""
    cognito = FakeUserPool(config or FakeCognitoConfig(), wall=wall, monotonic=monotonic, trigger=trigger)
    async with FakeCognitoServer(cognito) as server, _client() as http:
        yield FakeCognito(server.url, cognito.config, pid=os.getpid(), http=http)


def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0))
