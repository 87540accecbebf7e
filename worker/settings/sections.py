"""The one place where each setting has its type, its default and its help.

``load`` is the only door: nothing reads the process's environment behind its back. Durations are float seconds; people
may also write ``"500ms"``, ``"90s"``, ``"3m"`` or ``"1h"``. How values get here, and what is said of wrong ones, is in
``settings.sources``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, create_model, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.settings.channels import channel_section
from worker.settings.sources import PREFIX, complain, fields, gather
from worker.settings.stores import AwsSettings, ChannelSettings, LedgerSettings, QueueSettings
from worker.settings.types import IS_SECONDS, Endpoint, Recipients, Seconds, SecondsOrZero, Section, Share, shown


class CognitoSettings(Section):
    """The pool, and what its credentials bear."""

    user_pool_id: str = Field(
        pattern=r"^[0-9A-Za-z-]{1,40}_[0-9A-Za-z]{1,55}$",
        description="the pool to enrol, such as eu-central-1_AbCdEfGhI",
    )
    region: str = Field(
        default_factory=lambda data: data["user_pool_id"].partition("_")[0],
        pattern=r"^[0-9A-Za-z-]{1,40}$",
        description="its AWS Region; by default the beginning of the pool's id",
    )
    endpoint_url: Endpoint = Field(
        default=None, description="another address for Cognito (proxy, rehearsal): https, or http on loopback only"
    )
    session_validity: Seconds = Field(
        default=180.0,
        le=900,
        description="how long a Session lives: AuthSessionValidity of the app client, 15 minutes at most",
    )
    session_handoff: bool = Field(
        default=False, description="true states that somebody verifies every delivered secret while its Session lives"
    )
    call_timeout: Seconds = Field(
        default=10.0, description="how long one call may take before its outcome counts as unknown"
    )
    patience: SecondsOrZero = Field(
        default=120.0, description="how long an unreachable endpoint is probed before the run stops (exit 75)"
    )


class RateSettings(Section):
    """The share of the quota that this rollout may use."""

    requests_per_second: float = Field(
        default=20.0,
        gt=0,
        allow_inf_nan=False,
        description="requests/s to Cognito, all workers together; its quota is 25, and live users need some of it",
    )
    share: Share = Field(
        default=1.0,
        description="the part of it that is this ledger's, such as 1/4, where other tools use the same account",
    )

    @property
    def effective(self) -> float:
        """Requests/s that the workers of this ledger may send together."""
        return self.requests_per_second * self.share


class RunSettings(Section):
    """One worker process."""

    concurrency: int = Field(
        default=16,
        ge=1,
        le=10_000,
        description="users under way at once; by default twice the rate, at least 16 and at most 256",
    )
    grace: SecondsOrZero = Field(
        default=20.0, description="how long users under way may finish after the first signal to stop"
    )
    watchdog: Seconds = Field(
        default=300.0, description="how long work may wait without any progress before the run stops (exit 75)"
    )
    poll: Seconds = Field(default=0.5, description="how often an empty queue is asked again")


class SealSettings(Section):
    """Who can open what is delivered."""

    recipients: Recipients = Field(
        default=(), description="public keys (age1…, from mfa-worker keygen) that secrets are sealed to; run needs one"
    )


class OtpSettings(Section):
    """What people see in their authenticator app."""

    issuer: str = Field(default="", max_length=200, description="the service's name; by default the pool's id")
    account: str = Field(
        default="username",
        min_length=1,
        max_length=200,
        description="whose code it is: username, or the attribute to show instead, such as email",
    )


class RetrySettings(Section):
    """Attempts for one user; being throttled counts as none."""

    attempts: int = Field(default=5, ge=1, le=100, description="calls for a user before failed: retries_exhausted")
    base: Seconds = Field(default=0.2, description="the first pause; each one is twice as long, with jitter")
    cap: Seconds = Field(default=5.0, description="the longest pause")
    total: Seconds = Field(default=60.0, description="how long all attempts for one user may take together")


class LogSettings(Section):
    """What goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="json, console (readable), or auto: console on a terminal and json elsewhere"
    )
    interval: Seconds = Field(
        default=10.0, description="how often a line says how far the run is, where there is no progress bar"
    )


class Settings(BaseSettings):
    """All sections. Made by ``load``, whose ``channel`` is of every channel's own class (see ``settings.channels``)."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        enable_decoding=False,
        defer_build=True,  # what is filled is its subclass with the channels' keys
    )

    cognito: CognitoSettings
    rate: RateSettings = RateSettings()
    run: RunSettings = RunSettings()
    queue: QueueSettings = QueueSettings()
    ledger: LedgerSettings = LedgerSettings()
    channel: ChannelSettings = ChannelSettings()
    seal: SealSettings = SealSettings()
    otp: OtpSettings = OtpSettings()
    retry: RetrySettings = RetrySettings()
    log: LogSettings = LogSettings()
    aws: AwsSettings = AwsSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the name is pydantic-settings'
        *_: PydanticBaseSettingsSource,
        **sources: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is called with: ``settings.sources`` reads the rest, and knows what came from where."""
        return (sources["init_settings"],)

    @model_validator(mode="after")
    def _across_sections(self) -> Self:
        """Refuse what contradicts another section, and fill in what depends on one."""
        least = 3 * self.cognito.call_timeout
        if self.ledger.lease < least:
            text = "should be at least {least} s, three times cognito.call_timeout"
            raise PydanticCustomError("too_short", text, {"least": f"{least:g}", "key": "ledger.lease"})
        computed: dict[str, dict[str, Any]] = {
            "run": {"concurrency": max(16, min(256, round(2 * self.rate.effective)))},
            "ledger": {"path": self.queue.path},
            "otp": {"issuer": self.cognito.user_pool_id},
            "aws": {"region": self.cognito.region},
        }
        for name, values in computed.items():
            section: Section = getattr(self, name)
            absent = {key: value for key, value in values.items() if key not in section.model_fields_set}
            self.__dict__[name] = section.model_copy(update=absent)  # past ``frozen``, before anybody sees it
        return self


def every_setting() -> type[Settings]:
    """``Settings`` with the keys of every channel that there is now; called with sections, it takes nothing else."""
    return _with_channels(channel_section())


@cache
def _with_channels(section: type[ChannelSettings]) -> type[Settings]:
    return create_model("Settings", __base__=Settings, channel=(section, section()))


def load(config: Path | None, overrides: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings of a TOML file, then the environment, then flags (``section.key=value`` each); the last one wins.

    Without ``config`` the file is the one that ``MFA_WORKER_CONFIG`` names, if it does. Raises one ``UsageError`` that
    lists everything that is wrong, by key and source, repeating no value.
    """
    return _load(config, overrides, environ)[0]


@dataclass(frozen=True, slots=True)
class Explained:
    """One row of ``config show``: the effective value as TOML writes it, masked; where it came from; what it means."""

    key: str
    value: str
    source: str
    help: str


def explain(config: Path | None, overrides: Sequence[str], environ: Mapping[str, str]) -> list[Explained]:
    """Every setting, in the order of its definition. Raises ``UsageError`` as ``load`` does."""
    settings, sources = _load(config, overrides, environ)
    rows = []
    for key, definition in fields(type(settings)):
        section, _, name = key.partition(".")
        value = shown(getattr(getattr(settings, section), name), is_seconds=IS_SECONDS in definition.metadata)
        rows.append(Explained(key, value, sources.get(key, "default"), definition.description or ""))
    return rows


def _load(
    config: Path | None, overrides: Sequence[str], environ: Mapping[str, str]
) -> tuple[Settings, Mapping[str, str]]:
    every = every_setting()
    layers = gather(every, config, overrides, environ)
    try:
        settings = every.model_validate({"cognito": {}, **layers.values})
    except ValidationError as error:
        complain(layers, every, error)
        raise  # no complaint: then it is a bug, and should look like one
    complain(layers, every)
    return settings, layers.sources
