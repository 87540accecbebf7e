"""Every setting with its type, its default and its help; ``load`` reads them.

``load`` is the only way to get settings: nothing else reads the environment of the process. Durations are float
seconds; people may also write ``"500ms"``, ``"90s"``, ``"3m"`` or ``"1h"``. ``sources`` reads the values and words the
complaints about wrong ones; the sections of queue, ledger, channel and AWS are in ``stores``.

``docs/settings.md`` is generated from the descriptions here. Each one completes the sentence "It is: …" in an error
message: it begins in lower case and has no full stop at its end. ``by_default(…)`` says in words what a default is
computed from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, ValidationError, create_model, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.core.key_uri import MAX_ISSUER_BYTES, issuer_fits, label
from worker.settings.channels import channel_section
from worker.settings.queue_urls import first_pair
from worker.settings.sources import PREFIX, complain, fields, gather
from worker.settings.stores import AwsSettings, ChannelSettings, LedgerSettings, QueueSettings
from worker.settings.types import (
    IS_SECONDS,
    Collector,
    Endpoint,
    FileIfAny,
    Hidden,
    Recipients,
    Seconds,
    SecondsOrZero,
    Section,
    Share,
    by_default,
    shown,
)


class CognitoSettings(Section):
    """The user pool, and how to call Cognito."""

    user_pool_id: str = Field(
        pattern=r"^[0-9A-Za-z-]{1,40}_[0-9A-Za-z]{1,55}$",
        description="the user pool to enrol, such as eu-central-1_AbCdEfGhI; a ledger serves this one pool only",
    )
    region: str = Field(
        default_factory=lambda data: data["user_pool_id"].partition("_")[0],
        pattern=r"^[0-9A-Za-z-]{1,40}$",
        description="the AWS Region of the pool",
        json_schema_extra=by_default("the part of `cognito.user_pool_id` before the underscore"),
    )
    endpoint_url: Endpoint = Field(
        default=None,
        description="another address for Cognito, such as that of a proxy, in place of the one of AWS; environment "
        "variables of the AWS SDK do not change it",
    )
    session_validity: Seconds = Field(
        default=180.0,
        le=900,
        description="how long a Session lives after the sign-in: set it to AuthSessionValidity of the app client, "
        "which is 3 minutes unless somebody changed it, and 15 at most",
    )
    session_handoff: bool = Field(
        default=False,
        description="true states that somebody verifies every delivered secret while its Session lives; leave it false "
        "with access tokens. While it is false, run and check warn of requests that carry a Session. It has no effect "
        "where activation.mode is not none",
    )
    call_timeout: Seconds = Field(
        default=10.0,
        description="how long one call to Cognito may take; after that its outcome counts as unknown, and the same "
        "user is not called again for as long once more",
    )
    patience: SecondsOrZero = Field(
        default=120.0,
        description="how long an endpoint that does not answer is tried, one call at a time, before the run stops "
        "(exit 75)",
    )


class RateSettings(Section):
    """How much of Cognito's quota this rollout may use."""

    requests_per_second: float = Field(
        default=20.0,
        gt=0,
        allow_inf_nan=False,
        description="requests/s to Cognito of all workers of this ledger together; the quota is 25 for the whole "
        "account and Region, and live users who set up their own MFA need some of it",
    )
    share: Share = Field(
        default=1.0,
        description='the part of rate.requests_per_second that this ledger\'s workers may use, such as "1/4": set it '
        "where other ledgers or tools send to Cognito from the same account and Region; nobody checks that the shares "
        "add up to 1 at most",
    )

    @property
    def effective(self) -> float:
        """Requests/s that the workers of this ledger may send together."""
        return self.requests_per_second * self.share


class SignInSettings(Section):
    """How users are signed in when it is their turn, for requests with a ticket or a password."""

    flow: Literal["none", "custom_auth", "user_password", "admin_user_password"] = Field(
        default="none",
        description="none: requests bring a Session or an access token; custom_auth: they bring a ticket, which the "
        "pool's triggers check; user_password or admin_user_password: they bring a password",
    )
    client_id: str | None = Field(
        default=None,
        pattern=r"^[\w+]{1,128}$",
        description="the app client to sign in with; a flow needs it, and it should serve this rollout alone",
    )
    client_secret: Hidden = Field(
        default=None,
        description="that app client's secret, if it has one: better in the environment, as "
        "MFA_WORKER_SIGN_IN__CLIENT_SECRET or, in a file, MFA_WORKER_SIGN_IN__CLIENT_SECRET_FILE",
    )
    requests_per_second: float = Field(
        default=60.0,
        gt=0,
        allow_inf_nan=False,
        description="requests/s of sign-ins (InitiateAuth and RespondToAuthChallenge) of all workers of this ledger "
        "together; they have a quota of their own, 120 for the whole account and Region, which live users need too. "
        "rate.share is not a part of it",
    )
    look_first: bool = Field(
        default=True,
        description="ask Cognito (GetUser) before the call whether a user who was signed in with tokens has TOTP "
        "already: then the user is skipped, unless the request says replace",
    )


class ActivationSettings(Section):
    """What is done for a user once the channel confirmed the delivery."""

    mode: Literal["none", "verify", "prefer"] = Field(
        default="none",
        description="none: the user verifies; verify: the worker verifies the secret with its first code, one more "
        "call a user; prefer: it also makes TOTP the user's preferred factor, two more calls",
    )
    identity: FileIfAny = Field(
        default=None,
        description="a file with an age identity of the worker's own, to which it seals what activation needs after a "
        "crash; with DynamoDB every worker needs the same one",
        json_schema_extra=by_default("`activation-identity.txt` beside the embedded ledger, made when it is missing"),
    )


class RunSettings(Section):
    """One worker process."""

    concurrency: int = Field(
        default=16,
        ge=1,
        le=10_000,
        description="how many users one worker process works on at once",
        json_schema_extra=by_default(
            "twice the requests/s of this ledger's workers together, four times where users are signed in first; at "
            "least 16 and at most 256"
        ),
    )
    grace: SecondsOrZero = Field(
        default=20.0,
        description="how long users under way may go on after the first signal to stop; writes may take 10 s more and "
        "the queue 5 s, so whatever kills the worker must wait longer than all three",
    )
    watchdog: Seconds = Field(
        default=300.0, description="how long work may wait without any progress before the run stops (exit 75)"
    )
    poll: Seconds = Field(default=0.5, description="how long a worker without work waits before it looks again")


class SealSettings(Section):
    """Who can open what the worker delivers."""

    recipients: Recipients = Field(
        default=(),
        description="the public keys that secrets are sealed to, of age (age1…, printed by mfa-worker keygen), SSH "
        "(ssh-ed25519, ssh-rsa) or hardware (age1tag1…, age1tagpq1…, age1NAME1… with a plugin): the holder of any one "
        "of the identities can open everything. run needs at least one; two are better, since a lost identity loses "
        "every secret. Others than those a rollout was begun with need run --accept-recipients",
    )


class OtpSettings(Section):
    """What people see in their authenticator app."""

    issuer: str = Field(
        default="",
        max_length=200,
        description="the name of your service, as people see it in their authenticator app",
        json_schema_extra=by_default("`cognito.user_pool_id`"),
    )
    """Colons in it are left out. Where nothing else of it could be seen, it counts as not set."""
    account: str = Field(
        default="username",
        min_length=1,
        max_length=200,
        description="what the app shows as the account: username, or the name of one of the request's attributes, "
        "such as email. A request without that attribute is malformed",
    )

    @field_validator("issuer")
    @classmethod
    def _issuer_fits(cls, issuer: str) -> str:
        """Refuse what no QR code can hold, and what is no text."""
        try:
            fits = issuer_fits(issuer)
        except UnicodeEncodeError:
            raise PydanticCustomError("not_text", "should be text in UTF-8") from None
        if not fits:
            text = "should be shorter: at most {most} bytes once percent-encoded, or no QR code can hold it"
            raise PydanticCustomError("too_long", text, {"most": f"{MAX_ISSUER_BYTES:,}"})
        return issuer


class RetrySettings(Section):
    """How often one user is tried. Answers \"too many requests\", and requests that never left, count as no attempt."""

    attempts: int = Field(default=5, ge=1, le=100, description="calls for one user before failed: retries_exhausted")
    base: Seconds = Field(
        default=0.2,
        description="the longest that the first pause between two attempts may be; each further one may be twice as "
        "long, and how long it really is, is random (full jitter)",
    )
    cap: Seconds = Field(default=5.0, description="the longest that any such pause may be")
    total: Seconds = Field(
        default=60.0, description="how long all attempts for one user, with their pauses, may take together"
    )


class LogSettings(Section):
    """What the worker writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least important kind of line that is written"
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="json (an object a line), console (for people), or auto: console on a terminal and json elsewhere",
    )
    interval: Seconds = Field(
        default=10.0, description="how often a line says how far the run is; on a terminal there is a panel instead"
    )
    metrics: Literal["none", "emf"] = Field(
        default="none",
        description="emf: besides, a line a minute in the embedded metric format of CloudWatch, which makes metrics of "
        "it where the log goes to CloudWatch Logs; always JSON, at any level",
    )


class MetricsSettings(Section):
    """What a running worker shows to a monitoring system over HTTP (docs/metrics.md)."""

    port: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="the port on which run answers /metrics (Prometheus), /healthz and /readyz; 0: none. It needs the "
        "extra metrics, and each worker of one host needs a port of its own",
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        max_length=253,
        description="the address to listen on: with 127.0.0.1 this machine alone can ask, with 0.0.0.0 (or ::) whoever "
        "reaches it, without a password. Nothing there is secret, and nobody is named",
    )


class OtelSettings(Section):
    """Traces and metrics by OpenTelemetry (docs/metrics.md)."""

    endpoint: Collector = Field(
        default=None,
        description="where a collector takes OTLP over HTTP, such as http://127.0.0.1:4318: run sends traces of users' "
        "ways (by pseudonyms) and metrics there. Without it nothing is sent. It needs the extra otel; headers, "
        "certificates and the like come from the variables OTEL_EXPORTER_OTLP_…",
    )
    sample: Share = Field(
        default=1.0, description="the share of users who are traced, each in all their runs or in none"
    )


class Settings(BaseSettings):
    """All sections. ``load`` creates a subclass with the keys of all channels (see ``settings.channels``)."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        enable_decoding=False,
        defer_build=True,  # only its subclass with the channels' keys is ever instantiated
    )

    cognito: CognitoSettings
    rate: RateSettings = RateSettings()
    sign_in: SignInSettings = SignInSettings()
    activation: ActivationSettings = ActivationSettings()
    run: RunSettings = RunSettings()
    queue: QueueSettings = QueueSettings()
    ledger: LedgerSettings = LedgerSettings()
    channel: ChannelSettings = ChannelSettings()
    seal: SealSettings = SealSettings()
    otp: OtpSettings = OtpSettings()
    retry: RetrySettings = RetrySettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    otel: OtelSettings = OtelSettings()
    aws: AwsSettings = AwsSettings()

    _file: Path | None = PrivateAttr(None)
    _moved: Mapping[str, Path] = PrivateAttr(default_factory=dict)
    _exposed: Mapping[str, tuple[str, str]] = PrivateAttr(default_factory=dict)

    @property
    def file(self) -> Path | None:
        """The settings file that was read, absolute; ``None`` if there was none."""
        return self._file

    @property
    def makes_identity(self) -> bool:
        """Whether ``activation.identity`` may be made: nobody names another, and the ledger is a file on this host."""
        return self.ledger.kind == "sqlite" and self.activation.identity == _identity_beside(self.ledger.path)

    @property
    def signs_calls(self) -> bool:
        """Whether the worker makes calls for which Cognito wants AWS credentials."""
        return self.sign_in.flow == "admin_user_password" or self.activation.mode == "prefer"

    @property
    def moved(self) -> Mapping[str, Path]:
        """``section.key`` of a path → the file that earlier versions meant by it (see ``settings.paths.moved``)."""
        return self._moved

    @property
    def exposed(self) -> Mapping[str, tuple[str, str]]:
        """``section.key`` of a secret → in words, that others can see it where it stands; and the cure."""
        return self._exposed

    @property
    def calls_per_user(self) -> int:
        """Calls that a user costs, all from one quota (``activation.mode``)."""
        from worker.core.config import ActivationMode  # takes 50 ms, which loading settings does without

        return ActivationMode(self.activation.mode).calls

    @property
    def users_per_second(self) -> float:
        """Users/s for whom the rate of all workers of this ledger suffices."""
        return self.rate.effective / self.calls_per_user

    @property
    def _seconds_a_user(self) -> float:
        """Seconds for which the calls of a user may be under way, each with a share of the sign-in.

        A call takes 50 to 300 ms, and as long again until its user is claimed, recorded and delivered; each of a
        ticket's two sign-in requests takes up to a second more.
        """
        return 2.0 if self.sign_in.flow == "none" else 4.0

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the name is pydantic-settings'
        *_: PydanticBaseSettingsSource,
        **sources: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only take the constructor's arguments: ``settings.sources`` has read all sources, and remembers them."""
        return (sources["init_settings"],)

    @model_validator(mode="after")
    def _across_sections(self) -> Self:
        """Refuse values that contradict another section, and set the defaults that depend on one."""
        least = 3 * self.cognito.call_timeout
        if self.ledger.lease < least:
            text = "should be at least {least} s, three times cognito.call_timeout"
            raise PydanticCustomError("too_short", text, {"least": f"{least:g}", "key": "ledger.lease"})
        if self.channel.min_validity >= (lives := self.cognito.session_validity):
            text = "should be shorter than {lives} s, cognito.session_validity, or no Session could ever be used"
            raise PydanticCustomError("too_long", text, {"lives": f"{lives:g}", "key": "channel.min_validity"})
        self._refuse_one_queue_for_two()
        self._refuse_half_a_sign_in()
        ledger_path = self.ledger.path if "path" in self.ledger.model_fields_set else self.queue.path
        beside = _identity_beside(ledger_path) if self.ledger.kind == "sqlite" else None
        if self.activation.mode != "none" and self.activation.identity is None and beside is None:
            text = (
                "is required where activation.mode is {mode} and ledger.kind is dynamodb: mfa-worker keygen makes one"
            )
            values = {"mode": self.activation.mode, "key": "activation.identity"}
            raise PydanticCustomError("missing_identity", text, values)
        computed: dict[str, dict[str, Any]] = {
            "run": {"concurrency": max(16, min(256, round(self._seconds_a_user * self.rate.effective)))},
            "ledger": {"path": self.queue.path},
            "activation": {"identity": beside},
            "otp": {"issuer": self.cognito.user_pool_id},
            "aws": {"region": self.cognito.region},
        }
        for name, values in computed.items():
            section: Section = getattr(self, name)
            is_set = section.model_fields_set - ({"issuer"} if name == "otp" and not label(self.otp.issuer) else set())
            absent = {key: value for key, value in values.items() if key not in is_set}
            # Assigning is forbidden (``frozen``), but the settings are not in use before this returns.
            self.__dict__[name] = section.model_copy(update=absent)
        return self

    def _refuse_half_a_sign_in(self) -> None:
        flow = self.sign_in.flow
        if flow != "none" and self.sign_in.client_id is None:
            text = "is required where sign_in.flow is {flow}"
            raise PydanticCustomError("missing_client", text, {"flow": flow, "key": "sign_in.client_id"})
        if flow == "none" and self.sign_in.client_secret is not None:
            text = "has no use while sign_in.flow is none: choose a flow, or leave it out"
            raise PydanticCustomError("unused_secret", text, {"key": "sign_in.client_secret"})

    def _refuse_one_queue_for_two(self) -> None:
        queues: dict[str, str | None] = {}
        if self.queue.kind == "sqs":
            queues |= {"queue.url": self.queue.url, "queue.dead_letter_url": self.queue.dead_letter_url}
        if self.channel.kind == "sqs":
            queues["channel.url"] = getattr(self.channel, "url", None)
        if pair := first_pair(queues):
            text = "names the same queue as {other}: what one of them sends, the other would read; make another queue"
            raise PydanticCustomError("same_queue", text, {"other": pair[1], "key": pair[0]})


def _identity_beside(ledger: Path) -> Path:
    """The worker's own identity where none is named: one for all ledgers of a folder."""
    return ledger.with_name("activation-identity.txt")


def every_setting() -> type[Settings]:
    """``Settings`` with the keys of all existing channels."""
    return _with_channels(channel_section())


@cache
def _with_channels(section: type[ChannelSettings]) -> type[Settings]:
    return create_model("Settings", __base__=Settings, channel=(section, section()))


def load(config: Path | None, overrides: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the settings from a TOML file, the environment, and flags (``section.key=value``); later sources win.

    Without ``config`` the file named by the environment variable ``MFA_WORKER_CONFIG`` is read, if it is set. Raises
    one ``UsageError`` that lists all mistakes with their key and source, but without the values, which may be secrets.
    """
    return _load(config, overrides, environ)[0]


@dataclass(frozen=True, slots=True)
class Explained:
    """One row of ``config show``: the value in TOML, with credentials in URLs masked; its source; its help."""

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
        raise  # ``complain`` found nothing to report, so this is a bug
    complain(layers, every)
    settings._file, settings._moved, settings._exposed = layers.file, layers.moved, layers.exposed
    return settings, layers.sources
