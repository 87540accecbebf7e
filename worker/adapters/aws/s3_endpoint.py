"""S3's endpoint is worked out once a bucket, and not once for every key.

The SDK remembers each endpoint under all the parameters that its rules name. ``Key`` is one of them although no rule
looks at it (botocore, ``data/s3/2006-03-01/endpoint-rule-set-1.json``), so each new key was a new question: a put of a
small object took 0.64 ms of CPU instead of 0.41 ms. Botocore itself leaves the key out since its pull request 3692
(May 2026); the version that aioboto3 15.5 asks for, 1.40.61, does not. Once aioboto3 asks for a later one, this can go.

What is used is public: the session's ``data_loader``, from which the SDK takes the rules. Tests hold against the rules
of the installed SDK that none looks at the key, and that they are asked once a bucket.
"""

from __future__ import annotations

from typing import Any

from aiobotocore.session import AioSession

UNUSED_PARAMETER = "Key"
"""The parameter that no rule looks at."""


class _Loader:
    """The SDK's loader of what it knows about services, but for that parameter of S3's rules."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        """As ``botocore.loaders.Loader`` has it."""
        model = self._loader.load_service_model(service_name, type_name, api_version)
        if (service_name, type_name) != ("s3", "endpoint-rule-set-1"):
            return model
        used = {name: rule for name, rule in model["parameters"].items() if name != UNUSED_PARAMETER}
        return {**model, "parameters": used}


def ask_once_a_bucket(session: AioSession) -> None:
    """Clients of S3 that this session makes from now on leave the key out when they work out where to send."""
    session.register_component("data_loader", _Loader(session.get_component("data_loader")))
