"""Any row becomes an item and comes back as it was, and nothing but a user's item is taken for one."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import NASTY_NAMES, enrolments, row, sealed
from worker.adapters.ledgers.dynamodb.rows import (
    ROSTER,
    SHARDS,
    bucket,
    bucket_of,
    shard,
    to_enrolment,
    to_item,
    user_key,
    username_of,
)
from worker.adapters.ledgers.dynamodb.schema import KEY, SHARD
from worker.core.model import UNFINISHED, Reason, State

any_float = st.floats(allow_nan=False)


@given(enrolments, any_float, any_float)
def test_every_field_comes_back_exactly(some: object, since: float, lease_until: float) -> None:
    written = some._replace(since=since, lease_until=lease_until)  # type: ignore[attr-defined]
    item = to_item(written)
    assert to_enrolment(item) == written


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_a_name_is_a_key_as_it_is_behind_a_prefix(name: str) -> None:
    item = to_item(row(name))
    assert item[KEY] == {"S": f"user#{name}"} == user_key(name)[KEY]
    assert username_of(item) == name


def test_a_user_called_like_something_else_is_still_a_user() -> None:
    assert username_of(to_item(row("user#pace"))) == "user#pace"
    assert user_key("pace")[KEY]["S"] not in {"pace", "counts", "rollout"}


@given(enrolments)
def test_only_unfinished_rows_are_in_the_index(some: object) -> None:
    item = to_item(some)  # type: ignore[arg-type]
    assert (SHARD in item) == (some.state in UNFINISHED)  # type: ignore[attr-defined]


def test_another_process_finds_a_user_in_the_same_part_of_the_index() -> None:
    names = ["ana", "é", "😀" * 64]
    script = f"from worker.adapters.ledgers.dynamodb.rows import shard; print(*map(shard, {names!r}))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [shard(name) for name in names]
    assert {shard(f"user {number}") for number in range(100)} == set(SHARDS)


@given(enrolments)
def test_an_item_counts_as_its_row_does(some: object) -> None:
    assert bucket_of(to_item(some)) == bucket(some)  # type: ignore[arg-type]


def test_a_user_only_on_the_roster_has_no_row_and_counts_as_such() -> None:
    item = user_key("ana") | {ROSTER: {"BOOL": True}}
    assert to_enrolment(item) is None
    assert bucket_of(item) == "roster"
    assert to_enrolment(None) is None
    assert bucket_of(None) is None
    assert bucket_of({KEY: {"S": "pace"}}) is None


def test_a_reason_is_counted_with_its_state() -> None:
    failed = row(state=State.FAILED, reason=Reason.WORKER_CRASHED)
    assert bucket(failed) == "failed:worker_crashed"
    assert bucket(row(state=State.SEALED, sealed=sealed())) == "sealed"
