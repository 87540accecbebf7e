"""An id with an outcome is known for ever, in a bounded space, whatever else the user asked for since."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rows import ids
from worker.core.settled import NEWEST, NOTHING_SETTLED, Settled, load

MOST_BYTES = 13_000
"""Bytes of what is stored for one user, however many requests there were."""


def of(number: int) -> Settled:
    return load(f"request {each}" for each in range(number))


def size(settled: Settled) -> int:
    return len(json.dumps(settled.dump()))


@given(st.lists(ids, max_size=3 * NEWEST))
@settings(max_examples=50, deadline=None)
def test_an_id_that_was_added_is_never_unknown(added: list[str]) -> None:
    settled = NOTHING_SETTLED
    for id_ in added:
        settled = settled.add(id_)
        assert id_ in settled
    assert all(id_ in settled for id_ in added)
    assert load(json.loads(json.dumps(settled.dump()))) == settled


@given(st.lists(ids, max_size=NEWEST, unique=True), ids)
def test_up_to_the_bound_no_new_id_is_taken_for_an_old_one(added: list[str], other: str) -> None:
    assert (other in load(added)) == (other in added)


def test_nothing_is_forgotten_beyond_the_bound_and_little_invented() -> None:
    settled = of(5_000)
    assert all(f"request {each}" in settled for each in range(5_000))
    invented = sum(f"another {each}" in settled for each in range(5_000))
    assert invented < 5_000 / 200


def test_what_is_stored_is_bounded_for_any_number_of_ids_of_any_length() -> None:
    assert size(of(1)) < 50
    assert size(of(NEWEST)) < 2_000
    assert max(size(of(number)) for number in (100, 1_000, 5_000, 20_000, 100_000)) < MOST_BYTES
    assert size(load(f"{each:0256d}😀" for each in range(20_000))) < MOST_BYTES


def test_ids_added_one_by_one_are_remembered_like_those_that_were_stored_together() -> None:
    one_by_one = NOTHING_SETTLED
    for each in range(3 * NEWEST):
        one_by_one = one_by_one.add(f"request {each}")
    assert one_by_one == of(3 * NEWEST)


def test_an_id_that_is_no_text_of_unicode_is_an_id() -> None:
    assert "\ud800" in NOTHING_SETTLED.add("\ud800")


def test_adding_an_id_again_changes_nothing() -> None:
    settled = of(3)
    assert settled.add("request 0") is settled


def test_what_earlier_versions_stored_is_read_and_made_small() -> None:
    """They stored plain ids; one that wrote after a newer version did leaves both."""
    earlier = load(["ana's", "x" * 256])
    assert "ana's" in earlier
    assert "x" * 256 in earlier
    assert "another" not in earlier
    for parts in ([*of(100).dump(), "ana's"], ["ana's", *of(100).dump()]):
        both = load(parts)
        assert "ana's" in both
        assert all(f"request {each}" in both for each in range(100))


@pytest.mark.parametrize("newest", [["no digest"], ["A" * 23], [1]])
@pytest.mark.parametrize("older", ["", of(100).older])
def test_what_is_no_digest_is_damage(newest: list[object], older: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        load([{"newest": newest, "older": older}])


@pytest.mark.parametrize("bits", [b"", bytes(8_191), bytes(8_193)])
def test_a_filter_of_another_size_is_damage(bits: bytes) -> None:
    with pytest.raises(ValueError, match="no ids"):
        load([{"newest": of(1).newest, "older": base64.b64encode(zlib.compress(bits)).decode()}])


def test_a_filter_without_an_end_takes_no_memory() -> None:
    older = base64.b64encode(zlib.compress(bytes(10_000_000))).decode()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="no ids"):
            load([{"newest": of(1).newest, "older": older}])
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_an_id_that_looks_like_a_digest_is_an_id() -> None:
    (digest,) = of(1).newest
    assert digest not in of(1)
    assert digest in load([digest])
