"""How many users a rate suffices for, and how many requests must be lost, whatever the order: some arithmetic."""

from __future__ import annotations

from collections.abc import Iterable

CURE = (
    "put access tokens or tickets on the queue instead of Sessions, or let users sign in later; feed no faster than "
    "the workers can use (worker.feed, or run --input - with a pipe); or let Sessions live longer "
    "(AuthSessionValidity of the app client, up to 15 minutes)"
)
"""What warnings of an overload advise."""


def a_user_costs(rate: float, calls: int) -> str:
    """What follows in words from how many calls a user costs, at ``rate`` calls/s; empty where it is a single one."""
    if calls == 1:
        return ""
    users = rate / calls
    return f", {calls} calls a user: {round(users, 1 if users >= 10 else 2):g} users/s"


def must_be_lost(buckets: Iterable[tuple[float, int]], now: float, rate: float) -> int:
    """How many requests expire before their turn at ``rate`` users/s, even in the best order.

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
