"""Tickets and their keys: to the byte what the pool's trigger checks."""

from __future__ import annotations

import base64
import io
import json
import string
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import worker
from worker.core.errors import UsageError
from worker.core.model import NEVER
from worker.requests.ticket import is_genuine, make_ticket, new_key, read_key, read_not_after

TEXT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
KEY = bytes(range(32))
WHERE = {"user_pool_id": "us-east-1_Example", "client_id": "exampleclient"}
ALPHABET = string.ascii_letters + string.digits + "-_"
usernames = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)
moments = st.integers(0, int(NEVER))


def of(username: str = "zoë", not_after: float = 1_800_000_000, key: bytes = KEY, **where: str) -> str:
    return make_ticket(key, username=username, not_after=not_after, **{**WHERE, **where})


def key_file(tmp_path: Path, content: str | bytes) -> Path:
    file = tmp_path / "ticket.key"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(0o600)
    return file


def test_a_ticket_is_what_the_trigger_expects() -> None:
    assert of() == "AAAAAGtJ0gBuAVoIjz9olYGBepofbbqKhuuEISnlM30vsDNE0USorA"
    assert read_not_after(of()) == 1_800_000_000


def test_scripts_find_it_in_the_package(tmp_path: Path) -> None:
    key = worker.ticket_key(key_file(tmp_path, TEXT))
    assert worker.ticket(key, **WHERE, username="zoë", not_after=1_800_000_000) == of()


def test_the_moment_is_rounded_down_to_a_second() -> None:
    assert of(not_after=1_800_000_000.9) == of()


@given(usernames, moments, usernames, moments)
def test_a_ticket_is_genuine_for_its_user_alone(username: str, at: int, other: str, later: int) -> None:
    ticket = of(username, at)
    assert len(ticket) == 54
    assert read_not_after(ticket) == at
    assert is_genuine(ticket, KEY, **WHERE, username=username)
    assert is_genuine(ticket, KEY, **WHERE, username=other) == (username == other)
    assert not is_genuine(ticket, bytes(32), **WHERE, username=username)
    moved = of(username, later)[:11] + ticket[11:]  # its time is changed, its signature is not
    assert is_genuine(moved, KEY, **WHERE, username=username) == (moved == ticket)


@given(usernames, st.text("ab\n1", max_size=6), moments)
def test_no_line_break_in_a_username_makes_one_users_ticket_anothers(username: str, rest: str, at: int) -> None:
    """The time stands in the ticket, and ids have no line breaks: so a username begins and ends where it does."""
    if rest:
        assert of(f"{username}\n{rest}"[:128], at)[11:] != of(username, at)[11:]


@given(st.text(ALPHABET, min_size=54, max_size=54) | st.text(max_size=80) | st.text(ALPHABET + "=+/ \n", max_size=60))
def test_any_text_is_a_ticket_in_one_form_or_none(text: str) -> None:
    if (at := read_not_after(text)) is not None:
        content = base64.urlsafe_b64decode(text + "==")
        assert base64.urlsafe_b64encode(content).decode() == text + "=="
        assert at == min(int.from_bytes(content[:8], "big"), NEVER)


@given(moments, st.data())
def test_a_ticket_in_another_form_is_none(at: int, data: st.DataObject) -> None:
    ticket = of(not_after=at)
    last = ALPHABET.replace(ticket[-1], "")
    near = [letter for letter in last if base64.urlsafe_b64decode(ticket[:-1] + letter + "==")[:40] == _bytes(ticket)]
    others = [ticket + "=", ticket + "==", ticket[:-1], ticket[1:], ticket + "A", f" {ticket}", f"{ticket}\n", ""]
    others += [ticket[:-1] + letter for letter in near]
    others += [ticket.replace("-", "+").replace("_", "/")] if set("-_") & set(ticket) else []
    others.append(_bytes(ticket).hex())
    assert read_not_after(data.draw(st.sampled_from(others))) is None


def _bytes(ticket: str) -> bytes:
    return base64.urlsafe_b64decode(ticket + "==")


def test_a_ticket_for_ever_ends_with_the_year_9999() -> None:
    for_ever = base64.urlsafe_b64encode(b"\xff" * 40).decode().rstrip("=")
    assert read_not_after(for_ever) == NEVER
    assert not is_genuine(for_ever, KEY, **WHERE, username="zoë")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"key": TEXT.encode()}, "32 bytes: worker.ticket_key"),
        ({"key": TEXT}, "32 bytes: worker.ticket_key"),
        ({"key": KEY[:-1]}, "32 bytes: worker.ticket_key"),
        ({"username": ""}, "1 to 128 characters"),
        ({"username": "ä" * 129}, "1 to 128 characters"),
        ({"username": "\ud800"}, "1 to 128 characters"),
        ({"client_id": "a\nb"}, "client_id"),
        ({"client_id": ""}, "client_id"),
        ({"user_pool_id": "a\nb"}, "user_pool_id"),
        ({"not_after": -1}, "seconds since the epoch"),
        ({"not_after": 1_800_000_000_000}, "not milliseconds"),
        ({"not_after": float("nan")}, "seconds since the epoch"),
        ({"not_after": float("inf")}, "seconds since the epoch"),
    ],
)
def test_what_can_be_no_ticket_is_refused_and_no_key_repeated(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        of(**wrong)
    assert TEXT not in str(refused.value)


def test_a_name_of_128_characters_in_any_script_gets_one() -> None:
    assert is_genuine(of("字" * 128), KEY, **WHERE, username="字" * 128)
    assert of("e\u0301") != of("\u00e9"), "the username is Cognito's own, byte for byte"


# --- the key ----------------------------------------------------------------------------------------------------------


def test_each_key_is_new_and_its_file_is_read_again(tmp_path: Path) -> None:
    texts = [new_key() for _ in range(2)]
    assert len({read_key(key_file(tmp_path, text)) for text in texts}) == 2


@pytest.mark.parametrize("text", [TEXT, f"{TEXT}\n", f"{TEXT}\r\n", f" {TEXT} \n\n", f"\ufeff{TEXT}\n"])
def test_a_key_may_have_white_space_around_it(tmp_path: Path, text: str) -> None:
    assert read_key(key_file(tmp_path, text)) == KEY


IDENTITY = f"# created: today\n# public key: age1{'q' * 58}\nAGE-SECRET-KEY-1{'Q' * 58}\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        (IDENTITY, "it is an age identity"),
        ("age1" + "q" * 58, "it is a recipient"),
        ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n", "in PEM"),
        (json.dumps({"SecretString": TEXT}), "it is JSON"),
        (json.dumps(TEXT), "it is JSON"),
        (f"{TEXT}\n{TEXT}\n", "it has several lines"),
        (KEY.hex(), "it is written in hexadecimal"),
        (f"{TEXT}=", "it ends with padding"),
        (base64.b64encode(b"\xff" * 32).decode()[:-1], "of the standard alphabet"),
        (of(), "as long as a ticket"),
        (TEXT[:-1], "it has 42 characters"),
        (TEXT[:-1] + "9", "it is"),
        ("!" * 43, "it has 43 characters"),
    ],
)
def test_what_is_no_key_is_named_and_not_repeated(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        read_key(key_file(tmp_path, text))
    assert "keygen --ticket" in refused.value.hint
    for line in text.split():
        assert len(line) < 9 or line not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("content", [TEXT.encode("utf-16"), b"\xe9\n" * 16, b"\x1f\x8b" + bytes(40)])
def test_a_file_in_another_encoding_is_no_key(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError):
        read_key(key_file(tmp_path, content))


@pytest.mark.parametrize(("mode", "is_refused"), [(0o600, False), (0o440, False), (0o604, True), (0o602, True)])
def test_a_key_that_every_user_of_the_host_can_read_is_refused_a_group_may(
    tmp_path: Path, mode: int, is_refused: bool
) -> None:
    file = key_file(tmp_path, TEXT)
    file.chmod(mode)
    if is_refused:
        with pytest.raises(UsageError, match=f"every user of this host \\(mode {mode:04o}\\)"):
            read_key(file)
    else:
        assert read_key(file) == KEY


def test_a_mounted_secret_is_a_link(tmp_path: Path) -> None:
    key_file(tmp_path, TEXT)
    link = tmp_path / "mounted.key"
    link.symlink_to("ticket.key")
    assert read_key(link) == KEY


@pytest.mark.parametrize("key", [TEXT, f"{TEXT}=", KEY.hex(), "AGE-SECRET-KEY-1" + "Q" * 58])
def test_a_key_in_place_of_its_file_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(UsageError, match="in place of its file") as refused:
        read_key(key)
    assert key not in f"{refused.value} {refused.value.hint}"


def test_a_key_may_come_over_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(TEXT.encode())))
    assert read_key("-") == KEY


def test_a_key_that_is_not_there_or_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_key(tmp_path / "none.key")
    with pytest.raises(UsageError, match="is a folder"):
        read_key(tmp_path)
