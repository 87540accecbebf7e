"""Text of unknown origin, made safe to be shown, and no more of it than a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

SHOWN = 20
"""So many things are named, one a line, where there may be many."""


def escape(text: str) -> str:
    """Return the text with unprintable (such as control, bidirectional, invisible) characters as Python escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def shortened(words: Sequence[str], most: int = SHOWN) -> list[str]:
    """Return the first of these, and how many more there are."""
    return [*words[:most], *([f"and {len(words) - most:,} more"] if len(words) > most else [])]


class Named:
    """Counts things, and keeps the words for the first ``SHOWN`` of them."""

    def __init__(self) -> None:
        self.total = 0
        self._first: list[str] = []

    def add(self, words: str) -> None:
        """Count one more."""
        self.total += 1
        if len(self._first) < SHOWN:
            self._first.append(words)

    def lines(self) -> Iterator[str]:
        """Yield the words for the first ones, then how many more there are."""
        yield from self._first
        if more := self.total - len(self._first):
            yield f"and {more:,} more"
