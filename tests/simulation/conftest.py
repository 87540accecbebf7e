"""What a simulation leaves behind is found by the test that left it, and not by whichever comes next."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def the_dead_are_buried() -> Iterator[None]:
    yield
    gc.collect()
