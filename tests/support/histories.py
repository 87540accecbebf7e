"""What a user's history must tell, whatever happened: for the rules alone, and for whole workers."""

from __future__ import annotations

from worker.core.history import LONGEST_DETAIL, MOST
from worker.core.model import ENROLLED, Enrolment, Event, State
from worker.core.rules import outcome

UNDER_A_CLAIM = frozenset({"claimed", "answered", "signed in"})
"""The last of them stands in a row of a user who is called for, or activated."""
WITHOUT_A_CLAIM = {
    State.DELIVERED: {"delivered", "given back", "redelivered"},
    State.ACTIVE: {"active", "given back", "redelivered"},
}
"""The last event of a finished user, where it is none that names the outcome."""


def wrong_with(row: Enrolment) -> str | None:
    """What is wrong with the history of a row that stands in the ledger; ``None``: nothing."""
    events = row.events
    if not events:
        return "it is empty"
    if len(events) > MOST:
        return f"it has {len(events)} events"
    if [event.at for event in events] != sorted(event.at for event in events):
        return "its times fall back"
    if not _may_end(row, events[-1]):
        return f"it ends with {events[-1].what} {events[-1].detail!r}, and the user is {outcome(row.state, row.reason)}"
    secret = row.sealed
    if row.state in ENROLLED and secret is not None and not _tells_of(events, str(secret.generation)):
        return f"it does not tell that {secret.generation} was delivered"
    return None


def forgotten(old: Enrolment, new: Enrolment) -> Event | None:
    """An event of the old row that the new one does not tell, although it has room."""
    if len(new.events) == MOST:
        return None
    told = {(event.what, event.detail): event for event in new.events}
    for event in old.events:
        later = told.get((event.what, event.detail))
        if later is None or later.at < event.at:
            return event
    return None


def _may_end(row: Enrolment, last: Event) -> bool:
    if row.is_unfinished and row.worker is not None:
        told = {State.SEALED: {"sealed", "claimed", "not delivered"}, State.DELIVERED: {"delivered", "verified"}}
        return last.what in told.get(row.state, set()) | (UNDER_A_CLAIM if row.state is not State.SEALED else set())
    if row.is_unfinished:
        return last.what == "given back"
    if last.what in ("concluded", "put in doubt", "recovered"):
        return last.detail == outcome(row.state, row.reason, row.detail)[:LONGEST_DETAIL]
    if last.what == "dismissed":
        return row.state is State.SKIPPED and row.detail == last.detail
    if last.what in ("left as before", "identity given up"):
        return row.state in ENROLLED | {State.SKIPPED}
    return last.what in WITHOUT_A_CLAIM.get(row.state, ()) or (last.what == "given back" and row.worker is None)


def _tells_of(events: tuple[Event, ...], generation: str) -> bool:
    """Whether these tell that the secret was recorded and delivered, or may have forgotten it by now."""
    if len(events) == MOST or any(event.what == "recovered" for event in events):
        return True
    whats = [event.what for event in events]
    secrets = [number for number, event in enumerate(events) if (event.what, event.detail) == ("sealed", generation)]
    return bool(secrets) and "delivered" in whats[secrets[-1] :]
