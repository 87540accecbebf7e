"""What is killed in a simulation leaves coroutines behind that nobody will await: that is what being killed means."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"))


@pytest.fixture(autouse=True)
def the_dead_are_buried() -> Iterator[None]:
    """Within the test that left them, so that no other one has to hear of them."""
    yield
    gc.collect()
