"""Made-up input: a parser raises what it documents and nothing else, and repeats no credential."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing.harness import examine
from tests.fuzzing.made_up import changed
from tests.fuzzing.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_is_taken_or_refused(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
    @given(st.one_of(st.binary(max_size=60), st.sampled_from(target.seeds)), st.integers(0, 2**32))
    def whatever_comes(data: bytes, seed: int) -> None:
        examine(target, changed(data, target.seeds, Random(seed)))

    whatever_comes()
