"""Signs everybody in at the end of a rehearsal, as the users would: with a password, and a code from the opened record.

It speaks HTTP without an SDK, for it does nothing that an SDK is for, and there may be very many users.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pyotp

from worker.rehearsal.fake_cognito.client import FakeCognito
from worker.rehearsal.fake_cognito.users import TOTP
from worker.rehearsal.script import password_of

AT_ONCE = 32
"""Users who are signed in at the same time."""


async def sign_in_with_codes(fake_cognito: FakeCognito, secrets: Mapping[str, str]) -> set[str]:
    """Return those users who get in with a code of their secret, and not without one.

    ``secrets``: username → secret in base32. A code that was used for the verification is none for a sign-in, so the
    code is that of the next time step, which Cognito takes too.
    """
    able: set[str] = set()
    names = iter(secrets)
    async with _calls(fake_cognito) as calls, asyncio.TaskGroup() as group:

        async def work() -> None:
            for name in names:
                if await _gets_in(calls, fake_cognito.config.client_id, name, secrets[name]):
                    able.add(name)

        for _ in range(AT_ONCE):
            group.create_task(work())
    return able


async def _gets_in(calls: _Calls, client_id: str, username: str, secret_code: str) -> bool:
    given = {"USERNAME": username, "PASSWORD": password_of(username)}
    begun = await calls.ask("InitiateAuth", ClientId=client_id, AuthFlow="USER_PASSWORD_AUTH", AuthParameters=given)
    if begun.get("ChallengeName") != TOTP:
        return False
    totp = pyotp.TOTP(secret_code)
    for attempt in range(2):
        if attempt:  # the clocks differ by a moment, and the code of the next step was used as well
            await asyncio.sleep(totp.interval - time.time() % totp.interval + 1)
        answer = {"USERNAME": username, "SOFTWARE_TOKEN_MFA_CODE": totp.at(int(time.time()), counter_offset=1)}
        told = await calls.ask(
            "RespondToAuthChallenge",
            ClientId=client_id,
            ChallengeName=TOTP,
            Session=begun["Session"],
            ChallengeResponses=answer,
        )
        if told.get("__type") != "ExpiredCodeException":
            break
    return "AccessToken" in told.get("AuthenticationResult", {})


class _Calls:
    """The operations of the fake Cognito, over HTTP."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http

    async def ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Return what one operation answers, errors too."""
        headers = {
            "X-Amz-Target": f"AWSCognitoIdentityProviderService.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        async with self._http.post(f"{self._url}/", data=json.dumps(parameters), headers=headers) as response:
            told: dict[str, Any] = json.loads(await response.read())
            return told


@asynccontextmanager
async def _calls(fake_cognito: FakeCognito) -> AsyncIterator[_Calls]:
    async with aiohttp.ClientSession() as http:
        yield _Calls(fake_cognito.url, http)
