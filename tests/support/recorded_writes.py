"""What a process wrote into a folder, and what a power cut may have left of it.

``recorded_writes.c`` is preloaded into the process and writes down each write, truncation, sync, and change of a name.
From that follows every content that the files may have when the power fails: what was synced is there, and of what was
not, any part, in any order; a name that was made or taken away is so for sure once its folder was synced. On a disk
that lies, some of the syncs did nothing.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

SECTOR, PAGE = 512, 4096
"""Bytes that a disk writes whole, and that a page cache holds together."""


@cache
def library(folder: Path) -> Path | None:
    """The library to preload, compiled into that folder; ``None`` where there is no C compiler."""
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if compiler is None:
        return None
    made, source = folder / "recorded_writes.so", Path(__file__).with_suffix(".c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", made, source, "-ldl", "-lpthread"], check=True)
    return made


def variables(library: Path, folder: Path, notes: Path) -> Mapping[str, str]:
    """The environment of the process that is to be recorded."""
    return {"LD_PRELOAD": str(library), "RECORD_FOLDER": str(folder), "RECORD_TO": str(notes)}


@dataclass(frozen=True, slots=True)
class Note:
    """One change, or one sync."""

    at: float
    """UNIX seconds."""
    what: str
    inode: int
    offset: int
    """Of a write; the new size after a truncation; for a sync, how many notes it covers."""
    path: str
    data: bytes = b""


@dataclass(slots=True)
class Recording:
    """The files before the process began, by name, and what it did to them."""

    files: dict[str, tuple[int, bytes]]
    """Name: inode and content."""
    notes: list[Note] = field(default_factory=list)

    @classmethod
    def begin(cls, folder: Path, names: Sequence[str]) -> Recording:
        """Remember what these files are now."""
        found = [folder / name for name in names if (folder / name).exists()]
        return cls({path.name: (path.stat().st_ino, path.read_bytes()) for path in found})

    def read(self, notes: Path) -> None:
        """Add what was written down."""
        data, at = notes.read_bytes(), 0
        while at < len(data):
            end = data.index(b"\n", at)
            time, what, inode, offset, length, path = data[at:end].decode().split(" ", 5)
            at = end + 1
            written = data[at : at + int(length)]
            at += int(length)
            self.notes.append(Note(int(time) / 1e9, what, int(inode), int(offset), path, written))

    def left_by(self, cut: int, dice: random.Random, *, lies_from: Mapping[str, int] | None = None) -> dict[str, bytes]:
        """The files after a power cut before note number ``cut``; one of many that are possible.

        ``lies_from``: from which note on the syncs of a file did nothing, by the last part of its name.
        """
        inodes = {name: inode for name, (inode, _) in self.files.items()}
        contents = {inode: bytearray(content) for inode, content in self.files.values()}
        names_of = {inode: name for name, inode in inodes.items()}
        names_of |= {note.inode: Path(note.path).name for note in self.notes if note.what in ("create", "rename")}
        covered: dict[int, int] = {}
        folder_covered = 0
        for number, note in enumerate(self.notes[:cut]):
            if note.what == "syncfolder" and number < (lies_from or {}).get("", cut):
                folder_covered = max(folder_covered, note.offset)
            if note.what == "sync" and number < _lies_from(names_of.get(note.inode, ""), lies_from, cut):
                covered[note.inode] = max(covered.get(note.inode, 0), note.offset)
        how = {inode: dice.choice(("all", "none", "first", "some", "some", "torn")) for inode in sorted(names_of)}
        for number, note in enumerate(self.notes[:cut]):
            if note.what in ("create", "unlink", "rename"):
                if number < folder_covered or dice.random() < 0.5:
                    _rename(inodes, contents, note)
                continue
            if note.what not in ("write", "truncate"):
                continue
            content = contents.setdefault(note.inode, bytearray())
            if number < covered.get(note.inode, 0):
                _apply(content, note)
            else:
                _apply_in_part(content, note, how.get(note.inode, "all"), dice)
                if how.get(note.inode) == "first" and dice.random() < 0.3:
                    how[note.inode] = "none"
        return {name: bytes(contents.get(inode, b"")) for name, inode in inodes.items()}


def _lies_from(name: str, lies_from: Mapping[str, int] | None, cut: int) -> int:
    return min((number for end, number in (lies_from or {}).items() if end and name.endswith(end)), default=cut)


def _rename(inodes: dict[str, int], contents: dict[int, bytearray], note: Note) -> None:
    name = Path(note.path).name
    if note.what == "unlink":
        if inodes.get(name) == note.inode:
            del inodes[name]
        return
    inodes[name] = note.inode
    contents.setdefault(note.inode, bytearray())


def _apply(content: bytearray, note: Note) -> None:
    if note.what == "truncate":
        del content[note.offset :]
        content.extend(bytes(note.offset - len(content)))
        return
    content.extend(bytes(max(0, note.offset - len(content))))
    content[note.offset : note.offset + len(note.data)] = note.data


def _apply_in_part(content: bytearray, note: Note, how: str, dice: random.Random) -> None:
    """As much of the change as reached the disk: all, nothing, or some pages; torn: some sectors."""
    if how == "none":
        return
    if note.what == "truncate" or how in ("all", "first"):
        if how != "some" or dice.random() < 0.5:
            _apply(content, note)
        return
    unit, end = SECTOR if how == "torn" else PAGE, note.offset + len(note.data)
    if end > len(content) and dice.random() < 0.5:
        content.extend(bytes(end - len(content)))  # the size is durable, and the data may not be
    at = note.offset
    while at < end:
        after = min(end, (at // unit + 1) * unit)
        if dice.random() < 0.5:
            piece = note.data[at - note.offset : after - note.offset]
            content.extend(bytes(max(0, at - len(content))))
            content[at:after] = piece
        at = after
