"""What a user's row keeps once the rollout is over: the state and all that explains it, and no sealed secret.

Nothing is taken from a row that somebody still has to finish: what is sealed in it is the outbox, or what an activation
that is under way needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from worker.core import history
from worker.core.model import CredentialKind, Enrolment, State
from worker.core.text import Named


@dataclass(slots=True)
class Holds:
    """What the rows hold that is sealed, counted by users."""

    sealed: int = 0
    """Records of users who are done, which are kept after their delivery (``ledger.keep_sealed``)."""
    activations: int = 0
    """What an activation needs of users who are ``delivered`` with a reason, so that it can go on with a new token."""
    unfinished: Named = field(default_factory=Named)
    """Users whom somebody still has to finish."""
    outbox: int = 0
    """Of those, how many have a secret that is not delivered yet."""
    delivered: int = 0
    """Users who have a secret of which this ledger does not know that it works: ``delivered``, and not ``active``."""

    def add(self, row: Enrolment) -> None:
        """Count this row."""
        has_record = row.sealed is not None and bool(row.sealed.blob)
        self.delivered += row.state is State.DELIVERED
        if row.is_unfinished:
            self.unfinished.add(f"{row.username!r} ({row.reason or row.state})")
            self.outbox += has_record
            return
        self.sealed += has_record
        self.activations += row.activation is not None and bool(row.activation.blob)


def purged(row: Enrolment, now: float, *, activations: bool) -> Enrolment | None:
    """The row without what is sealed in it; ``None`` where nothing is to be taken from it.

    ``activations``: also what the activation of a user needs who is ``delivered`` with a reason. A new credential then
    brings a new secret. Whether an earlier secret may be the user's active factor stays known.
    """
    if row.is_unfinished:
        return None
    new = row
    if row.sealed is not None and row.sealed.blob:
        new = new._replace(sealed=row.sealed._replace(blob=b""))
    if activations and row.activation is not None and row.activation.blob:
        # As where a Session did not get through (``rules.not_activated``): of a token, the blob would be asked for.
        kept = row.activation._replace(blob=b"", kind=CredentialKind.SESSION) if row.activation.replaces else None
        new = new._replace(activation=kept)
    return None if new is row else new._replace(events=history.and_then(row.events, now, history.PURGED))
