"""What a script may import from ``worker.errors``."""

from __future__ import annotations

import inspect

import pytest

from worker import errors
from worker.core import errors as core_errors


def test_a_script_can_catch_every_error_that_there_is() -> None:
    every = {
        name
        for name, what in vars(core_errors).items()
        if inspect.isclass(what) and what.__module__ == core_errors.__name__
    }
    assert every <= set(errors.__all__)


def test_a_script_that_catches_an_error_by_its_former_name_still_does() -> None:
    for former in ("DependencyAway", "EndpointAway", "QueueAway", "LedgerAway", "ChannelAway"):
        assert getattr(errors, former) is getattr(core_errors, former.replace("Away", "Unavailable"))


def test_a_cause_is_the_text_of_an_error_and_a_cure_need_not_be_given() -> None:
    assert (str(errors.UsageError("no such file")), errors.UsageError("no such file").hint) == ("no such file", "")
    assert str(errors.RecordRefused("TooLarge")) == "TooLarge"


@pytest.mark.parametrize(
    ("error", "what", "cure"),
    [
        (errors.RowUnreadable("ana", "a later version", "update this worker"), "a later version", "update this worker"),
        (errors.RowDamaged("ana"), "it is not what was written", "mfa-worker recover shows how"),
    ],
)
def test_a_row_that_cannot_be_read_is_told_with_its_user_and_what_to_do(
    error: errors.RowUnreadable, what: str, cure: str
) -> None:
    assert str(error).startswith("the row of 'ana' in the ledger cannot be read: ")
    assert what in str(error)
    assert error.hint.endswith(cure)
    assert error.username == "ana"
