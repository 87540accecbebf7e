"""Each reason has one sentence of cause and one of cure, which name commands that exist."""

from __future__ import annotations

import shlex

import click
import pytest

from worker.cli import cli
from worker.core import causes
from worker.core.causes import Why, why
from worker.core.model import MISMATCHES, STATE_OF, Reason, State

STATES = [*State, causes.MALFORMED, causes.DEAD_LETTERS, causes.UNREQUESTED]
SENTENCES = [
    *(pytest.param(why(state), id=state) for state in STATES),
    *(pytest.param(why(STATE_OF[reason], reason), id=reason) for reason in Reason),
    *(pytest.param(each, id="-".join(key)) for key, each in causes._OF_DETAIL.items()),
    pytest.param(why("needs_session", "of_a_later_version"), id="later reason"),
    pytest.param(why("of_a_later_version"), id="later state"),
]


@pytest.mark.parametrize("told", SENTENCES)
def test_cause_and_cure_are_one_sentence_each(told: Why) -> None:
    for sentence in told:
        assert sentence[0].isupper()
        assert sentence.endswith(".") or causes.COMMAND.fullmatch(sentence.rpartition(": ")[2])
        assert ". " not in sentence
        assert "\n" not in sentence
        assert 8 <= len(sentence) <= 240
    assert told.cause.endswith(".")
    assert told.cause != told.cure


@pytest.mark.parametrize("told", SENTENCES)
def test_each_command_in_them_exists_with_its_options(told: Why) -> None:
    for named in causes.COMMAND.findall(f"{told.cause} {told.cure}"):
        program, *arguments = shlex.split(named)
        if program == "mfa-worker":
            command: click.Command = cli
            while isinstance(command, click.Group):
                command = command.commands[arguments.pop(0)]
            options = {option for each in command.params for option in each.opts}
            assert {each for each in arguments if each.startswith("-")} <= options


def test_every_reason_has_its_own_cause() -> None:
    said = [why(STATE_OF[reason], reason).cause for reason in Reason]
    assert len(set(said)) == len(Reason)


@pytest.mark.parametrize(
    ("reason", "detail", "cause", "cure"),
    [
        ("refused", "ResourceNotFoundException", "app client", "app client that exists"),
        ("refused", "ForbiddenException", "WAF", "admit"),
        ("refused", "OptInRequired", "(OptInRequired).", "Mend what the code in the detail names"),
        ("challenge_unanswerable", "SMS_MFA", "by text message", "push the access token"),
        ("challenge_unanswerable", "NEW_PASSWORD_REQUIRED", "temporary password", "--permanent"),
        ("challenge_unanswerable", "DEVICE_SRP_AUTH", "(DEVICE_SRP_AUTH).", "the challenge that the detail names"),
        ("preference_refused", "AccessDeniedException", "role", "AdminSetUserMFAPreference"),
        ("delivery_refused", "InvalidRequestException", "scheduled for deletion", "restore-secret"),
        ("dismissed", "left the company", "not to be enrolled: left the company", "Nothing"),
        ("session_expired", "anything", "The Session died", "--keep-fresh"),
        ("a_new_one", "x", "reason a_new_one", "that version"),
    ],
)
def test_a_detail_that_tells_more_changes_what_is_said(reason: str, detail: str, cause: str, cure: str) -> None:
    told = why(STATE_OF.get(reason, State.FAILED), reason, detail)
    assert cause in told.cause
    assert cure in told.cure


@pytest.mark.parametrize("reason", ["refused", "throttled_alone", "record_too_large", "preference_refused"])
def test_a_code_that_completes_a_cause_stands_before_its_full_stop(reason: str) -> None:
    plain, told = why(State.FAILED, reason), why(State.FAILED, reason, "SomeCode")
    assert told == Why(plain.cause.removesuffix(".") + " (SomeCode).", plain.cure)


@pytest.mark.parametrize(
    ("reason", "detail"), [("refused", "two words"), ("refused", "x" * 65), ("session_expired", "SomeCode")]
)
def test_a_detail_that_is_no_code_or_completes_nothing_is_left_out(reason: str, detail: str) -> None:
    assert why(State.FAILED, reason, detail) == why(State.FAILED, reason)


def test_what_a_later_version_wrote_is_named() -> None:
    assert "the state of_later, " in why("of_later").cause
    assert "the reason a_new_one, " in why("failed", "a_new_one").cause


@pytest.mark.parametrize("detail", MISMATCHES)
def test_what_does_not_fit_about_a_token_is_named(detail: str) -> None:
    assert why(State.FAILED, Reason.CREDENTIAL_MISMATCH, detail) != why(State.FAILED, Reason.CREDENTIAL_MISMATCH)
