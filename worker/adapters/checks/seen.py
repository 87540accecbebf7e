"""What ``check`` has learned about the queue and the ledger, for the checks that depend on the number of users."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seen:
    """Numbers from the queue and the ledger; ``None``: not known."""

    waiting: int | None = None
    """Messages that wait."""
    expired: int = 0
    """How many of them have an expired credential; only the embedded queue knows."""
    sessions: int | None = None
    """How many of them have a Session, not an access token."""
    users: int | None = None
    """Users in the ledger."""
    delivered: int | None = None
    """How many of them the ledger has as delivered."""
    tier: str | None = None
    """The pool's feature plan, which decides what a monthly active user costs: ``LITE``, ``ESSENTIALS``, ``PLUS``."""

    def __add__(self, other: Seen) -> Seen:
        """The sums for two queues; if ``sessions`` is unknown for one of them, it is unknown for both."""
        sessions = None if self.sessions is None or other.sessions is None else self.sessions + other.sessions
        waiting = (self.waiting or 0) + (other.waiting or 0)
        return Seen(waiting, self.expired + other.expired, sessions, self.users, self.delivered, self.tier)

    def __or__(self, other: Seen) -> Seen:
        """What is known from either; where both know a number, the one of ``other``."""
        return Seen(
            waiting=self.waiting if other.waiting is None else other.waiting,
            expired=self.expired or other.expired,
            sessions=self.sessions if other.sessions is None else other.sessions,
            users=self.users if other.users is None else other.users,
            delivered=self.delivered if other.delivered is None else other.delivered,
            tier=self.tier if other.tier is None else other.tier,
        )
