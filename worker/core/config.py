"""What one worker works by: every duration and bound of the pipeline and the engine, in one value."""

from __future__ import annotations

from dataclasses import dataclass

from worker.core.record import RecordFormat
from worker.core.resilience.retry import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Durations in seconds, rates in requests/s. ``app.wiring`` fills it from the settings, which have the defaults."""

    worker: str
    """This worker's identity, new at every start."""
    retry: RetryPolicy
    """How often and for how long a user's call is tried; also the call's time-out."""
    record: RecordFormat
    """How a delivered record names the service and the user."""

    # --- one user -----------------------------------------------------------------------------------------------------
    lease: float
    """How long a claim on a user holds before others may take the user over."""
    clock_skew: float
    """By how much the clocks of two workers may differ."""
    min_validity: float
    """What a Session must still live for its secret to be worth delivering: somebody has to verify with it."""
    ledger_patience: float
    """For how long an unavailable ledger is asked again before the run ends."""
    channel_patience: float
    """The same for the channel."""
    endpoint_patience: float
    """The same for Cognito's endpoint."""
    refusal_patience: float
    """The same for a refusal of everybody that may pass by itself (a rate rule of WAF)."""

    # --- many users ---------------------------------------------------------------------------------------------------
    rate: float
    """Requests/s that all workers share."""
    concurrency: int
    """Users at once, whatever they wait for."""
    ahead: int
    """Users who may be claimed and wait for their call, where claiming takes no time."""
    poll: float
    """Between two looks at a queue that had nothing."""
    grace: float
    """In which users under way finish once the run is told to stop."""
    watchdog: float
    """After which a run in which nothing moves ends."""
    sweep: float
    """Between two searches of the ledger for what dead workers left."""
    max_users: int | None
    """Users after whom the run ends; ``None``: no such bound."""
    warn_of_sessions: bool
    """Whether to warn when Sessions come although nobody is said to verify in time."""
