"""A user's row in the embedded ledger: as columns of SQLite, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from worker.core.model import CredentialKind, Enrolment, Reason, Sealed, State

COLUMNS = (
    "username",
    "version",
    "state",
    "reason",
    "since",
    "generation",
    "worker",
    "lease_until",
    "doubt",
    "crashes",
    "before",
    "request_id",
    "kind",
    "settled",
    "sealed_generation",
    "attempt_id",
    "associated_at",
    "session_expires_at",
    "blob",
    "replaces",
)


def values(row: Enrolment, replaces: str | None) -> tuple[Any, ...]:
    """The values of ``COLUMNS``."""
    sealed = row.sealed
    return (
        row.username,
        row.version,
        row.state,
        row.reason,
        row.since,
        row.generation,
        row.worker,
        row.lease_until,
        row.doubt,
        row.crashes,
        row.before,
        row.request_id,
        row.kind,
        json.dumps(row.settled) if row.settled else "[]",
        *(
            (sealed.generation, sealed.attempt_id, sealed.associated_at, sealed.session_expires_at, sealed.blob)
            if sealed
            else (None, None, None, None, None)
        ),
        replaces,
    )


def enrolment(row: Sequence[Any]) -> Enrolment:
    """The row that these values, without the last one, are of."""
    sealed = Sealed(row[14], row[15], row[16], row[18], row[17]) if row[15] is not None else None
    return Enrolment(
        username=row[0],
        version=row[1],
        state=State(row[2]),
        reason=Reason(row[3]) if row[3] else None,
        since=row[4],
        generation=row[5],
        worker=row[6],
        lease_until=row[7],
        doubt=bool(row[8]),
        crashes=row[9],
        before=State(row[10]) if row[10] else None,
        request_id=row[11],
        kind=CredentialKind(row[12]) if row[12] else None,
        settled=tuple(json.loads(row[13])),
        sealed=sealed,
    )
