"""The configuration of the fake Cognito, which is sent to its process as one line of JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal, Self

CredentialKind = Literal["session", "token"]

FLOWS = ("ALLOW_CUSTOM_AUTH", "ALLOW_USER_PASSWORD_AUTH", "ALLOW_ADMIN_USER_PASSWORD_AUTH")
"""The ways to sign in that the fake Cognito implements, as an app client's ExplicitAuthFlows names them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FakeCognitoConfig:
    """Everything that can be set about the fake Cognito; what `configure` may change while it runs is marked (live).

    Raises ValueError where a number is out of range.
    """

    region: str = "us-east-1"
    user_pool_id: str = "us-east-1_rehearsal"
    client_id: str = "1rehearsal2rehearsal3rehea"

    quota: float | None = 25.0
    """Requests/s that AssociateSoftwareToken, VerifySoftwareToken and both preferences share; None is no limit (live).
    """

    burst: float | None = None
    """Requests that an idle quota saves up at most; None: as many as one second allows (live)."""

    sign_in_quota: float | None = 120.0
    """Sign-ins/s; challenge answers may be three times as many; None is no limit (live)."""

    read_quota: float | None = 120.0
    """GetUser requests/s; None is no limit (live)."""

    mfa: Literal["optional", "required", "off"] = "optional"
    """Whether the pool asks for a second factor (live)."""

    client_secret: str | None = None
    """The app client's secret: then every sign-in needs a SECRET_HASH (live)."""

    flows: tuple[str, ...] = FLOWS
    """The app client's flows, of FLOWS (live)."""

    ticket_key: str | None = None
    """The key with which the pool's triggers check tickets, one line of base64url; None: it has no triggers (live)."""

    knows_everybody: bool = True
    """Whether any username is a user's; otherwise only those who were added, or signed in here (live)."""

    password: str | None = None
    """The password of whoever was given none; `{username}` in it stands for the name (live)."""

    prevent_user_existence_errors: bool = False
    """Whether a sign-in of nobody is answered like a wrong password (live)."""

    verified_shows: bool = False
    """Whether UserMFASettingList holds a verified token that no preference enabled; nobody knows what Cognito does
    (live)."""

    token_validity: float = 3600.0
    """Seconds that an access token lives (live)."""

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
        for name in ("quota", "burst", "sign_in_quota", "read_quota"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0 or none, not {value}")
        for name in ("latency", "jitter", "port"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be below 0, not {getattr(self, name)}")
        for name in ("session_validity", "token_validity"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0 seconds, not {getattr(self, name)}")
        if self.mfa not in ("optional", "required", "off"):
            raise ValueError(f"mfa is optional, required or off, not {self.mfa!a}")
        if unknown := set(self.flows) - set(FLOWS):
            raise ValueError(f"flows are of {', '.join(FLOWS)}, not {', '.join(sorted(unknown))}")

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
            lists = {name: tuple(changes[name]) for name in ("faults", "flows") if name in changes}
            changes = {**changes, **lists}
            return dataclasses.replace(self, **changes)
        except TypeError as error:
            raise ValueError(f"a setting is of the wrong type: {error}") from None
