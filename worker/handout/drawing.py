"""The program of the child processes: draws QR codes and sets letters for a part of the users.

``drawn`` starts it. It reads one JSON object from standard input and writes one to standard output; nothing of it
touches the disk. A process of its own, because the typesetting library gives no memory back (measured: 0.3 MB a
letter), and because two can work at once.
"""

from __future__ import annotations

import base64
import io
import json
import re
import signal
import sys
import unicodedata
from pathlib import Path
from typing import Any

MAIN = """
#import "/letter.typ": letter, paper
#let data = json(bytes(sys.inputs.data))
#set document(title: data.title)
#set text(lang: data.language)
#show: paper.with(data.fields)
#for (number, it) in data.users.enumerate() {
  if number > 0 { pagebreak() }
  letter(it, data.fields)
}
"""
"""What sets the letters. All texts come in as JSON strings, which the library never reads as markup."""
_LINE = re.compile(r"__typst_py_bytes__\.typ:(\d+):")
_PLACE = re.compile(r"┌─ (\S+:\d+):\d+")
MODULE = 8
"""Pixels of a module, the smallest square of a QR code."""
MASK = 4
"""The mask pattern of all QR codes. Trying all eight, as the standard does it (ISO/IEC 18004), takes 7 ms a code, not
1.8; for otpauth URIs this one is the best or nearly so: 1.3 % above the best penalty score on average (measured)."""


def qr_code(uri: str) -> Any:
    """Return the QR code (segno's) of a URI: error correction M, or L where M has no room. Raises ``ValueError``."""
    import segno
    from segno.encoder import DataOverflowError

    try:
        return segno.make_qr(uri, error="m", mask=MASK)
    except DataOverflowError:
        return segno.make_qr(uri, error="l", boost_error=False, mask=MASK)


def as_file(code: Any, form: str) -> bytes:
    """Return the QR code as an SVG or PNG file, black on white with its quiet zone; it says nothing else."""
    out = io.BytesIO()
    code.save(out, kind=form, scale=MODULE, border=4, dark="#000000", light="#ffffff")
    return out.getvalue()


def _for_letter(code: Any) -> str:
    """Return the QR code as an SVG image without a quiet zone: the page around it is white."""
    out = io.BytesIO()
    code.save(out, kind="svg", xmldecl=False, border=0)
    return out.getvalue().decode("ascii")


def _texts(value: Any) -> list[str]:
    """Return every text in what JSON can hold."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


def _replaced(value: Any, table: dict[int, str]) -> Any:
    """Return the same with the characters in the table replaced."""
    if isinstance(value, str):
        return value.translate(table)
    if isinstance(value, dict):
        return {key: _replaced(item, table) for key, item in value.items()}
    return [_replaced(item, table) for item in value] if isinstance(value, list) else value


class Letters:
    """Sets letters by a template; ``job``: see ``drawn.LetterJob``."""

    def __init__(self, job: dict[str, Any]) -> None:
        import typst

        root = Path(job.pop("root"))
        own = root / "fonts"
        self._typst = typst
        self._fonts = typst.Fonts(font_paths=[str(own)] if own.is_dir() else [])
        self._compiler = typst.Compiler(root=str(root), font_paths=self._fonts)
        self._tagged = job.pop("tagged")
        self._tell_all = job.pop("tell_all")
        self._job = job

    def pages_of(self, users: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the letters as a PDF, in base64, and what is to be said about some of them, by their numbers."""
        missing = self._missing({char for user in users for text in _texts(_shown(user)) for char in text})
        table = {ord(char): ascii(char)[1:-1] for char in missing}
        undrawn = {}
        for number, user in enumerate(users):
            found = sorted({char for text in _texts(_shown(user)) for char in text} & missing) if missing else []
            if found:
                undrawn[number] = "".join(found)
                users[number] = _replaced(user, table)
        try:
            pdf = self._compiled(users)
        except self._typst.TypstError as error:
            return {"error": self._told(error)}
        long = self._long(users) if self._pages(pdf) != len(users) else []
        return {"pdf": base64.b64encode(pdf).decode("ascii"), "undrawn": undrawn, "long": long}

    def _long(self, users: list[dict[str, Any]]) -> list[int]:
        """Return the numbers of the letters that take more than a page, each set alone."""
        return [number for number, user in enumerate(users) if self._pages(self._compiled([user])) > 1]

    def _compiled(self, users: list[dict[str, Any]]) -> bytes:
        inputs = {"data": json.dumps({**self._job, "users": users})}
        pdf = self._compiler.compile(MAIN.encode(), format="pdf", sys_inputs=inputs, pdf_tags=self._tagged)
        assert isinstance(pdf, bytes)
        return pdf

    def _pages(self, pdf: bytes) -> int:
        import pypdfium2

        document = pypdfium2.PdfDocument(pdf)
        try:
            return len(document)
        finally:
            document.close()

    def _missing(self, chars: set[str]) -> set[str]:
        """Return which of the characters no font has. A check of PDF/A says so: it takes no letter without its glyph.

        Marks are left to the letters that they stand on.
        """
        wanted = sorted(
            char for char in chars if ord(char) > 0x17F and unicodedata.category(char)[0] not in "MC" and char.strip()
        )
        if not wanted:
            return set()
        source = "".join(f'#text("\\u{{{ord(char):x}}}")\n' for char in wanted)
        page = "#set page(width: 50mm, height: auto)\n"
        try:
            self._typst.compile((page + source).encode(), font_paths=self._fonts, pdf_standards="a-2b")
        except self._typst.TypstError as error:
            return {wanted[int(line) - 2] for line in _LINE.findall(error.diagnostic)}
        return set()

    def _told(self, error: Any) -> str:
        """Return what is wrong with the template; of real users' letters only the place, for it may quote a secret."""
        place = _PLACE.search(error.diagnostic)
        where = place[1].replace("__typst_py_bytes__.typ", "letter.typ") if place else "letter.typ"
        if not self._tell_all:
            return where
        return f"{where}: {error.message}" + "".join(f" ({hint})" for hint in error.hints)


def _shown(user: dict[str, Any]) -> dict[str, Any]:
    """Return what people read of a user's letter."""
    return {key: value for key, value in user.items() if key != "qr"}


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to what ``drawn`` asks."""
    users = asked["users"]
    answers: dict[str, Any] = {}
    made = [qr_code(user.pop("uri")) for user in users]
    if form := asked["form"]:
        answers["codes"] = [base64.b64encode(as_file(code, form)).decode("ascii") for code in made]
    if job := asked["letters"]:
        for user, code in zip(users, made, strict=True):
            user["qr"] = _for_letter(code)
        answers |= Letters(job).pages_of(users)
    return answers


def main() -> None:
    """Answer once. Whoever interrupts the command ends this process too, without a word."""
    from worker.adapters.core_dumps import forbid_core_dumps

    for each in (signal.SIGINT, signal.SIGPIPE):  # nobody is left who wants the answer
        signal.signal(each, signal.SIG_DFL)
    forbid_core_dumps()
    json.dump(answer(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
