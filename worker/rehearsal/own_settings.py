"""What a rehearsal takes of the operator's own settings: what the job is like, never where anything is.

Cognito, app client, queue, ledger and channel are always the rehearsal's own, so that rehearsing cannot touch a
rollout. Its secrets are sealed to the operator's recipients too: their identities open what ``--keep`` keeps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from worker.core.recipients import recipient
from worker.settings import explain, load

SAFE = (
    *("otp.", "retry.", "log.", "run."),
    *("cognito.call_timeout", "cognito.patience", "channel.min_validity", "channel.patience"),
    *("sign_in.requests_per_second", "sign_in.look_first"),
)
"""Settings, or sections with a dot at the end, that are taken as they are."""

_ORIGINS = {"custom_auth": "usernames", "user_password": "passwords", "admin_user_password": "passwords"}
"""What the users of each ``sign_in.flow`` begin with (``--from``); without a flow their requests bring tokens."""


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """What is taken; the options of ``rehearse`` win."""

    rate: float
    """Requests/s that this ledger's workers may send together."""
    session_validity: float
    """Seconds that a Session lives."""
    origin: str | None
    """What the users begin with; ``None``: as without settings."""
    activate: bool
    """Whether the worker activates."""
    recipients: tuple[str, ...]
    """Who else can open what the rehearsal seals. Post-quantum keys, which stand alone or not at all, are left out."""
    leaves_out: bool
    """Whether there are others, which cannot stand beside the key that proves what was delivered."""
    overrides: tuple[str, ...]
    """The settings of ``SAFE`` that are not at their default, as ``SECTION.KEY=VALUE``."""
    file: Path | None
    """The settings file."""

    def words(self) -> str:
        """A line for people about what is taken."""
        whence = f"from {self.origin}, " if self.origin else ""
        then = ", with activation" if self.activate else ""
        own = "Cognito, queue, ledger, channel and, instead of post-quantum ones, recipients"
        if not self.leaves_out:
            own = "Cognito, queue, ledger and channel"
        return f"rehearsing with {self.file}: {whence}{self.rate:g} requests/s{then}; {own} are the rehearsal's own"


def own_settings(config: Path | None, environ: Mapping[str, str]) -> OwnSettings:
    """Read the operator's settings file and environment. Raises ``UsageError`` where they are wrong."""
    settings = load(config, [], environ)
    post_quantum = any(recipient(each).is_post_quantum for each in settings.seal.recipients)
    return OwnSettings(
        rate=settings.rate.effective,
        session_validity=settings.cognito.session_validity,
        origin=_ORIGINS.get(settings.sign_in.flow),
        activate=settings.activation.mode != "none",
        recipients=() if post_quantum else settings.seal.recipients,
        leaves_out=post_quantum,
        overrides=tuple(
            f"{row.key}={_as_flag(row.value)}"
            for row in explain(config, [], environ)
            if row.source != "default" and row.key.startswith(SAFE)
        ),
        file=settings.file,
    )


def _as_flag(value: str) -> str:
    """A value as ``--set`` takes it, from how TOML writes it."""
    return str(json.loads(value)) if value.startswith('"') else value
