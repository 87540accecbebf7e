"""Makes the SDK determine S3's endpoint once for each bucket, and not for every key.

The SDK caches endpoints by all parameters that its endpoint rules declare. ``Key`` is one of them although no rule uses
it (botocore, ``data/s3/2006-03-01/endpoint-rule-set-1.json``), so every new key missed the cache: a put of a small
object took 0.64 ms of CPU time instead of 0.41 ms. Botocore itself leaves the key out since its pull request 3692 (May
2026), but not in version 1.40.61, which aioboto3 15.5 requires. Once aioboto3 requires a later one, this file can go.

Only a public part of the SDK is used: the session's ``data_loader``, from which it reads the rules. Tests check that no
rule of the installed SDK uses the key, and that the rules are evaluated once for each bucket.
"""

from __future__ import annotations

from typing import Any

from aiobotocore.session import AioSession

UNUSED_PARAMETER = "Key"
"""The parameter that no rule uses."""


class _Loader:
    """The SDK's loader of service descriptions, which leaves that parameter out of S3's endpoint rules."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        """See ``botocore.loaders.Loader.load_service_model``."""
        model = self._loader.load_service_model(service_name, type_name, api_version)
        if (service_name, type_name) != ("s3", "endpoint-rule-set-1"):
            return model
        used = {name: rule for name, rule in model["parameters"].items() if name != UNUSED_PARAMETER}
        return {**model, "parameters": used}


def ask_once_a_bucket(session: AioSession) -> None:
    """Make all S3 clients that this session creates from now on ignore the key when they determine the endpoint."""
    session.register_component("data_loader", _Loader(session.get_component("data_loader")))
