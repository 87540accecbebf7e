"""Reads TOML, where Python's own parser would need too much time, or raise what is no mistake of TOML."""

from __future__ import annotations

import re
import tomllib
from typing import Any

MOST_PARTS = 50
"""The most parts of a key with dots; ours have two. Python's parser takes a time that grows with their number squared,
an hour for one of 1 MiB."""
_LONG_KEY = re.compile(rf"(?<![^\s=\[\]{{}},#])(?:[^\s.=\[\]{{}},#]+[ \t]*\.[ \t]*){{{MOST_PARTS}}}")


def parsed(text: str) -> dict[str, Any]:
    """Return what the text holds. Raises ``ValueError``, with the mistake and its place in words."""
    if found := _LONG_KEY.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ValueError(f"A key has more than {MOST_PARTS} parts (at line {line})")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        raise ValueError("A number has too many digits") from None
    except RecursionError:
        raise ValueError("Lists or tables are nested too deeply") from None
