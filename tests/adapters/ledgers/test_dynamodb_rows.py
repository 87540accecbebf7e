"""Any row becomes an item and comes back as it was, and nothing but a user's item is taken for one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import NASTY_NAMES, enrolments, row, sealed
from worker.adapters.ledgers.dynamodb.rows import (
    DIGEST,
    ROSTER,
    ROW,
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
from worker.core.model import Reason, State

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
    assert (SHARD in item) == some.is_unfinished  # type: ignore[attr-defined]


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


def _of_an_earlier_version(ids: list[str]) -> dict[str, Any]:
    item = to_item(row())
    item[ROW]["S"] = json.dumps(json.loads(item[ROW]["S"]) | {"settled": ids})
    return item


def test_the_plain_ids_of_earlier_versions_are_read() -> None:
    found = to_enrolment(_of_an_earlier_version(["one", "two"]))
    assert found is not None
    assert "one" in found.settled
    assert "two" in found.settled
    assert "three" not in found.settled


def test_an_item_that_reached_the_limit_of_dynamodb_becomes_small_with_its_next_write() -> None:
    ids = [f"{number:0256d}" for number in range(1_500)]
    item = _of_an_earlier_version(ids)
    assert len(item[ROW]["S"]) > 380_000
    found = to_enrolment(item)
    assert found is not None
    assert len(str(to_item(found._replace(settled=found.settled.add("x" * 256))))) < 16_000
    assert all(id_ in found.settled for id_ in ids)


def test_a_digest_takes_no_room_beside_the_record_and_few_bytes_after_it() -> None:
    in_outbox, delivered = (to_item(row(sealed=sealed(blob=blob))) for blob in (b"x" * 700, b""))
    assert DIGEST not in in_outbox, "it is made of the record again"
    assert len(delivered[DIGEST]["B"]) == 32
    earlier = to_enrolment(delivered | {DIGEST: {"B": b""}})
    assert earlier is not None
    assert earlier.sealed is not None
    assert earlier.sealed.digest == ""
