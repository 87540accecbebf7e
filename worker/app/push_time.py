"""What time it is, for those who push: ``push`` and the feed date Sessions that do not say when they were issued.

They ask Cognito's endpoint as ``run`` does (``engine.endpoint_time``), but do not wait for it: a queue can be filled
while Cognito is away, and the machine's own clock is right on most machines.
"""

from __future__ import annotations

import structlog

from worker.adapters.cognito.client import cognito
from worker.core.clock import EndpointClock
from worker.core.errors import UsageError
from worker.core.ports import TimeAnswer
from worker.engine.endpoint_time import NO_TIME_CURE, ask
from worker.settings import Settings

log = structlog.get_logger()

PATIENCE = 3.0
"""Seconds that one question may take: as long as a connection to Cognito may take to stand
(``adapters.cognito.client``), and little beside what a person waits for a push."""

PUSHED_CURE = (
    "pushing goes on by this machine's clock; a run needs the endpoint: check the network, proxy and "
    "cognito.endpoint_url (mfa-worker check)"
)
"""What the warning ``endpoint_unanswered`` advises."""


async def learn_time(settings: Settings, clock: EndpointClock) -> None:
    """Let the endpoint set the clock; where it does not answer, or names no time, say so, and leave the clock alone.

    Raises ``PersonMustAct`` where the machine's clock is too wrong.
    """
    try:
        async with cognito(
            region=settings.cognito.region,
            endpoint_url=settings.cognito.endpoint_url,
            fips=settings.aws.fips,
            call_timeout=min(PATIENCE, settings.cognito.call_timeout),
            concurrency=1,
            clock=clock,
        ) as endpoint:
            answer = await ask(endpoint, clock)
    except UsageError as unusable:  # certificates that cannot be read: ``run`` refuses them, pushing does without
        answer = TimeAnswer(told=False, trouble=str(unusable))
    if answer.trouble:
        log.warning(
            "endpoint_unanswered", cause=f"Cognito's endpoint does not answer: {answer.trouble}", cure=PUSHED_CURE
        )
    elif not answer.told:
        log.warning("endpoint_told_no_time", cause="its answers are not dated", cure=NO_TIME_CURE)
    if wrong := clock.wrong():
        raise wrong
