"""No version with a known flaw can be installed: floors lie above the advisories, and locks above the floors.

Read from the public advisory databases in November 2026. ``pip-audit`` of the workflow asks them again each week: what
it finds gets a row here and a floor in pyproject.toml, and ``config/lock`` does the rest.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKS = sorted(ROOT.glob("requirements*.lock"))

FIXED = {
    "aiohttp": ("3.14.3", "GHSA-cq5v-8q36-5273: the parser of responses reads beyond its buffer; others up to 3.14.2"),
    "click": ("8.3.3", "CVE-2026-7246: a command injection in click.edit"),
    "cryptography": ("50.0.0", "CVE-2026-69247, GHSA-537c-gmf6-5ccf, CVE-2026-39892"),
    "flask": ("3.1.3", "CVE-2026-27205"),
    "idna": ("3.15", "CVE-2026-45409: names that take very long to encode"),
    "jinja2": ("3.1.6", "CVE-2025-27516: out of the sandbox"),
    "protobuf": ("6.33.5", "CVE-2026-0994: JSON that is nested too deeply"),
    "pydantic-settings": ("2.14.2", "GHSA-4xgf-cpjx-pc3j"),
    "pygments": ("2.20.0", "CVE-2026-4539"),
    "pytest": ("9.0.3", "CVE-2025-71176: a folder in /tmp with a known name"),
    "python-dotenv": ("1.2.2", "CVE-2026-28684"),
    "requests": ("2.33.0", "CVE-2026-25645"),
    "urllib3": ("2.7.0", "CVE-2026-44431, CVE-2026-44432: headers that follow a redirect, answers that grow"),
    "werkzeug": ("3.1.6", "CVE-2026-27199, CVE-2026-21860"),
}
"""The first version without the advisories that are named, by package; older fixes are within them."""

ONLY_LOCKED = {"flask", "werkzeug"}
"""What only moto brings in, for tests: the lock decides about it."""

PIN = re.compile(r"^([a-z0-9-]+)==([^\s;]+)", re.MULTILINE)


def declared() -> dict[str, Requirement]:
    lines = [*PROJECT["dependencies"], *(each for extra in PROJECT["optional-dependencies"].values() for each in extra)]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def floor_of(requirement: Requirement) -> Version:
    return max(Version(each.version) for each in requirement.specifier if each.operator == ">=")


@pytest.mark.parametrize("name", sorted(FIXED.keys() - ONLY_LOCKED))
def test_no_version_with_a_known_flaw_is_within_a_range(name: str) -> None:
    fixed, advisory = FIXED[name]
    requirement = declared().get(name)
    assert requirement is not None, f"{name} has no floor in pyproject.toml: {advisory}"
    assert floor_of(requirement) >= Version(fixed), f"{requirement} begins before {fixed}: {advisory}"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_version_with_a_known_flaw_is_locked(lock: Path) -> None:
    pins = PIN.findall(lock.read_text("utf-8"))
    assert pins
    assert [pin for pin in pins if pin[0] in FIXED and Version(pin[1]) < Version(FIXED[pin[0]][0])] == []


def test_every_row_is_of_a_package_that_is_locked() -> None:
    locked = {name for lock in LOCKS for name, _ in PIN.findall(lock.read_text("utf-8"))}
    assert FIXED.keys() - locked == set()
    assert ONLY_LOCKED - FIXED.keys() == set()
    assert ONLY_LOCKED & declared().keys() == set()


@pytest.mark.parametrize("name", sorted(declared().keys() - {"mfa-worker"}))
def test_every_range_has_a_floor_and_an_end(name: str) -> None:
    requirement = declared()[name]
    assert {each.operator for each in requirement.specifier} == {">=", "<"}, f"{requirement} wants >= and <"
