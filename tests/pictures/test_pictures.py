"""The pictures of the documentation are there, small, described where they stand, and made of what the program does."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.pictures import samples
from tests.pictures.pictures import FOLDER, LARGEST, PICTURES, make
from tests.pictures.png import SIGNATURE, png

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
LEAST_SAID = 30
"""Characters of what is said to whoever cannot see a picture."""


def test_every_picture_is_there_small_and_no_other() -> None:
    assert {each.name: each.stat().st_size for each in FOLDER.iterdir() if each.stat().st_size > LARGEST} == {}
    assert {each.name for each in FOLDER.iterdir()} == PICTURES.keys()


def test_every_picture_is_shown_and_described() -> None:
    shown = {}
    for page in PAGES:
        for words, link in SHOWN.findall(page.read_text("utf-8")):
            assert len(words) >= LEAST_SAID, f"{page.name}: say what {link} shows"
            shown[(page.parent / link).resolve()] = words
    assert {FOLDER / name for name in PICTURES} == shown.keys()


@pytest.mark.parametrize("name", [name for name, picture in PICTURES.items() if not picture.browser])
async def test_what_needs_no_browser_can_be_made_again(tmp_path: Path, name: str) -> None:
    made = await make(name, tmp_path)

    data = made.read_bytes()
    assert 1_000 < len(data) <= LARGEST
    if name.endswith(".svg"):
        ElementTree.fromstring(data)
        assert b"mfa-worker" in data
        assert b"@font-face" not in data
        assert str(tmp_path).encode() not in data
    else:
        assert data.startswith(SIGNATURE)


def test_a_png_holds_the_pixels_it_was_made_of() -> None:
    pixels = bytes(range(24))
    data = png(2, 4, pixels, channels=3)

    assert struct.unpack(">II", data[16:24]) == (2, 4)
    length = struct.unpack(">I", data[33:37])[0]
    rows = zlib.decompress(data[41 : 41 + length])
    undone = bytearray()
    for number in range(4):
        row = rows[number * 7 : number * 7 + 7]
        above = bytes(undone[-6:]) if number else bytes(6)
        undone += bytes((a + b) & 255 for a, b in zip(row[1:], above, strict=True))
    assert bytes(undone) == pixels


def test_no_secret_but_that_of_the_rfc_is_in_the_samples() -> None:
    assert samples.RECORD["secret_code"] == samples.SECRET == "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
