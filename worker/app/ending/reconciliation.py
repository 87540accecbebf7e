"""What stays of a rollout that is taken away: a file with the state of every user, without any secret.

One JSON object: what ``run --report`` writes of the states, the rollout, and every user on a line of their own, so that
neither reading nor writing it needs much memory. It is written whole or not at all, with mode 0600.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from worker.adapters.private_files import look_private, writing_private
from worker.app.stores import StoredLedger
from worker.core.errors import DependencyUnavailable, UsageError
from worker.core.model import Enrolment
from worker.core.ports import Backlog
from worker.core.record import rfc3339
from worker.core.text import escape
from worker.telemetry import report

WHAT = "the reconciliation"
"""What errors call the file."""
KIND = "mfa-worker decommission"
"""Stands at the top of each, and tells it from other files."""


def first_line(stamp: dict[str, str]) -> bytes:
    """The beginning of the file, which names the rollout."""
    return f'{{"reconciliation": {json.dumps(KIND)}, "rollout": {json.dumps(stamp)},\n'.encode()


def refuse_other_files(path: Path, stamp: dict[str, str]) -> None:
    """Raise ``UsageError`` where it cannot be written to ``path``, or would take the place of anything else.

    An earlier one of the same rollout may be replaced.
    """
    cure = "name another file: mfa-worker decommission --report FILE"
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {escape(str(path.parent))} for {WHAT}", cure)
    try:
        found = look_private(path, what=WHAT, forbidden=0)
        if found is None or not found.st_size:
            return
        with path.open("rb") as file:
            is_ours = file.readline(10_000) == first_line(stamp)
    except OSError as error:
        raise UsageError(f"{WHAT} cannot be written to {escape(str(path))}: {error.strerror}", cure) from None
    if not is_ours:
        raise UsageError(f"{escape(str(path))} is there, and is no reconciliation of this rollout", cure)


async def write(path: Path, ledger: StoredLedger, stamp: dict[str, str], told: dict[str, Any]) -> int:
    """Write it; return the number of users. ``told``: what else stands in it. Raises ``DependencyUnavailable``."""
    counts = await ledger.recount()
    nothing = Backlog(0, 0)
    head: dict[str, Any] = {
        "written_at": rfc3339(time.time()),
        **told,
        **report.status(counts, nothing),
        "verdict": report.verdict(counts, nothing),
    }
    number = 0
    try:
        with writing_private(path, what=WHAT) as file:
            file.write(first_line(stamp))
            file.writelines(f"{json.dumps(key)}: {json.dumps(value)},\n".encode() for key, value in head.items())
            file.write(b'"users": [')
            async for row in ledger.every_row():
                file.write(f"{',' if number else ''}\n{json.dumps(line(row))}".encode())
                number += 1
            file.write(b"\n]}\n")
    except OSError as error:
        raise DependencyUnavailable(
            f"{WHAT} cannot be written to {escape(str(path))}: {error.strerror}",
            "free space, or name a file elsewhere (--report FILE); nothing was taken away",
        ) from None
    return number


def line(row: Enrolment) -> dict[str, Any]:
    """What is said of one user: nothing that is sealed, and nothing that opens anything."""
    return {
        "username": row.username,
        "state": row.state.value,
        "reason": row.reason.value if row.reason else None,
        "detail": row.detail,
        "since": rfc3339(row.since),
        "generation": row.generation,
        "attempt_id": row.sealed.attempt_id if row.sealed else None,
    }
