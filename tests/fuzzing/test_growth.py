"""Time and memory of a parser grow no faster than its input, also for the shapes that parsers dread."""

from __future__ import annotations

import gc
import time
import tracemalloc

import pytest

from tests.fuzzing.harness import Target, examine
from tests.fuzzing.targets import TARGETS

SMALL = 2_500
"""Bytes of the smaller input whose time is measured."""
LESS = 1_000
"""Bytes of the smaller input whose memory is measured, which is slow."""
TIMES = 8
"""How many times longer the other input is."""
STEEPER = 3
"""So many times more than ``TIMES`` is too much: what grows with the square is ``TIMES`` times more, and a busy machine
makes a factor of two."""
NOISE_SECONDS = 0.015
"""Less time than this says nothing, because of what costs the same for any input."""
NOISE_BYTES = 1_000_000
"""Less memory than this says nothing, for the same reason."""

CASES = [(name, shape) for name, target in TARGETS.items() for shape in target.shapes]


def seconds(target: Target, data: bytes) -> float:
    """Of the processor's time."""
    gc.collect()
    began = time.process_time()
    examine(target, data)
    return time.process_time() - began


def peak(target: Target, data: bytes) -> int:
    tracemalloc.start()
    try:
        examine(target, data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def is_steep(target: Target, shape: str) -> bool:
    """Whether eight times the input takes much more than eight times the time, each of three times."""
    make = target.shapes[shape]
    small, large = make(SMALL), make(TIMES * SMALL)
    for _ in range(3):
        if (took := seconds(target, large)) < NOISE_SECONDS or took < STEEPER * TIMES * seconds(target, small):
            return False
    return True


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_time_and_memory_grow_no_faster_than_the_input(name: str, shape: str) -> None:
    target = TARGETS[name]
    make = target.shapes[shape]
    assert not is_steep(target, shape)
    if (most := peak(target, make(TIMES * LESS))) > NOISE_BYTES:
        assert most < STEEPER * TIMES * peak(target, make(LESS))


def squared(data: bytes) -> None:
    for at in range(0, len(data), 2):
        data[at:].count(b"y")


def test_a_parser_whose_time_grows_with_the_square_is_found() -> None:
    assert is_steep(Target(squared, (), shapes={"x": lambda n: b"x" * n}), "x")
