"""The fake Cognito's quota, and when requests arrived, to see whether a client kept within the quota and used it."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import islice

ARRIVALS_KEPT = 8_000_000
"""Arrivals that are remembered one by one, 9 bytes each; when there are more, the older half is forgotten. Enough for a
rehearsal of 25 requests/s that takes three days, in 72 MB."""


class TokenBucket:
    """Admits `rate` requests/s on average (None: all of them) and at most `burst` at once; starts full."""

    def __init__(self, rate: float | None, burst: float | None, now: float) -> None:
        self.rate = rate
        self._burst = self._tokens = _depth(rate, burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Return whether a request at that time (monotonic seconds) is within the quota."""
        if self.rate is None:
            return True
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True

    def change(self, rate: float | None, burst: float | None, now: float) -> None:
        """Change the rate. What was saved up until now is kept, as far as the new burst allows."""
        saved = None if self.rate is None else self._tokens + (now - self._at) * self.rate
        self.rate, self._burst, self._at = rate, _depth(rate, burst), now
        self._tokens = self._burst if saved is None else min(saved, self._burst)


def _depth(rate: float | None, burst: float | None) -> float:
    return max(1.0, burst if burst is not None else rate or 1.0)


class Traffic:
    """When requests arrived (monotonic seconds, never falling), and which were admitted."""

    def __init__(self) -> None:
        self._times = array("d")
        self._admitted = bytearray()
        self._window_start = 0
        self._largest = 0

    def arrive(self, now: float, *, admitted: bool) -> None:
        """Remember one request."""
        times = self._times
        times.append(now)
        self._admitted.append(admitted)
        start = self._window_start
        while times[start] <= now - 1.0:
            start += 1
        self._window_start = start
        self._largest = max(self._largest, len(times) - start)
        if len(times) > ARRIVALS_KEPT:
            half = min(ARRIVALS_KEPT // 2, start)
            del times[:half], self._admitted[:half]
            self._window_start -= half

    @property
    def first(self) -> float | None:
        """The first arrival."""
        return self._times[0] if self._times else None

    @property
    def last(self) -> float | None:
        """The last arrival."""
        return self._times[-1] if self._times else None

    def count(self, since: float | None = None, until: float | None = None) -> tuple[int, int]:
        """Return how many arrived, and how many of them were admitted, from `since` to before `until`."""
        start, end = self._slice(since, until)
        return end - start, self._admitted.count(1, start, end)

    def largest_window(self, since: float | None = None, until: float | None = None) -> int:
        """Return the most arrivals within any one second."""
        if since is None and until is None:
            return self._largest
        start, end = self._slice(since, until)
        largest, oldest = 0, start
        for index, now in enumerate(islice(self._times, start, end), start):
            while self._times[oldest] <= now - 1.0:
                oldest += 1
            largest = max(largest, index - oldest + 1)
        return largest

    def utilisation(self, rate: float | None, since: float | None = None, until: float | None = None) -> float | None:
        """Return the part of the quota that was used: admitted requests divided by what `rate` allowed meanwhile.

        The time is from the first arrival (not counted itself) to the last one, or from `since` to `until` where they
        are given. None if there is no quota or no time between them.
        """
        if rate is None or not self._times:
            return None
        span = (self._times[-1] if until is None else until) - (self._times[0] if since is None else since)
        admitted = self.count(since, until)[1] - (since is None)
        return admitted / (rate * span) if span > 0 else None

    def _slice(self, since: float | None, until: float | None) -> tuple[int, int]:
        start = 0 if since is None else bisect_left(self._times, since)
        return start, max(start, len(self._times) if until is None else bisect_left(self._times, until))
