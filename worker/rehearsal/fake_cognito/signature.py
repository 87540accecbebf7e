"""Whether a request is signed as the operations want it that IAM permits: well-formed, for this Region and service.

The fake Cognito knows no key of AWS, so it cannot say whether the signature itself is right.
"""

from __future__ import annotations

import re

from worker.rehearsal.fake_cognito import answers
from worker.rehearsal.fake_cognito.answers import Answer

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[A-Za-z0-9]{3,128})/(?P<date>\d{8})/(?P<region>[^/ ,]+)/(?P<service>[^/ ,]+)"
    r"/aws4_request, ?SignedHeaders=(?P<headers>[a-z0-9;-]+), ?Signature=[0-9a-f]{64}"
)
"""The header ``Authorization`` of Signature Version 4 ("Authenticating requests", IAM user guide)."""

_MUST_BE_SIGNED = {"host", "x-amz-date", "x-amz-target"}
"""Headers without which a signature could be used for something else."""


def refusal(authorization: str, region: str) -> Answer | None:
    """Return what is wrong with the header `Authorization`; None where the request is signed as it should be."""
    if not authorization:
        return answers.error("MissingAuthenticationTokenException", "Missing Authentication Token")
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None or not set(found["headers"].split(";")) >= _MUST_BE_SIGNED:
        return answers.error(
            "IncompleteSignatureException",
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.",
        )
    if found["region"] != region:
        return answers.error("InvalidSignatureException", "Credential should be scoped to a valid region.")
    if found["service"] != "cognito-idp":
        return answers.error(
            "InvalidSignatureException", "Credential should be scoped to correct service: 'cognito-idp'."
        )
    return None
