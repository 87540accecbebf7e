"""Letters: read again by others (pdfium the texts, ZXing the QR codes), and checked against RFC 6238."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyotp
import pytest

from tests.handout.handed import Desk, codes_of, line_of, secret_of, texts_of
from tests.support.disks import small_disk
from tests.support.totp import code_at
from worker.core.errors import UsageError
from worker.handout import letters
from worker.handout.drawn import ask
from worker.handout.letters import Style, numbered
from worker.handout.template import OURS, Template, load

RFC_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
"""The secret of RFC 6238, appendix B, in base32."""
RFC_CODES = {59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"}
"""Its codes at these Unix times, the last six digits."""
MARKUP = '#read("/etc/passwd") *b* $x$ <x> @y'
PEOPLE = {
    "ada": {"name": "Ada Lovelace", "address": "12 St James's Square\nLondon"},
    "rfc": {"given_name": "R", "family_name": "F"},
    MARKUP: {"name": "= #eval(1)"},
    "W" * 128: {},
    "ev\u202eil\x00": {"name": "Zoë\u3000Müller"},
}


def words_of(page: str) -> str:
    """The text of a page without line ends."""
    return " ".join(page.split())


def test_a_letter_holds_the_key_and_a_code_that_another_library_reads(desk: Desk) -> None:
    desk.delivered(
        *(
            line_of(name, attributes, secret_code=RFC_SECRET if name == "rfc" else "")
            for name, attributes in PEOPLE.items()
        )
    )

    assert desk.open("--letters", "letters.pdf", "--until", "2026-12-31") == 0

    path = desk.folder / "letters.pdf"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (desk.out, "5 letters in letters.pdf" in desk.err) == ("", True)
    pages, uris = texts_of(path), codes_of(path)
    assert len(pages) == len(uris) == len(PEOPLE)
    for name, page, uri in zip(PEOPLE, pages, uris, strict=True):
        secret = RFC_SECRET if name == "rfc" else secret_of(name)
        groups = [secret[at : at + 4] for at in range(0, len(secret), 4)]
        assert " ".join(groups) in words_of(page)
        assert unquote(urlsplit(uri).path) == f"/Example Bank:{name}"
        found = parse_qs(urlsplit(uri).query)
        assert found["secret"] == [secret]
        for at in (59, 1_764_072_000):
            assert pyotp.parse_uri(uri).at(at) == code_at(secret, at)  # type: ignore[attr-defined]
        assert "31 December 2026" in page
        assert "25 November 2025" in page
    for at, code in RFC_CODES.items():
        assert code_at(parse_qs(urlsplit(uris[1]).query)["secret"][0], at) == code
    assert "Dear Ada Lovelace," in pages[0]
    assert "12 St James's Square" in pages[0].replace("’", "'")
    assert "Dear R F," in pages[1]
    assert MARKUP in words_of(pages[2])
    assert "Dear = #eval(1)," in pages[2]
    assert "W" * 128 in "".join(pages[3].split())
    assert "ev\\u202eil\\x00" in pages[4]
    assert "Dear Zoë Müller," in pages[4]


def test_a_german_letter_is_german_and_says_no_date_where_none_was_named(desk: Desk) -> None:
    desk.delivered(line_of("ada", {"name": "Ada Lovelace"}))

    assert desk.open("--letters", "letters.pdf", "--language", "de") == 0
    (page,) = texts_of(desk.folder / "letters.pdf")
    assert "Guten Tag Ada Lovelace," in page
    assert "25. November 2025" in page
    assert "{" not in page
    assert "erledigen" not in page


def test_a_copied_template_is_used(desk: Desk) -> None:
    desk.delivered(line_of("ada", {"department": "Loans"}))
    from worker.cli import cli

    cli.main(["letters-template", "mine"], standalone_mode=False)
    assert {path.name for path in (desk.folder / "mine").iterdir()} == {path.name for path in OURS.iterdir()}
    change(desk.folder / "mine/letter.toml", 'organisation = ""', 'organisation = "Sparkasse Köln"')
    change(desk.folder / "mine/en.toml", '"Hello,"', '"Hello from {attributes.department}{attributes.none},"')

    assert desk.open("--letters", "letters.pdf", "--template", "mine") == 0
    (page,) = texts_of(desk.folder / "letters.pdf")
    assert "Sparkasse Köln" in page
    assert "Hello from Loans," in page
    with pytest.raises(UsageError, match="not written over"):
        cli.main(["letters-template", "mine"], standalone_mode=False)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A copy of the template."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in OURS.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("letter.toml", 'organisation = ""', 'organization = ""', "letter.toml:5: there is no 'organization'"),
        ("letter.toml", 'organisation = ""', "organisation = 3", "letter.toml:5: organisation should be a text"),
        ("letter.toml", 'organisation = ""', "organisation = Bank", "letter.toml: .*line 5"),
        ("letter.toml", 'logo = ""', 'logo = "none.svg"', "letter.toml:11: there is no file 'none.svg'"),
        ("letter.toml", 'accent = "#1d4f63"', 'accent = "blue"', "letter.toml:13: accent is no colour"),
        ("en.toml", '"Hello,"', '"Hello {firstname},"', "en.toml:13: nothing is called {firstname}"),
        ("en.toml", '"January", ', "", "en.toml:7: there are 11 months"),
    ],
)
def test_a_mistake_in_a_template_is_named_with_file_and_line(
    mine: Path, file: str, old: str, new: str, said: str
) -> None:
    change(mine / file, old, new)
    with pytest.raises(UsageError, match=said) as raised:
        load(mine, "en")
    assert raised.value.hint


def test_a_mistake_in_the_page_is_named_before_anything_is_opened(desk: Desk, mine: Path) -> None:
    desk.delivered(b"")
    change(mine / "letter.typ", "words.why", "words.wy")

    with pytest.raises(UsageError, match=r'letter\.typ:\d+: .*"wy"'):
        desk.open("--letters", "letters.pdf", "--template", mine, "--csv", "all.csv")
    assert desk.left() == set()


def test_what_fails_for_one_user_only_is_said_without_what_was_opened(desk: Desk, mine: Path) -> None:
    desk.delivered(line_of("ada", {"number": "1"}), line_of("ben", {"number": "secret word"}))
    change(mine / "letter.typ", "  words.why", '  let n = int(it.attributes.at("number", default: "0"))\n  words.why')

    with pytest.raises(UsageError, match=r"letter\.typ:\d+$") as raised:
        desk.open("--letters", "letters.pdf", "--template", mine, "--qr", "codes")
    assert "secret word" not in f"{raised.value}{raised.value.hint}{desk.err}"
    assert desk.left() == set()


@pytest.mark.parametrize("missing", ["letter.typ", "letter.toml", "en.toml"])
def test_a_template_without_a_file_says_where_to_get_it(mine: Path, missing: str) -> None:
    (mine / missing).unlink()
    with pytest.raises(UsageError, match=missing) as raised:
        load(mine, "en")
    assert "letters-template" in raised.value.hint


def test_another_language_is_another_file(mine: Path) -> None:
    with pytest.raises(UsageError, match=r"no file fr\.toml") as raised:
        load(mine, "fr")
    assert "there are: de, en" in raised.value.hint
    (mine / "fr.toml").write_bytes((mine / "en.toml").read_bytes())
    assert load(mine, "fr").language == "fr"


def test_both_languages_have_the_same_words() -> None:
    english, german = (load(None, language) for language in ("en", "de"))
    assert set(english.words) == set(german.words)
    for key in set(english.words) - {"months", "date", "service", "ask"}:
        assert english.words[key] != german.words[key] or key == "deadline_label"


def test_characters_without_a_font_are_named_and_never_boxes(tmp_path: Path) -> None:
    template = load(None, "en")
    record: dict[str, Any] = {**letters._SAMPLE, "attributes": {"name": "Ada \U000e0100\U00016fe4"}}
    answer = ask(question(Style(template), record), set())
    (tmp_path / "letter.pdf").write_bytes(base64.b64decode(answer["pdf"]))
    if answer["undrawn"]:  # no host has a font with this character, save one that has all of them
        assert answer["undrawn"]["0"] == "\U00016fe4"
        assert "\\U00016fe4" in texts_of(tmp_path / "letter.pdf")[0]


def question(style: Style, *records: dict[str, Any]) -> bytes:
    users = [style.letter_of(record) for record in records]
    return json.dumps({"form": None, "letters": style.job(tagged=False), "users": users}).encode()


def test_a_letter_of_more_than_one_page_is_named(mine: Path) -> None:
    change(mine / "letter.typ", "  words.why", '  if it.username == "ben" { v(200mm) }\n  words.why')
    style = Style(load(mine, "en"))
    answer = ask(question(style, letters._SAMPLE, {**letters._SAMPLE, "username": "ben"}), set())
    assert answer["long"] == [1]


def test_very_many_letters_are_several_files(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.handout.drawn.PART", 1)
    monkeypatch.setattr("worker.handout.letters.IN_A_FILE", 2)
    names = ["ana", "ben", "cem"]
    desk.delivered(*map(line_of, names))
    (desk.folder / "letters-0003.pdf").write_bytes(b"of an earlier day")

    assert desk.open("--letters", "letters.pdf") == 0

    pages = [page for number in (1, 2) for page in texts_of(desk.folder / f"letters-000{number}.pdf")]
    assert [name in page for name, page in zip(names, pages, strict=True)] == [True] * 3
    assert not (desk.folder / "letters.pdf").exists()
    assert "letters-0003.pdf is of an earlier command" in desk.err
    assert numbered(Path("a/b.pdf"), 12) == Path("a/b-0012.pdf")


def test_joined_letters_on_a_full_disk_are_no_bug_and_leave_nothing(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.handout.drawn.PART", 1)
    desk.delivered(line_of("ana"), line_of("ben"))
    with small_disk(tmp_path / "disk", 40) as disk:
        with pytest.raises(OSError, match="No space"):
            desk.open("--letters", disk / "letters.pdf")
        assert list(disk.iterdir()) == []
    assert "ctypes" not in desk.err


def test_where_nobody_was_chosen_there_is_no_file_to_print(desk: Desk) -> None:
    desk.delivered(line_of("ana"))

    assert desk.open("--letters", "letters.pdf", "--since", "1m") == 1
    assert "nobody was chosen: letters.pdf was not written" in desk.err
    assert desk.left() == set()


def test_dates_are_in_words_of_the_language() -> None:
    from datetime import UTC, datetime

    template: Template = load(None, "de")
    assert template.date(datetime(2026, 3, 1, tzinfo=UTC)) == "1. März 2026"
