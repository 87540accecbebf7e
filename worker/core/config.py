"""The configuration of one worker: what the settings say of the pipeline and the engine, in one value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from worker.core.record import RecordFormat
from worker.core.resilience.call_attempts import RetryPolicy


class ActivationMode(StrEnum):
    """What the worker does for a user once their secret is delivered (``activation.mode``)."""

    NONE = "none"
    """Nothing: the user verifies."""
    VERIFY = "verify"
    """Verifies the secret with its first code."""
    PREFER = "prefer"
    """Verifies it, and makes TOTP the user's preferred factor."""

    @property
    def calls(self) -> int:
        """Calls that a user costs, all from one quota: the enrolment, the verification, the preference."""
        return {ActivationMode.NONE: 1, ActivationMode.VERIFY: 2, ActivationMode.PREFER: 3}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Durations in seconds, rates in requests/s. Filled from the settings (``app.wiring``), which have the defaults."""

    worker: str
    """This worker's identity, new at every start."""
    retry: RetryPolicy
    """How often and for how long a user's call is tried; also the call's time-out."""
    record: RecordFormat
    """How a delivered record names the service and the user."""

    activation: ActivationMode = ActivationMode.NONE
    """What is done for a user after the delivery."""
    look_first: bool = True
    """Whether to ask Cognito, before the call, if a user who was signed in with tokens has TOTP already."""

    # --- one user -----------------------------------------------------------------------------------------------------
    lease: float
    """How long a claim on a user holds; others may take the user over some time after that (``claim_expiry``)."""
    clock_skew: float
    """By how much the clocks of two workers may differ."""
    min_validity: float
    """What a Session must still live for its secret to be worth delivering: somebody has to verify with it."""
    keep_sealed: bool
    """Whether the ledger keeps sealed records after their delivery, so that they can be delivered again."""
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
    """Users who are worked on at the same time, at most."""
    ahead: int
    """Users who may wait, claimed, for their turn at the quota, while the ledger is fast (``engine.admission``)."""
    poll: float
    """Seconds until a queue that had no message is asked again."""
    grace: float
    """Seconds that users under way get to finish once the run is told to stop."""
    watchdog: float
    """Seconds without any progress after which the run ends."""
    sweep: float
    """Seconds between two searches of the ledger for sealed secrets that a dead worker left undelivered."""
    max_users: int | None
    """The run ends after so many users; ``None``: after all."""
    warn_of_sessions: bool
    """Whether to warn when Sessions come although the settings do not say that somebody verifies in time."""

    @property
    def users_per_second(self) -> float:
        """Users/s for whom the rate suffices; each costs one to three calls."""
        return self.rate / self.activation.calls
