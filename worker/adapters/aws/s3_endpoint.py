"""S3's endpoint is worked out once a bucket, and not once a key: that was a third of what delivering a secret costs.

The SDK remembers endpoints by all parameters of its rules. ``Key`` is one of them, and no rule looks at it (botocore,
``data/s3/2006-03-01/endpoint-rule-set-1.json``), so each new key was a new question. A test holds this against the
rules of the SDK that is installed.
"""

from __future__ import annotations

from typing import Any

NOT_ASKED = "Key"


def ask_once_a_bucket(s3: Any) -> None:
    """From now on this client leaves the key out when it works out where to send a request."""
    provider = s3._ruleset_resolver._provider
    resolve = provider.resolve_endpoint
    provider.resolve_endpoint = lambda **asked: resolve(**{name: asked[name] for name in asked if name != NOT_ASKED})
