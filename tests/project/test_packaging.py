"""What is shipped must install the same everywhere: the locks agree with pyproject.toml and name nobody's machine."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
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
BUILD: list[str] = PROJECT["build-system"]["requires"]
LOCKS = {
    "requirements.lock": CORE + EXTRAS["metrics"] + EXTRAS["otel"],
    "requirements-test.lock": CORE + OPTIONAL + TEST,
    "requirements-build.lock": BUILD,
}

PIN = re.compile(r"^([a-z0-9-]+)==([^\s;]+)", re.MULTILINE)
HASHED_PIN = re.compile(r"^[a-z0-9-]+==[^\s;]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n", re.MULTILINE)
COMMENT = re.compile(r"^ *#.*\n", re.MULTILINE)
ADDRESS = re.compile(r"://|\b[\w-]+\.(org|com|net|io|dev)\b|(^|[ =])[/~]\w")


def pins_of(lock: str) -> dict[str, Version]:
    return {name: Version(version) for name, version in PIN.findall((ROOT / lock).read_text())}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_exact_pins_each_with_hashes_and_nothing_else(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert COMMENT.sub("", HASHED_PIN.sub("", text)) == ""


@pytest.mark.parametrize(("lock", "requirement"), [(lock, each) for lock, wanted in LOCKS.items() for each in wanted])
def test_every_declared_dependency_is_pinned_within_its_range(lock: str, requirement: str) -> None:
    wanted = Requirement(requirement)
    pinned = pins_of(lock).get(canonicalize_name(wanted.name))
    assert pinned is not None, f"{wanted.name} is not in {lock}: run config/lock"
    assert pinned in wanted.specifier, f"{lock} pins {wanted.name} {pinned}, not {wanted.specifier}: run config/lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address_no_registry_and_no_path_of_a_machine(lock: str) -> None:
    assert [line for line in (ROOT / lock).read_text().splitlines() if ADDRESS.search(line)] == []


def test_tests_run_with_the_versions_that_are_shipped() -> None:
    tested = pins_of("requirements-test.lock")
    shipped = pins_of("requirements.lock")
    assert {name: tested.get(name) for name in shipped} == shipped


def test_the_lock_is_resolved_for_the_oldest_supported_python() -> None:
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f"--python-version {oldest} " in (ROOT / "config/lock").read_text()


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
