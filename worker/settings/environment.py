"""What the environment must not do: undo what protects sessions and secrets on their way."""

from __future__ import annotations

from collections.abc import Mapping

from worker.core.errors import UsageError


def refuse_key_log(environment: Mapping[str, str]) -> None:
    """Raise ``UsageError`` where libraries are told to write the keys of every TLS connection to a file.

    Whoever has that file and a copy of the traffic reads every session, token and secret in it.
    """
    if environment.get("SSLKEYLOGFILE"):
        raise UsageError(
            "SSLKEYLOGFILE is set: the keys of TLS connections, which carry sessions and secrets, would go to a file",
            "take it out of the environment, then run the same command again: unset SSLKEYLOGFILE",
        )
