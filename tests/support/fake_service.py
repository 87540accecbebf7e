"""The fake Cognito without a network, whose time stands still until a test moves it."""

from __future__ import annotations

from typing import Any

from tests.support.totp import code_at
from worker.rehearsal.fake_cognito.answers import Answer
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.rehearsal.fake_cognito.service import FakeUserPool
from worker.rehearsal.fake_cognito.triggers import Trigger

ASSOCIATE, VERIFY, PREFER = "AssociateSoftwareToken", "VerifySoftwareToken", "SetUserMFAPreference"
RESPOND = "RespondToAuthChallenge"


class Service:
    """A Cognito whose time stands still until a test moves it."""

    def __init__(self, *, trigger: Trigger | None = None, now: float = 1_700_000_000.0, **settings: Any) -> None:
        self.now = now
        free = {"quota": None, "sign_in_quota": None, "read_quota": None, "latency": 0.0}
        config = FakeCognitoConfig(**{**free, **settings})
        self.cognito = FakeUserPool(config, wall=lambda: self.now, monotonic=lambda: self.now, trigger=trigger)

    def call(self, operation: str, *, authorization: str = "", **parameters: Any) -> Answer:
        call = self.cognito.arrive(operation, parameters, authorization)
        answer = self.cognito.act(call)
        self.cognito.leave(call)
        return answer

    def result(self, operation: str, **parameters: Any) -> dict[str, Any]:
        answer = self.call(operation, **parameters)
        assert answer.error is None, answer
        assert isinstance(answer.body, dict)
        return answer.body

    def session(self, username: str = "ana", **how: Any) -> str:
        return self.cognito.sign_in(username, **how)[0]

    def token(self, username: str = "ana", **how: Any) -> str:
        return self.cognito.sign_in(username, "token", **how)[0]

    def secrets(self, username: str = "ana") -> list[str]:
        return [secret["secret_code"] for secret in self.cognito.enrolments.truth(username)["secrets"]]

    # --- signing in ---

    def client(self) -> dict[str, str]:
        return {"ClientId": self.cognito.config.client_id}

    def begin(self, flow: str, **given: str) -> Answer:
        return self.call("InitiateAuth", **self.client(), AuthFlow=flow, AuthParameters=given)

    def password(self, password: str, username: str = "ana") -> Answer:
        return self.begin("USER_PASSWORD_AUTH", USERNAME=username, PASSWORD=password)

    def respond(self, challenge: str, session: str, username: str = "ana", **given: str) -> Answer:
        answered = {"USERNAME": username, **given}
        return self.call(
            RESPOND, **self.client(), ChallengeName=challenge, Session=session, ChallengeResponses=answered
        )

    def ticket(self, ticket: str, username: str = "ana") -> Answer:
        """The whole sign-in with a ticket; its last answer."""
        begun = self.begin("CUSTOM_AUTH", USERNAME=username)
        if begun.error is not None:
            return begun
        told = body(begun)
        assert told["ChallengeName"] == "CUSTOM_CHALLENGE"
        return self.respond("CUSTOM_CHALLENGE", told["Session"], username, ANSWER=ticket)

    def enrol(self, preference: dict[str, bool] | None = None, username: str = "ana") -> str:
        """Issue and verify a secret, and set the preference where one is given; the secret."""
        token = self.token(username)
        secret = str(self.result(ASSOCIATE, AccessToken=token)["SecretCode"])
        self.result(VERIFY, AccessToken=token, UserCode=code_at(secret, self.now))
        if preference:
            self.result(PREFER, AccessToken=token, SoftwareTokenMfaSettings=preference)
        return secret


def body(answer: Answer) -> dict[str, Any]:
    """The result in a success."""
    assert answer.error is None, answer
    assert isinstance(answer.body, dict)
    return answer.body
