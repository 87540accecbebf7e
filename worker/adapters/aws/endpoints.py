"""Which addresses a request may be sent to: AWS's own, and those that somebody has configured.

More than the settings decides where the SDK sends a request: variables, ``services`` in the configuration file, and the
SDK's own models, which ``AWS_DATA_PATH``, ``data_path`` or a folder ``~/.aws/models`` replace. Requests carry sessions,
tokens and secrets, so whatever decided, the address is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from worker.core.errors import UsageError
from worker.settings.types import is_loopback

SUFFIXES = (
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "api.aws",
    "api.amazonwebservices.com.cn",
    "api.amazonwebservices.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
    "api.aws.ic.gov",
    "api.aws.scloud",
    "api.cloud-aws.adc-e.uk",
    "api.aws.hci.ic.gov",
)
"""The domains of AWS's endpoints in all partitions (``dnsSuffix`` and ``dualStackDnsSuffix`` of botocore's
``partitions.json``; a test compares them)."""

_SERVICES = "cognito-idp|sqs|dynamodb|secretsmanager|kms|sts|servicequotas|cloudformation|portal\\.sso|oidc|sso"
"""What the hosts of services begin with whose endpoints have the usual form (AWS general reference)."""
_REGION = r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}"
_HOSTS = (
    rf"(?:{_SERVICES})(?:-fips)?(?:\.dualstack)?\.{_REGION}",
    rf"(?:[a-z0-9.-]+\.)?s3(?:-fips)?(?:\.dualstack)?[.-]{_REGION}",  # with the bucket before, or not
    r"(?:[a-z0-9.-]+\.)?s3",
    r"sts",
    rf"(?:{_REGION}\.)?queue",
    rf"[0-9]{{12}}\.ddb(?:-fips)?\.{_REGION}",
)
_AWS = re.compile(rf"(?:{'|'.join(_HOSTS)})\.(?:{'|'.join(map(re.escape, SUFFIXES))})")
"""The hosts of these services. Not every host of AWS's domains is AWS's: customers' machines and gateways have some."""


def is_aws(url: str) -> bool:
    """Whether that is the address of one of the AWS services that are used here, by https."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and parts.port in (None, 443) and bool(_AWS.fullmatch(parts.hostname or ""))
    except ValueError:
        return False


class Addresses:
    """The addresses that one client may send requests to.

    ``configured`` returns the URLs that settings, variables or the configuration file name for its services; it is only
    asked for an address that is not AWS's own. ``what``: whose address it is, for people.
    """

    def __init__(self, what: str, configured: Callable[[], Iterable[str | None]]) -> None:
        self._what, self._configured = what, configured
        self._admitted: set[str] = set()

    def admit(self, url: str) -> None:
        """Raise ``UsageError`` if no request may be sent there."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin in self._admitted:
            return
        if not is_aws(url) and not self._is_configured(origin):
            host = parts.hostname or "nowhere"
            raise UsageError(
                f"{self._what} would go to {host if host.isprintable() else '?'}, which is neither AWS nor configured",
                "look at AWS_DATA_PATH, data_path in ~/.aws/config, ~/.aws/models and AWS_ENDPOINT_URL: an address "
                "that is not AWS's must be named in the settings, by https (http on loopback only)",
            )
        self._admitted.add(origin)

    def _is_configured(self, origin: str) -> bool:
        for url in self._configured():
            named = urlsplit(url or "")
            host = named.hostname or ""
            safe = named.scheme == "https" or (named.scheme == "http" and is_loopback(host))
            asked = urlsplit(origin)
            same_host = asked.hostname == host or (asked.hostname or "").endswith(f".{host}")  # a bucket before it
            if url and safe and asked.scheme == named.scheme and same_host and asked.port == named.port:
                return True
        return False
