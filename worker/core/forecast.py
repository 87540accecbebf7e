"""How many of the waiting requests must be lost, whatever the order: the arithmetic of an overload."""

from __future__ import annotations

from collections.abc import Iterable

CURE = (
    "put access tokens on the queue instead of Sessions, or let users sign in later; feed no faster than the workers "
    "can use (worker.feed, or run --input - with a pipe); or let Sessions live longer (AuthSessionValidity of the app "
    "client, up to 15 minutes)"
)
"""What warnings of an overload advise."""


def must_be_lost(buckets: Iterable[tuple[float, int]], now: float, rate: float) -> int:
    """How many requests expire before their turn at ``rate`` calls/s, even in the best order.

    ``buckets``: pairs of a deadline (UTC seconds) and a number of requests, earliest first. The best order is the
    earliest deadline first, leaving out whoever cannot be reached: then as many are called until each deadline as the
    rate allows, or as there are.
    """
    called, lost = 0.0, 0.0
    for deadline, number in buckets:
        most = max(called, rate * max(0.0, deadline - now))
        lost += max(0.0, called + number - most)
        called = min(called + number, most)
    return round(lost)
