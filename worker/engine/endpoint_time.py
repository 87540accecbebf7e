"""Learns what time it is at Cognito's endpoint, before anything is judged by a deadline.

A machine whose clock is wrong would take credentials for dead that live, and could not take that back. So a command
asks first: once where the machine's clock is right, a few times where it is not (``EndpointClock``). An endpoint that
names no time is said once, and then the machine's own clock counts. One that does not answer is asked again, and until
it answers nothing is judged.
"""

from __future__ import annotations

import asyncio

import structlog

from worker.core.clock import AGREEING_ANSWERS, EndpointClock
from worker.core.errors import EndpointUnavailable, WorkerError
from worker.core.ports import TimeAnswer, TimeSource
from worker.core.resilience.backoff import Backoff, Outage
from worker.core.stats import RunStats
from worker.engine.shutdown import Shutdown

log = structlog.get_logger()

AGAIN = Backoff(first=0.5, longest=10.0)
"""How an endpoint that does not answer is asked again: as often as the circuit breaker lets a call probe it."""
NO_TIME_CURE = "keep this machine's clock right (NTP): every deadline is judged by it"
"""What the warning ``endpoint_told_no_time`` advises."""


async def ask(source: TimeSource, clock: EndpointClock) -> TimeAnswer:
    """Ask for the time, again while the answers contradict the clock and do not yet agree with each other.

    If they never do, no time was told: the machine's own clock counts.
    """
    for _ in range(2 * AGREEING_ANSWERS):
        answer = await source.ask_time()
        if not answer.told or not clock.is_doubted:
            return answer
    return TimeAnswer(told=False)


class EndpointTime:
    """Asks for the time at the start of a run, and says when it is ``known``.

    ``patience``: seconds for which an endpoint that does not answer is asked before the run ends.
    """

    def __init__(
        self, source: TimeSource, clock: EndpointClock, stats: RunStats, shutdown: Shutdown, patience: float
    ) -> None:
        self.known = False
        """Whether deadlines may be judged: by the endpoint's time, or by our own where the endpoint names none."""
        self.has_asked = False
        """Whether the first question is answered, or failed."""
        self._source = source
        self._clock = clock
        self._stats = stats
        self._shutdown = shutdown
        self._outage = Outage(patience, clock.monotonic)

    async def learn(self) -> None:
        """Ask until the time is known. Requests ``shutdown`` where our clock is too wrong, or patience is over."""
        try:
            while self._shutdown.reason is None and not self.known:
                answer = await ask(self._source, self._clock)
                self._learnt(answer)
                self.has_asked = True
                self._shutdown.wake.set()
                if not self.known and self._shutdown.reason is None:
                    await asyncio.sleep(AGAIN.pause(max(1, self._outage.failures)))
        except Exception as bug:
            log.exception("bug")
            self._stats.bugs += 1
            self._shutdown.request(WorkerError(f"asking for the time met a bug: {type(bug).__name__}"))

    def _learnt(self, answer: TimeAnswer) -> None:
        if answer.trouble:
            self._unanswered(answer.trouble)
            return
        if self._outage.recovered():
            self._stats.waiting_for = ""
        if not answer.told:
            log.warning("endpoint_told_no_time", cause="its answers are not dated", cure=NO_TIME_CURE)
        if wrong := self._clock.wrong():
            self._shutdown.request(wrong)
        else:
            self.known = True

    def _unanswered(self, trouble: str) -> None:
        self._stats.waiting_for = f"Cognito's endpoint to answer ({trouble})"
        unavailable = EndpointUnavailable(
            f"Cognito's endpoint does not answer: {trouble}",
            "check the network, proxy, AWS_CA_BUNDLE and cognito.endpoint_url, then run again: nothing is lost",
        )
        self._outage.failed(unavailable)
        if self._outage.lasts_too_long():
            self._shutdown.request(unavailable)
