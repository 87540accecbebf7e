"""README and docs/: links and paths lead somewhere, commands exist, and nothing that a run can return is left out."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from worker.cli import cli
from worker.core import causes
from worker.core.errors import ExitCode
from worker.core.model import Reason, State

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = [*PAGES, ROOT / "config" / "iam" / "README.md"]
LOGGED = ("info", "warning", "error", "exception")
"""Levels of the log that are written by default; ``debug`` is for those who read the code."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
CALL = re.compile(
    r"(?:^|[|&;] *)(?:\.venv/bin/mfa-worker|mfa-worker|config/docker/run\.sh) ([^|&;>#\n]*)", re.MULTILINE
)
"""A call of the worker in a line of shell, with its arguments; a pipe, a redirection or a comment ends it."""
FOLDERS = {"worker", "tests", "config", "docs", ".ci"}
"""What a path in the text begins with."""

each_page = pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text("utf-8"))


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in FENCE.findall(page.read_text("utf-8")) if found == language]


def anchors(page: Path) -> set[str]:
    """What a link may name in a page: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_fits_on_two_screens() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 150


@each_page
def test_every_relative_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_source_distribution_has_whatever_the_readme_leads_to() -> None:
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"][
        "include"
    ]
    assert {re.split("[/#]", link)[0] for link in LINK.findall(prose(README))} <= set(shipped)


def test_the_readme_leads_to_every_page() -> None:
    led_to = {(README.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(README))}
    from_design = {(ROOT / "docs" / link).resolve() for link in LINK.findall(prose(ROOT / "docs" / "design.md"))}
    assert set(PAGES) <= led_to | from_design | {README}


@each_page
def test_every_path_in_the_text_exists_and_holds_the_test_that_is_named(page: Path) -> None:
    named = [word for code in CODE.findall(prose(page)) for word in code.split() if word.partition("/")[0] in FOLDERS]
    for name in named:
        path, _, test = name.partition("::")
        assert "NAME" in path or (ROOT / path).exists(), name
        assert not test or f"def {test}(" in (ROOT / path).read_text("utf-8"), name


COMMANDS = [
    pytest.param(shlex.split(call), id=f"{page.stem}: {call.strip()}")
    for page in PAGES
    for block in blocks(page, "sh")
    for call in CALL.findall(block.replace("\\\n", " "))
]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_every_command_line_names_a_command_and_options_that_exist(arguments: list[str]) -> None:
    parse(cli, arguments)


def parse(command: click.Command, arguments: list[str]) -> None:
    """Parse a command line without running it. Raises ``ClickException`` for what there is not."""
    if not isinstance(command, click.Group):
        assert command.make_context(command.name, list(arguments)).params
        return
    context = click.Context(command)
    _, rest, _ = command.make_parser(context).parse_args(list(arguments))
    parse(command.commands[rest[0]], rest[1:])


def test_the_command_lines_are_found() -> None:
    found = [" ".join(param.values[0]) for param in COMMANDS]  # type: ignore[arg-type]
    assert "init --pool eu-central-1_AbCdEfGhI --issuer Example" in found
    assert "push --keep-fresh" in found
    assert "export --state needs_session" in found
    assert "run --only pilot.txt" in found
    assert any(line.startswith("rehearse --users 50 --from usernames ") for line in found)


@pytest.mark.parametrize("arguments", [["rnu"], ["run", "--tolerat", "1%"], ["config", "shw"], ["export"]])
def test_a_command_line_that_does_not_exist_would_be_noticed(arguments: list[str]) -> None:
    with pytest.raises((KeyError, click.ClickException)):
        parse(cli, arguments)


@each_page
def test_every_option_in_the_text_is_one_of_its_command(page: Path) -> None:
    for code in CODE.findall(prose(page)):
        name = code.removeprefix("mfa-worker ").partition(" ")[0]
        if command := cli.commands.get(name):
            options = {option for each in command.params for option in each.opts}
            assert set(re.findall(r"--[\w-]+", code)) <= options | {"--help"}, code


@pytest.mark.parametrize("name", ["rehearse", "test"])
def test_the_readme_marks_the_commands_that_ci_runs(name: str) -> None:
    command = ["bash", str(ROOT / ".ci/readme-command"), name]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert found.stdout.startswith("python3 -m venv .venv && ")


@each_page
def test_every_module_that_a_page_runs_exists(page: Path) -> None:
    for module in re.findall(r"python -m ([\w.]+)", page.read_text("utf-8")):
        assert importlib.util.find_spec(module), module


def test_operations_explains_every_exit_code_state_and_reason() -> None:
    rows = re.findall(r"^\| `?(\w+)`? \|", (ROOT / "docs" / "operations.md").read_text("utf-8"), flags=re.MULTILINE)
    for wanted in ([str(int(code)) for code in ExitCode], list(State), list(Reason)):
        assert [each for each in wanted if rows.count(each) != 1] == []


@pytest.mark.parametrize("state", list(causes.rows()))
def test_operations_has_the_cause_and_the_cure_of_each_reason_as_the_worker_says_them(state: State) -> None:
    """``python -m worker.core.causes`` prints the rows."""
    assert "\n".join(causes.rows()[state]) in (ROOT / "docs" / "operations.md").read_text("utf-8")


def test_operations_explains_every_event_that_is_logged_at_the_default_level() -> None:
    events = {
        call.args[0].value
        for file in (ROOT / "worker").rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and (call.func.value.id, call.func.attr) in {("log", level) for level in LOGGED}
        and isinstance(call.args[0], ast.Constant)
    }
    assert "stopped" in events
    _, _, section = (ROOT / "docs" / "operations.md").read_text("utf-8").partition("## What the log says\n")
    names = re.findall(r"^\| (`[^|]+) \|", section.partition("\n## ")[0], flags=re.MULTILINE)
    assert {name for cell in names for name in re.findall(r"`(\w+)`", cell)} == events
