"""The wheel and the source distribution hold what they must, the same bytes every time, and work without a checkout."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Built:
    """What one build made."""

    wheel: Path
    source: Path


def build(folder: Path) -> Built:
    """With the backend that pyproject.toml names, as it is installed here: nothing is fetched."""
    pytest.importorskip("hatchling", reason="pip install --require-hashes -r requirements-build.lock")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return Built(*folder.glob("*.whl"), *folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("built"))


def tracked(*more: str) -> set[str]:
    """The files of the checkout that are the project's; ``more``: options of ``git ls-files``."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout: the tests run from the source distribution")
    listed = subprocess.run(["git", "ls-files", "-z", *more], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


NEW = ("--cached", "--others", "--exclude-standard")
"""Files that somebody is about to add, too."""


def test_the_wheel_holds_the_package_with_its_templates_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert wheel.testzip() is None
    assert names == {name for name in tracked(*NEW) if name.startswith("worker/")}
    assert {"worker/py.typed", "worker/report/page.html.jinja", "worker/handout/letter/letter.typ"} <= names


def test_the_source_distribution_holds_every_file_of_the_project(built: Built) -> None:
    """So its tests run, and a copy of it can be changed and built again."""
    with tarfile.open(built.source) as source:
        members = {member.name.partition("/")[2]: member for member in source.getmembers()}
    assert tracked() - members.keys() == set(), "name it in pyproject.toml, tool.hatch.build.targets.sdist"
    assert members.keys() - tracked(*NEW) == {"PKG-INFO"}
    for program in (".ci/run", "config/lock"):
        assert members[program].mode & stat.S_IXUSR, program


def test_built_twice_they_are_the_same_bytes(built: Built, tmp_path: Path) -> None:
    again = build(tmp_path)
    assert again.wheel.read_bytes() == built.wheel.read_bytes()
    assert again.source.read_bytes() == built.source.read_bytes()


def test_what_is_unpacked_rehearses_and_prints_letters_in_a_folder_with_modules_of_its_own(
    built: Built, tmp_path: Path
) -> None:
    installed, desk = tmp_path / "installed", tmp_path / "desk"
    desk.mkdir()
    with zipfile.ZipFile(built.wheel) as wheel:
        wheel.extractall(installed)  # all that an installer does with a wheel of pure Python, save for the command
    for name in ("worker", "queue", "token"):
        (desk / f"{name}.py").write_text("raise SystemExit('a module of somebody else')\n")
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "MFA_WORKER_"))}
    environment = {**inherited, "PYTHONPATH": str(installed)}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-P", *arguments]
        done = subprocess.run(
            command, cwd=desk, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(run("-c", "import worker; print(worker.__file__)")).is_relative_to(installed)
    assert "every promise held" in run("-m", "worker", "rehearse", "--users", "20", "--keep", "kept")
    letters = ("--letters", "letters.pdf", "kept/enrolments.jsonl")
    run("-m", "worker", "open", "-i", "kept/identity.txt", *letters)
    assert (desk / "letters.pdf").read_bytes().startswith(b"%PDF")
