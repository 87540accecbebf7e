"""The findings of ``check``: each says what was found and what to do about it. ``setup.checks.show`` prints them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """What a finding means for a run."""

    OK = "ok"
    """It is as it should be."""
    NOT_CHECKED = "not_checked"
    """Nobody looked, or could: it may be as it should be, or not."""
    ADVICE = "advice"
    """A run would not fail because of it, but a person should know."""
    FAILS = "fails"
    """A run would fail because of it, or lose data that must be kept."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    about: str
    """What it is about, in one word: ``ledger``, ``queue``."""
    level: Level
    said: str
    """What was found, as a sentence."""
    cure: str = ""
    """What to do about it."""

    @property
    def fails(self) -> bool:
        """Whether its level is ``Level.FAILS``."""
        return self.level is Level.FAILS


def ok(about: str, said: str) -> Finding:
    """A finding with ``Level.OK``."""
    return Finding(about, Level.OK, said)


def not_checked(about: str, said: str, cure: str = "") -> Finding:
    """A finding with ``Level.NOT_CHECKED``; ``said`` names what was not looked at, and why."""
    return Finding(about, Level.NOT_CHECKED, said, cure)


def advice(about: str, said: str, cure: str) -> Finding:
    """A finding with ``Level.ADVICE``."""
    return Finding(about, Level.ADVICE, said, cure)


def fails(about: str, said: str, cure: str) -> Finding:
    """A finding with ``Level.FAILS``."""
    return Finding(about, Level.FAILS, said, cure)


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """The findings without repetitions, in their order."""
    return list(dict.fromkeys(findings))
