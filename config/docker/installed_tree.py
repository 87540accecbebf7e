"""Says what an image has beyond its base: digests of all that is installed, or a table of the packages and their sizes.

It runs inside the image, which needs no shell for it:

    docker run --rm -i --network none --entrypoint python IMAGE - < config/docker/installed_tree.py
    docker run --rm -i --network none --entrypoint python IMAGE - --table < config/docker/installed_tree.py

Two builds from one commit and one base print the same digests, whoever built them, where and when. A digest covers
path, kind, mode, owner, and content or target of everything, and the time of change of files and links (builders give
folders the time of the build).
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

MB = 1_000_000
"""Bytes."""
VENV = Path("/opt/venv")
"""Where the worker and its libraries are."""
PLACES = (VENV, Path("/etc/passwd"), Path("/etc/group"), Path("/var/lib/mfa-worker"))
"""Everything that the build adds to the base or changes there, but for the standard library's bytecode."""


def files(place: Path) -> Iterator[Path]:
    """The place itself, and whatever is in it, in one order."""
    yield place
    if place.is_dir() and not place.is_symlink():
        yield from sorted(place.rglob("*"))


def line(path: Path, *, with_time: bool) -> bytes:
    """All that counts of one file."""
    found = path.lstat()
    what = b""
    if stat.S_ISREG(found.st_mode):
        what = hashlib.sha256(path.read_bytes()).hexdigest().encode()
    elif stat.S_ISLNK(found.st_mode):
        what = os.fsencode(path.readlink())
    when = int(found.st_mtime) if with_time and not stat.S_ISDIR(found.st_mode) else 0
    return b"%s %o %d:%d %d %s\n" % (os.fsencode(path), found.st_mode, found.st_uid, found.st_gid, when, what)


def digest(paths: Iterator[Path], *, with_time: bool) -> tuple[str, int]:
    """The digest of these files, and how many they are."""
    total, number = hashlib.sha256(), 0
    for path in paths:
        total.update(line(path, with_time=with_time))
        number += 1
    return total.hexdigest(), number


def bytecode() -> Iterator[Path]:
    """The bytecode of the standard library, which the build compiles."""
    return (path for path in files(Path(sysconfig.get_path("stdlib"))) if path.suffix == ".pyc")


def size(package: Distribution) -> int:
    """Bytes on disk: the files that its RECORD lists, and their bytecode."""
    listed = {Path(str(package.locate_file(each))) for each in package.files or () if each.suffix != ".pyc"}
    compiled = {
        found
        for each in listed
        if each.suffix == ".py"
        for found in each.parent.glob(f"__pycache__/{each.stem}.{sys.implementation.cache_tag}*.pyc")
    }
    return sum(each.lstat().st_size for each in listed | compiled if each.exists())


def table() -> Iterator[str]:
    """The packages, the largest first, as a table in Markdown; then how much all of it is."""
    sizes = {(each.name.lower().replace("_", "-"), each.version): size(each) for each in distributions()}
    yield "| package | version | MB |"
    yield "|---|---|---|"
    for (name, version), number in sorted(sizes.items(), key=lambda each: (-each[1], each[0])):
        yield f"| {name} | {version} | {number / MB:.1f} |"
    total = sum(path.lstat().st_size for path in files(VENV) if path.is_file() and not path.is_symlink())
    yield f"| all of {VENV} | | {total / MB:.1f} |"
    yield f"| bytecode of the standard library | | {sum(path.lstat().st_size for path in bytecode()) / MB:.1f} |"


def digests() -> Iterator[str]:
    """A line for each place."""
    for place in PLACES:
        found, number = digest(files(place), with_time=place == VENV)
        yield f"{found}  {number:>5} files  {place}"
    found, number = digest(bytecode(), with_time=False)
    yield f"{found}  {number:>5} files  bytecode of the standard library"


if __name__ == "__main__":
    sys.stdout.writelines(f"{each}\n" for each in (table() if "--table" in sys.argv else digests()))
