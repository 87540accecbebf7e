"""The operations that the fake Cognito implements, and on which of the account's quotas each of them draws.

See "Quotas in Amazon Cognito" in the developer guide; challenge answers have three times the quota of sign-ins.
"""

from __future__ import annotations

from enum import StrEnum


class Category(StrEnum):
    """One quota, which several operations share."""

    UPDATES = "UserResourceUpdate"
    SIGN_INS = "UserAuthentication"
    ANSWERS = "UserAuthentication, answers"
    READS = "UserRead"


OPERATIONS = {
    "AssociateSoftwareToken": Category.UPDATES,
    "VerifySoftwareToken": Category.UPDATES,
    "SetUserMFAPreference": Category.UPDATES,
    "AdminSetUserMFAPreference": Category.UPDATES,
    "InitiateAuth": Category.SIGN_INS,
    "AdminInitiateAuth": Category.SIGN_INS,
    "RespondToAuthChallenge": Category.ANSWERS,
    "GetUser": Category.READS,
}
"""Every operation that is implemented, and its quota."""

ANSWERS_THREEFOLD = 3
"""How many times the quota of sign-ins the quota of challenge answers is."""

SIGNED = frozenset({"AdminInitiateAuth", "AdminSetUserMFAPreference"})
"""The operations that IAM permits, so that they must be signed."""

SIGNING_IN = frozenset({"InitiateAuth", "AdminInitiateAuth", "RespondToAuthChallenge"})
"""The operations of a sign-in."""

CALLS = frozenset(OPERATIONS) - SIGNING_IN
"""The operations that come after a sign-in."""
