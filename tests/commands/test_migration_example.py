"""The example of a migration script, run as it stands: it mints sessions just in time, with a worker beside it."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.emulators import CREDENTIALS
from tests.support.processes import Process
from tests.support.rollout import POOL, Rollout

SCRIPT = Path(__file__).resolve().parents[2] / "config" / "migration.py"
ANSWER = "the-answer-to-the-challenge"
RATE = 12.0
USERS = 200
VALIDITY = 13.0
"""Seconds that a Session lives where this is under test: less than the whole rollout takes."""


class SignIns:
    """The side of Cognito that signs users in; the credentials are the fake Cognito's, and die when they say."""

    def __init__(self, rollout: Rollout, users: list[str], validity: float) -> None:
        self.rollout = rollout
        self.validity = validity
        self.users = users
        self.minted: list[tuple[float, str]] = []
        self.refused: set[str] = set()

    async def answer(self, request: web.Request) -> web.Response:
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        asked = await request.json()
        assert asked["UserPoolId"] == POOL
        if operation == "ListUsers":
            return _json(self._page(asked))
        if operation == "AdminInitiateAuth":
            username = asked["AuthParameters"]["USERNAME"]
            return _json({"ChallengeName": "CUSTOM_CHALLENGE", "Session": f"for {username}".ljust(40)})
        assert operation == "AdminRespondToAuthChallenge"
        username = asked["ChallengeResponses"]["USERNAME"]
        if username in self.refused or asked["ChallengeResponses"]["ANSWER"] != ANSWER:
            return _json({"__type": "NotAuthorizedException", "message": "Incorrect username or password."}, 400)
        self.minted.append((time.monotonic(), username))
        (minted,) = await self.rollout.sign_in(username, credential="session", validity=self.validity)
        return _json({"ChallengeName": "MFA_SETUP", "Session": minted["session"]})

    def _page(self, asked: dict[str, Any]) -> dict[str, Any]:
        start = int(asked.get("PaginationToken", 0))
        page = [{"Username": name, "UserStatus": "CONFIRMED", "Enabled": True} for name in self.users[start:][:60]]
        more = {"PaginationToken": str(start + 60)} if start + 60 < len(self.users) else {}
        return {"Users": [*page, {"Username": "off", "UserStatus": "CONFIRMED", "Enabled": False}], **more}


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response(body, status=status, content_type="application/x-amz-json-1.1")


@asynccontextmanager
async def sign_ins(rollout: Rollout, users: list[str], validity: float = 180.0) -> AsyncIterator[SignIns]:
    service = SignIns(rollout, users, validity)
    app = web.Application()
    app.router.add_post("/", service.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    rollout.configure(
        rate={"requests_per_second": RATE},
        cognito={"session_validity": validity},
        channel={"min_validity": 0},
        aws={"cognito_endpoint_url": f"http://127.0.0.1:{runner.addresses[0][1]}"},
    )
    try:
        yield service
    finally:
        await runner.cleanup()


def migrate(rollout: Rollout, *arguments: str) -> Process:
    return rollout.start(
        *("--client-id", "app"),
        *arguments,
        script=SCRIPT,
        env={**CREDENTIALS, "MIGRATION_ANSWER": ANSWER},
    )


async def test_sessions_are_minted_just_in_time_and_none_dies_waiting(rollout: Rollout) -> None:
    async with sign_ins(rollout, [f"user-{number}" for number in range(USERS)], VALIDITY) as service:
        await rollout.push(await rollout.sign_in("already there"))
        running = rollout.start("run", "--follow")
        await rollout.until_in("delivered", 1)
        ended = await migrate(rollout).ended()
        await rollout.until_in("delivered", USERS + 1)
        running.signal(signal.SIGTERM)
        assert (await running.ended()).code == 0

    assert (ended.code, ended.out) == (0, f"pushed {USERS}, done already 0, not signed in 0\n"), ended.err
    assert await rollout.states() == {"delivered": USERS + 1}
    moments = [moment for moment, _ in service.minted]
    assert moments[30] - moments[0] < 0.5 * VALIDITY, "the script could mint far faster than the worker works"
    assert moments[-1] - moments[0] > (USERS - 2.5 * RATE) / RATE, "and waited"


async def test_started_again_it_passes_over_who_is_done_and_tells_whom_it_could_not_sign_in(rollout: Rollout) -> None:
    async with sign_ins(rollout, ["ana", "ben", "eve"]) as service:
        service.refused = {"eve"}
        first = await migrate(rollout).ended()
        assert (first.code, first.out) == (1, "pushed 2, done already 0, not signed in 1\n"), first.err
        assert "not signed in: 'eve' (NotAuthorizedException)" in first.err.splitlines()
        assert [str(rollout.ledger)] == [line["ledger"] for line in first.logged("new_ledger")]
        assert (await rollout.run()).code == 0

        service.refused = set()
        users = rollout.file(["ana", " eve ", "", "ben"])
        again = await migrate(rollout, "--users", users).ended()

    assert (again.code, again.out) == (0, "pushed 1, done already 2, not signed in 0\n"), again.err
    assert [username for _, username in service.minted][-1:] == ["eve"]
    assert (await rollout.run()).code == 0
    assert await rollout.states() == {"delivered": 3}


async def test_what_stops_a_command_of_the_worker_stops_the_script_by_the_same_code(rollout: Rollout) -> None:
    rollout.configure(queue={"path": str(rollout.folder / "no-such-folder" / "queue.db")})

    ended = await migrate(rollout).ended()

    assert ended.code == 75
    assert "no-such-folder" in ended.err
    assert "Traceback" not in ended.err


async def test_without_credentials_it_stops_at_once_with_cause_and_cure(rollout: Rollout) -> None:
    async with sign_ins(rollout, ["ana"]):
        users = rollout.file(["ana", "ben"])
        env = {"MIGRATION_ANSWER": ANSWER, "AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "/none"}
        for arguments in ((), ("--users", users)):
            ended = await rollout.start("--client-id", "app", *arguments, script=SCRIPT, env=env).ended()

            assert ended.code == 3, ended.err
            assert "migration: Cognito cannot be asked: NoCredentialsError\n  → see who this process is" in ended.err
            assert "Traceback" not in ended.err
            assert "not signed in" not in ended.err


async def test_what_it_needs_is_named_before_anything_is_done(rollout: Rollout) -> None:
    no_answer = await rollout.start("--client-id", "app", script=SCRIPT).ended()
    no_file = await migrate(rollout, "--users", str(rollout.folder / "none.txt")).ended()

    assert (no_answer.code, "MIGRATION_ANSWER is not set" in no_answer.err) == (2, True)
    assert (no_file.code, "none.txt: No such file or directory\n  → name another" in no_file.err) == (2, True)
