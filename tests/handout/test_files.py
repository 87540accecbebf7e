"""QR codes and CSV files: what is in them, and that they are private and whole or not there at all."""

from __future__ import annotations

import base64
import csv
import io
import json
import signal
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import click
import pytest

from tests.handout.handed import SEALER, Desk, decoded, line_of, secret_of, text_of
from tests.support.processes import COMMAND
from tests.support.terminal import Terminal
from worker.core.errors import UsageError
from worker.handout.progress import Progress
from worker.handout.staged import PREFIX

NAMES = ["ada", "Ada", "../../up", "=1+1", "@SUM(1)", "con", "😀\u202e\x00", "a" * 128]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_user_has_a_code_that_another_library_reads(desk: Desk) -> None:
    desk.delivered(*map(line_of, NAMES))

    assert desk.open("--qr", "codes", "--png") == 0

    folder = desk.folder / "codes"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    index = rows_of(folder / "index.csv")
    assert [text_of(row["username"]) for row in index] == NAMES
    assert len({row["file"].lower() for row in index}) == len(NAMES)
    assert {path.name for path in folder.iterdir()} == {"index.csv", *(row["file"] for row in index)}
    for name, row in zip(NAMES, index, strict=True):
        uri = decoded(*pixels(folder / row["file"]))
        assert parse_qs(urlsplit(uri).query)["secret"] == [secret_of(name)]
    assert desk.out == ""


def pixels(path: Path) -> tuple[bytes, int]:
    """The grey values of a PNG file of one bit a pixel, and its width."""
    data, at, packed = path.read_bytes(), 8, b""
    width, _height, depth = struct.unpack(">IIB", data[16:25])
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        packed += data[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    assert depth == 1
    plain, step = zlib.decompress(packed), 1 + (width + 7) // 8
    lines: list[bytes] = []
    for start in range(0, len(plain), step):
        line = plain[start : start + step]
        assert line[0] in (0, 2)  # as it is, or added to the line above
        lines.append(bytes((a + b) % 256 for a, b in zip(line, lines[-1], strict=True)) if line[0] else line)
    grey = b"".join(bytes(255 * (line[1 + x // 8] >> (7 - x % 8) & 1) for x in range(width)) for line in lines)
    return grey, width


def test_an_svg_says_nothing_but_its_squares(desk: Desk) -> None:
    desk.delivered(line_of("<script>", {"name": "<b>"}))

    assert desk.open("--qr", "codes") == 0
    (image,) = (desk.folder / "codes").glob("*.svg")
    assert "script" not in image.read_text()
    assert image.read_text().count("<path") == 2


def test_the_csv_file_has_a_column_for_each_attribute_of_anybody(desk: Desk) -> None:
    desk.delivered(
        line_of("ana", {"phone": "+49 30 1", "username": "other"}), line_of("=cmd|'x'!A0", {"city": "Köln\nSüd"})
    )

    assert desk.open("--csv", "all.csv") == 0

    path = desk.folder / "all.csv"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(b'"username","secret_code","otpauth_uri","associated_at","city","phone",')
    ana, other = rows_of(path)
    assert (ana["username"], ana["secret_code"]) == ("ana", secret_of("ana"))
    assert (ana["phone"], ana["city"], ana["attributes.username"]) == ("'+49 30 1", "", "other")
    assert other["username"] == "'=cmd|'x'!A0"
    assert other["city"] == "Köln\nSüd"
    assert ana["otpauth_uri"].startswith("otpauth://totp/Example%20Bank:ana?secret=")
    assert ana["associated_at"] == "2025-11-25T12:00:00.000Z"


def test_everything_at_once_is_opened_once(desk: Desk) -> None:
    desk.delivered(line_of("ana"), line_of("ben"))

    assert desk.open("--qr", "codes", "--csv", "all.csv", "-o", "all.jsonl", "--user", "ben") == 0
    assert desk.left() == {"codes", "all.csv", "all.jsonl"}
    assert [row["username"] for row in rows_of(desk.folder / "codes/index.csv")] == ["ben"]
    assert (desk.folder / "all.jsonl").read_text().count("\n") == 1


def test_what_this_command_made_is_replaced_as_a_whole(desk: Desk) -> None:
    desk.delivered(line_of("ana"), line_of("ben"))
    desk.open("--qr", "codes", "--csv", "all.csv")
    desk.delivered(line_of("cem"))

    assert desk.open("--qr", "codes", "--png", "--csv", "all.csv") == 0
    assert {path.name for path in (desk.folder / "codes").iterdir()} == {"index.csv", "cem.png"}
    assert [row["username"] for row in rows_of(desk.folder / "all.csv")] == ["cem"]
    assert desk.left() == {"codes", "all.csv"}


@pytest.mark.parametrize("stranger", ["notes.txt", "index.csv", ".hidden", "sub/x.svg"])
def test_a_folder_with_anything_else_in_it_is_refused(desk: Desk, stranger: str) -> None:
    desk.delivered(line_of("ana"))
    path = desk.folder / "codes" / stranger
    path.parent.mkdir(parents=True)
    path.write_text("mine")

    with pytest.raises(UsageError, match="did not make"):
        desk.open("--qr", "codes")
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--png",), "--qr DIR"),
        (("--language", "de"), "--letters"),
        (("--until", "2026-12-31"), "--letters"),
        (("--csv", "all.csv", "--show"), "leave --show out"),
        (("--csv", "all.csv", "-o", "-"), "leave -o - out"),
        (("--csv", "-"), "--csv writes a place of its own"),
        (("--qr", "-"), "--qr writes a place of its own"),
        (("--letters", "-"), "--letters writes a place of its own"),
        (("--csv", "all.csv", "--letters", "all.csv"), "both to be written"),
        (("--csv", "all.csv", "-o", "all.csv"), "the file of -o"),
        (("--qr", "codes", "--csv", "codes/all.csv"), "there is no folder"),
        (("--csv", "delivered.jsonl"), "what is opened"),
        (("--csv", "identity.key"), "an identity file"),
        (("--csv", "none/all.csv"), "mkdir -m 700 none"),
        (("--csv", "."), "a folder"),
        (("--letters", "l.pdf", "--template", "none"), "letters-template"),
    ],
)
def test_what_contradicts_itself_is_refused_before_anything_is_written(
    desk: Desk, arguments: tuple[str, ...], said: str
) -> None:
    desk.delivered(line_of("ana"))
    with pytest.raises((UsageError, click.UsageError)) as raised:
        desk.open(*arguments)
    assert said in f"{raised.value} {getattr(raised.value, 'hint', '')}"
    assert desk.left() == set()


def test_an_open_folder_is_warned_of(desk: Desk) -> None:
    desk.delivered(line_of("ana"))
    desk.open("--csv", "all.csv")
    assert "warning" not in desk.err

    for mode, can in ((0o755, "look into"), (0o777, "put files into")):
        desk.folder.chmod(mode)
        assert desk.open("--csv", "all.csv") == 0
        assert f"others can {can} the folder" in desk.err


@pytest.mark.parametrize("bad", ["open", "full"])
def test_nothing_is_left_after_a_failure(desk: Desk, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    desk.delivered(line_of("ana"))
    where = {"open": "worker.handout.table.Table.add", "full": "worker.handout.staged.sync_folder"}[bad]

    def fails(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.handout.table.Table.finish" if bad == "full" else where, fails)
    with pytest.raises(OSError, match="No space"):
        desk.open("--csv", "all.csv", "--qr", "codes")
    assert desk.left() == set()


@pytest.fixture
def waiting(desk: Desk) -> Iterator[subprocess.Popen[bytes]]:
    """The command, while it waits for standard input with all its hidden files made."""
    process = subprocess.Popen(
        [*COMMAND, "open", "-i", "identity.key", "-", "--csv", "all.csv", "--qr", "codes"],
        stdin=subprocess.PIPE,
        cwd=desk.folder,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 30
    while not list(desk.folder.glob(f"{PREFIX}*/index.csv")) and time.monotonic() < until:
        time.sleep(0.02)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_nothing(desk: Desk, waiting: subprocess.Popen[bytes], ending: signal.Signals) -> None:
    waiting.send_signal(ending)
    assert waiting.wait(30) == 4
    assert desk.left() == set()


def test_what_a_kill_leaves_is_private_and_removed_by_the_next_command(
    desk: Desk, waiting: subprocess.Popen[bytes]
) -> None:
    desk.delivered(line_of("ana"))
    assert desk.open("--csv", "other.csv") == 0
    assert len(list(desk.folder.glob(f"{PREFIX}*"))) == 2, "what belongs to a living command stays"
    waiting.kill()
    waiting.wait()
    assert {path.stat().st_mode & 0o077 for path in desk.folder.glob(f"{PREFIX}*")} == {0}

    assert desk.open("--csv", "all.csv") == 0
    assert desk.left() == {"all.csv", "other.csv"}
    assert "a command left that was killed" in desk.err


@pytest.mark.parametrize(
    "uri", [None, 7, "https://x", "otpauth://[::1", "otpauth://totp/x\ud800", "otpauth://totp/" + "x" * 3_000]
)
def test_a_record_without_a_uri_that_can_be_drawn_is_left_out_and_named(desk: Desk, uri: object) -> None:
    record = {"username": "odd", "generation": 1, "secret_code": "JBSWY3DP", "otpauth_uri": uri}
    sealed = base64.b64encode(SEALER.seal(json.dumps(record).encode())).decode()
    desk.delivered(line_of("ana"), json.dumps({"username": "odd", "generation": 1, "sealed": sealed}).encode() + b"\n")

    assert desk.open("--qr", "codes") == 1
    assert "1 left out" in desk.err
    assert "  odd\n" in desk.err
    assert [row["username"] for row in rows_of(desk.folder / "codes" / "index.csv")] == ["ana"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("out", "lines"), [(io.StringIO(), 2), (Terminal(), 41)])
def test_progress_is_seldom_in_a_file_and_changes_one_line_on_a_terminal(out: io.StringIO, lines: int) -> None:
    clock = Clock()
    progress = Progress(out, clock)
    for done in range(2100):
        clock.now = done / 100
        progress("opened", done, 2100)
    progress.close()
    said = [text for text in out.getvalue().replace("\r", "\n").splitlines() if text.strip()]
    assert len(said) == lines
    assert said[-1].startswith("opened ")
    assert "of 2,100, about" in said[-1]
