"""What a rehearsal rehearses: what its users bring, what the pool asks of them, and how the worker is set for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from worker.core.errors import UsageError
from worker.rehearsal.fake_cognito.client import FakeCognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.rehearsal.fake_cognito.faults import FaultError, FaultPlan
from worker.rehearsal.own_settings import OwnSettings
from worker.requests.ticket import new_key
from worker.settings import Settings, load
from worker.settings.types import Seconds

CHANNEL = "enrolments.jsonl"
"""The name of the file with the sealed secrets, in the rehearsal's folder."""

PASSWORD = "Rehearsal-9 {username}"  # noqa: S105 - of users who do not exist
"""The password of every user of the fake Cognito; ``{username}`` stands for the name."""

_FLOWS = {"usernames": "custom_auth", "passwords": "user_password"}
"""``sign_in.flow`` of those origins for which the worker signs the users in."""

_SIGN_INS = 60.0
"""Sign-in requests/s at least, the default of ``sign_in.requests_per_second``."""

_SIGN_INS_A_CALL = 3.0
"""Sign-in requests for each call at most: a ticket takes two, and some are made again."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What to rehearse."""

    users: int = 200
    rate: float = 25.0
    """Requests/s that the worker may send."""
    quota: float | None = None
    """Requests/s that the fake Cognito accepts; ``None``: as many as the worker may send."""
    origin: str = "tokens"
    """What the users bring: ``usernames``, ``passwords``, ``tokens`` or ``sessions`` (``--from``)."""
    activate: bool = False
    """Whether the worker activates TOTP after the delivery."""
    mfa: str = "optional"
    """Whether the pool's second factor is ``optional`` or ``required``."""
    session_validity: float = 180.0
    """Seconds that a Session lives."""
    latency: float = 0.05
    """Seconds from a request to its answer."""
    faults: tuple[str, ...] = ()
    """Such as ``conflict=2%``; see ``fake_cognito.faults``."""
    rounds: int = 3
    """How many times users who are left are signed in again."""
    seed: int = 0
    """The seed of the random numbers that choose the faults."""
    overrides: tuple[str, ...] = ()
    """Settings of the worker, as ``SECTION.KEY=VALUE``."""
    recipients: tuple[str, ...] = ()
    """Who can open what is sealed, beside whoever has the rehearsal's identity."""

    @property
    def signs_in(self) -> bool:
        """Whether the worker signs the users in."""
        return self.origin in _FLOWS

    @property
    def by_session(self) -> bool:
        """Whether the enrolment's calls carry a Session."""
        return self.origin == "sessions" or (self.origin == "passwords" and self.mfa == "required")

    @property
    def sign_in_rate(self) -> float:
        """Sign-in requests/s that the worker may send; the fake Cognito accepts twice as many."""
        return max(_SIGN_INS, _SIGN_INS_A_CALL * self.rate)

    def fake_cognito(self) -> FakeCognitoConfig:
        """Return the fake Cognito for it, with a new key for tickets where its users have tickets."""
        return FakeCognitoConfig(
            quota=self.quota or self.rate,
            sign_in_quota=2 * self.sign_in_rate,
            read_quota=2 * self.sign_in_rate,
            latency=self.latency,
            faults=self.faults,
            session_validity=self.session_validity,
            seed=self.seed,
            mfa="required" if self.mfa == "required" else "optional",
            password=PASSWORD,
            ticket_key=new_key().strip() if self.origin == "usernames" else None,
        )

    def settings(self, fake_cognito: FakeCognito, folder: Path, recipient: str) -> Settings:
        """Return the worker's settings for it. Raises ``UsageError``, also where they contradict what was asked for."""
        chosen: dict[str, Any] = {
            "cognito.user_pool_id": fake_cognito.config.user_pool_id,
            "cognito.endpoint_url": fake_cognito.url,
            "cognito.session_validity": self.session_validity,
            "cognito.session_handoff": "true",
            "rate.requests_per_second": self.rate,
            "queue.path": folder / "rehearsal.db",
            "channel.path": folder / CHANNEL,
            "channel.min_validity": min(30.0, self.session_validity / 6),
            "seal.recipients": json.dumps([recipient, *self.recipients]),
            "otp.issuer": "Rehearsal",
        }
        if self.signs_in:
            chosen |= {
                "sign_in.flow": _FLOWS[self.origin],
                "sign_in.client_id": fake_cognito.config.client_id,
                "sign_in.requests_per_second": self.sign_in_rate,
            }
        if self.activate:
            # Preferring on the Session path takes permissions of AWS, which nobody needs for a rehearsal.
            chosen["activation.mode"] = "verify" if self.by_session else "prefer"
        settings = load(None, [*(f"{key}={value}" for key, value in chosen.items()), *self.overrides], {})
        self._refuse_contradictions(settings)
        return settings

    def _refuse_contradictions(self, settings: Settings) -> None:
        flow = settings.sign_in.flow
        fitting = {"usernames": {"custom_auth"}, "passwords": {"user_password", "admin_user_password"}}
        if self.signs_in and flow not in fitting[self.origin]:
            fits = " or ".join(sorted(fitting[self.origin]))
            raise UsageError(
                f"--from {self.origin} and sign_in.flow={flow} contradict each other",
                f"leave out sign_in.flow, or set {fits}",
            )
        if self.activate and settings.activation.mode == "none":
            raise UsageError(
                "--activate and activation.mode=none contradict each other",
                "leave out one of them: --activate, or that setting",
            )


def planned(
    *,
    origin: str | None,
    credential: str | None,
    mfa: str | None,
    session_validity: str | None,
    faults: Sequence[str],
    overrides: Sequence[str],
    rate: float | None = None,
    activate: bool = False,
    own: OwnSettings | None = None,
    **plain: Any,
) -> Scenario:
    """Return the scenario that the options of the command line describe, and else ``own``. Raises ``UsageError``."""
    try:
        FaultPlan(faults)
        validity = TypeAdapter(Seconds).validate_python(session_validity or (own or Scenario()).session_validity)
    except FaultError as error:
        raise UsageError(str(error), "all faults, and what each does: mfa-worker rehearse --fault help") from None
    except ValidationError as error:
        raise UsageError(
            f"--session-validity {error.errors()[0]['msg']}", "write a duration, such as --session-validity 3m"
        ) from None
    begins = _origin(origin, credential, session_validity, own)
    if begins == "sessions" and mfa == "optional":
        raise UsageError(
            "a pool with an optional second factor gives no Session for the call: --from sessions needs --mfa required",
            "leave out --mfa, or rehearse --from tokens",
        )
    return Scenario(
        origin=begins,
        mfa=mfa or ("required" if begins == "sessions" else "optional"),
        session_validity=validity,
        faults=tuple(faults),
        rate=rate or (own or Scenario()).rate,
        activate=activate or (own is not None and own.activate),
        recipients=() if own is None else own.recipients,
        overrides=(*(() if own is None else own.overrides), *overrides),
        **plain,
    )


_OLDER: Mapping[str, str] = {"token": "tokens", "session": "sessions"}
"""The values of ``--credential``, and those of ``--from`` that mean the same."""


def _origin(origin: str | None, credential: str | None, session_validity: str | None, own: OwnSettings | None) -> str:
    meant = None if credential is None else _OLDER[credential]
    if origin is not None and meant not in (None, origin):
        raise UsageError(
            f"--from {origin} and --credential {credential} contradict each other",
            f"leave out --credential; --from {meant} means the same",
        )
    by_settings = None if own is None or session_validity else own.origin
    return origin or meant or by_settings or ("sessions" if session_validity else "tokens")
