"""Metrics for CloudWatch as lines of the log: one line a minute in its embedded metric format.

CloudWatch Logs makes metrics of such a line by itself: no agent, no request, no permission. The format is AWS's
("Specification: Embedded metric format", CloudWatch user guide): a JSON object whose member ``_aws`` says which of the
other members are metrics, and of which unit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TextIO

import structlog

from worker.core.errors import WorkerError
from worker.core.histogram import CALL_SECONDS, Histogram
from worker.core.model import State, Trouble
from worker.core.ports import Backlog, Clock
from worker.core.stats import RunStats
from worker.telemetry.logs import json_line

log = structlog.get_logger()

NAMESPACE = "MfaWorker"
"""CloudWatch's namespace of these metrics."""
EVERY = 60.0
"""Seconds between two lines: CloudWatch keeps metrics of standard resolution by the minute."""
_STATES = {
    State.DELIVERED: "Delivered",
    State.ACTIVE: "Active",
    State.NEEDS_SESSION: "NeedsSession",
    State.FAILED: "Failed",
    State.SKIPPED: "Skipped",
}
_ANSWERS = {
    Trouble.THROTTLED.value: "Throttled",
    Trouble.NO_ANSWER.value: "Unanswered",
    Trouble.SERVER_ERROR.value: "ServerErrors",
    "refused": "Refused",
    "pool_fault": "PoolFaults",
}
"""Answers that somebody may want an alarm for; of all operations together."""


class _Metric(NamedTuple):
    name: str
    unit: str
    value: float


class Since:
    """What happened since it was last asked, as metrics."""

    def __init__(self, stats: RunStats) -> None:
        self._stats = stats
        self._states, self._answers, self._sent = Counter(stats.states), self._by_answer(), self._wire()
        self._calls, self._users = self._every_call(), stats.lease_to_outcome.copy()

    def take(self, waiting: int | None) -> list[_Metric]:
        """The metrics since the last time. ``waiting``: messages on the queue; ``None``: not known."""
        stats = self._stats
        states, answers, sent = Counter(stats.states), self._by_answer(), self._wire()
        calls, users = self._every_call(), stats.lease_to_outcome.copy()
        found = [_Metric(name, "Count", states[state] - self._states[state]) for state, name in _STATES.items()]
        found += [_Metric(name, "Count", answers[each] - self._answers[each]) for each, name in _ANSWERS.items()]
        found += [_Metric(name, "Count", sent[name] - self._sent[name]) for name in sent]
        found += _times("CallLatency", "Milliseconds", calls - self._calls, 1_000)
        found += _times("LeaseToOutcome", "Seconds", users - self._users, 1)
        found += [
            _Metric("AllowedRate", "Count/Second", stats.allowed_per_second),
            _Metric("ConfiguredRate", "Count/Second", stats.configured_per_second),
            _Metric("InFlight", "Count", stats.in_flight),
            _Metric("TriedAgainLater", "Count", stats.tried_again_later),
            _Metric("SecondsSinceOutcome", "Seconds", round(stats.since_outcome, 1)),
        ]
        if waiting is not None:
            found.append(_Metric("Waiting", "Count", waiting))
        self._states, self._answers, self._sent, self._calls, self._users = states, answers, sent, calls, users
        return found

    def _by_answer(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for (_, answer), number in self._stats.attempts.items():
            counted[answer] += number
        return counted

    def _wire(self) -> dict[str, int]:
        stats = self._stats
        return {"Requests": stats.requests, "SignIns": stats.sign_ins, "Duplicates": stats.duplicates}

    def _every_call(self) -> Histogram:
        return sum(self._stats.latency.values(), Histogram(CALL_SECONDS))


def _times(name: str, unit: str, seconds: Histogram, scale: float) -> Iterator[_Metric]:
    """The mean, and what 99 of 100 do not exceed; neither where nothing was observed."""
    mean, slow = seconds.mean, seconds.quantile(0.99)
    if mean is not None and slow is not None:
        yield _Metric(name, unit, round(mean * scale, 3))
        yield _Metric(f"{name}P99", unit, round(slow * scale, 3))


def document(metrics: list[_Metric], dimensions: Mapping[str, str], now: float) -> dict[str, Any]:
    """The object of one line. ``now``: UTC seconds."""
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": each.name, "Unit": each.unit} for each in metrics],
    }
    return {
        "event": "metrics",
        "_aws": {"Timestamp": int(now * 1_000), "CloudWatchMetrics": [directive]},
        **dimensions,
        **{each.name: each.value for each in metrics},
    }


@asynccontextmanager
async def written(
    stats: RunStats,
    backlog: Callable[[], Awaitable[Backlog]],
    clock: Clock,
    dimensions: Mapping[str, str],
    *,
    every: float = EVERY,
    stream: TextIO | None = None,
) -> AsyncIterator[None]:
    """Write a line every so many seconds while the body of the ``async with`` runs, and one at its end.

    ``backlog``: counts the messages on the queue; ``stream``: standard error by default. Errors in here never reach
    the body.
    """
    since = Since(stats)

    async def write() -> None:
        try:
            number: int | None = (await backlog()).waiting
        except WorkerError:
            number = None
        json_line(document(since.take(number), dimensions, clock.utc()), stream)

    async def run() -> None:
        while True:
            await asyncio.sleep(every)
            await write()

    writing = asyncio.create_task(run())
    try:
        yield
    finally:
        writing.cancel()
        (failure,) = await asyncio.gather(writing, return_exceptions=True)
        if isinstance(failure, Exception):
            log.warning(
                "metrics_not_written", cause=failure, cure="the run goes on without these lines; report it as a bug"
            )
        else:
            json_line(document(since.take(None), dimensions, clock.utc()), stream)
