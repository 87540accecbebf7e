"""Sends traces and metrics to a collector, in threads of its own: one that is away or slow costs the run nothing.

What cannot be sent in time is dropped, and that is said once. The settings name the endpoint; everything else is read
from the standard environment variables by the exporters themselves (``OTEL_EXPORTER_OTLP_HEADERS``, ``…_CERTIFICATE``,
``…_COMPRESSION``, ``…_TIMEOUT``; ``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_BSP_…``).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from worker.core.ports import Clock
from worker.core.stats import RunStats
from worker.settings.environment import ignore_empty_certificates
from worker.telemetry.otel.metrics import Measures
from worker.telemetry.otel.pseudonyms import Pseudonyms
from worker.telemetry.otel.traces import Traces

log = structlog.get_logger()

EVERY = 30.0
"""Seconds between two exports of metrics: twice as often as the SDK's default, since many runs last minutes."""
LAST = 2.0
"""Seconds that the last export may take when the run ends. What is not sent by then is dropped."""


@asynccontextmanager
async def exported(
    endpoint: str,
    stats: RunStats,
    clock: Clock,
    *,
    key: bytes,
    sample: float,
    about: dict[str, str],
    every: float = EVERY,
) -> AsyncIterator[Traces]:
    """Export to that endpoint while the body of the ``async with`` runs; yields what takes the traces.

    ``key``: of the pseudonyms; ``sample``: the share of users who are traced; ``about``: attributes of this process.
    """
    ignore_empty_certificates()
    resource = Resource.create({"service.name": "mfa-worker", **about})
    provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
    exporter, measures = OTLPMetricExporter(f"{endpoint}/v1/metrics"), Measures(stats, resource, time.time_ns())
    sending = _Thread(lambda: None)

    def send() -> _Thread:
        taken = measures.taken(time.time_ns())
        return _Thread(lambda: exporter.export(taken))

    async def run() -> None:
        nonlocal sending
        while True:
            await asyncio.sleep(every)
            if not sending.is_alive():
                sending = send()

    with _said_once(endpoint):
        task = asyncio.create_task(run())
        try:
            yield Traces(provider, Pseudonyms(key), clock, sample)
        finally:
            task.cancel()
            await asyncio.wait([task])
            last = [_Thread(provider.shutdown)] if sending.is_alive() else [send(), _Thread(provider.shutdown)]
            await _joined(last, LAST)
            exporter.shutdown()


class _Thread(threading.Thread):
    """One that the process does not wait for at its end, started at once."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(target=work, name="otel", daemon=True)
        self.start()


async def _joined(threads: list[_Thread], seconds: float) -> None:
    """Wait for these threads, at most so long, without holding up the event loop."""
    until = time.monotonic() + seconds
    for thread in threads:
        await asyncio.to_thread(thread.join, max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        logging.getLogger("opentelemetry").error("no answer within %g s of the end", seconds)


class _said_once(logging.Handler):  # noqa: N801 - used like a function
    """While it is entered, the first failure that OpenTelemetry logs is said in our words; no other is, ever."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(logging.WARNING)
        url = urlsplit(endpoint)
        self._where = f"{url.hostname}:{url.port}" if url.port else str(url.hostname)
        self._has_spoken = False
        self._logger = logging.getLogger("opentelemetry")

    def __enter__(self) -> None:
        self._logger.handlers[:] = [self]
        self._logger.propagate = False

    def __exit__(self, *_: object) -> None:
        self._has_spoken = True  # what a thread says that nobody waits for is of no interest

    def emit(self, record: logging.LogRecord) -> None:
        """Called in any thread."""
        is_failure = record.levelno >= logging.ERROR or "dropping" in str(record.msg)
        if is_failure and not self._has_spoken:
            self._has_spoken = True
            log.warning(
                "telemetry_not_exported",
                cause=record.getMessage(),
                endpoint=self._where,
                cure="nobody is affected, and the run goes on; see that a collector takes OTLP over HTTP there "
                "(otel.endpoint), and what OTEL_EXPORTER_OTLP_HEADERS says",
            )
