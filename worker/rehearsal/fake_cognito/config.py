"""The configuration of the fake Cognito, which is sent to its process as one line of JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal, Self

CredentialKind = Literal["session", "token"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FakeCognitoConfig:
    """Everything that can be set about the fake Cognito; what `configure` may change while it runs is marked (live).

    Raises ValueError where a number is out of range.
    """

    region: str = "us-east-1"
    user_pool_id: str = "us-east-1_rehearsal"
    client_id: str = "1rehearsal2rehearsal3rehea"

    quota: float | None = 25.0
    """Requests/s that the three operations share; None is no limit (live)."""

    burst: float | None = None
    """Requests that an idle quota saves up at most; None: as many as one second allows (live)."""

    latency: float = 0.05
    """Seconds from a request's arrival to its effect and answer (live)."""

    jitter: float = 0.0
    """The most seconds that are added to the latency; evenly distributed (live)."""

    faults: tuple[str, ...] = ()
    """Such as `conflict=2%`; see `worker.rehearsal.fake_cognito.faults` (live)."""

    clock_skew: float = 0.0
    """Seconds by which the service's clock is ahead of this host's: its `Date`, expiries and one-time codes (live)."""

    session_validity: float = 180.0
    """Seconds that a Session lives, from sign-in or from AssociateSoftwareToken (live)."""

    refuse_overlaps: bool = True
    """Whether the second of two overlapping calls for one user is a ConcurrentModificationException (live)."""

    seed: int = 0
    """The seed of the random numbers that choose faults and jitter; secrets are always random."""

    port: int = 0
    """On 127.0.0.1; 0 lets the system choose."""

    def __post_init__(self) -> None:
        for name in ("quota", "burst"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0 or none, not {value}")
        for name in ("latency", "jitter", "port"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be below 0, not {getattr(self, name)}")
        if self.session_validity <= 0:
            raise ValueError(f"session_validity must be above 0 seconds, not {self.session_validity}")

    def to_json(self) -> str:
        """Return this configuration as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read what `to_json` wrote; keys may be missing. Raises ValueError for anything else."""
        return cls().replaced(json.loads(line))

    def replaced(self, changes: Any) -> Self:
        """Return this configuration with `changes`, an object by key. Raises ValueError for an unknown key."""
        if not isinstance(changes, dict):
            raise ValueError("a configuration is a JSON object")  # noqa: TRY004 - one error for every bad input
        unknown = changes.keys() - {field.name for field in dataclasses.fields(self)}
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        try:
            if "faults" in changes:
                changes = {**changes, "faults": tuple(changes["faults"])}
            return dataclasses.replace(self, **changes)
        except TypeError as error:
            raise ValueError(f"a setting is of the wrong type: {error}") from None
