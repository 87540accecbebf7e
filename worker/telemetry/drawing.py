"""Draws the panel on a terminal, again and again in the same place; what is logged meanwhile stands above it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Self, TextIO

from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType

from worker.telemetry.panel import Panel
from worker.telemetry.snapshot import Snapshot


class Drawing:
    """The place on the terminal ``out``, for ``with``. What is logged to standard error appears above it."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=out is sys.stderr or (out is sys.stdout and sys.stderr.isatty()),
        )
        self._drawn: Sequence[int] = ()
        """How many columns each line of the picture takes that stands there."""
        self._width = self._console.width
        self._shown = ""

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def draw(self, snapshot: Snapshot) -> None:
        """Draw it in place of the picture before; the same picture is not drawn again."""
        panel, width = Panel(snapshot), self._console.width
        lines = self._console.render_lines(panel, pad=False)
        text = "\n".join("".join(segment.text for segment in line) for line in lines)
        if text == self._shown and width == self._width:
            return
        if width < self._width:
            self._clear_what_was_wrapped(width)
        self._live.update(panel, refresh=True)
        self._shown, self._width = text, width
        self._drawn = [sum(segment.cell_length for segment in line) for line in lines]

    def _clear_what_was_wrapped(self, width: int) -> None:
        """Clear the rows that a narrower terminal made of lines that were too long; rich knows nothing of them."""
        wrapped = sum(max(0, -(-columns // width) - 1) for columns in self._drawn)
        self._console.control(
            *(
                Control((ControlType.ERASE_IN_LINE, 2), ControlType.CARRIAGE_RETURN, (ControlType.CURSOR_UP, 1))
                for _ in range(wrapped)
            )
        )
