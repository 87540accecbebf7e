"""SKELETON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from worker.model import Census
from worker.ports import Backlog
from worker.telemetry.tally import Tally


def status(census: Census, backlog: Backlog) -> dict[str, Any]:
    """The object of ``status --json``."""
    raise NotImplementedError


def reconciliation(census: Census, backlog: Backlog, tally: Tally, *, exit_code: int, stamp: Mapping[str, str]) -> dict[str, Any]:
    """``status`` plus ``verdict``, ``exit_code``, ``rollout`` (the stamp: endpoint, region, pool) and ``run`` (what this process did)."""
    raise NotImplementedError


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Atomic, mode 0600. Raises ``UsageError`` (cannot be written there)."""
    raise NotImplementedError


def verdict(census: Census, backlog: Backlog) -> str:
    """One sentence."""
    raise NotImplementedError


def print_table(census: Census, backlog: Backlog, tally: Tally | None, stream: TextIO) -> None:
    """For people: states, reasons, backlog, rate, time left, verdict."""
    raise NotImplementedError
