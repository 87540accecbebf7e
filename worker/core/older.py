"""What a ledger that was restored from an older copy needs, as pure functions; no I/O.

The channel still shows every secret that was delivered since the copy, because channels only add. What it cannot show
is a secret that was issued and lost, or voided, in place of a delivered one: these users are *in question*, and the
embedded ledger's mark (``adapters.ledgers.sqlite.mark``) names them outside the ledger, before the call that may void
their secret leaves.
"""

from __future__ import annotations

from typing import NamedTuple

from worker.core import history, rules
from worker.core.model import ENROLLED, UNFINISHED, Enrolment, Reason, Sealed, State

LATE_EFFECT = 60.0
"""Seconds for which a call of the worker that had a damaged row may still take effect: as long as a call may take, and
the row that would say so is lost."""


class Shown(NamedTuple):
    """The newest secret of a user that the channel shows; the fields are those of ``Sealed``."""

    generation: int
    attempt_id: str
    associated_at: str


def unsure_up_to(row: Enrolment) -> int | None:
    """A user is in question unless the channel shows a secret of a higher generation; ``None``: is not in question.

    Only who had a secret before can be left with one that is no longer valid. Under a claim to call that is valid until
    the call acts, so a secret of that claim's own generation settles it; after an outcome without a delivered secret
    only a later one does.
    """
    if row.sealed is None or row.state in ENROLLED:
        return None
    if row.state is State.SEALED:
        return row.sealed.generation - 1
    return row.generation - 1 if row.state is State.IN_PROGRESS else row.generation


def note(names: dict[str, int], row: Enrolment) -> bool | None:
    """Change the names outside the ledger as a row asks that was written to it.

    ``True``: the user is in question now, or further up; ``False``: not any more; ``None``: nothing changed.
    """
    known = names.get(row.username)
    if row.state in ENROLLED:
        # Where this very secret was doubted since, by a worker that was overtaken, that may be noted before this.
        if known is None or known >= row.generation:
            return None
        del names[row.username]
        return False
    unsure = None if row.state is State.SEALED else unsure_up_to(row)  # sealed: as before, until it is delivered
    if unsure is None or (known is not None and known >= unsure):
        return None
    names[row.username] = unsure
    return True


def recovered(
    username: str, row: Enrolment | None, shown: Shown | None, unsure: int | None, now: float
) -> Enrolment | None:
    """The row that the user of an older ledger needs instead of ``row``; ``None``: it stays as it is.

    ``unsure``: up to which generation the user is in question (see ``unsure_up_to``), from outside the ledger. Whoever
    is has a row afterwards that is not behind that: otherwise the ledger would still count as an older one.
    """
    newest = shown.generation if shown else 0
    if unsure is not None and newest <= unsure:
        if row is not None and row.state not in UNFINISHED | ENROLLED:
            # Has none by the ledger either, so a new request decides; but its secret must be known to be later.
            return row._replace(generation=unsure + 1) if unsure > row.generation else None
        base = row or _begun(username, now)
        base = base._replace(generation=max(base.generation, unsure + 1))
        return _told(base, rules.in_doubt(base, base.request_id, now, late_effect_for=0.0), now)
    if row is not None and row.reason is Reason.ACTIVATION_PENDING and (shown is None or not _is_behind(row, shown)):
        # the rows that were lost may tell of a verification
        return _told(row, rules.not_activated(row, Reason.VERIFY_UNKNOWN, now), now)
    if shown is None or not _is_behind(row, shown):
        return None
    base = row or _begun(username, now)
    sealed = Sealed(shown.generation, shown.attempt_id, shown.associated_at, b"", digest=_known_digest(row, shown))
    found = base._replace(generation=max(base.generation, shown.generation), sealed=sealed)
    return _told(base, rules.delivered(found, now), now)


def damaged(username: str, shown: Shown | None, unsure: int | None, now: float) -> Enrolment:
    """The row of a user whose row in the ledger is damaged: nobody can say which secret is theirs.

    Its generation is higher than any that the lost row can have had, as they follow the clock.
    """
    generation = max(int(now * 1000), (shown.generation if shown else 0) + 1, (unsure or 0) + 1)
    base = _begun(username, now)._replace(generation=generation)
    if shown is not None:
        base = base._replace(sealed=Sealed(shown.generation, shown.attempt_id, shown.associated_at, b""))
    return _told(base, rules.in_doubt(base, None, now, late_effect_for=LATE_EFFECT), now)


def gone(row: Enrolment, now: float) -> Enrolment:
    """The row of a user whose delivered record is gone from the channel: nobody has the secret any more."""
    return _told(row, rules.in_doubt(row, row.request_id, now, late_effect_for=0.0), now)


def _told(before: Enrolment, after: Enrolment, now: float) -> Enrolment:
    """The row with one event for all that a recovery did; nothing of it happened now."""
    told = rules.outcome(after.state, after.reason)
    return after._replace(events=history.and_then(before.events, now, history.RECOVERED, told))


def _is_behind(row: Enrolment | None, shown: Shown) -> bool:
    """Whether the channel shows a secret whose delivery the row does not know of."""
    if row is None or shown.generation > row.generation:
        return True
    return shown.generation == row.generation and row.state in UNFINISHED


def _known_digest(row: Enrolment | None, shown: Shown) -> str:
    """The digest of the secret that the channel shows, if the row knew it; the channel itself vouches for nothing."""
    if row is None or row.sealed is None:
        return ""
    is_same = (row.sealed.generation, row.sealed.attempt_id) == (shown.generation, shown.attempt_id)
    return row.sealed.digest if is_same else ""


def _begun(username: str, now: float) -> Enrolment:
    return Enrolment(username=username, state=State.IN_PROGRESS, since=now, generation=0)
