"""A line of the channel says whose record it holds, and which generation: nothing else is a line."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from worker.core.record import is_line, line_address, parse_object, record_address, require_address

LINE: dict[str, Any] = {"username": "zoë", "generation": 2, "attempt_id": "a", "sealed": "YWdl"}
DIGEST = hashlib.sha256("zoë".encode()).digest()


def test_a_line_holds_the_name_or_its_digest() -> None:
    by_digest = {"username_sha256": DIGEST.hex(), "generation": 2, "sealed": "YWdl"}
    assert line_address(LINE) == line_address(by_digest) == record_address(LINE) == (DIGEST, 2)
    assert is_line(json.dumps(LINE))
    assert is_line(json.dumps(by_digest))


@pytest.mark.parametrize("generation", [0, 1, 2**63 - 1])
def test_any_generation_that_a_ledger_can_keep_is_one(generation: int) -> None:
    assert line_address({**LINE, "generation": generation}) == (DIGEST, generation)


@pytest.mark.parametrize(
    "change",
    [
        {"username": 1},
        {"username": None},
        {"generation": "2"},
        {"generation": True},
        {"generation": 2.0},
        {"generation": -1},
        {"generation": 2**63},
        {"sealed": None},
        {"sealed": ["YWdl"]},
        {"username": ..., "username_sha256": DIGEST.hex().upper()},
        {"username": ..., "username_sha256": DIGEST.hex()[1:]},
        {"username": ..., "username_sha256": 1},
        {"username": ...},
        {"generation": ...},
        {"sealed": ...},
    ],
    ids=str,
)
def test_a_line_that_lacks_something_or_has_it_in_another_form_is_none(change: dict[str, Any]) -> None:
    line = {key: value for key, value in {**LINE, **change}.items() if value is not ...}
    assert not is_line(json.dumps(line))


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "1", "{", f"{json.dumps(LINE)} {{}}", pytest.param("[" * 100_000, id="nested without an end")],
)
def test_what_is_no_json_object_is_no_line(text: str) -> None:
    assert not is_line(text)
    with pytest.raises((ValueError, TypeError)):
        parse_object(text.encode())


def test_an_object_of_several_lines_is_no_line() -> None:
    assert not is_line(json.dumps(LINE, indent=1))


def test_a_record_of_another_user_or_generation_is_refused() -> None:
    assert require_address(LINE, (DIGEST, 2)) is LINE
    for other in ({**LINE, "username": "zoe"}, {**LINE, "generation": 1}):
        with pytest.raises(ValueError, match="something else than the record within"):
            require_address(other, (DIGEST, 2))
