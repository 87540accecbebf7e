"""Text of unknown origin, made safe to be shown."""

from __future__ import annotations


def escape(text: str) -> str:
    """Return the text with unprintable (such as control, bidirectional, invisible) characters as Python escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
