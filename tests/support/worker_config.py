"""A worker's configuration with everyday values, for tests that put a worker together without settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worker.core.config import WorkerConfig
from worker.core.record import RecordFormat
from worker.core.resilience.call_attempts import RetryPolicy

CALL_TIMEOUT = 10.0
SESSION_VALIDITY = 180.0

_USUAL = WorkerConfig(
    worker="me",
    retry=RetryPolicy(attempts=5, base=0.2, cap=5.0, total=60.0, call_timeout=CALL_TIMEOUT),
    record=RecordFormat("Example", session_validity=SESSION_VALIDITY),
    lease=60.0,
    clock_skew=2.0,
    min_validity=30.0,
    keep_sealed=False,
    ledger_patience=60.0,
    channel_patience=60.0,
    endpoint_patience=60.0,
    refusal_patience=45.0,
    rate=25.0,
    concurrency=10,
    ahead=4,
    poll=1.0,
    grace=10.0,
    watchdog=300.0,
    sweep=30.0,
    max_users=None,
    warn_of_sessions=False,
)


def worker_config(**changes: Any) -> WorkerConfig:
    """These values, with some changed."""
    return replace(_USUAL, **changes)
