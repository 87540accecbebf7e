"""A secret is told to nobody who does not ask for it: not by a log, not by an error, not by a copy of the program."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import pytest

from worker.core.model import Secret

VALUE = "JBSWY3DPEHPK3PXP"


@dataclass(frozen=True)
class Holder:
    """What holds one, as requests do."""

    secret: Secret


def test_however_it_is_written_only_stars_are_seen() -> None:
    secret = Secret(VALUE)
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{[secret]}"):
        assert shown.strip("[]") == "***"
    assert repr(Holder(secret)).endswith("Holder(secret=***)")


def test_only_who_asks_is_told() -> None:
    assert Secret(VALUE).reveal() == VALUE


def test_equal_secrets_are_one_in_a_set_and_others_are_not() -> None:
    assert {Secret(VALUE), Secret(VALUE), Secret("another")} == {Secret("another"), Secret(VALUE)}
    assert Secret(VALUE) != VALUE


def test_it_leaves_the_process_in_no_pickle_and_the_error_says_why() -> None:
    for held in (Secret(VALUE), Holder(Secret(VALUE)), [Secret(VALUE)]):
        with pytest.raises(TypeError, match="a secret is not pickled"):
            pickle.dumps(held)
