"""The settings of the Secrets Manager channel."""

from __future__ import annotations

from worker.adapters.channels.named import NamedSettings


class SecretsManagerSettings(NamedSettings):
    """How secrets are named, and which key encrypts them; there are no settings of its own."""
