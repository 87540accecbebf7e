"""What a sign-in sends: the flow, the ticket or password, and the proof that the app client's secret is known."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.adapters.cognito.answers import Operation
from worker.adapters.cognito.sign_in_answers import ADMIN_INITIATE, INITIATE, Asked
from worker.core.model import CredentialKind, CustomChallenge, Request, Secret

_AUTH_FLOW = {
    "custom_auth": "CUSTOM_AUTH",
    "user_password": "USER_PASSWORD_AUTH",
    "admin_user_password": "ADMIN_USER_PASSWORD_AUTH",
}
"""``sign_in.flow`` → ``AuthFlow`` (API reference, InitiateAuth and AdminInitiateAuth)."""


@dataclass(frozen=True, slots=True)
class SignInConfig:
    """How users are signed in: the settings of ``[sign_in]``, and of the pool."""

    flow: str
    """``custom_auth``, ``user_password`` or ``admin_user_password``."""
    client_id: str
    client_secret: Secret | None
    user_pool_id: str
    session_validity: float
    """Seconds that a Session lives in this app client."""

    def begin(self, request: Request) -> tuple[Operation, Mapping[str, Any]]:
        """The operation that begins to sign the user in, and its parameters."""
        with_password = {"PASSWORD": request.credential.reveal()} if request.kind is CredentialKind.PASSWORD else {}
        content: dict[str, Any] = {
            "AuthFlow": _AUTH_FLOW[self.flow],
            "ClientId": self.client_id,
            "AuthParameters": {**self._who(request.username), **with_password},
        }
        if self.flow != "admin_user_password":
            return INITIATE, content
        return ADMIN_INITIATE, {**content, "UserPoolId": self.user_pool_id}

    def answer(self, request: Request, challenge: CustomChallenge) -> Mapping[str, Any]:
        """The parameters of RespondToAuthChallenge with the ticket."""
        return {
            "ChallengeName": "CUSTOM_CHALLENGE",
            "ClientId": self.client_id,
            "Session": challenge.session.reveal(),
            "ChallengeResponses": {**self._who(request.username), "ANSWER": request.credential.reveal()},
        }

    def asked(self, operation: Operation, request: Request, sent_at: float) -> Asked:
        """What the answer to that request, sent at ``sent_at`` (UTC seconds), has to fit."""
        return Asked(operation, request.username, request.kind, self.user_pool_id, self.session_validity, sent_at)

    def _who(self, username: str) -> dict[str, str]:
        if self.client_secret is None:
            return {"USERNAME": username}
        return {"USERNAME": username, "SECRET_HASH": secret_hash(self.client_secret, username, self.client_id)}


def secret_hash(client_secret: Secret, username: str, client_id: str) -> str:
    """``SECRET_HASH``, which goes into every sign-in with a client that has a secret.

    (Developer guide, "Computing secret hash values": HMAC-SHA256 of the username and the client's id, in Base64.)
    """
    text = (username + client_id).encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(client_secret.reveal().encode(), text, hashlib.sha256)).decode()
