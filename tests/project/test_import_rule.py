"""Who may import whom: a reader who knows the folder knows where to change what, and this keeps it so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "worker").rglob("*.py"))
}

BELOW_APP = {
    *("core", "extras", "pacing", "requests", "settings", "adapters", "engine", "sealing", "telemetry", "report"),
}
MAY_IMPORT = {
    "core": set[str](),
    "pacing": {"core"},
    "requests": {"core", "pacing"},
    "settings": {"core", "adapters.channels"},
    "engine": {"core", "pacing", "requests"},
    "adapters": {"core", "pacing", "requests", "settings"},
    "extras": {"core"},
    "telemetry": {"core", "extras", "settings", "adapters.private_files"},
    "sealing": {"core", "settings", "adapters"},
    "report": {"core", "telemetry", "adapters.private_files"},
    "app": BELOW_APP,
    "setup": {*BELOW_APP, "app"},
    "rehearsal": {*BELOW_APP, "app"},
    "handout": {"core", "extras", "requests", "settings", "adapters", "sealing"},
    "cli": {*BELOW_APP, "extras", "app", "setup", "rehearsal", "handout"},
}
"""The rooms (folders of ``worker``), and which others each may import beside itself.

With a dot: that one module of a room. The settings ask the channels which keys they have (``channels.kinds``).
"""

APART = {"adapters.cognito", "adapters.queues", "adapters.ledgers", "adapters.channels"}
"""The rooms of the adapters, none of which may know another. In the last three each folder is a kind, which may know
what lies beside the folders, and no other kind."""

LIBRARIES = {
    "tenacity": {"core.resilience"},
    "asyncio_throttle": {"pacing"},
    "pyrage": {"sealing"},
    "sqlite3": {"adapters.sqlite", "adapters.ledgers.sqlite", "adapters.queues.sqlite"},
    "aioboto3": {"adapters.aws", "adapters.cognito"},
    "click": {"cli"},
    "jinja2": {"report"},
}
"""Libraries that only some rooms may know, so that another can take their place."""


def imported(module: str) -> Iterator[str]:
    """Every module that this one imports, wherever in it."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def room(module: str) -> str:
    """The folder of ``worker`` that a module is in; empty for ``worker`` itself."""
    return f"{module}.".split(".")[1]


def part(module: str) -> str:
    """The part of the adapters that a module belongs to: ``adapters.cognito``, ``adapters.queues``."""
    return ".".join(module.split(".")[1:3])


def kind(module: str) -> str:
    """The folder of one kind that a module belongs to, such as ``adapters.queues.sqs``; else its part."""
    folder = ".".join(module.split(".")[1:4])
    is_folder = MODULES.get(f"worker.{folder}", Path()).name == "__init__.py"
    return folder if is_folder and part(module) in APART - {"adapters.cognito"} else part(module)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_room_knows_only_the_rooms_below_it(module: str) -> None:
    others = {name for name in imported(module) if name in MODULES and room(name) not in ("", room(module))}

    if room(module) in MAY_IMPORT:
        may = MAY_IMPORT[room(module)]
        assert {room(name) for name in others if name.removeprefix("worker.") not in may} <= may
    else:  # the package's own face: what scripts and the interpreter start from
        assert {room(name) for name in others} <= {"app", "cli", "core", "requests"}
    if part(module) in APART:
        assert {kind(name) for name in imported(module) if name in MODULES and part(name) in APART} <= {
            kind(module),
            part(module),
        }


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_a_channel_itself_knows_what_is_in_its_folder(module: str) -> None:
    channels = {name for name in imported(module) if name in MODULES and part(name) == "adapters.channels"}

    assert {kind(name) for name in channels if kind(name) != part(name)} <= {kind(module)}


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_a_library_stays_in_its_rooms(library: str) -> None:
    users = {module for module in MODULES if any(name.split(".")[0] == library for name in imported(module))}

    assert users
    for module in users:
        assert module.removeprefix("worker.").startswith(tuple(LIBRARIES[library]))


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_file_says_why_it_exists(module: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8")))
