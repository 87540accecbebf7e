"""A trace for each user's way through the pipeline: a span for the whole, and one in it for each step.

Users are named by pseudonyms (``pseudonyms``). Attributes are labels that the worker made itself: no credential, no
secret, no text of anybody else ever becomes one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from worker.core.ports import Clock
from worker.telemetry.otel.pseudonyms import LENGTH, Pseudonyms

USER = "mfa_worker.user"
"""The attribute with the pseudonym; only the outer span has it."""
OUTCOME = "mfa_worker.outcome"
"""Of the outer span: ``state`` or ``state:reason``, ``duplicate``, ``given_back``, ``postponed``, ``error``."""
ANSWER = "mfa_worker.answer"
"""Of a step: what came of it, in one word, where there is something to say."""


# Nothing here may raise: it is called between Cognito's answer and the write that records it.


class Traces:
    """``ports.Observer``. ``sample``: the share of users who are traced, in all their runs."""

    def __init__(self, provider: TracerProvider, pseudonyms: Pseudonyms, clock: Clock, sample: float) -> None:
        self._tracer = provider.get_tracer("mfa-worker")
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._traced = sample * 16**LENGTH

    def begins(self, username: str, work: str) -> Way | None:
        """See ``ports.Observer``."""
        with suppress(Exception):
            pseudonym = self._pseudonyms.of(username)
            if int(pseudonym, 16) < self._traced:
                now = time.time_ns()
                offset = now - int(self._clock.monotonic() * 1e9)
                span = self._tracer.start_span(work, start_time=now, attributes={USER: pseudonym})
                return Way(self._tracer, span, self._clock.monotonic, offset)
        return None


class Way:
    """``ports.Way``. ``offset``: nanoseconds since the epoch when the monotonic clock was zero."""

    __slots__ = ("_context", "_monotonic", "_offset", "_span", "_tracer")

    def __init__(self, tracer: trace.Tracer, span: trace.Span, monotonic: Callable[[], float], offset: int) -> None:
        self._tracer, self._span, self._monotonic, self._offset = tracer, span, monotonic, offset
        self._context = trace.set_span_in_context(span)

    def passed(self, step: str, began: float, answer: str = "") -> None:
        """See ``ports.Way``."""
        attributes = {ANSWER: answer} if answer else None
        with suppress(Exception):
            span = self._tracer.start_span(step, self._context, start_time=self._at(began), attributes=attributes)
            span.end(self._at(self._monotonic()))

    def ended(self, outcome: str) -> None:
        """See ``ports.Way``."""
        with suppress(Exception):
            self._span.set_attribute(OUTCOME, outcome)
            self._span.end(self._at(self._monotonic()))

    def _at(self, monotonic: float) -> int:
        return self._offset + int(monotonic * 1e9)
