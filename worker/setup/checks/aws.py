"""All that ``check`` asks AWS: first for credentials, then everything else at the same time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from worker.adapters import channels
from worker.adapters.aws.session import Aws, AwsTarget
from worker.adapters.checks.findings import Finding, fails, not_checked, ok
from worker.adapters.checks.probes import PATIENCE, Question, asked, optional
from worker.adapters.checks.seen import Seen
from worker.adapters.ledgers.dynamodb.ledger import DynamoLedger
from worker.app.stores import Purpose, open_stores
from worker.core.errors import LedgerUnavailable, UsageError, WorkerError
from worker.core.model import State
from worker.settings import Settings
from worker.settings.types import is_loopback
from worker.setup.checks import activation, beginning, dynamodb, pool, sealing, sign_in, sqs

CLIENTS_TIMEOUT = 5.0
"""Seconds that creating all clients may take, for which the SDK reads many files."""


async def look(settings: Settings, target: AwsTarget) -> tuple[list[Finding], Seen]:
    """Return the findings, and what is known of queue and ledger; a single finding if there is no reason to ask AWS."""
    if reason := _why_not(settings, target):
        return [not_checked("aws", reason), *_unseen(settings, target)], Seen()
    if trouble := await _credentials(target, needed=_needs_credentials(settings)):
        return [trouble, *_unseen(settings, target)], Seen()
    questionnaire = _Questionnaire(settings, target)
    questions = questionnaire.questions()
    async with Aws(target) as aws:
        try:
            async with asyncio.timeout(CLIENTS_TIMEOUT):
                clients = {name: await aws.client(name) for name in {each.service for each in questions}}
        except WorkerError as error:
            return [fails("aws", str(error), error.hint)], Seen()
        except TimeoutError:
            said = f"no clients could be made in {CLIENTS_TIMEOUT:g} s"
            return [fails("aws", said, "look at where the credentials come from (role, profile)")], Seen()
        found = await asyncio.gather(*(_answered(each, clients[each.service]) for each in questions))
    return [finding for findings in found for finding in findings], questionnaire.seen


async def _answered(question: Question, client: Any) -> list[Finding]:
    """Ask one question; return its findings."""
    ask = optional if question.optional else asked
    return await ask(question.about, question.what, question.ask(client))


def _why_not(settings: Settings, target: AwsTarget) -> str:
    """Return why AWS is not asked; empty if it is."""
    if _uses_aws(settings) or _knows_the_pool(settings, target):
        return ""
    return "not asked: nothing of this rollout is on AWS, and the pool's endpoint is another"


def _unseen(settings: Settings, target: AwsTarget) -> list[Finding]:
    """What nobody knows then of the pool and the account."""
    pool_id = settings.cognito.user_pool_id
    unseen = [not_checked("pool", f"whether there is a pool {pool_id}, whether it allows TOTP, how long Sessions live")]
    if settings.sign_in.flow != "none":
        said = f"whether the pool has the app client {settings.sign_in.client_id}, and lets it sign users in"
        unseen.append(not_checked("sign-in", said))
    if _knows_the_pool(settings, target):
        unseen.append(not_checked("quota", "the real quota of this account"))
    return unseen


def _uses_aws(settings: Settings) -> bool:
    embedded = settings.queue.kind == settings.ledger.kind == "sqlite"
    return not embedded or channels.kind_of(settings.channel).resources() is not None


def _needs_credentials(settings: Settings) -> bool:
    """Whether a run needs AWS credentials. (For the preference it needs them only where users have a Session.)"""
    return _uses_aws(settings) or settings.sign_in.flow == "admin_user_password"


def _knows_the_pool(settings: Settings, target: AwsTarget) -> bool:
    """Whether AWS can say something about the pool: not if the settings name another endpoint for the pool itself."""
    return settings.cognito.endpoint_url is None or "cognito-idp" in target.endpoints


async def _credentials(target: AwsTarget, *, needed: bool) -> Finding | None:
    """Look for AWS credentials; return ``None`` if there are some that are valid as far as the SDK can tell."""
    cure = "look at where the credentials come from (role, profile)"
    try:
        async with asyncio.timeout(PATIENCE), Aws(target) as aws:
            await aws.require_credentials()
    except TimeoutError:
        said = f"no answer in {PATIENCE:g} s about who this process is"
    except WorkerError as error:
        said, cure = str(error).replace("no AWS client can be made", "no AWS credentials"), error.hint
    else:
        return None
    if needed:
        return fails("aws", said, cure)
    return not_checked("aws", f"{said}, so AWS was not asked", cure)


class _Questionnaire:
    """The questions that these settings need answered, and what the answers say of queue and ledger."""

    def __init__(self, settings: Settings, target: AwsTarget) -> None:
        self._settings = settings
        self._target = target
        self.seen = Seen()

    def questions(self) -> list[Question]:
        return [
            *self._about_the_account(),
            *self._about_the_queue(),
            *self._about_the_table(),
            *channels.kind_of(self._settings.channel).checks().questions(self._settings.channel),
        ]

    def _about_the_account(self) -> Iterator[Question]:
        settings, cognito, rate = self._settings, self._settings.cognito, self._settings.rate.effective
        name, validity = cognito.user_pool_id, cognito.session_validity
        if self._reaches_sts():
            yield Question("aws", "account and role", "sts", pool.identity, optional=True)
        if _knows_the_pool(self._settings, self._target):
            yield Question("pool", "its MFA settings", "cognito-idp", lambda c: pool.mfa(c, settings), optional=True)
            if settings.sign_in.flow != "none" or settings.activation.mode != "none":
                what = "its triggers and first factors"
                yield Question("pool", what, "cognito-idp", self._pool, optional=True)
            yield from self._about_the_app_client(name, validity)
            if cognito.endpoint_url is None or "service-quotas" in self._target.endpoints:
                yield Question(
                    "quota", "the real quota", "service-quotas", lambda c: pool.quota(c, rate), optional=True
                )

    def _about_the_app_client(self, pool_id: str, validity: float) -> Iterator[Question]:
        settings = self._settings
        if settings.sign_in.flow != "none":
            yield Question(
                "sign-in", "the app client", "cognito-idp", lambda c: sign_in.app_client(c, settings), optional=True
            )
        else:
            yield Question(
                "pool", "its app clients", "cognito-idp", lambda c: pool.sessions(c, pool_id, validity), optional=True
            )
        if settings.signs_calls:
            yield Question("sign-in", "the signed calls", "cognito-idp", lambda c: sign_in.permitted(c, settings))

    async def _pool(self, client: Any) -> list[Finding]:
        findings, tier = await sign_in.pool_itself(client, self._settings)
        self.seen |= Seen(tier=tier)
        return findings

    def _reaches_sts(self) -> bool:
        """Whether STS is worth asking: if the other services are emulators on loopback, the real STS does not know
        these credentials.
        """
        named = {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS"} & os.environ.keys()
        emulated = any(is_loopback(urlsplit(url).hostname or "") for url in self._target.endpoints.values())
        return "sts" in self._target.endpoints or bool(named) or not emulated

    def _about_the_queue(self) -> Iterator[Question]:
        queue = self._settings.queue
        if queue.kind != "sqs" or (url := queue.url) is None:
            return
        dead = queue.dead_letter_url
        yield Question("queue", "the queue", "sqs", self._queue)
        yield Question("dead letters", "the dead-letter queue", "sqs", lambda c: sqs.look_at_dead_letters(c, url, dead))
        yield Question(
            "queue", "whose dead-letter queue it is", "sqs", lambda c: sqs.look_at_sources(c, url), optional=True
        )

    def _about_the_table(self) -> Iterator[Question]:
        name, rate = self._settings.ledger.table, self._settings.rate.effective
        if self._settings.ledger.kind == "dynamodb" and name is not None:
            yield Question("ledger", "the table", "dynamodb", lambda c: dynamodb.look_at_table(c, name, rate))
            yield Question("ledger", "the ledger", "dynamodb", self._ledger)
            yield Question(
                "ledger", "its backups", "dynamodb", lambda c: dynamodb.look_at_backups(c, name), optional=True
            )
            yield Question("ledger", "its TTL", "dynamodb", lambda c: dynamodb.look_at_expiry(c, name), optional=True)

    async def _queue(self, client: Any) -> list[Finding]:
        queue = self._settings.queue
        findings, seen = await sqs.look_at_queue(client, str(queue.url), visibility=queue.visibility)
        self.seen |= seen
        return findings

    async def _ledger(self, client: Any) -> list[Finding]:
        """Check that the ledger belongs to this rollout, and count its users."""
        table = str(self._settings.ledger.table)
        try:
            found = await DynamoLedger(client, table, "check").look()
        except (LedgerUnavailable, UsageError):
            return []  # the question about the table reports that
        about_identity = [*sealing.of_the_ledger(self._settings, found), *activation.look(self._settings, found)]
        if not found.has_users:
            self.seen |= Seen(users=0, delivered=0)
            return [*about_identity, *await beginning.look(self._settings, found)]
        async with open_stores(self._settings, Purpose.EXISTING) as stores:
            counts = await stores.ledger.counts()
            about_identity += await activation.under_way(self._settings, stores.ledger, counts)
        has_record = counts.states.get(State.DELIVERED, 0) + counts.states.get(State.ACTIVE, 0)
        self.seen |= Seen(users=counts.accepted, delivered=has_record)
        return [*about_identity, ok("ledger", f"{counts.accepted:,} users of this rollout are in it")]
