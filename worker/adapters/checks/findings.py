"""What ``check`` says: findings, each with what is and what to do. How they are printed is in ``setup.checks.show``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """What a finding means for a run."""

    OK = "ok"
    """It is as it should be."""
    ADVICE = "advice"
    """A run would not fail over it, but somebody should know."""
    FAILS = "fails"
    """A run would fail over it, or lose what it must keep."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    about: str
    """What it is about, in one word: ``ledger``, ``queue``."""
    level: Level
    said: str
    """What was found, as a sentence."""
    cure: str = ""
    """What to do about it."""

    @property
    def fails(self) -> bool:
        """Whether a run would fail over it, or lose what it must keep."""
        return self.level is Level.FAILS


def ok(about: str, said: str) -> Finding:
    """It is as it should be."""
    return Finding(about, Level.OK, said)


def advice(about: str, said: str, cure: str) -> Finding:
    """A run would not fail, but somebody should know."""
    return Finding(about, Level.ADVICE, said, cure)


def fails(about: str, said: str, cure: str) -> Finding:
    """A run would fail, or lose what it must keep."""
    return Finding(about, Level.FAILS, said, cure)


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """The findings without repetitions, in their order."""
    return list(dict.fromkeys(findings))
