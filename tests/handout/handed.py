"""Sealed records of anybody, and the command ``open`` on them, in this process."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
import zxingcpp

from worker.cli import cli
from worker.core.model import CredentialKind, Issued, Request, Secret
from worker.core.record import RecordFormat, record_line, seal_record
from worker.sealing.age import AgeSealer, keygen, write_identity

TEXT, RECIPIENT = keygen("now")
SEALER = AgeSealer([RECIPIENT])
ISSUED_AT = 1_764_072_000.0
"""2025-11-25, noon."""


def secret_of(username: str, generation: int = 1) -> str:
    """The secret code of a user: 52 characters, as Cognito makes them."""
    digest = hashlib.sha256(f"{username}/{generation}".encode()).digest()
    return base64.b32encode(digest).decode().rstrip("=")


def line_of(
    username: str,
    attributes: Mapping[str, str] | None = None,
    *,
    generation: int = 1,
    at: float = ISSUED_AT,
    secret_code: str = "",
    issuer: str = "Example Bank",
) -> bytes:
    """One delivered line, as the worker writes it."""
    request = Request(username, CredentialKind.SESSION, Secret("x"), "id", 0.0, attributes or {})
    issued = Issued(Secret(secret_code or secret_of(username, generation)), None, "request")
    return record_line(username, seal_record(request, issued, generation, at, RecordFormat(issuer), SEALER)) + b"\n"


class Desk:
    """A folder of somebody who hands out: the key, the delivered file, and what ``open`` made."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capfd = capfd
        self.out = self.err = ""
        write_identity(folder / "identity.key", TEXT)

    def delivered(self, *lines: bytes) -> None:
        """Write the delivered file."""
        (self.folder / "delivered.jsonl").write_bytes(b"".join(lines))

    def open(self, *arguments: str | Path) -> int:
        """Run the command; returns its exit code. Raises what it raises."""
        self.capfd.readouterr()
        given = ["open", "-i", str(self.folder / "identity.key"), str(self.folder / "delivered.jsonl")]
        try:
            code = cli.main([*given, *map(str, arguments)], standalone_mode=False)
        finally:
            self.out, self.err = self.capfd.readouterr()
        return int(code or 0)

    def left(self) -> set[str]:
        """The names of everything in the folder beside key and delivered file."""
        return {path.name for path in self.folder.iterdir()} - {"identity.key", "delivered.jsonl"}


def texts_of(pdf: Path) -> list[str]:
    """The text of each page."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        return [page.get_textpage().get_text_bounded() for page in document]
    finally:
        document.close()


def codes_of(pdf: Path) -> list[str]:
    """What another library reads from the QR code of each page, drawn at 150 dots an inch."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        return [decoded(*_grey(page.render(scale=150 / 72, grayscale=True))) for page in document]
    finally:
        document.close()


def _grey(bitmap: Any) -> tuple[bytes, int]:
    """The grey values of an image, and its width."""
    lines = [
        bytes(bitmap.buffer)[at : at + bitmap.width] for at in range(0, bitmap.height * bitmap.stride, bitmap.stride)
    ]
    return b"".join(lines), bitmap.width


def decoded(grey: bytes, width: int) -> str:
    """What is in the one QR code of an image: its grey values, line by line."""
    (found,) = zxingcpp.read_barcodes(memoryview(grey).cast("B", shape=[len(grey) // width, width]))
    assert found.format == zxingcpp.BarcodeFormat.QRCode
    return str(found.text)


def text_of(cell: str) -> str:
    """The text of a cell in a CSV file, got back as the documentation says: without one leading apostrophe."""
    return cell.removeprefix("'")
