"""The file of ``--letters``: a page a user, set by a template in child processes, and joined here."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from worker.core.errors import UsageError
from worker.core.record import Record
from worker.core.text import Named, escape
from worker.extras import require
from worker.handout.drawn import User, ask
from worker.handout.staged import Staged, look_at_file
from worker.handout.table import attributes_of
from worker.handout.template import Template

IN_A_FILE = 20_000
"""The most letters in one file. Twenty thousand take some 330 MB of memory to be joined (measured)."""
MOST_SHOWN = 128
"""Characters of an account or a line of an address that a letter shows: as many as the longest username has."""
MOST_LINES = 6
"""Lines of an address that a letter shows."""
_JOINERS = "\u200c\u200d"
"""Invisible characters that names need: Persian ones, and some emoji."""
_SAMPLE = {
    "username": "ada",
    "secret_code": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXPJBSW",
    "otpauth_uri": "otpauth://totp/Example:ada?secret=JBSWY3DPEHPK3PXP&issuer=Example",
    "associated_at": "2026-01-01T00:00:00Z",
    "attributes": {"name": "Ada Lovelace", "address": "12 St James's Square\nLondon"},
}
"""A record that belongs to nobody, with which a template is tried before any secret is opened."""


@dataclass(frozen=True, slots=True)
class Style:
    """How letters are made: by which template, and what ``--until`` says."""

    template: Template
    until: datetime | None = None

    @property
    def deadline(self) -> str:
        """The day until which it should be done, in words; empty if none was named."""
        return self.template.date(self.until) if self.until else ""

    def job(self, *, tagged: bool, tell_all: bool = False) -> dict[str, Any]:
        """Return what a child must know beside the users. ``tagged``: with structure for screen readers."""
        return {
            "root": str(self.template.root),
            "language": self.template.language,
            "title": str(self.template.words["title"]),
            "fields": {**self.template.fields, "deadline": self.deadline},
            "tagged": tagged,
            "tell_all": tell_all,
        }

    def letter_of(self, record: Record) -> User:
        """Return what the template gets of one record: see ``letter.typ``."""
        fields, words = self.template.fields, self.template.words
        attributes = {key: _readable(value) for key, value in attributes_of(record).items()}
        service, account = _labels(record)
        values = {
            "organisation": fields["organisation"] or service or words["service"],
            "service": service or words["service"],
            "contact": fields["contact"] or words["ask"],
            "deadline": self.deadline,
            "name": next(_joined(fields["name"], attributes), ""),
            "username": _readable(record["username"]),
            "account": account,
            "issued": self._issued(record),
        }
        code = record["secret_code"].upper().rstrip("=")
        return {
            "uri": record["otpauth_uri"],
            "name": values["name"],
            "address": list(_lines(fields["address"], attributes_of(record))),
            "username": values["username"],
            "account": account,
            "organisation": fields["organisation"] or service,
            "service": values["service"],
            "key": [code[at : at + 4] for at in range(0, len(code), 4)],
            "issued": values["issued"],
            "attributes": attributes,
            "words": self.template.filled(values, attributes),
        }

    def _issued(self, record: Record) -> str:
        try:
            return self.template.date(datetime.fromisoformat(f"{record.get('associated_at')}"[:10]))
        except ValueError:
            return ""

    def sample(self) -> bytes:
        """Return one letter, a PDF, that belongs to nobody. Raises ``UsageError`` for a mistake in the template."""
        job = self.job(tagged=True, tell_all=True)
        question = {"form": None, "letters": job, "users": [self.letter_of(_SAMPLE)]}
        answer = ask(json.dumps(question).encode(), set())
        if error := answer.get("error"):
            raise UsageError(f"the template cannot be used: {escape(error)}", "correct that line of the template")
        return base64.b64decode(answer["pdf"])


class Letters:
    """Joins the parts that children have set, and says at the end what is to be said."""

    def __init__(self, path: Path, staged: Staged) -> None:
        self._pdfium = require("handout", "pypdfium2", "open --letters")
        self._path = path
        self._staged = staged
        self._parts: list[bytes] = []
        """What was set for the next file. It is joined when the children have ended: that takes twice its memory."""
        self._files: list[Path] = []
        self._in_file = 0
        self.count = 0
        self._undrawn, self._long = Named(), Named()

    def add(self, users: list[str], answer: Mapping[str, Any], pdf: bytes) -> None:
        """Take the letters of these users, in this order, and what the child said about them."""
        if error := answer.get("error"):
            raise UsageError(
                f"the template cannot be used for one of {escape(users[0])} … {escape(users[-1])}: {escape(error)}",
                "look at that line of the template: what is special about the attributes of one of these users?",
            )
        for number, chars in answer["undrawn"].items():
            self._undrawn.add(f"{escape(users[int(number)])}: {chars}")
        for number in answer["long"]:
            self._long.add(escape(users[number]))
        if self._in_file + len(users) > IN_A_FILE:
            self._save()
        self._parts.append(pdf)
        self._in_file += len(users)
        self.count += len(users)

    def finish(self) -> list[Path]:
        """Write what is not written yet, and return the files: the one that was named, or several numbered ones."""
        if self._in_file:
            self._save()
        if len(self._files) == 1:
            places = [self._path]
        else:
            places = [numbered(self._path, number) for number in range(1, len(self._files) + 1)]
        for place in places:
            look_at_file(place, "--letters")
        for hidden, place in zip(self._files, places, strict=True):
            self._staged.place(hidden, place)
        return places

    def report(self) -> None:
        """Say whose letters somebody should look at."""
        if self._undrawn.total:
            sys.stderr.write(
                f"warning: {self._undrawn.total:,} {_are(self._undrawn.total)} characters for which this host has no "
                "font; the letter shows their numbers in their place (\\u4e2d):\n"
            )
            sys.stderr.writelines(f"  {words}\n" for words in self._undrawn.lines())
            sys.stderr.write(
                "  → install fonts and run this again: apt-get install fonts-noto-core fonts-noto-cjk "
                "fonts-noto-color-emoji; or put font files into a folder fonts of the template\n"
            )
        if self._long.total:
            sys.stderr.write(f"warning: {self._long.total:,} {_are(self._long.total)} more than one page:\n")
            sys.stderr.writelines(f"  {words}\n" for words in self._long.lines())
            sys.stderr.write("  → shorten the words or the fields of the template, and run this again\n")

    def older_files(self, places: list[Path]) -> list[Path]:
        """Return letters that earlier runs left beside ours: they were not replaced, and should not be printed."""
        mine = {place.name for place in places}
        found = [self._path, *sorted(self._path.parent.glob(f"{_globbed(self._path.stem)}-[0-9][0-9][0-9][0-9]*"))]
        return [
            path
            for path in found
            if path.name not in mine and path.suffix == self._path.suffix and path.is_file() and self.count
        ]

    def _save(self) -> None:
        hidden, file = self._staged.file(self._path.parent)
        self._parts.reverse()
        first = self._parts.pop()
        if not self._parts:
            file.write(first)
        else:
            whole = self._pdfium.PdfDocument(first)
            while self._parts:
                part = self._pdfium.PdfDocument(self._parts.pop())
                whole.import_pages(part)
                part.close()
            _save(whole, file)
            whole.close()
        file.close()
        self._in_file = 0
        self._files.append(hidden)


class _Written:
    """The file of a PDF, for the library that saves it, in whose callbacks every exception would be lost."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> None:
        """Write all of it; after an error nothing."""
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error


def _save(pdf: Any, file: BinaryIO) -> None:
    """Write a document of pypdfium2's. Raises ``OSError``, such as for a full disk."""
    into = _Written(file)
    with ThreadPoolExecutor(1) as thread:  # to which no signal raises an exception
        thread.submit(pdf.save, into).result()
    if into.error is not None:
        raise into.error


def numbered(path: Path, number: int) -> Path:
    """Return the name of one of several files: ``letters-0001.pdf``."""
    return path.with_name(f"{path.stem}-{number:04d}{path.suffix}")


def _are(count: int) -> str:
    return "letter has" if count == 1 else "letters have"


def _globbed(text: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)


def _labels(record: Record) -> tuple[str, str]:
    """Return issuer and account as an authenticator shows them: what the URI says."""
    parts = urlsplit(record["otpauth_uri"])
    issuer, _, account = unquote(parts.path.lstrip("/")).rpartition(":")
    named = parse_qs(parts.query).get("issuer", [""])[0]
    return _readable(named or issuer), _cut(_readable(account or record["username"]))


def _joined(entries: list[str], attributes: Mapping[str, str]) -> Iterator[str]:
    """Yield the entries of which the record has every attribute."""
    for entry in entries:
        values = [attributes.get(name, "").strip() for name in entry.split()]
        if values and all(values):
            yield _cut(" ".join(values))


def _lines(entries: list[str], attributes: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of an address; an entry of which the record lacks an attribute is left out."""
    lines: list[str] = []
    for entry in entries:
        values = [attributes.get(name, "").strip() for name in entry.split()]
        if values and all(values):
            lines += [_cut(_readable(line.strip())) for line in " ".join(values).splitlines() if line.strip()]
    yield from lines[:MOST_LINES]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"


def _readable(text: str) -> str:
    """Return a text without what could hide or turn round others on the page: that is shown as Python escapes it."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _JOINERS else " " if char.isspace() else escape(char) for char in text
    )
