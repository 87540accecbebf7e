"""A terminal as an SVG: what was typed, and what the program wrote, in its own colours."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS = 100
"""How wide the terminal is."""


def typed(command: str) -> Text:
    """A line that somebody typed."""
    return Text.assemble(("$ ", "green"), (command, "bold"))


def said(text: str) -> Text:
    """What the program wrote, with the colours in it."""
    return Text.from_ansi(text.rstrip("\n"))


def picture(title: str, shown: Iterable[RenderableType], columns: int = COLUMNS) -> str:
    """Return the SVG. It asks nobody for a font: whoever looks at it has one in which all characters are as wide."""
    console = Console(
        file=io.StringIO(),
        record=True,
        width=columns,
        height=40,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    for each in shown:
        console.print(each, soft_wrap=False)
    svg = console.export_svg(title=title, theme=MONOKAI, unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
