"""How long things took, counted in a few buckets: what is kept does not grow with how often something is observed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, in seconds, for requests to Cognito: an answer within the Region takes 20 to 200 ms, so they are
closest there; 10 s is the default of ``cognito.call_timeout``, and what is beyond it got no answer."""
USER_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)
"""Upper bounds, in seconds, for one user from lease to outcome: below a second if nothing stands in the way; 60 s is
how long whoever is refused alone is tried, 180 s how long a Session lives by default, 600 s how long an absent channel
is waited for."""


class Histogram:
    """Numbers of observations by size. ``bounds``: the upper bounds of the buckets, rising, each one included.

    Beyond the last bound is one bucket more.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float], counts: Sequence[int] = (), total: float = 0.0) -> None:
        self.bounds = bounds
        self.counts = list(counts) or [0] * (len(bounds) + 1)
        """How many observations are in each bucket; one more than there are bounds."""
        self.sum = total
        """The sum of all observations."""

    def observe(self, value: float) -> None:
        """Count one observation; less than nothing counts as nothing."""
        value = max(0.0, value)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def total(self) -> int:
        """How many observations there are."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The mean of all observations; ``None`` without any."""
        total = self.total
        return self.sum / total if total else None

    def quantile(self, share: float) -> float | None:
        """About the value below which that share (0 to 1) of the observations lies; ``None`` without any.

        Within a bucket they are taken to lie evenly. What is beyond the last bound counts as that bound.
        """
        left, below = share * self.total, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and left <= count:
                return below + (bound - below) * left / count
            left, below = left - count, bound
        return below if self.total else None

    def copy(self) -> Histogram:
        """One of its own, with the same numbers."""
        return Histogram(self.bounds, self.counts, self.sum)

    def __add__(self, other: Histogram) -> Histogram:
        """Both together; they must have the same bounds."""
        counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        return Histogram(self.bounds, counts, self.sum + other.sum)

    def __sub__(self, earlier: Histogram) -> Histogram:
        """What was observed since ``earlier``, a copy of this one."""
        counts = [mine - its for mine, its in zip(self.counts, earlier.counts, strict=True)]
        return Histogram(self.bounds, counts, max(0.0, self.sum - earlier.sum))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and (self.bounds, self.counts, self.sum) == (
            other.bounds,
            other.counts,
            other.sum,
        )

    __hash__ = None  # type: ignore[assignment] # it changes

    def __repr__(self) -> str:
        return f"Histogram({self.counts}, sum={self.sum:g})"
