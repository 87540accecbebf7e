"""What the pictures show: people, moments and a secret that belong to nobody."""

from __future__ import annotations

from typing import Any

from tests.support import report_samples
from worker.core.model import Counts, State
from worker.core.ports import Workers
from worker.report.facts import Facts
from worker.telemetry.snapshot import Pace, Snapshot

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
"""The one of RFC 6238, appendix B: 12345678901234567890."""

RECORD: dict[str, Any] = {
    "username": "0a1b2c3d-sample",
    "generation": 1,
    "attempt_id": "00000000-0000-4000-8000-000000000000",
    "secret_code": SECRET,
    "otpauth_uri": f"otpauth://totp/Example:ada%40example.org?secret={SECRET}&issuer=Example"
    "&algorithm=SHA1&digits=6&period=30",
    "associated_at": "2026-11-26T09:30:00Z",
    "request_id": "sample",
    "attributes": {"name": "Ada Sample", "email": "ada@example.org", "address": "12 Sample Street\n12345 Sampletown"},
}
"""A delivered record."""


RUN = Snapshot(
    now=1_795_689_000.0,  # 2026-11-26 10:30 UTC
    counts=Counts(
        {State.DELIVERED: 118_402, State.NEEDS_SESSION: 211, State.FAILED: 3, State.IN_PROGRESS: 40},
        {"session_expired": 204, "reply_lost": 7, "refused": 3},
        codes={"refused": {"ForbiddenException": 3}},
    ),
    done=118_616,
    total=400_000,
    pace=Pace(20.0, 20.0, 20.0, 19.9),
    seconds_left=14_140.0,
    elapsed=5_960.0,
    workers=Workers(2, are_exact=True),
)
"""A rollout that is under way, for the panel of ``run``."""


def page() -> Facts:
    """A rollout that is under way, for the report page."""
    return report_samples.fourteen_hours()
