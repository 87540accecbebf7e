"""Fuzzes by coverage, for as long as asked: ``python -m tests.fuzzing --seconds 600 [TARGET…]``.

atheris makes up the input and sees which of it reaches new lines of the worker. Each target has a process of its own,
as libFuzzer ends the one that it runs in. What goes wrong is printed and written into the target's corpus, which every
test run examines again (``test_corpus``).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib
import logging
import os
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzzing.made_up import LONGEST, changed

ROOMS = ("aws", "cognito", "ledgers", "people", "requests", "sealing", "settings")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--runs", type=int, default=-1, help="so many inputs for each target, in place of a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("target", nargs="*")
    asked = parser.parse_args()
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        print("atheris is not installed: pip install atheris (Linux, x86-64)", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["worker"], enable_loader_override=False):
        from tests.fuzzing.harness import CORPUS
        from tests.fuzzing.targets import TARGETS
    logging.disable(logging.CRITICAL)
    if unknown := set(asked.target) - TARGETS.keys():
        print(f"there is no target {', '.join(sorted(unknown))}; there are: {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    wrong = []
    for name in asked.target or TARGETS:
        sys.stdout.flush()
        if (child := os.fork()) == 0:
            fuzz(atheris, TARGETS[name], name, CORPUS / name, asked)
        if os.waitpid(child, 0)[1]:
            wrong.append(name)
    print(f"wrong: {', '.join(wrong)}" if wrong else "nothing was found")
    return 1 if wrong else 0


def fuzz(atheris: Any, target: Any, name: str, kept: Path, asked: argparse.Namespace) -> None:
    """Fuzz one target in this process, which ends here."""
    from tests.fuzzing.harness import examine

    def change(data: bytes, most: int, seed: int) -> bytes:
        """Half of the changes are libFuzzer's, which learn from what is compared; half know the pieces."""
        if seed % 2:
            return bytes(atheris.Mutate(data, most))
        return changed(data, target.seeds, Random(seed))[:most]

    def once(data: bytes) -> None:
        try:
            examine(target, data)
        except BaseException:
            file = kept / f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
            file.write_bytes(data)
            print(f"wrong: {base64.b64encode(data).decode()}\nkept in {file}", flush=True)
            raise

    found = Path(tempfile.mkdtemp(prefix="fuzzing-corpus-"))
    for number, seed in enumerate(target.seeds):
        (found / f"seed-{number}").write_bytes(seed)
    limit = f"-runs={asked.runs}" if asked.runs >= 0 else f"-max_total_time={asked.seconds}"
    flags = [
        limit,
        f"-seed={asked.seed}",
        f"-max_len={LONGEST}",
        "-timeout=20",
        "-rss_limit_mb=1000",
        "-print_final_stats=1",
    ]
    kept.mkdir(exist_ok=True)
    print(f"\n== {name}", flush=True)
    atheris.Setup([name, *flags, f"-artifact_prefix={kept}/", str(found), str(kept)], once, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
