"""Makes up input: pieces of right input, cut, doubled, joined, and with what parsers stumble over put into it."""

from __future__ import annotations

from random import Random

from tests.fuzzing.dictionary import PIECES

LONGEST = 20_000
"""Bytes: longer input is looked at for its time and memory only (``test_growth``)."""


def changed(data: bytes, seeds: tuple[bytes, ...], random: Random) -> bytes:
    """The same with a few changes."""
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((0, 1, 1, 4, 30, len(data))))
        match random.randrange(6):
            case 0:
                data = data[:at] + random.choice(PIECES) + data[at:]
            case 1:
                data = data[:at] + random.choice(PIECES) + data[end:]
            case 2:
                data = data[:at] + data[end:]
            case 3:
                data = data[:end] + data[at:end] * random.choice((1, 1, 3, 40)) + data[end:]
            case 4:
                other = random.choice(seeds)
                data = data[:at] + other[random.randrange(len(other) + 1) :]
            case _:
                data = data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
    return data[:LONGEST]
