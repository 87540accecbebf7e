"""What a migration script does in a rehearsal: it makes a request for each user and pushes it.

From tokens and sessions it signs the users in itself, of Sessions no more than the worker can use in time. From
usernames it makes tickets, as ``push --usernames`` does, and passwords it passes on: then the worker signs in.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

from worker.app.stores import Stores, open_stores
from worker.rehearsal.fake_cognito.client import FakeCognito
from worker.rehearsal.scenario import PASSWORD, Scenario
from worker.requests.ticket import make_ticket
from worker.settings import Settings

TICKETS_LIVE = 86_400.0
"""Seconds that tickets are valid, the default of ``push --valid-for``."""

BATCH = 200
"""Requests that are pushed at once."""


@asynccontextmanager
async def migration_script(
    scenario: Scenario,
    settings: Settings,
    fake_cognito: FakeCognito,
    usernames: Iterable[str],
    all_pushed: asyncio.Event,
) -> AsyncIterator[None]:
    """Push a request for each of these users while the body runs; set ``all_pushed`` at the end.

    Of Sessions at most as many wait at a time as the worker can use in a third of a Session's life.
    """
    third = settings.users_per_second * scenario.session_validity / 3
    most = max(1, int(third)) if scenario.origin == "sessions" else 10**9

    async def feed() -> None:
        async with open_stores(settings) as stores:
            for batch in _batches(usernames, min(BATCH, most)):
                while (await stores.queue.backlog()).waiting + len(batch) > most:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
                requests = await _requests(scenario, fake_cognito, batch)
                await _push(stores, _with_account(requests, settings.otp.account))
        all_pushed.set()

    try:
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(feed())
            yield
            feeding.cancel()
    except ExceptionGroup as failed:  # of the run or the script: an error that names its cause is no bug
        raise failed.exceptions[0] from None


async def _requests(scenario: Scenario, fake_cognito: FakeCognito, usernames: Sequence[str]) -> list[dict[str, Any]]:
    config = fake_cognito.config
    if scenario.origin == "passwords":
        return [{"username": name, "password": password_of(name)} for name in usernames]
    if scenario.origin == "usernames":
        key = base64.urlsafe_b64decode(f"{config.ticket_key}=")
        about = {"user_pool_id": config.user_pool_id, "client_id": config.client_id}
        ends = time.time() + TICKETS_LIVE
        return [
            {"username": name, "ticket": make_ticket(key, username=name, not_after=ends, **about)} for name in usernames
        ]
    kind: Any = scenario.origin.removesuffix("s")
    return [credential.request() for credential in await fake_cognito.sign_in(usernames, credential=kind)]


def _with_account(requests: Sequence[dict[str, Any]], account: str) -> Iterator[dict[str, Any]]:
    """Add the attribute that ``otp.account`` names, which is required."""
    for request in requests:
        named = {} if account == "username" else {"attributes": {account: f"{request['username']}@example.org"}}
        yield {**request, **named}


def password_of(username: str) -> str:
    """Return the user's password at the fake Cognito."""
    return PASSWORD.replace("{username}", username)


async def _push(stores: Stores, requests: Iterable[dict[str, Any]]) -> None:
    now = time.time()
    await stores.queue.push([stores.parser.to_push(json.dumps(request).encode(), now) for request in requests])


def _batches(usernames: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(usernames)
    while batch := list(islice(rest, size)):
        yield batch
