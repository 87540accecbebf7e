"""The attempts of one user's call to Cognito: how many, for how long, and the pauses between them.

Pauses are random up to a limit that doubles ("full jitter"), so that users who failed together do not come back
together. Being throttled, and a request that never left, count as no attempt: they wait, but use nothing up.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from worker.core.model import Trouble, TryAgain

Decided = TypeVar("Decided")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and for how long the call for one user is tried. Durations in seconds."""

    attempts: int
    """Attempts that count."""
    base: float
    """Upper limit of the first pause; it doubles with each attempt."""
    cap: float
    """Upper limit of every pause."""
    total: float
    """Counted attempts and the pauses after them, the next pause included; nothing more is tried beyond this."""
    call_timeout: float
    """One attempt; after one without an answer the next waits for as long again: the first may still take effect."""


class _Budget:
    """What the attempts of one call have used up.

    After an attempt tenacity asks for the ``pause`` first and then whether all is ``used_up``. So ``pause`` does not
    count that attempt yet, and ``used_up`` knows the pause to come.
    """

    def __init__(self, policy: RetryPolicy, spent_calling: Callable[[], float]) -> None:
        self._policy = policy
        self._spent_calling = spent_calling
        self._counted = 0
        self._paused = 0.0

    def used_up(self, state: RetryCallState) -> bool:
        self._counted += _again(state).counts
        spent = self._spent_calling() + self._paused
        return self._counted >= self._policy.attempts or spent >= self._policy.total

    def pause(self, state: RetryCallState) -> float:
        policy, again = self._policy, _again(state)
        if not again.counts:
            return random.uniform(0, policy.base)  # noqa: S311 - jitter, not a key
        pause = random.uniform(0, min(policy.cap, policy.base * 2**self._counted))  # noqa: S311
        if again.trouble is Trouble.NO_ANSWER:
            # What was sent may still take effect; until it surely cannot, nothing else is sent.
            pause = max(pause, policy.call_timeout)
        self._paused += pause
        return pause


def _again(state: RetryCallState) -> TryAgain:
    assert state.outcome is not None
    result = state.outcome.result()
    assert isinstance(result, TryAgain)
    return result


async def until_decided(
    attempt: Callable[[], Awaitable[Decided | TryAgain]],
    policy: RetryPolicy,
    *,
    spent_calling: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> Decided | TryAgain:
    """Repeat ``attempt`` until it returns anything but ``TryAgain``, and return that.

    Where the policy's bounds are reached first, return the last ``TryAgain``.

    ``spent_calling`` tells the seconds that the counted attempts took on the wire so far.
    """
    budget = _Budget(policy, spent_calling)
    retrying = AsyncRetrying(
        retry=retry_if_result(lambda result: isinstance(result, TryAgain)),
        stop=budget.used_up,
        wait=budget.pause,
        sleep=sleep,
        retry_error_callback=_again,
    )
    return await retrying(attempt)
