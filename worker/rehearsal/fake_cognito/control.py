"""The control interface of the fake Cognito, under `/_control/`: sign users in, configure it, see what it issued.

| | body or query | answer |
|---|---|---|
| `POST /_control/sign-in` | `usernames` or `count`, `prefix`, `start`; `credential`, `validity`, `scope` | JSON lines |
| `POST /_control/users` | `usernames` or `count`, `prefix`, `start`; what `users.User` has | `{}` |
| `POST /_control/revoke` | `usernames` | `{}` |
| `POST /_control/configure` | live settings of FakeCognitoConfig | all settings |
| `GET /_control/truth` | – | JSON lines, one a user |
| `GET /_control/stats` | `since`, `until` (monotonic seconds) | counts |
| `POST /_control/reset-stats` | – | `{}` |

A wrong request is answered 400 with `{"error": "…"}`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from aiohttp import web

from worker.rehearsal.fake_cognito.credentials import SCOPE, check_username
from worker.rehearsal.fake_cognito.service import FakeUserPool
from worker.rehearsal.fake_cognito.users import user_from


class BadRequestError(ValueError):
    """The request to the control interface is wrong; the message says what is expected."""


def control_app(cognito: FakeUserPool) -> web.Application:
    """Return the web application that controls this service."""
    control = _Control(cognito)
    app = web.Application(middlewares=[_plain_errors], client_max_size=256 * 1024 * 1024)  # bytes: a million usernames
    app.router.add_post("/_control/sign-in", control.sign_in)
    app.router.add_post("/_control/users", control.users)
    app.router.add_post("/_control/revoke", control.revoke)
    app.router.add_post("/_control/configure", control.configure)
    app.router.add_get("/_control/truth", control.truth)
    app.router.add_get("/_control/stats", control.stats)
    app.router.add_post("/_control/reset-stats", control.reset_stats)
    return app


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except ValueError as error:
        response = web.json_response({"error": str(error)}, status=400)
    # The next request on this connection may be for Cognito, which this web server does not serve.
    response.force_close()
    return response


class _Control:
    """The handlers of the control interface."""

    def __init__(self, cognito: FakeUserPool) -> None:
        self._cognito = cognito

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        asked = await _object(request)
        kind = asked.get("credential", "session")
        if kind not in ("session", "token"):
            raise BadRequestError(f"credential is session or token, not {kind!a}")
        validity, scope = asked.get("validity"), asked.get("scope") or SCOPE
        if not isinstance(validity, int | float | None) or not isinstance(scope, str):
            raise BadRequestError("validity is a number of seconds, scope a string")

        def lines() -> Iterator[dict[str, Any]]:
            for username in usernames:
                value, expires_at = self._cognito.sign_in(username, kind, validity, scope)
                yield {"username": username, "kind": kind, "value": value, "expires_at": expires_at}

        usernames = _usernames(asked)
        return await _stream(request, lines())

    async def users(self, request: web.Request) -> web.StreamResponse:
        asked = await _object(request)
        user = user_from(
            asked.get("password"), asked.get("status", "CONFIRMED"), asked.get("factors", ()), asked.get("preferred")
        )
        for username in _usernames(asked):
            password = user.password and user.password.replace("{username}", username)
            self._cognito.users.add(username, user._replace(password=password))
        return web.json_response({})

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        self._cognito.revoke(_usernames(await _object(request)))
        return web.json_response({})

    async def configure(self, request: web.Request) -> web.StreamResponse:
        self._cognito.configure(await _object(request))
        return web.json_response(dataclasses.asdict(self._cognito.config))

    async def truth(self, request: web.Request) -> web.StreamResponse:
        enrolments = self._cognito.enrolments
        return await _stream(request, map(enrolments.truth, enrolments.usernames()))

    async def stats(self, request: web.Request) -> web.StreamResponse:
        since, until = request.query.get("since"), request.query.get("until")
        stats = self._cognito.stats(
            None if since is None else float(since),
            None if until is None else float(until),
        )
        return web.json_response(stats)

    async def reset_stats(self, _request: web.Request) -> web.StreamResponse:
        self._cognito.reset_stats()
        return web.json_response({})


async def _object(request: web.Request) -> dict[str, Any]:
    value = json.loads(await request.read())
    if not isinstance(value, dict):
        raise BadRequestError("send a JSON object")
    return value


def _usernames(asked: dict[str, Any]) -> Iterable[str]:
    usernames = asked.get("usernames")
    if isinstance(usernames, list):
        for username in usernames:
            check_username(username)
        return usernames
    count, start, prefix = asked.get("count"), asked.get("start", 0), asked.get("prefix", "user-")
    if not isinstance(count, int) or not isinstance(start, int) or not isinstance(prefix, str):
        raise BadRequestError("send usernames, a list of strings, or count, a number (with prefix and start)")
    check_username(f"{prefix}{start + count}")
    return (f"{prefix}{number}" for number in range(start, start + count))


async def _stream(request: web.Request, objects: Iterable[dict[str, Any]]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
    response.force_close()
    await response.prepare(request)
    lines = (json.dumps(item).encode() + b"\n" for item in objects)
    while chunk := b"".join(islice(lines, 500)):  # after so many lines, other requests get their turn
        await response.write(chunk)
        await asyncio.sleep(0)
    await response.write_eof()
    return response
