"""Trying again what failed: with growing pauses, for a limited time or number of attempts.

Three parts, each usable by itself:

- ``Backoff`` says how long to wait after so many failures in a row.
- ``Outage`` remembers since when something has been failing, and whether that has lasted longer than anybody wants to
  wait. Loops that come back to the same work anyway (the feed, the engine's loop, long polls) need only this.
- ``retry`` calls something until it succeeds, using both; ``retry_in_thread`` is the same for code without an event
  loop. The loop itself is tenacity's.

Example: ask the ledger again for a minute, after 0.1, 0.2, 0.4 … 2 s ::

    row = await retry(lambda: ledger.read(username), on=LedgerUnavailable, backoff=Backoff(0.1, 2.0), patience=60.0)
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception

from worker.core.errors import ExitCode, WorkerError

Result = TypeVar("Result")
Expected = type[Exception] | tuple[type[Exception], ...] | Callable[[BaseException], bool]
"""Which failures are worth another attempt: exception types, or a function that says so of one exception."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double: ``first`` and ``longest`` in seconds.

    ``jitter`` is the share of each pause that is random, so that many who failed together do not come back together:
    0 is none, 0.5 gives half to all of the pause, 1 anything up to all of it.
    """

    first: float
    longest: float
    jitter: float = 0.0

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (from 1)."""
        doublings = min(failures - 1, 60)  # beyond that a float has long outgrown every ``longest``
        pause = min(self.longest, self.first * 2.0**doublings)
        return pause * random.uniform(1.0 - self.jitter, 1.0)  # noqa: S311 - jitter, not a key


class Outage:
    """For how long something has been failing without a success in between, and when that has lasted too long.

    ``patience``: seconds from the first failure. ``monotonic``: a clock in seconds. With ``stop_for_person`` a failure
    that a person has to mend (exit code 3, such as missing permissions) is not waited for at all.
    """

    def __init__(
        self,
        patience: float,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        stop_for_person: bool = True,
    ) -> None:
        self.failures = 0
        """How often it failed in a row; 0 while it works."""
        self._patience = patience
        self._monotonic = monotonic
        self._stop_for_person = stop_for_person
        self._since = 0.0
        self._error: BaseException | None = None

    def failed(self, error: BaseException) -> None:
        """It failed once more."""
        if not self.failures:
            self._since = self._monotonic()
        self.failures += 1
        self._error = error

    def recovered(self) -> bool:
        """It works. Returns whether it did not before."""
        was_failing = self.failures > 0
        self.failures, self._error = 0, None
        return was_failing

    def lasts_too_long(self) -> bool:
        """Whether waiting any longer makes no sense."""
        if self._error is None:
            return False
        needs_person = isinstance(self._error, WorkerError) and self._error.exit_code is ExitCode.PERSON_MUST_ACT
        return (self._stop_for_person and needs_person) or self._monotonic() - self._since >= self._patience

    def check(self) -> None:
        """Raise the last failure if the outage has lasted too long."""
        if self._error is not None and self.lasts_too_long():
            raise self._error


async def retry(
    call: Callable[[], Awaitable[Result]],
    *,
    on: Expected,
    backoff: Backoff,
    patience: float = math.inf,
    attempts: float = math.inf,
    stop_for_person: bool = True,
    monotonic: Callable[[], float] = time.monotonic,
    before_pause: Callable[[BaseException], object] = lambda _: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Result:
    """What ``call`` returns, once it does; it is called again after each failure that ``on`` expects.

    Raises the last failure when ``patience`` seconds have passed since the first one, after so many ``attempts``, and
    with ``stop_for_person`` where a person has to act (see ``Outage``). Whatever is not expected is raised at once.
    ``before_pause`` gets the failure before each pause; what it, or ``sleep``, raises ends the retries.
    """
    try:  # success at the first attempt, the common case, skips tenacity's loop, which costs 30 µs a call (measured)
        return await call()
    except Exception as error:
        if not _is_expected(on, error):
            raise
        failure: list[Exception] = [error]

    async def again() -> Result:
        if failure:
            raise failure.pop()
        return await call()

    outage = Outage(patience, monotonic, stop_for_person=stop_for_person)
    return await AsyncRetrying(**_policy(on, backoff, attempts, outage, before_pause), sleep=sleep)(again)


def retry_in_thread(
    call: Callable[[], Result],
    *,
    on: Expected,
    backoff: Backoff,
    patience: float = math.inf,
    attempts: float = math.inf,
) -> Result:
    """The same as ``retry`` for a thread that may block: the pauses stop the thread."""
    try:
        return call()
    except Exception as error:
        if not _is_expected(on, error):
            raise
        failure: list[Exception] = [error]

    def again() -> Result:
        if failure:
            raise failure.pop()
        return call()

    return Retrying(**_policy(on, backoff, attempts, Outage(patience), lambda _: None))(again)


def _policy(
    on: Expected,
    backoff: Backoff,
    attempts: float,
    outage: Outage,
    before_pause: Callable[[BaseException], object],
) -> dict[str, Any]:
    """The arguments of tenacity's loop."""

    def stop(state: RetryCallState) -> bool:
        outage.failed(_failure(state))
        return outage.lasts_too_long() or state.attempt_number >= attempts

    return {
        "retry": retry_if_exception(lambda error: _is_expected(on, error)),
        "stop": stop,
        "wait": lambda state: backoff.pause(state.attempt_number),
        "before_sleep": lambda state: before_pause(_failure(state)),
        "reraise": True,
    }


def _failure(state: RetryCallState) -> BaseException:
    assert state.outcome is not None
    error = state.outcome.exception()
    assert error is not None
    return error


def _is_expected(on: Expected, error: BaseException) -> bool:
    if isinstance(on, type | tuple):
        return isinstance(error, on)
    return on(error)
