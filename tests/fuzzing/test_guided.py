"""A short run of the fuzzer that is led by coverage; ``python -m tests.fuzzing`` runs as long as asked."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is for Linux on x86-64")
def test_input_that_is_led_by_coverage_finds_nothing() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzzing", "--runs", "40"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
