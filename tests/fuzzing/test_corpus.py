"""Every input that once went wrong, or reaches what few others reach, is examined again in every test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzzing.dictionary import PIECES
from tests.fuzzing.harness import CORPUS, MARKER, RepeatedError, Target, examine
from tests.fuzzing.targets import TARGETS

MOST = 16_384
"""Bytes of a kept input."""


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_kept_and_what_parsers_stumble_over_is_still_taken_well(name: str) -> None:
    kept = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    for data in (*kept, *TARGETS[name].seeds, *PIECES):
        examine(TARGETS[name], data)


def test_the_corpus_is_small_and_each_file_of_it_is_of_a_target_and_kept_once() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= TARGETS.keys()
    assert all(path.stat().st_size <= MOST for path in files)
    assert len({(path.parent, path.read_bytes()) for path in files}) == len(files)


def refuse(data: bytes) -> None:
    raise ValueError(data.decode())


def repeat(data: bytes) -> str:
    return f"no such key: {data.decode()}"


def test_an_exception_that_is_not_documented_is_found() -> None:
    with pytest.raises(ValueError, match="x"):
        examine(Target(refuse, ()), b"x")
    examine(Target(refuse, (), documented=(ValueError,)), b"x")


@pytest.mark.parametrize("target", [Target(refuse, (), documented=(ValueError,)), Target(repeat, ())])
def test_words_that_repeat_a_credential_are_found(target: Target) -> None:
    with pytest.raises(RepeatedError):
        examine(target, b"{" + MARKER)


def test_a_credential_in_a_log_line_is_found() -> None:
    import structlog

    def log(data: bytes) -> None:
        structlog.get_logger().warning("malformed", text=data.decode())

    with pytest.raises(RepeatedError):
        examine(Target(log, ()), MARKER)


def test_no_target_is_there_twice(tmp_path: Path) -> None:
    from tests.fuzzing import of_aws, of_cognito, of_ledgers, of_people, of_requests, of_sealing, of_settings

    rooms = (of_aws, of_cognito, of_ledgers, of_people, of_requests, of_sealing, of_settings)
    assert sum(len(room.TARGETS) for room in rooms) == len(TARGETS)
