"""The figures of a rollout over time: a few numbers for each minute in which something happened, of each worker.

They are kept in the ledger (``ports.FigureStore``), so that a report is whole after restarts, and for all workers
together. They hold numbers and names of states, reasons and operations, and nothing of any user.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.core.histogram import CALL_SECONDS, USER_SECONDS, Histogram

SECONDS = 60
"""Seconds of a minute."""
ENROLS = "AssociateSoftwareToken"
"""The operation whose latency is kept: the call that enrols."""


@dataclass(frozen=True)
class Minute:
    """What happened in one minute."""

    minute: int
    """Whole minutes since the epoch, UTC."""
    settled: Counter[str] = field(default_factory=Counter)
    """Users who got an outcome, by ``state`` or ``state:reason``."""
    attempts: Counter[str] = field(default_factory=Counter)
    """Answers to wire attempts, by ``operation:answer`` (``answers``)."""
    latency: Histogram = field(default_factory=lambda: Histogram(CALL_SECONDS))
    """Seconds that answers to the call that enrols took."""
    lease_to_outcome: Histogram = field(default_factory=lambda: Histogram(USER_SECONDS))
    """Seconds from the moment a worker began with a user to the outcome."""
    longest: float = 0.0
    """The longest of these."""
    allowed: float = 0.0
    """Requests/s that the shared pace allowed all workers together, at the end."""
    configured: float = 0.0
    """Requests/s that it is never above."""

    @property
    def at(self) -> float:
        """When the minute began (UTC seconds)."""
        return float(self.minute * SECONDS)

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened."""
        return not (self.settled or self.attempts)

    def dump(self) -> str:
        """As text, compact; without which minute it is."""
        values: dict[str, Any] = {
            "s": self.settled,
            "a": self.attempts,
            "c": _dumped(self.latency),
            "u": _dumped(self.lease_to_outcome),
            "m": _rounded(self.longest),
            "r": [_rounded(self.allowed), _rounded(self.configured)],
        }
        return json.dumps(values, separators=(",", ":"))


def load(minute: int, text: str) -> Minute | None:
    """The minute in that text; ``None`` where it cannot be read: it is a later version's, or damaged."""
    try:
        values = json.loads(text)
        allowed, configured = values["r"]
        return Minute(
            minute,
            Counter({str(name): int(number) for name, number in values["s"].items()}),
            Counter({str(name): int(number) for name, number in values["a"].items()}),
            _loaded(values["c"], CALL_SECONDS),
            _loaded(values["u"], USER_SECONDS),
            float(values["m"]),
            float(allowed),
            float(configured),
        )
    except (ArithmeticError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def merged(minutes: Iterable[Minute]) -> Minute:
    """All of them as one: of several workers in one minute, or of several minutes, which then is the first of them.

    ``allowed`` is the lowest of theirs, since all workers share one pace and some learn later that it was cut. There
    must be one at least.
    """
    every = list(minutes)
    return Minute(
        min(each.minute for each in every),
        sum((each.settled for each in every), Counter()),
        sum((each.attempts for each in every), Counter()),
        sum((each.latency for each in every), Histogram(CALL_SECONDS)),
        sum((each.lease_to_outcome for each in every), Histogram(USER_SECONDS)),
        max(each.longest for each in every),
        min(each.allowed for each in every),
        max(each.configured for each in every),
    )


def _rounded(value: float) -> float:
    """With four digits, without a point where there is nothing behind it."""
    short = float(f"{value:.4g}")
    return int(short) if short.is_integer() else short


def _dumped(histogram: Histogram) -> list[Any]:
    """The sum, and the count of each bucket that has one, by its bound; a later version may choose other bounds."""
    counts = zip([*map(str, histogram.bounds), ""], histogram.counts, strict=True)
    return [_rounded(histogram.sum), {bound: count for bound, count in counts if count}]


def _loaded(values: Sequence[Any], bounds: Sequence[float]) -> Histogram:
    histogram, (total, counts) = Histogram(bounds), values
    _fill(histogram, counts)
    histogram.sum = float(total)
    return histogram


def _fill(histogram: Histogram, counts: Mapping[str, int]) -> None:
    """Count whatever has another bound in the bucket into which that bound falls."""
    for bound, count in counts.items():
        size = float(bound) if bound else math.inf
        place = next((number for number, mine in enumerate(histogram.bounds) if size <= mine), len(histogram.bounds))
        histogram.counts[place] += int(count)
