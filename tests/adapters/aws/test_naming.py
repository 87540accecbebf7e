"""Usernames in the names of objects and secrets: safe, short enough, no two alike, and they come back."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import NASTY_NAMES
from worker.adapters.aws import naming
from worker.adapters.aws.naming import hashed, secret_segment, segment, username_of

LONG = st.text(st.characters(min_codepoint=0x10000, max_codepoint=0x10FFFF), min_size=60, max_size=128)
HYPHENATED = st.from_regex(r"[a-z]{0,3}-[a-z-]{5,7}", fullmatch=True)
usernames = st.text(min_size=1, max_size=128) | LONG | HYPHENATED | st.sampled_from(NASTY_NAMES)
CROWD = [
    *NASTY_NAMES,
    ".",
    "..",
    "a/b",
    "=41",
    "A",
    "_base64.YQ",
    hashed("ana"),
    "ana",
    "Ana",
    "é" * 128,
    "\U0010ffff" * 128,
]


@given(usernames)
def test_a_username_comes_back_from_its_segment(username: str) -> None:
    assert username_of(segment(username, "username")) == username


@given(usernames)
def test_a_segment_of_a_key_is_safe_and_short(username: str) -> None:
    for found in (segment(username, "username"), segment(username, "hash")):
        assert re.fullmatch(r"[0-9A-Za-z=@._-]{1,800}", found)
        assert found[0] not in ".-"


@given(usernames)
def test_a_segment_of_a_secrets_name_is_allowed_and_leaves_room_for_the_prefix(username: str) -> None:
    for found in (secret_segment(username, "username"), secret_segment(username, "hash")):
        assert re.fullmatch(r"[A-Za-z0-9_+=.@-]{1,383}", found)
        assert not re.search(r"-.{6}$", found)


@given(usernames, usernames)
def test_no_two_users_share_a_name(one: str, other: str) -> None:
    for name in (segment, secret_segment):
        assert (name(one, "username") == name(other, "username")) is (one == other)
        assert (name(one, "hash") == name(other, "hash")) is (one == other)


def test_names_made_to_be_confused_are_not() -> None:
    both = [segment(name, "username") for name in CROWD] + [segment(name, "hash") for name in CROWD]
    assert len(set(both)) == 2 * len(set(CROWD))
    secrets = {secret_segment(name, "username") for name in CROWD}
    assert len(secrets) == len(set(CROWD))


def test_the_longest_key_is_within_what_s3_takes() -> None:
    longest = max((segment(name, "username") for name in CROWD), key=len)
    key = f"{'p' * 128}/{longest}/{2**63}-{'0' * 36}.age"
    assert len(key.encode()) <= 1024
    assert len(longest) > 600


def test_the_longest_name_is_within_what_secrets_manager_takes() -> None:
    assert max(len(f"{'p' * 128}/{secret_segment(name, 'username')}") for name in CROWD) <= 512


@pytest.mark.parametrize(
    ("username", "written"),
    [
        ("ana", "ana"),
        ("ana@example.org", "ana@example.org"),
        ("2f1c-4a_b.c", "2f1c-4a_b.c"),
        ("..", "=2E."),
        (".", "=2E"),
        ("_x", "=5Fx"),
        ("a/b", "a=2Fb"),
        ("a+b", "a=2Bb"),
        ("=", "=3D"),
        ("Émile", "=C3=89mile"),
    ],
)
def test_a_name_stays_readable(username: str, written: str) -> None:
    assert segment(username, "username") == written


def test_a_secrets_name_does_not_end_as_an_arn_does() -> None:
    assert secret_segment("maria-sophia", "username") == "maria=2Dsophia"
    assert secret_segment("maria-sophie-x", "username") == "maria-sophie-x"


def test_a_name_that_does_not_fit_is_hashed_as_a_secrets_name_only() -> None:
    name = "日" * 128
    assert secret_segment(name, "username") == hashed(name)
    assert segment(name, "username").startswith("_base64.")


def test_a_hash_is_the_sha_256_of_the_username() -> None:
    assert segment("ana", "hash") == "_sha256." + hashlib.sha256(b"ana").hexdigest()
    assert username_of(segment("ana", "hash")) is None
    assert naming.digest_of(segment("ana", "hash")) == hashlib.sha256(b"ana").hexdigest()
    assert naming.digest_of("ana") is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "=6",
        "=61na",
        "=c3=A9",
        "=FF",
        ".",
        "..",
        "_x",
        "_base64.",
        "_base64.YQ",
        "_base64.*",
        "_base64.YQ==",
        "é",
    ],
)
def test_what_the_worker_never_writes_names_nobody(name: str) -> None:
    with pytest.raises(ValueError):
        username_of(name)


@pytest.mark.parametrize("name", ["_sha256.", "_sha256.xyz", "_sha256." + "A" * 64])
def test_what_is_no_hash_names_nobody(name: str) -> None:
    with pytest.raises(ValueError):
        naming.digest_of(name)
