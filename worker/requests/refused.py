"""What was wrong with the lines of one file or pipe, so that a person finds them: number, reason and user of each.

Where the whole file is something else (another encoding, CSV, JSON over many lines), that is said once for all its
lines.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from worker.core.text import SHOWN, escape
from worker.requests.lines import Line, digest
from worker.requests.usernames import is_username

_REMEMBERED = 10_000
"""Different malformed lines whose repetitions are counted: some megabytes at most."""

_NOT_JSON = "is not JSON"
_CUT = "; the input ends in the middle of this line: was it cut off?"

_USERNAME = re.compile(rb'\s*\{\s*"username"\s*:\s*("(?:[^"\\]|\\.){1,1000}")')
"""A username at the beginning of a message, which may be broken later on."""


class Aside(NamedTuple):
    """What ``Producer.put_aside`` shall remember of malformed lines that are alike."""

    reason: str
    digest: str
    number: int
    """How many of them there are now."""
    before: int
    """How many of them were put aside already, from the same source."""


@dataclass(slots=True)
class Entry:
    """One malformed line, or several in a row that have the same thing wrong."""

    first: int
    last: int
    reason: str
    username: str | None

    def __str__(self) -> str:
        """Return it as a line of text for a person, safe for a terminal."""
        where = f"line {self.first}" if self.first == self.last else f"lines {self.first} to {self.last}"
        return f"{where}{f' ({escape(self.username)})' if self.username else ''}: {self.reason}"


class Refused:
    """The malformed lines of one source. ``digest``: what may be stored of one (``Parser.digest``)."""

    def __init__(self, digest: Callable[[bytes], str] = digest) -> None:
        self._digest = digest
        self.total = 0
        self.reasons: Counter[str] = Counter()
        """How many lines there are of each reason."""
        self.entries: list[Entry] = []
        """The first ``SHOWN`` of them; a run of lines with the same trouble is one."""
        self._in_entries = 0
        self._flaw = ""
        """What the whole file is, where its first line tells it."""
        self._alike: dict[tuple[str, str], int] = {}
        self._owed: dict[str, Aside] = {}

    def __bool__(self) -> bool:
        return self.total > 0

    def add(self, line: Line, reason: str) -> Aside | None:
        """Note a malformed line. Returns what to put aside at once; ``None``: ``owed`` will return it at the end."""
        if line.is_first and reason != "is empty":
            self._flaw = line.flaw or _format_of(line.raw)
        flaw = line.flaw or (self._flaw if _is_not_json(reason) else "")
        if not flaw and not line.is_ended and _is_not_json(reason):
            reason += _CUT
        said = flaw or reason
        self.total += 1
        self.reasons[said] += 1
        self._show(line, said, is_flaw=bool(flaw))
        if flaw and flaw in self._owed:
            self._owed[flaw] = self._owed[flaw]._replace(number=self._owed[flaw].number + 1)
            return None
        found = self._digest(line.raw)
        if flaw:
            self._owed[flaw] = Aside(flaw, found, 0, 1)
        return Aside(said, found, 1, self._seen(said, found))

    def _show(self, line: Line, said: str, *, is_flaw: bool) -> None:
        last = self.entries[-1] if self.entries else None
        if is_flaw and last is not None and last.reason == said and self._in_entries == self.total - 1:
            last.last = line.number
        elif len(self.entries) < SHOWN:
            username = None if is_flaw else username_in(line.raw)
            self.entries.append(Entry(line.number, line.number, said, username))
        else:
            return
        self._in_entries += 1

    def _seen(self, reason: str, found: str) -> int:
        """How many lines like this one were put aside before."""
        before = self._alike.get((reason, found), 0)
        if before or len(self._alike) < _REMEMBERED:
            self._alike[reason, found] = before + 1
        return before

    def owed(self) -> list[Aside]:
        """Return what is still to be put aside: the further lines of a file that is something else; only once."""
        owed = [aside for aside in self._owed.values() if aside.number]
        self._owed.clear()
        return owed

    def lines(self) -> Iterator[str]:
        """Yield lines of text about them for a person, safe for a terminal."""
        yield from map(str, self.entries)
        if rest := self.total - self._in_entries:
            yield f"and {rest:,} more"
            for reason, number in self.reasons.most_common(8):
                yield f"malformed: {number:,} × {reason}"


def _is_not_json(reason: str) -> bool:
    return reason.startswith((_NOT_JSON, "is JSON in a JSON text", "is not a JSON object"))


def _format_of(raw: bytes) -> str:
    """Return what a file is whose first line, which is malformed, is this; empty if it may be lines of JSON."""
    if raw.startswith(b"[") and not raw.endswith(b"]"):
        return "is part of a JSON array over many lines; one object a line is needed (jq -c '.[]')"
    if raw == b"{" or re.fullmatch(rb'\{\s*"\w+"\s*:\s*[\[{]', raw):
        return "is part of JSON over many lines; one object a line is needed (jq -c . or jq -c '.users[]')"
    if not raw.startswith((b"{", b"[", b'"{', b"<")) and re.search(rb"[^\s,;\t][,;\t]", raw):
        separator = max(b",;\t", key=raw.count)
        how = {ord(";"): "--icsv --ifs ';'", ord("\t"): "--itsv"}.get(separator, "--icsv")
        return f"is CSV, not JSON; one JSON object a line is needed (mlr -S {how} --ojsonl cat)"
    if re.fullmatch(rb"[^\s{}\[\]\"<,;:=]{1,128}", raw):
        return "is not JSON; are these usernames? mfa-worker push --usernames FILE --ticket-key KEYFILE"
    return ""


def safe_reason(reason: str) -> str:
    """Return a reason that an earlier version stored, without the name of a key that this one would not repeat."""
    found = re.fullmatch(r'has the unknown key "(.*?)"(; did you mean \w+\?)?', reason, re.DOTALL)
    if found is None or re.fullmatch("[a-z_]{1,32}", found[1]):
        return reason
    return f"has an unknown key{found[2] or ''}"


def username_in(raw: bytes) -> str | None:
    """Return the username that a malformed message names, if it is one; ``None`` otherwise."""
    found = _USERNAME.match(raw)
    try:
        username = json.loads(found[1]) if found else json.loads(raw)["username"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return username if isinstance(username, str) and is_username(username) else None
