"""The forge's workflows: what they run exists here, nothing moves by itself, and they may do no more than they need."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ZIZMOR = Path(sysconfig.get_path("scripts")) / "zizmor"

each_workflow = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def jobs(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))["jobs"]
    return found


def steps(file: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(file).values() for step in job["steps"]]


@each_workflow
def test_every_action_is_one_commit_and_says_which_version_that_is(file: Path) -> None:
    used = re.findall(r"uses: (.*)", file.read_text("utf-8"))
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []


def test_an_action_is_the_same_commit_everywhere() -> None:
    used = {each for file in FILES for each in re.findall(r"uses: (.*)", file.read_text("utf-8"))}
    assert len({each.partition("@")[0] for each in used}) == len(used)


@each_workflow
def test_nothing_is_allowed_unless_a_job_asks_for_it_and_no_job_runs_for_ever(file: Path) -> None:
    whole = yaml.safe_load(file.read_text("utf-8"))
    assert whole["permissions"] == {}
    assert whole["concurrency"]["group"]
    for job in jobs(file).values():
        assert job["permissions"]["contents"] == "read"
        assert 0 < job["timeout-minutes"] <= 60
        assert re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"])


@each_workflow
def test_no_checkout_leaves_its_token_behind(file: Path) -> None:
    checkouts = [step for step in steps(file) if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == len(jobs(file))
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@each_workflow
def test_what_a_step_runs_is_in_the_checkout(file: Path) -> None:
    named = [
        path for step in steps(file) for path in re.findall(r"(?<![\w/])(?:\.ci|config)/[\w.]+", step.get("run", ""))
    ]
    assert named
    for path in named:
        assert (ROOT / path).exists(), path
        assert path.endswith(".py") or (ROOT / path).stat().st_mode & 0o111, f"{path} cannot be run"


def test_the_whole_check_runs_on_every_python_that_the_project_names() -> None:
    check = jobs(ROOT / ".github/workflows/ci.yml")["check"]
    named = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)]
    assert check["strategy"]["matrix"]["python"] == named
    assert f">={named[0]}" == PROJECT["requires-python"]
    assert [step["env"] for step in check["steps"] if step.get("run") == ".ci/run"] == [
        {"PYTHON": "python${{ matrix.python }}"}
    ]


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ("actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", "actions/checkout@v6", "unpinned-uses"),
        ("          persist-credentials: false\n", "          fetch-depth: 0\n", "artipacked"),
        ("permissions: {}\n", "permissions: write-all\n", "excessive-permissions"),
        ("run: .ci/advisories", "run: echo ${{ github.event.pull_request.title }}", "template-injection"),
        ("  pull_request:\n", "  pull_request_target:\n", "dangerous-triggers"),
    ],
    ids=lambda text: text if text.islower() and "\n" not in text and " " not in text else "",
)
def test_the_check_of_ci_can_fail(tmp_path: Path, before: str, after: str, finding: str) -> None:
    if not ZIZMOR.exists():
        pytest.skip("pip install --require-hashes -r requirements-checks.lock was not done")
    folder = tmp_path / ".github/workflows"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / ".github/workflows/ci.yml", folder)
    text = (folder / "ci.yml").read_text("utf-8")
    assert before in text
    (folder / "ci.yml").write_text(text.replace(before, after), "utf-8")
    command = [str(ZIZMOR), "--offline", "--no-progress", "--persona", "pedantic", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert f"[{finding}]" in done.stdout
