"""A short run of the fuzzer that is led by coverage; ``python -m tests.fuzzing`` runs as long as asked."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzzing", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is for Linux on x86-64")
def test_input_that_is_led_by_coverage_finds_nothing() -> None:
    done = fuzz("--runs", "100")
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is for Linux on x86-64")
def test_a_target_that_does_not_exist_is_named() -> None:
    done = fuzz("nothing")
    assert done.returncode == 2
    assert "there is no target nothing; there are: request" in done.stderr
