"""Hands out: opens the records once, and gives those that are chosen to every output that was asked for."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.core.errors import ExitCode, UsageError
from worker.core.record import Record
from worker.core.text import Named, escape, shortened
from worker.core.words import several
from worker.extras import require
from worker.handout.chosen import Chosen
from worker.handout.codes import Codes
from worker.handout.drawn import Drawing, User
from worker.handout.letters import Letters, Style
from worker.handout.progress import Progress
from worker.handout.staged import Staged, look_at_file, look_at_folder, staging, warn_if_open
from worker.handout.table import Table
from worker.sealing.newest import Progress as Told
from worker.sealing.newest import Take


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for; ``None``: not that. ``form``: of the QR codes' files, ``svg`` or ``png``."""

    qr: Path | None = None
    form: str = "svg"
    letters: Path | None = None
    style: Style | None = None
    csv: Path | None = None

    @property
    def any(self) -> bool:
        """Whether anything is."""
        return bool(self.paths)

    @property
    def paths(self) -> dict[str, Path]:
        """The places, by the options that name them."""
        found = {"--qr": self.qr, "--letters": self.letters, "--csv": self.csv}
        return {option: path for option, path in found.items() if path is not None}

    def check(self) -> None:
        """Look at everything before a secret is opened. Raises ``UsageError``; says which folders others can open."""
        if self.qr is not None:
            require("handout", "segno", "open --qr")
        if self.letters is not None:
            for module in ("segno", "typst", "pypdfium2"):
                require("handout", module, "open --letters")
        for option, path in self.paths.items():
            if option == "--qr":
                look_at_folder(path, option)
            else:
                look_at_file(path, option)
        self._refuse_one_in_another()
        if self.style is not None:
            self.style.sample()
        warn_if_open(list(self.paths.values()))

    def _refuse_one_in_another(self) -> None:
        places = {option: path.parent.resolve() / path.name for option, path in self.paths.items()}
        for option, place in places.items():
            for other, beside in places.items():
                if option != other and (place == beside or (other == "--qr" and beside in place.parents)):
                    raise UsageError(
                        f"{option} and {other} are both to be written to {escape(str(beside))}",
                        "name another place for one of them",
                    )


_URI = re.compile(r"otpauth://totp/[\x21-\x7e]{1,2938}", re.ASCII)
"""What the worker writes, percent-encoded, and a QR code can hold: 2,953 bytes in all. Anybody can seal something else
to the recipients, and one such record must not keep the others from being handed out."""

Opening = Callable[[Take, Told], ExitCode]
"""Opens all records: gives each to the first, tells the second how far it is."""


def hand_out(opening: Opening, chosen: Chosen, wanted: Wanted, lines: Take | None) -> ExitCode:
    """Open the records and write what is wanted, whole or not at all; ``lines`` takes the chosen records too.

    Returns exit code 1 where a record could not be opened, a named user has none, or a user had to be left out.
    """
    progress = Progress()
    with ExitStack() as stack:
        stack.callback(progress.close)
        staged = stack.enter_context(staging([path.parent for path in wanted.paths.values()]))
        outputs = _Outputs(wanted, staged, lines, progress, stack)

        def take(record: Record) -> None:
            if chosen.takes(record):
                outputs.add(record)

        code = opening(take, progress)
        said = outputs.finish()
        progress.close()
        if outputs.count or not (code or chosen.missing):
            staged.commit()
            sys.stderr.writelines(f"{line}\n" for line in said)
        elif wanted.any:
            sys.stderr.write(f"no record was opened: {' and '.join(map(_shown, wanted.paths.values()))} not written\n")
        return max(code, outputs.report(), _say_missing(chosen, outputs.count, wanted))


def _say_missing(chosen: Chosen, count: int, wanted: Wanted) -> ExitCode:
    code = ExitCode.DONE
    if chosen.older:
        names = shortened([escape(name) for name in chosen.older])
        sys.stderr.write(f"their newest secret is older than --since: {', '.join(names)}\n")
    if missing := chosen.missing:
        sys.stderr.write(f"no record of {len(missing):,} of the users that --user names:\n")
        sys.stderr.writelines(f"  {words}\n" for words in shortened([escape(name) for name in missing]))
        sys.stderr.write("  → a username is the one of the request, exactly; mfa-worker show USER says what is known\n")
        code = ExitCode.SOME_LEFT_OUT
    elif wanted.letters is not None and not count:
        sys.stderr.write(f"nobody was chosen: {escape(str(wanted.letters))} was not written\n")
        code = ExitCode.SOME_LEFT_OUT
    return code


class _Outputs:
    """Everything that takes the chosen records."""

    def __init__(
        self, wanted: Wanted, staged: Staged, lines: Take | None, progress: Progress, stack: ExitStack
    ) -> None:
        self._wanted = wanted
        self._lines = lines
        self._progress = progress
        self._left_out = Named()
        self._drawn = 0
        self.count = 0
        self._table = Table(wanted.csv, staged) if wanted.csv is not None else None
        self._codes = Codes(wanted.qr, f".{wanted.form}", staged) if wanted.qr is not None else None
        if self._codes is not None:
            stack.callback(self._codes.close)
        self._letters = Letters(wanted.letters, staged) if wanted.letters is not None else None
        self._drawing: Drawing | None = None
        if self._codes is not None or self._letters is not None:
            job = wanted.style.job(tagged=False) if wanted.style is not None else None
            form = wanted.form if self._codes is not None else None
            self._drawing = stack.enter_context(Drawing(form, job, self._take_drawn))

    def add(self, record: Record) -> None:
        """Take one more record."""
        if self._lines is not None:
            self._lines(record)
        if self._table is not None:
            self._table.add(record)
        if self._drawing is not None:
            user = self._drawable(record)
            if user is None:
                self._left_out.add(escape(record["username"]))
                return
            self._drawing.add(user)
        self.count += 1

    def finish(self) -> list[str]:
        """Write what is not written yet, and return what was made, in words."""
        said: list[str] = []
        if self._drawing is not None:
            self._drawing.finish()
        if self._table is not None:
            self._table.finish()
            said.append(f"{several(self._table.count, 'row')} in {_shown(self._wanted.csv)}")
        if self._codes is not None:
            self._codes.finish()
            said.append(f"{several(self._codes.count, 'QR code')} in {_shown(self._wanted.qr)}")
        if self._letters is not None:
            places = self._letters.finish()
            self._older = self._letters.older_files(places)
            if places:
                where = _shown(places[0]) + (f" … {_shown(places[-1])}" if len(places) > 1 else "")
                said.append(f"{several(self._letters.count, 'letter')} in {where}")
        return said

    def report(self) -> ExitCode:
        """Say what somebody should look at."""
        if self._letters is not None:
            self._letters.report()
            for path in self._older:
                sys.stderr.write(f"warning: {_shown(path)} is of an earlier command and was not replaced: delete it\n")
        if not self._left_out.total:
            return ExitCode.DONE
        sys.stderr.write(f"{self._left_out.total:,} left out, whose record has no otpauth URI for a QR code:\n")
        sys.stderr.writelines(f"  {words}\n" for words in self._left_out.lines())
        sys.stderr.write("  → push a request with replace for each of them: they get a new secret\n")
        return ExitCode.SOME_LEFT_OUT

    def _drawable(self, record: Record) -> User | None:
        """Return what children are told of a record; ``None`` where it has no URI that a QR code can hold."""
        uri = record.get("otpauth_uri")
        if not isinstance(uri, str) or not _URI.fullmatch(uri):
            return None
        style = self._wanted.style
        return (
            {"uri": uri, "username": record["username"]}
            if style is None
            else {
                **style.letter_of(record),
                "user": record["username"],
            }
        )

    def _take_drawn(self, users: Sequence[User], answer: Mapping[str, Any]) -> None:
        names = [user.get("user") or user["username"] for user in users]
        if self._letters is not None:
            self._letters.add(names, answer, base64.b64decode(answer.get("pdf", "")))
        if self._codes is not None:
            for name, image in zip(names, answer["codes"], strict=True):
                self._codes.add(name, base64.b64decode(image))
        self._drawn += len(users)
        self._progress("drawn", self._drawn, None)


def _shown(path: Path | None) -> str:
    return escape(str(path))
