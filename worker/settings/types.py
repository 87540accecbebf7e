"""The types of settings that pydantic does not have: durations, shares, lists in variables, URLs, public keys.

No error that is raised here repeats a value, because it may be a secret that was put in the wrong place.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, SecretStr, ValidationInfo

from worker.core.recipients import NoRecipientError, recipients


class Section(BaseModel):
    """One table of the settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class TypeName:
    """The words for a type in ``docs/settings.md``, as one of the type's annotations."""

    text: str


def by_default(words: str) -> dict[str, JsonValue]:
    """For a field's ``json_schema_extra``: what its default is computed from, in words."""
    return {"by_default": words}


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""The units of durations, in seconds."""
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|[smhd])?\s*", re.ASCII)
"""A duration as text: a number and, if it is not in seconds, its unit."""


def _seconds(value: object) -> object:
    if isinstance(value, float | int) and not isinstance(value, bool):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError("should be a duration: a number of seconds, or text such as '500ms', '90s', '3m' or '1h'")
    return float(found[1]) * _UNITS[found[2] or "s"]


def share(text: str) -> float:
    """The number for a part of the whole, written as ``1/4``, ``25%`` or ``0.25``. Raises ``ValueError``."""
    numerator, _, denominator = text.strip().removesuffix("%").partition("/")
    try:
        number = float(numerator) / (float(denominator) if denominator else 1.0)
        return number / (100 if text.strip().endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError("should be a part of the whole, such as '1/4', '25%' or 0.25") from None


def _listed(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError('should be a list, in variables and flags as JSON: ["one", "two"]') from None


def _endpoint(value: str | None) -> str | None:
    if value is None:
        return None
    url = _address(value)
    if url is None or url.path.strip("/"):
        raise ValueError("should be a URL of scheme, host and port alone, such as https://host:8443")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname or "")):
        raise ValueError(
            "should begin with https; http is for loopback (127.0.0.1) only, because credentials travel there"
        )
    return value.rstrip("/")


def _collector(value: str | None) -> str | None:
    if value is None:
        return None
    url = _address(value)
    if url is None or url.scheme not in ("http", "https"):
        raise ValueError("should be a URL that begins with http or https, such as http://127.0.0.1:4318")
    if url.path.rstrip("/").endswith(("/v1/traces", "/v1/metrics")):
        raise ValueError("should end before /v1/traces and /v1/metrics, which are added")
    return value.rstrip("/")


def _address(value: str) -> SplitResult | None:
    """The parts of a URL that names a host, and no user, query or fragment; ``None`` for anything else."""
    try:
        url = urlsplit(value)
        host, _ = url.hostname, url.port  # a port that is none raises here
    except ValueError:
        return None
    return url if host and url.username is None and not url.query and not url.fragment else None


def is_loopback(host: str) -> bool:
    """Whether a host name or IP address is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _file(value: Path) -> Path:
    if not value.name or value.name == ".." or "\0" in str(value):
        raise ValueError("should name a file")
    return value


def _public_keys(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(each.text for each in recipients(value))
    except NoRecipientError as error:
        raise ValueError(f"{error}: {error.cure}") from None


IS_SECONDS = BeforeValidator(_seconds)
"""Converts a duration to seconds; it also marks a setting as a duration, so that it is shown with its unit."""
Seconds = Annotated[float, IS_SECONDS, Field(gt=0, allow_inf_nan=False), TypeName("duration, more than 0")]
"""A duration in seconds, more than zero."""
SecondsOrZero = Annotated[float, IS_SECONDS, Field(ge=0, allow_inf_nan=False), TypeName("duration")]
"""A duration in seconds; zero is allowed."""
Share = Annotated[
    float,
    BeforeValidator(lambda value: share(value) if isinstance(value, str) else value),
    Field(gt=0, le=1, allow_inf_nan=False),
    TypeName('share, as "1/4", "25%" or 0.25'),
]
"""A part of the whole: ``"1/4"``, ``"25%"`` or ``0.25``."""
Optional = Annotated[str | None, BeforeValidator(lambda value: None if value == "" else value), TypeName("text")]
"""Text; empty is the same as absent."""
Hidden = Annotated[
    SecretStr | None, BeforeValidator(lambda value: None if value == "" else value), TypeName("text, never shown")
]
"""A secret; empty is the same as absent. Neither its ``repr`` nor any complaint shows it."""
Endpoint = Annotated[
    Optional, AfterValidator(_endpoint), TypeName("URL without a path: https, or http on loopback only")
]
"""A URL without a path: https, or http on loopback."""
Collector = Annotated[Optional, AfterValidator(_collector), TypeName("URL, http or https")]
"""A URL to which no credential of a user is ever sent."""
File = Annotated[Path, AfterValidator(_file), TypeName("path of a file")]
"""The path of a file. ``load`` makes it absolute (see ``settings.paths``)."""
FileIfAny = Annotated[Path | None, AfterValidator(lambda value: value and _file(value)), TypeName("path of a file")]
"""The same, or none."""
Recipients = Annotated[
    tuple[str, ...], BeforeValidator(_listed), AfterValidator(_public_keys), TypeName("list of public keys")
]
"""The public keys that age reads, each once, in the form in which they are compared (``core.recipients``)."""


def required_with(kind: str, value: str | None, info: ValidationInfo) -> str | None:
    """The body of a validator for a setting that is required if its section's ``kind`` is this one.

    ``kind`` must be defined before the setting.
    """
    if value is None and info.data.get("kind") == kind:
        raise ValueError(f"is required where kind is {kind}")
    return value


def shown(value: object, *, is_seconds: bool = False) -> str:
    """A value as it is written in a settings file; empty for ``None``. Credentials in a URL are masked."""
    if value is None:
        return ""
    if is_seconds and isinstance(value, float):
        return f'"{value:g}s"'
    if isinstance(value, bool | int | float | tuple):
        return json.dumps(value)
    return json.dumps(_masked(str(value)))


def _masked(text: str) -> str:
    try:
        url = urlsplit(text)
    except ValueError:
        return text
    if not url.scheme or "@" not in url.netloc:
        return text
    return urlunsplit(url._replace(netloc=f"***@{url.netloc.rpartition('@')[2]}"))
