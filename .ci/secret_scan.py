"""Looks for secrets in the repository: keys, tokens and passwords that somebody committed by mistake.

    .venv/bin/python .ci/secret_scan.py              what git would commit now
    .venv/bin/python .ci/secret_scan.py --history    every commit of every branch
    .venv/bin/python .ci/secret_scan.py FOLDER       any folder

Kingfisher finds them, without the network: nothing that is found is tried out. What is found and may stay is in
allowed-secrets.toml, by file, rule and digest, each with its reason; a comment in a file excuses nothing. The
values are never printed. Exit code 1: something was found, or is allowed and no longer there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = ROOT / ".ci/allowed-secrets.toml"
RULES = ROOT / ".ci/secret-rules.yml"
KINGFISHER = Path(sysconfig.get_path("scripts")) / "kingfisher"
FOUND = {0: False, 200: True, 205: True}
"""Kingfisher's exit codes: nothing found, something found, and something that works; with any other it failed."""


class Finding(NamedTuple):
    """Where something that looks like a secret lies, its rule, and how its SHA-256 begins. Sorts by file."""

    path: str
    rule: str
    digest: str
    line: int


def scan(folder: Path, history: bool = False) -> list[Finding]:
    """What kingfisher finds in a folder. Raises ``RuntimeError`` if it did not run to its end."""
    command = [str(KINGFISHER), "scan", "--no-validate", "--no-update-check", "--no-ignore", "--no-dedup"]
    command += ["--rules-path", str(RULES), "--format", "jsonl", "--git-history", "full" if history else "none", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode not in FOUND:
        raise RuntimeError(f"kingfisher failed with {done.returncode}: {done.stderr[-2000:]}")
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    if not any(report.get("blobs_scanned") for report in reports):
        raise RuntimeError(f"kingfisher looked at nothing in {folder}")
    found = {
        Finding(
            each["finding"]["path"].removeprefix("./"),
            each["rule"]["id"],
            hashlib.sha256(each["finding"]["snippet"].encode()).hexdigest()[:16],
            each["finding"]["line"],
        )
        for each in reports
        if "rule" in each
    }
    if bool(found) != FOUND[done.returncode]:
        raise RuntimeError(f"kingfisher ended with {done.returncode} and named {len(found)} findings")
    return sorted(found)


def allowed(file: Path = ALLOWED) -> dict[tuple[str, str, str], str]:
    """Why each of these may stay, by file, rule and digest."""
    rows = tomllib.loads(file.read_text("utf-8"))["allowed"]
    return {(each["path"], each["rule"], each["digest"]): each["reason"] for each in rows}


def known(file: Path = ALLOWED) -> set[tuple[str, str]]:
    """Rule and digest of what may stay in old commits, in whatever file it lay then."""
    rows = tomllib.loads(file.read_text("utf-8"))
    return {(each["rule"], each["digest"]) for each in [*rows["allowed"], *rows["in_history"]]}


def complaints(found: list[Finding], excused: dict[tuple[str, str, str], str]) -> list[str]:
    """What a person must look at: findings that nothing excuses, and excuses for what is no longer there."""
    new = [
        f"{each.path}:{each.line}: looks like a secret ({each.rule}, digest {each.digest}). Take it out, and "
        f"if it was ever pushed, replace it; what is no secret goes into .ci/{ALLOWED.name}, with its reason"
        for each in found
        if each[:3] not in excused
    ]
    gone = sorted(excused.keys() - {each[:3] for each in found})
    return new + [
        f"{path} no longer holds {digest}: take its row out of .ci/{ALLOWED.name}" for path, _, digest in gone
    ]


def main() -> int:
    """Scan, print what is to be looked at, and say how much was excused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--history", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or (ROOT if arguments.history else Path(scratch))
        if folder == Path(scratch):
            git = shutil.which("git") or "git"
            subprocess.run([git, "checkout-index", "--all", f"--prefix={scratch}/"], cwd=ROOT, check=True)  # noqa: S603
        found = scan(folder, arguments.history)
    excused = {} if arguments.folder or arguments.history else allowed()
    if arguments.history:
        found = [each for each in found if (each.rule, each.digest) not in known()]
    said = complaints(found, excused)
    print(*said, sep="\n", end="\n" if said else "")
    print(f"{len(found)} found, {len(excused)} allowed")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
