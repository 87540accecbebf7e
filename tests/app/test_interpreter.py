"""A run tunes Python for itself, and leaves it as it was: others may live in the same process."""

from __future__ import annotations

import gc
import sys

import pytest

from worker.app.run import GC_THRESHOLD, SWITCH_INTERVAL, _tuned_interpreter


def test_python_is_tuned_during_a_run_and_as_before_after_it() -> None:
    before = gc.get_threshold(), sys.getswitchinterval()
    with _tuned_interpreter():
        gc.freeze()
        assert gc.get_threshold()[0] == GC_THRESHOLD
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL)
    assert (gc.get_threshold(), sys.getswitchinterval()) == before
    assert gc.get_freeze_count() == 0, "what a run froze, or another test in this process before it, is collected again"
