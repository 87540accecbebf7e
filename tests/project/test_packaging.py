"""What is shipped must install the same everywhere: the locks agree with pyproject.toml and name nobody's machine."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CORE: list[str] = PROJECT["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
OPTIONAL: list[str] = [*EXTRAS["handout"], *EXTRAS["metrics"], *EXTRAS["otel"]]
TEST: list[str] = [each for each in EXTRAS["test"] if not each.startswith("mfa-worker[")]
CHECKS: list[str] = PROJECT["dependency-groups"]["checks"]
BUILD: list[str] = PROJECT["build-system"]["requires"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
LOCKS = {
    "requirements.lock": CORE + EXTRAS["metrics"] + EXTRAS["otel"],
    "requirements-test.lock": CORE + OPTIONAL + TEST,
    "requirements-checks.lock": CHECKS,
    "requirements-build.lock": BUILD,
}

PIN = re.compile(r"^([a-z0-9-]+==[^\s;]+(?: ; [^\\\n]+)?)", re.MULTILINE)
HASHED_PIN = re.compile(r"^[a-z0-9-]+==[^\s;]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n", re.MULTILINE)
COMMENT = re.compile(r"^ *#.*\n", re.MULTILINE)
ADDRESS = re.compile(r"://|\b[\w-]+\.(org|com|net|io|dev)\b|(^|[ =])[/~]\w")


PLATFORMS = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")]
PLACES = [
    {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_machine": machine,
        "platform_system": system.capitalize(),
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "posix",
        "extra": "",
    }
    for python in PYTHONS
    for system, machine in PLATFORMS
]
"""Where a lock must hold: it is one for all of them, and some of its pins are only for some."""


def needed(requirement: Requirement, place: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(place)


@cache
def pins_of(lock: str) -> list[Requirement]:
    return [Requirement(pin) for pin in PIN.findall((ROOT / lock).read_text())]


def versions_of(lock: str, place: dict[str, str]) -> dict[str, Version]:
    """What a lock installs in one place. Raises ``AssertionError`` if it pins something there twice."""
    found = [(pin.name, Version(next(iter(pin.specifier)).version)) for pin in pins_of(lock) if needed(pin, place)]
    assert len(dict(found)) == len(found), f"{lock} pins something twice in {place}"
    return dict(found)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_exact_pins_each_with_hashes_and_nothing_else(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert COMMENT.sub("", HASHED_PIN.sub("", text)) == ""


@pytest.mark.parametrize(("lock", "requirement"), [(lock, each) for lock, wanted in LOCKS.items() for each in wanted])
def test_every_declared_dependency_is_pinned_within_its_range(lock: str, requirement: str) -> None:
    wanted = Requirement(requirement)
    places = [place for place in PLACES if needed(wanted, place)]
    assert places, f"{requirement} is needed nowhere"
    for place in places:
        pinned = versions_of(lock, place).get(canonicalize_name(wanted.name))
        assert pinned is not None, f"{wanted.name} is not in {lock}: run config/lock"
        assert pinned in wanted.specifier, (
            f"{lock} pins {wanted.name} {pinned}, not {wanted.specifier}: run config/lock"
        )


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address_no_registry_and_no_path_of_a_machine(lock: str) -> None:
    assert [line for line in (ROOT / lock).read_text().splitlines() if ADDRESS.search(line)] == []


@pytest.mark.parametrize("place", PLACES, ids=lambda place: "{python_version} {sys_platform}".format(**place))
def test_tests_run_with_the_versions_that_are_shipped_and_checks_with_those_of_the_tests(place: dict[str, str]) -> None:
    tested = versions_of("requirements-test.lock", place)
    shipped = versions_of("requirements.lock", place)
    assert {name: tested.get(name) for name in shipped} == shipped
    checked = versions_of("requirements-checks.lock", place)
    assert {name: checked[name] for name in checked if name in tested} == {
        name: tested[name] for name in checked if name in tested
    }


def test_the_lock_is_resolved_for_the_oldest_supported_python() -> None:
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    script = (ROOT / "config/lock").read_text()
    assert f"--universal --python-version {oldest} --generate-hashes " in script, (
        "one lock for every Python and machine"
    )


FLOORS = {"idna", "protobuf", "pygments", "python-dotenv", "requests", "urllib3"}
"""Named in pyproject.toml for their floors alone: see tests/project/test_advisories.py."""
COME_WITH_OTHERS = {"aiobotocore", "botocore", "markupsafe", "pydantic_core"}
"""Modules of packages that are not named: aioboto3, jinja2 and pydantic pin theirs."""


def imported() -> dict[str, set[str]]:
    """The modules of others that the worker imports, and the distributions that bring them."""
    found = set()
    for file in (ROOT / "worker").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    owners = packages_distributions()
    return {module: {str(canonicalize_name(owner)) for owner in owners[module]} for module in found & owners.keys()}


def test_the_worker_imports_what_it_installs_and_names_what_it_imports() -> None:
    named = {str(canonicalize_name(Requirement(each).name)) for each in CORE + OPTIONAL}
    brought = {owner for owners in imported().values() for owner in owners}
    assert named - brought == FLOORS, "whatever else is not imported: take it out, or say in FLOORS why it is there"
    without = {module for module, owners in imported().items() if not owners & (named | {"mfa-worker"})}
    without = {module for module in without if not module.startswith("types_")}  # for mypy alone
    assert without == COME_WITH_OTHERS, "name their packages in pyproject.toml"


def test_an_extra_is_no_part_of_the_worker() -> None:
    named = [{str(canonicalize_name(Requirement(each).name)) for each in group} for group in [CORE, *EXTRAS.values()]]
    assert all(not one & other for one, other in combinations(named, 2))


def instructions_of_the_last_stage() -> dict[str, str]:
    joined = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    last_stage = re.split(r"^FROM .*$", joined, flags=re.MULTILINE)[-1]
    pairs = [line.split(maxsplit=1) for line in last_stage.splitlines() if line and not line.startswith("#")]
    return {name: argument.strip() for name, argument in pairs}


def test_the_image_runs_as_a_numeric_user_who_is_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", instructions_of_the_last_stage()["USER"])


def test_the_image_starts_the_worker_without_a_shell_so_that_sigterm_reaches_it() -> None:
    last_stage = instructions_of_the_last_stage()
    assert json.loads(last_stage["ENTRYPOINT"]) == ["mfa-worker"]
    assert last_stage["STOPSIGNAL"] == "SIGTERM"


def test_the_image_installs_only_what_is_hashed_or_built_from_the_checkout() -> None:
    joined = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    commands = [part for line in joined.splitlines() if line.startswith("RUN") for part in line.split("&&")]
    fetching = [command for command in commands if re.search(r"pip .*\b(install|wheel|download)\b", command)]
    assert fetching
    assert [command for command in fetching if "--require-hashes" not in command and "--no-index" not in command] == []


def readme_command(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    command = ["bash", str(ROOT / ".ci/readme-command"), "test", str(readme)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_the_command_that_a_readme_marks_is_printed_as_it_stands(tmp_path: Path) -> None:
    other = "<!-- command: other -->\n```sh\nfalse\n```\n"
    marked = "<!-- command: test -->\n```sh\npip install '.[test]' && \\x\n```\n"
    found = readme_command(tmp_path, f"# Title\n\n{other}\n{marked}")
    assert (found.returncode, found.stdout) == (0, "pip install '.[test]' && \\x\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "```sh\ntrue\n```\n",
        "<!-- command: test -->\n\n```sh\ntrue\n```\n",
        "<!-- command: test -->\n```sh\n```\n",
        "<!-- command: test -->\n```sh\ntrue\ntrue\n```\n",
        "<!-- command: test -->\n```sh\ntrue\n",
        "<!-- command: test -->\n```sh\ntrue\n```\n" * 2,
    ],
    ids=["empty", "unmarked", "not directly before", "no line", "two lines", "not closed", "twice"],
)
def test_a_readme_without_exactly_one_such_command_is_refused_loudly(tmp_path: Path, text: str) -> None:
    found = readme_command(tmp_path, text)
    assert found.returncode == 1
    assert found.stdout == ""
    assert 'command "test"' in found.stderr
