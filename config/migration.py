"""A migration script, from the list of users to the worker's queue: copy it, and replace ``sign_in``.

    MFA_WORKER_CONFIG=mfa-worker.toml MIGRATION_ANSWER=… python migration.py --client-id APP_CLIENT [--users FILE]

It signs everybody in and pushes a request for each, while ``mfa-worker run --follow`` works beside it. The feed lets it
sign in only whom the worker will soon be at, so it keeps far within the quota of sign-ins, and no session dies waiting.
Started again, it goes on: whoever the ledger knows to be done is passed over.

The example signs users in by a custom challenge whose answer the script knows (a Lambda trigger of the pool decides),
because nobody has their passwords. It needs the permissions ``cognito-idp:ListUsers``, ``AdminInitiateAuth`` and
``AdminRespondToAuthChallenge`` on the pool.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

import worker
from worker.errors import ExitCode, Malformed, WorkerError
from worker.settings import Settings, load

AT_ONCE = 8
"""Sign-ins at the same time. At 0.2 s each that is 40/s: more than the worker takes, and a third of their own quota,
120/s ("Quotas in Amazon Cognito", UserAuthentication)."""


STOPS = {
    *("AccessDeniedException", "ExpiredTokenException", "InvalidClientTokenId", "InvalidSignatureException"),
    *("ResourceNotFoundException", "UnrecognizedClientException"),
    *("CredentialRetrievalError", "NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError"),
    *("EndpointConnectionError", "SSOTokenLoadError", "UnauthorizedSSOTokenError"),
}
"""What concerns everybody: this process's AWS credentials, its permissions, the pool, the app client, the network."""


async def sign_in(cognito: Any, pool: str, client_id: str, username: str) -> dict[str, str]:
    """The user's credential: an access token, or the Session of a sign-in that has to set up TOTP first.

    This is the one place to replace. What it returns goes into the request as it is.
    """
    answer = await cognito.admin_initiate_auth(
        UserPoolId=pool, ClientId=client_id, AuthFlow="CUSTOM_AUTH", AuthParameters={"USERNAME": username}
    )
    if answer.get("ChallengeName") == "CUSTOM_CHALLENGE":
        answer = await cognito.admin_respond_to_auth_challenge(
            UserPoolId=pool,
            ClientId=client_id,
            ChallengeName="CUSTOM_CHALLENGE",
            ChallengeResponses={"USERNAME": username, "ANSWER": os.environ["MIGRATION_ANSWER"]},
            Session=answer["Session"],
        )
    if "AuthenticationResult" in answer:
        return {"access_token": answer["AuthenticationResult"]["AccessToken"]}
    if answer.get("ChallengeName") == "MFA_SETUP":
        return {"session": answer["Session"]}
    raise ValueError(f"Cognito asks for {answer.get('ChallengeName')}")


CURE = (
    "see who this process is (aws sts get-caller-identity), whether it may use the pool (aws cognito-idp "
    "describe-user-pool --user-pool-id POOL), and --client-id; then start it again: who is done is passed over"
)
"""What to do where Cognito answers nobody."""


async def usernames(cognito: Any, pool: str, file: Path | None) -> AsyncIterator[str]:
    """Everybody to enrol: the lines of a file, or all confirmed users of the pool."""
    if file is not None:
        for line in file.read_text("utf-8").splitlines():  # noqa: ASYNC240 - at the start, once
            if line.strip():
                yield line.strip()
        return
    async for page in cognito.get_paginator("list_users").paginate(UserPoolId=pool, AttributesToGet=[]):
        for user in page["Users"]:
            if user["UserStatus"] == "CONFIRMED" and user["Enabled"]:
                yield user["Username"]


def code_of(error: BotoCoreError | ClientError) -> str:
    """What AWS or its SDK calls the error; it repeats no credential, as a message might."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


class Migration:
    """Signs users in and pushes a request for each, several at a time."""

    def __init__(self, cognito: Any, feed: worker.Feed, pool: str, client_id: str) -> None:
        self._cognito, self._feed, self._pool, self._client_id = cognito, feed, pool, client_id
        self.pushed = self.passed_over = self.failed = 0

    async def run(self, users: AsyncIterator[str]) -> None:
        """Bring all of them to the queue."""
        next_user = asyncio.Lock()

        async def bring_one_after_the_other() -> None:
            while True:
                async with next_user:  # only one may ask for the next user at a time
                    username = await anext(users, None)
                if username is None:
                    return
                await self._bring(username)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(bring_one_after_the_other())
        except ExceptionGroup as errors:  # one is enough to stop, and to say why
            raise errors.exceptions[0] from None

    async def _bring(self, username: str) -> None:
        if not await self._feed.wants(username):
            self.passed_over += 1
            return
        await self._feed.room()
        try:
            credential = await sign_in(self._cognito, self._pool, self._client_id, username)
            await self._feed.push({"username": username, **credential}, wait=False)
        except Malformed as malformed:
            self._leave_out(username, f"the request {malformed}")
        except ValueError as error:
            self._feed.give_up()
            self._leave_out(username, str(error))
        except (ClientError, BotoCoreError) as error:
            self._feed.give_up()
            if code_of(error) in STOPS:  # the next user would meet the same
                raise
            self._leave_out(username, code_of(error))
        else:
            self.pushed += 1

    def _leave_out(self, username: str, why: str) -> None:
        self.failed += 1
        sys.stderr.write(f"not signed in: {username!a} ({why})\n")


async def migrate(settings: Settings, client_id: str, file: Path | None) -> int:
    """The whole migration; how many could not be signed in."""
    pool = settings.cognito.user_pool_id
    session = aioboto3.Session(profile_name=settings.aws.profile, region_name=settings.cognito.region)
    retries = AioConfig(retries={"mode": "standard", "total_max_attempts": 5}, max_pool_connections=AT_ONCE)
    async with (
        session.client("cognito-idp", endpoint_url=settings.aws.cognito_endpoint_url, config=retries) as cognito,
        worker.feed(settings) as feed,
    ):
        migration = Migration(cognito, feed, pool, client_id)
        await migration.run(usernames(cognito, pool, file))
    told = f"pushed {migration.pushed}, done already {migration.passed_over}, not signed in {migration.failed}\n"
    sys.stdout.write(told)
    return migration.failed


def main() -> int:
    """Exit 0 where everybody was pushed, 1 where somebody could not be signed in; else as the worker's commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="the worker's settings (default: MFA_WORKER_CONFIG)")
    parser.add_argument("--client-id", required=True, help="the app client to sign users in with")
    parser.add_argument("--users", type=Path, help="a file of usernames, one a line (default: all of the pool)")
    asked = parser.parse_args()
    if "MIGRATION_ANSWER" not in os.environ:
        parser.error("MIGRATION_ANSWER is not set: it is the answer to your pool's challenge, see sign_in in this file")
    try:
        failed = asyncio.run(migrate(load(asked.config, [], os.environ), asked.client_id, asked.users))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except WorkerError as error:
        sys.stderr.write(f"migration: {error}\n  → {error.hint}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"migration: cannot read {error.filename}: {error.strerror}\n  → name another file: --users\n")
        return ExitCode.USAGE
    except (BotoCoreError, ClientError) as error:
        sys.stderr.write(f"migration: Cognito cannot be asked: {code_of(error)}\n  → {CURE}\n")
        return ExitCode.PERSON_MUST_ACT
    return ExitCode.SOME_LEFT_OUT if failed else ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
