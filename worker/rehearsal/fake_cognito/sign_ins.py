"""The fake Cognito's sign-ins: what a password, a ticket or a one-time code brings, for every status of a user.

    begin:  InitiateAuth, AdminInitiateAuth  →  tokens, or a challenge with its Session
    answer: RespondToAuthChallenge           →  the same

Refresh and ID tokens come along, as from Cognito; nothing here takes them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

from worker.rehearsal.fake_cognito import answers, triggers
from worker.rehearsal.fake_cognito.answers import Answer
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.rehearsal.fake_cognito.credentials import Credentials, Opened, Purpose
from worker.rehearsal.fake_cognito.enrolments import CodeResult, Enrolments
from worker.rehearsal.fake_cognito.triggers import CHALLENGE, Asked, Event, Trigger, TriggerError
from worker.rehearsal.fake_cognito.users import TOTP, Status, User, Users

_PASSWORD_FLOWS = {
    "InitiateAuth": ("USER_PASSWORD_AUTH",),
    "AdminInitiateAuth": ("ADMIN_USER_PASSWORD_AUTH", "ADMIN_NO_SRP_AUTH"),
}
"""By operation: the flows with a password; the last name is the old one of the one before it."""

_PURPOSES = {
    CHALLENGE: Purpose.CUSTOM,
    TOTP: Purpose.CODE,
    "SELECT_MFA_TYPE": Purpose.CHOICE,
    "MFA_SETUP": Purpose.RESPOND,
}
"""What an answer's Session must be for, by challenge; those of other challenges nobody here can meet."""

_BEFORE_THE_PASSWORD = {Status.DISABLED: answers.DISABLED, Status.RESET_REQUIRED: answers.RESET_REQUIRED}
"""Refusals for which the password does not matter."""

Parameters = dict[str, Any]


class SignIns:
    """Signs users in. ``config`` may be replaced while it runs; ``now`` returns UNIX seconds."""

    def __init__(
        self,
        config: FakeCognitoConfig,
        credentials: Credentials,
        enrolments: Enrolments,
        now: Callable[[], float],
        trigger: Trigger | None,
    ) -> None:
        self.users = Users()
        self._credentials = credentials
        self._enrolments = enrolments
        self._now = now
        self._given = trigger
        self._outstanding: dict[int, tuple[Event, tuple[Event, ...]]] = {}
        """By the number of its Session: the private parameters of a challenge of the triggers, and what preceded it."""
        self.configure(config)

    def configure(self, config: FakeCognitoConfig) -> None:
        """Take over changed settings. Raises ValueError for a ticket key that is none."""
        own = triggers.ticket_triggers(config.ticket_key, self._now) if config.ticket_key else None
        self._trigger = self._given or own
        self._config = config

    def find(self, username: str) -> User | None:
        """Return the user of that name; None if there is none."""
        config = self._config
        return self.users.find(username, password=config.password, everybody=config.knows_everybody)

    def factors(self, username: str) -> list[str]:
        """Return the second factors that the user can be asked for."""
        user = self.find(username) or User()
        active = self._enrolments.is_enabled(username) or (
            self._config.mfa == "required" and self._enrolments.is_verified(username)
        )
        return [*user.factors, *([TOTP] if active and TOTP not in user.factors else [])]

    def preferred(self, username: str) -> str | None:
        """Return the factor that the user prefers."""
        return TOTP if self._enrolments.is_preferred(username) else (self.find(username) or User()).preferred

    # --- the beginning of a sign-in ---

    def begin(self, operation: str, parameters: Parameters) -> Answer:
        """InitiateAuth or AdminInitiateAuth."""
        given, flow = parameters.get("AuthParameters"), parameters.get("AuthFlow")
        if not isinstance(given, dict) or not isinstance(flow, str):
            return answers.invalid_parameter("AuthFlow and AuthParameters are required")
        if refusal := self._refused_client(operation, parameters, flow):
            return refusal
        if refusal := self._refused_user(given):
            return refusal
        username = given["USERNAME"]
        user = self.find(username)
        if user is None and not self._config.prevent_user_existence_errors:
            return answers.NO_USER
        if flow == "CUSTOM_AUTH":
            return self._begin_custom(username, user)
        password = given.get("PASSWORD")
        if not isinstance(password, str):
            return answers.invalid_parameter("Missing required parameter PASSWORD")
        return self._by_password(username, user, password)

    def _refused_client(self, operation: str, parameters: Parameters, flow: str) -> Answer | None:
        config = self._config
        if operation == "AdminInitiateAuth" and parameters.get("UserPoolId") != config.user_pool_id:
            return answers.error(
                "ResourceNotFoundException", f"User pool {parameters.get('UserPoolId')} does not exist."
            )
        if refusal := self._unknown_client(parameters):
            return refusal
        allowed = f"ALLOW_{_PASSWORD_FLOWS[operation][0] if flow in _PASSWORD_FLOWS[operation] else flow}"
        if flow not in (*_PASSWORD_FLOWS[operation], "CUSTOM_AUTH") or allowed not in config.flows:
            return answers.invalid_parameter(f"{flow} flow not enabled for this client")
        if flow == "CUSTOM_AUTH" and self._trigger is None:
            return answers.NO_TRIGGERS
        return None

    def _unknown_client(self, parameters: Parameters) -> Answer | None:
        client = parameters.get("ClientId")
        if client == self._config.client_id:
            return None
        return answers.error("ResourceNotFoundException", f"User pool client {client} does not exist.")

    def _refused_user(self, given: Parameters) -> Answer | None:
        """Who names nobody, or has the wrong SECRET_HASH."""
        config, username, told = self._config, given.get("USERNAME"), given.get("SECRET_HASH")
        if not isinstance(username, str) or not username:
            return answers.invalid_parameter("Missing required parameter USERNAME")
        if config.client_secret is None:
            unwanted = f"Client {config.client_id} is configured without secret but SECRET_HASH was received"
            return answers.not_authorized(unwanted) if told is not None else None
        if told is None:
            missing = f"Client {config.client_id} is configured with secret but SECRET_HASH was not received"
            return answers.not_authorized(missing)
        content = f"{username}{config.client_id}".encode("utf-8", "surrogatepass")
        right = base64.b64encode(hmac.digest(config.client_secret.encode(), content, hashlib.sha256))
        if not hmac.compare_digest(right, str(told).encode("utf-8", "replace")):
            return answers.not_authorized(f"Unable to verify secret hash for client {config.client_id}")
        return None

    def _by_password(self, username: str, user: User | None, password: str) -> Answer:
        if self.users.is_locked(username, self._now()):
            return answers.LOCKED
        if user is not None and (refusal := _BEFORE_THE_PASSWORD.get(user.status)):
            return refusal
        if user is None or user.password is None or user.password != password:
            self.users.was_wrong(username, self._now())
            return answers.WRONG_PASSWORD
        self.users.was_right(username)
        if user.status is Status.UNCONFIRMED:
            return answers.UNCONFIRMED
        if user.status is Status.FORCE_CHANGE_PASSWORD:
            told = {"requiredAttributes": "[]", "userAttributes": "{}"}
            return self._challenge(username, "NEW_PASSWORD_REQUIRED", Purpose.UNANSWERABLE, **told)
        return self._after_the_password(username)

    def _after_the_password(self, username: str) -> Answer:
        factors, preferred = self.factors(username), self.preferred(username)
        if self._config.mfa == "off" or (not factors and self._config.mfa == "optional"):
            return self._tokens(username)
        if not factors:
            return self._challenge(username, "MFA_SETUP", Purpose.ASSOCIATE, MFAS_CAN_SETUP=json.dumps([TOTP]))
        if len(factors) > 1 and preferred not in factors:
            choice = json.dumps(factors)
            return self._challenge(username, "SELECT_MFA_TYPE", Purpose.CHOICE, MFAS_CAN_CHOOSE=choice)
        return self._ask_for(username, preferred if preferred in factors else factors[0])

    def _ask_for(self, username: str, factor: str | None) -> Answer:
        purpose = Purpose.CODE if factor == TOTP else Purpose.UNANSWERABLE
        return self._challenge(username, str(factor), purpose, USER_ID_FOR_SRP=username)

    # --- the answers ---

    def answer(self, parameters: Parameters, opened: Opened | None) -> Answer:
        """RespondToAuthChallenge; ``opened`` is the content of its Session."""
        given, challenge = parameters.get("ChallengeResponses"), parameters.get("ChallengeName")
        if not isinstance(given, dict) or not isinstance(challenge, str):
            return answers.invalid_parameter("ChallengeName and ChallengeResponses are required")
        if refusal := self._unknown_client(parameters) or self._refused_user(given):
            return refusal
        purpose = _PURPOSES.get(challenge, Purpose.UNANSWERABLE)
        session = self._credentials.judge(opened, purpose, self._now())
        if isinstance(session, Answer):
            return session
        return self._judge_answer(session, given) if session.username == given["USERNAME"] else answers.SESSION_INVALID

    def _judge_answer(self, session: Opened, given: Parameters) -> Answer:
        username = session.username
        match session.purpose:
            case Purpose.CUSTOM:
                return self._answer_custom(session, given)
            case Purpose.CODE:
                return self._answer_code(session, given)
            case Purpose.CHOICE if given.get("ANSWER") in self.factors(username):
                self._credentials.spend(session)
                return self._ask_for(username, given["ANSWER"])
            case Purpose.RESPOND:
                self._credentials.spend(session)
                return self._tokens(username)
        return answers.MISMATCH

    def _answer_code(self, session: Opened, given: Parameters) -> Answer:
        code = given.get("SOFTWARE_TOKEN_MFA_CODE")
        if not isinstance(code, str):
            return answers.invalid_parameter("Missing required parameter SOFTWARE_TOKEN_MFA_CODE")
        match self._enrolments.sign_in(session.username, code, self._now()):
            case CodeResult.WRONG:
                return answers.MISMATCH
            case CodeResult.USED:
                return answers.CODE_USED
        self._credentials.spend(session)
        return self._tokens(session.username)

    # --- the pool's own challenge ---

    def _begin_custom(self, username: str, user: User | None) -> Answer:
        if user is not None and (refusal := _BEFORE_THE_PASSWORD.get(user.status)):
            return refusal
        if user is not None and user.status is Status.UNCONFIRMED:
            return answers.UNCONFIRMED
        return self._next_custom(self._asked(username))

    def _answer_custom(self, session: Opened, given: Parameters) -> Answer:
        answer = given.get("ANSWER")
        if not isinstance(answer, str):
            return answers.invalid_parameter("Missing required parameter ANSWER")
        private, history = self._outstanding.pop(session.serial)
        self._credentials.spend(session)
        asked = self._asked(session.username)
        try:
            result = self._call(
                "VerifyAuthChallengeResponse", asked, privateChallengeParameters=private, challengeAnswer=answer
            )
        except TriggerError as error:
            return error.answer
        correct = result.get("answerCorrect") is True
        met = {"challengeName": CHALLENGE, "challengeResult": correct, "challengeMetadata": None}
        return self._next_custom(asked._replace(history=(*history, met)))

    def _next_custom(self, asked: Asked) -> Answer:
        """What the triggers decide: tokens, a refusal, or a challenge."""
        try:
            decided = self._call("DefineAuthChallenge", asked, session=list(asked.history))
            if decided.get("failAuthentication"):
                return answers.WRONG_PASSWORD
            if decided.get("issueTokens"):
                return answers.WRONG_PASSWORD if asked.is_unknown else self._tokens(asked.username)
            if decided.get("challengeName") != CHALLENGE:
                return answers.error("InvalidLambdaResponseException", "Unrecognizable lambda output")
            made = self._call("CreateAuthChallenge", asked, challengeName=CHALLENGE, session=list(asked.history))
        except TriggerError as error:
            return error.answer
        public = made.get("publicChallengeParameters") or {}
        session, text = self._session(asked.username, Purpose.CUSTOM)
        self._outstanding[session.serial] = (made.get("privateChallengeParameters") or {}, asked.history)
        return answers.success(
            ChallengeName=CHALLENGE, Session=text, ChallengeParameters={**public, "USERNAME": asked.username}
        )

    def _call(self, source: str, asked: Asked, **request: Any) -> Event:
        if self._trigger is None:
            raise TriggerError(answers.NO_TRIGGERS)
        return triggers.call(self._trigger, source, asked, **request)

    def _asked(self, username: str) -> Asked:
        config = self._config
        return Asked(config.region, config.user_pool_id, config.client_id, username, self.find(username) is None)

    # --- what a sign-in brings ---

    def _challenge(self, username: str, name: str, purpose: Purpose, **told: str) -> Answer:
        session = self._session(username, purpose)[1]
        return answers.success(ChallengeName=name, Session=session, ChallengeParameters=told)

    def _session(self, username: str, purpose: Purpose) -> tuple[Opened, str]:
        expires_at = self._now() + self._config.session_validity
        return self._credentials.opened_session(username, expires_at, purpose)

    def _tokens(self, username: str) -> Answer:
        now = self._now()
        expires_at = now + self._config.token_validity
        brought = {
            "AccessToken": self._credentials.token(username, now, expires_at),
            "ExpiresIn": int(self._config.token_validity),
            "IdToken": self._credentials.id_token(username, now, expires_at),
            "RefreshToken": self._credentials.refresh_token(),
            "TokenType": "Bearer",
        }
        return answers.success(AuthenticationResult=brought, ChallengeParameters={})
