"""SKELETON."""

from __future__ import annotations

from typing import Literal, TextIO


def configure(format: Literal["auto", "json", "console"] = "auto", level: str = "info", stream: TextIO | None = None) -> None:  # noqa: A002
    """``None``: whatever ``sys.stderr`` is at the moment of writing. Then use ``structlog.get_logger()`` anywhere."""
    raise NotImplementedError


def clean(text: str) -> str:
    """Redacted and escaped: safe for a log line or a terminal (also for usernames, error texts)."""
    raise NotImplementedError
