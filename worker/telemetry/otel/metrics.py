"""What a run counts, as OTLP's metrics. Names and meanings are those of ``/metrics`` (``metrics.definitions``).

They are made from ``RunStats`` and not measured a second time, so the path of a user knows nothing of OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as OtlpHistogram
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from worker.core.histogram import Histogram
from worker.core.stats import RunStats
from worker.telemetry.metrics import definitions as each
from worker.telemetry.metrics.definitions import Metric as Definition

Labels = Mapping[str, str]
_SCOPE = InstrumentationScope("mfa-worker")
_CUMULATIVE = AggregationTemporality.CUMULATIVE
_UNITS = {"seconds": "s", "requests/s": "{request}/s", "users": "{user}", "requests": "{request}"}
"""Units in UCUM, as OpenTelemetry's conventions want them."""


class Measures:
    """Makes OTLP's metrics of one run. ``began``: when it began, in nanoseconds since the epoch."""

    def __init__(self, stats: RunStats, resource: Resource, began: int) -> None:
        self._stats, self._resource, self._began = stats, resource, began

    def taken(self, now: int) -> MetricsData:
        """Everything as it is; ``now``: nanoseconds since the epoch."""
        stats = self._stats
        outcomes = [({"state": s, "reason": r or ""}, number) for (s, r), number in stats.outcomes.items()]
        attempts = [({"operation": o, "answer": a}, number) for (o, a), number in stats.attempts.items()]
        latencies = [({"operation": name}, found) for name, found in stats.latency.items()]
        metrics = [
            self._counter(each.SETTLED, outcomes, now),
            self._counter(each.ATTEMPTS, attempts, now),
            self._histogram(each.ATTEMPT_SECONDS, latencies, now),
            self._histogram(each.LEASE_TO_OUTCOME, [({}, stats.lease_to_outcome)], now),
            self._counter(each.DUPLICATES, [({}, stats.duplicates)], now),
            self._counter(each.GIVEN_BACK, [({}, stats.returned)], now),
            self._counter(each.BUGS, [({}, stats.bugs)], now),
            self._gauge(each.CONFIGURED, stats.configured_per_second, now),
            self._gauge(each.ALLOWED, stats.allowed_per_second, now),
            self._gauge(each.IN_FLIGHT, stats.in_flight, now),
            self._gauge(each.POSTPONED, stats.tried_again_later, now),
            self._gauge(each.IDLE, stats.idle, now),
        ]
        return MetricsData([ResourceMetrics(self._resource, [ScopeMetrics(_SCOPE, metrics, "")], "")])

    def _counter(self, definition: Definition, values: Iterable[tuple[Labels, int]], now: int) -> Metric:
        points = [NumberDataPoint(dict(labels), self._began, now, number) for labels, number in values]
        return _metric(definition, Sum(points, _CUMULATIVE, is_monotonic=True))

    def _gauge(self, definition: Definition, value: float, now: int) -> Metric:
        return _metric(definition, Gauge([NumberDataPoint({}, self._began, now, value)]))

    def _histogram(self, definition: Definition, values: Iterable[tuple[Labels, Histogram]], now: int) -> Metric:
        points = [
            HistogramDataPoint(
                dict(labels),
                self._began,
                now,
                count=found.total,
                sum=found.sum,
                bucket_counts=list(found.counts),
                explicit_bounds=list(found.bounds),
                min=None,  # type: ignore[arg-type] # not known, which OTLP allows
                max=None,  # type: ignore[arg-type]
            )
            for labels, found in values
        ]
        return _metric(definition, OtlpHistogram(points, _CUMULATIVE))


def _metric(definition: Definition, data: Sum | Gauge | OtlpHistogram) -> Metric:
    """Without ``_total``, which whoever makes Prometheus' names of OTLP's adds by itself."""
    return Metric(definition.name.removesuffix("_total"), definition.help, _UNITS.get(definition.unit, "1"), data)
