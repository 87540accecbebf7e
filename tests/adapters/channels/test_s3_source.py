"""What the opener takes for a record in S3, before it asks for one."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import usernames
from worker.adapters.aws.naming import Names, segment
from worker.adapters.channels.s3 import source
from worker.adapters.channels.s3.keys import key_of, parsed
from worker.adapters.channels.s3.source import Object
from worker.core.record import line_address, record_address


def test_a_key_says_whose_object_it_is_and_which() -> None:
    found = source._object("any/prefix/=C3=A9/17-0b1c.age", 400, 1.0)
    assert found == Object("any/prefix/=C3=A9/17-0b1c.age", ("username", "é"), 17, "0b1c", 400, 1.0)
    hashed = source._object(f"{segment('ana', 'hash')}/1-a.age", 1, 1.0)
    assert hashed.user == ("username_sha256", hashlib.sha256(b"ana").hexdigest())


@given(usernames, st.integers(0, 10**18), st.sampled_from(["username", "hash"]))
def test_a_key_that_the_worker_wrote_is_read_as_it_was_meant(username: str, generation: int, names: Names) -> None:
    found = parsed(key_of("any/prefix", username, names, generation, "0b1c"))
    assert found is not None
    assert line_address({**dict([found.user]), "generation": found.generation}) == record_address(
        {"username": username, "generation": generation}
    )


@pytest.mark.parametrize(
    "key",
    ["ana.age", "ana/x-a.age", "ana/1.age", "ana/-1-a.age", "ana/1-.age", "=zz/1-a.age", f"ana/{'9' * 5000}-a.age"],
)
def test_a_key_that_the_worker_never_writes_is_nobodys(key: str) -> None:
    assert source._object(key, 1, 1.0).generation < 0


@pytest.mark.parametrize(("most", "ana", "cem"), [(1, [10], [2]), (2, [10, 9], [2, 1]), (5, [10, 9, 2], [2, 1])])
async def test_of_a_users_objects_in_a_row_the_newest_are_taken(most: int, ana: list[int], cem: list[int]) -> None:
    rows = [("ana", 9), ("ana", 10), ("ana", 2), ("", -1), ("", -1), ("ben", 1), ("cem", 2), ("cem", 1)]

    async def listed() -> AsyncIterator[Object]:
        for name, generation in rows:
            yield Object("key", ("username", name), generation, "0b1c", 1, 1.0)

    found = [group async for group in source._newest(listed(), most)]
    assert [[each.generation for each in group] for group in found] == [ana, [-1], [-1], [1], cem]
