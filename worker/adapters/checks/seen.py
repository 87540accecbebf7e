"""What ``check`` gets to know of queue and ledger, for whatever follows from how many users there are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of queue and ledger; ``None``: not known."""

    waiting: int | None = None
    """Messages that wait."""
    expired: int = 0
    """Of them with a credential that has died; only an embedded queue knows."""
    sessions: int | None = None
    """Of them with a Session, not an access token."""
    users: int | None = None
    """Users in the ledger."""

    def __add__(self, other: Seen) -> Seen:
        """Both queues together; what nobody knows of one is not known of both."""
        sessions = None if self.sessions is None or other.sessions is None else self.sessions + other.sessions
        waiting = (self.waiting or 0) + (other.waiting or 0)
        return Seen(waiting, self.expired + other.expired, sessions, self.users)

    def __or__(self, other: Seen) -> Seen:
        """What is known of either, the other one first."""
        return Seen(
            waiting=self.waiting if other.waiting is None else other.waiting,
            expired=self.expired or other.expired,
            sessions=self.sessions if other.sessions is None else other.sessions,
            users=self.users if other.users is None else other.users,
        )
