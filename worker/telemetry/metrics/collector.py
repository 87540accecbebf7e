"""Makes Prometheus' text of what is known of a run. It reads counters that are kept anyway, and asks no store."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from worker.core.answers import LABELS
from worker.core.histogram import Histogram
from worker.core.model import STATE_OF, UNFINISHED, Counts, Reason, State, Trouble
from worker.telemetry.metrics import definitions as each
from worker.telemetry.metrics.definitions import Metric
from worker.telemetry.metrics.health import not_ready
from worker.telemetry.metrics.watched import Dependency, Rollout, Watched

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
Values = Iterable[tuple[tuple[str, ...], float]]
"""The values of a metric's labels, in their order, and its value."""

OUTCOMES: tuple[tuple[State, Reason | None], ...] = (
    *((state, None) for state in State if state not in UNFINISHED),
    *((STATE_OF[reason], reason) for reason in Reason),
)
"""Every outcome that there is. All of them are shown, also with 0: a counter that appears with its first increment
would hide that one from ``rate()``."""
ENROLMENT = "AssociateSoftwareToken"
"""The operation that every run calls, so that its answers are shown from the start."""
ANSWERS = ("issued", "refused", "pool_fault", *(trouble.value for trouble in Trouble))
"""Those that it may bring."""
assert set(ANSWERS) <= {*LABELS.values(), *Trouble}


def registry(watched: Watched) -> CollectorRegistry:
    """What knows every metric of this run, and no metric of anything else in this process."""
    found = CollectorRegistry(auto_describe=False)
    found.register(_Run(watched))
    ProcessCollector(namespace="mfa_worker", registry=found)
    return found


class _Run(Collector):
    """All metrics of one run."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def collect(self) -> Iterator[Family]:
        """Called for each scrape."""
        watched, stats = self._watched, self._watched.stats
        yield _numbers(each.SETTLED, _settled(stats.outcomes))
        yield _numbers(each.ATTEMPTS, _attempts(stats.attempts))
        yield _histograms(each.ATTEMPT_SECONDS, (((name,), found) for name, found in sorted(stats.latency.items())))
        yield _histograms(each.LEASE_TO_OUTCOME, [((), stats.lease_to_outcome)])
        yield _number(each.DUPLICATES, stats.duplicates)
        yield _number(each.MALFORMED, watched.malformed())
        yield _number(each.GIVEN_BACK, stats.returned)
        yield _number(each.QUOTA_LOST, stats.quota_lost)
        yield _number(each.BUGS, stats.bugs)
        yield _number(each.CONFIGURED, stats.configured_per_second)
        yield _number(each.ALLOWED, stats.allowed_per_second)
        yield _number(each.IN_FLIGHT, watched.work.under_way if watched.work is not None else 0)
        yield _number(each.POSTPONED, stats.tried_again_later)
        waits_for = watched.waits_for
        yield _numbers(each.WAITING, (((name.value,), float(name is waits_for)) for name in Dependency))
        yield _number(each.READY, float(not_ready(watched) is None))
        yield _number(each.IDLE, stats.idle if watched.work is not None else 0.0)
        yield _number(each.CLOCK_SKEW, watched.skew())
        yield _numbers(each.BUILD_INFO, [((_version(), platform.python_version()), 1.0)])
        if watched.rollout is not None:
            yield from _rollout(watched.rollout)


def _rollout(rollout: Rollout) -> Iterator[Family]:
    counts, backlog = rollout.counts, rollout.backlog
    yield _numbers(each.USERS, _users(counts))
    yield _number(each.UNFINISHED, counts.unfinished)
    yield _number(each.SEALED, counts.states.get(State.SEALED, 0))
    yield _number(each.BACKLOG, backlog.waiting)
    yield _number(each.EXPIRED, backlog.expired)
    yield _number(each.DEADLINE, rollout.earliest_deadline)
    yield _number(each.DEAD_LETTERS, counts.dead_letters)
    yield _number(each.ROLLOUT_MALFORMED, counts.malformed)
    yield _number(each.ROLLOUT_DUPLICATES, counts.duplicates)
    yield _number(each.COUNTED_AT, rollout.counted_at)


def _settled(outcomes: Mapping[tuple[State, Reason | None], int]) -> Values:
    for state, reason in (*OUTCOMES, *sorted(outcomes.keys() - set(OUTCOMES), key=str)):
        yield (state.value, reason.value if reason else ""), outcomes.get((state, reason), 0)


def _attempts(attempts: Mapping[tuple[str, str], int]) -> Values:
    for labels in sorted({*attempts, *((ENROLMENT, answer) for answer in ANSWERS)}):
        yield labels, attempts.get(labels, 0)


def _users(counts: Counts) -> Values:
    """By state and reason. Reasons of a later version count as none, so that there are never more series than here."""
    without = {state: counts.states.get(state, 0) for state in State}
    for reason in Reason:
        number, state = counts.reasons.get(reason.value, 0), STATE_OF[reason]
        without[state] -= number
        yield (state.value, reason.value), number
    for state, number in without.items():
        yield (state.value, ""), max(0, number)  # what other workers report may be a moment apart


def _number(metric: Metric, value: float | None) -> Family:
    return _numbers(metric, () if value is None else [((), value)])


def _numbers(metric: Metric, values: Values) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _histograms(metric: Metric, found: Iterable[tuple[tuple[str, ...], Histogram]]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, histogram in found:
        bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
        family.add_metric(labels, list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.sum)
    return family


@cache
def _version() -> str:
    try:
        return version("mfa-worker")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
