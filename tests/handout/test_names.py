"""File names for usernames, which may be anything."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.handout.names import file_name

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128) | st.from_regex(
    r"(con|nul|com1|a|A|~|\.|/|\\|:|ﬁ|é|e\u0301|\u202e|😀){1,5}", fullmatch=True
)


@given(NAMES)
def test_a_file_name_is_safe_on_every_file_system(username: str) -> None:
    name = file_name(username, ".svg")
    assert name.isascii()
    assert name.isprintable()
    assert len(name) <= 128
    assert not set(name) & set('/\\:*?"<>|\0 ')
    assert name[0] not in ".-~"
    assert name.split(".")[0] not in {"con", "prn", "aux", "nul", "com1", "lpt1"}
    assert name.endswith(".svg")


@given(NAMES, NAMES)
def test_two_users_never_have_one_file_even_where_case_and_forms_do_not_count(one: str, other: str) -> None:
    def folded(username: str) -> str:
        return unicodedata.normalize("NFKC", file_name(username, ".svg")).casefold()

    assert (folded(one) == folded(other)) == (one == other)


@pytest.mark.parametrize("username", ["ada", "3f6c1b7e-8a11-4e0b-9e0a-2f7c6d5b4a39", "ada.b+c@example.org", "x" * 100])
def test_a_plain_username_is_its_own_file_name(username: str) -> None:
    assert file_name(username, ".png") == f"{username}.png"


@pytest.mark.parametrize(
    "username", ["../../etc/passwd", "Ada", "con", "CON.txt", "nul", ".bashrc", "-rf", "a/b", "a\x00b", "x" * 101, "é"]
)
def test_any_other_has_part_of_its_digest_in_it(username: str) -> None:
    assert "~" in file_name(username, ".svg")


def test_somebody_who_is_called_like_another_ones_file_has_a_file_of_their_own() -> None:
    name = file_name("Ada", "")
    assert file_name(name, "") != name
