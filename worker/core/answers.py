"""The one short label for each answer that Cognito gave to one request; histories, figures and metrics use it."""

from __future__ import annotations

from worker.core.model import (
    AlreadyEnrolled,
    CustomChallenge,
    Issued,
    NotEnrolled,
    PoolFault,
    Preferred,
    Refused,
    SignedIn,
    TryAgain,
    Verified,
    WrongCode,
)

LABELS: dict[type, str] = {
    Issued: "issued",
    SignedIn: "signed_in",
    CustomChallenge: "challenge",
    AlreadyEnrolled: "already_enrolled",
    NotEnrolled: "not_enrolled",
    Verified: "verified",
    WrongCode: "wrong_code",
    Preferred: "preferred",
    Refused: "refused",
    PoolFault: "pool_fault",
}
"""The label of each kind of answer. Those that have to be asked for again are labelled by why (``model.Trouble``)."""


def answer(reply: object) -> str:
    """The label of what one attempt of ``ports.Provider`` or ``ports.SignIns`` brought.

    It names no user, and holds nothing that was sent or received.
    """
    return reply.trouble.value if isinstance(reply, TryAgain) else LABELS[type(reply)]
