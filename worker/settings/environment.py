"""What the environment must not do: undo what protects sessions and secrets on their way."""

from __future__ import annotations

import os
from collections.abc import Mapping

from worker.core.errors import UsageError

SECRET = ("AWS_", "MFA_WORKER_", "OTEL_")
"""How the variables begin that may hold credentials: of AWS, a client secret, headers for a collector."""


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a process of ours that needs no credentials."""
    return {name: text for name, text in environment.items() if not name.upper().startswith(SECRET)}


def ignore_empty_certificates() -> None:
    """Take variables that name no file of certificates out of this process's environment.

    Earlier versions of the exporter for OpenTelemetry hand an empty name on to requests, which then checks nothing.
    """
    for signal in ("", "TRACES_", "METRICS_"):
        name = f"OTEL_EXPORTER_OTLP_{signal}CERTIFICATE"
        if not os.environ.get(name, "x").strip():
            del os.environ[name]


def refuse_key_log(environment: Mapping[str, str]) -> None:
    """Raise ``UsageError`` where libraries are told to write the keys of every TLS connection to a file.

    Whoever has that file and a copy of the traffic reads every session, token and secret in it.
    """
    if environment.get("SSLKEYLOGFILE"):
        raise UsageError(
            "SSLKEYLOGFILE is set: the keys of TLS connections, which carry sessions and secrets, would go to a file",
            "take it out of the environment, then run the same command again: unset SSLKEYLOGFILE",
        )
