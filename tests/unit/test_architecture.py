"""Who may import whom: a reader who knows the folder knows where to change what, and this keeps it so."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "worker"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(WORKER.rglob("*.py"))
}

WORDS = {"worker.model", "worker.errors", "worker.ports"}
PIPELINE = {
    "worker.rules",
    "worker.pipeline",
    "worker.drain",
    "worker.flight",
    "worker.gate",
    "worker.holds",
    "worker.places",
    "worker.watching",
    "worker.writing",
}
SQLITE_QUEUE = {f"worker.queues.{name}" for name in ("sqlite", "sqlite_look", "sqlite_wave")}
ADAPTERS = ("worker.queues.", "worker.ledgers.", "worker.channels.")
OUTSIDE = ("worker.cognito", "worker.pacing", "worker.sealing", "worker.sqlite", "worker.settings")


def imports(module: str) -> set[str]:
    """The modules of the project that this one imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys() - {"worker"}


def adapters() -> list[str]:
    return [module for module in MODULES if module.startswith(ADAPTERS)]


def family(module: str) -> str:
    """An adapter may be a package, or a file with parts beside it: ``sqlite`` and ``sqlite_rows``."""
    return ".".join(module.split(".")[:3]).split("_")[0]


def test_the_model_knows_nobody() -> None:
    assert imports("worker.model") == set()
    assert imports("worker.errors") == set()


def test_the_ports_and_the_rules_know_only_the_model() -> None:
    assert imports("worker.ports") <= WORDS
    assert imports("worker.rules") <= WORDS


@pytest.mark.parametrize("module", sorted(PIPELINE))
def test_the_pipeline_knows_no_adapter(module: str) -> None:
    known = imports(module)
    assert not [
        name
        for name in known
        if name.startswith((*ADAPTERS, *OUTSIDE)) or name in {"worker.app", "worker.adapters", "worker.job"}
    ]


@pytest.mark.parametrize("module", adapters())
def test_an_adapter_knows_neither_the_pipeline_nor_another_adapter(module: str) -> None:
    known = imports(module)
    assert not known & (PIPELINE | {"worker.app", "worker.adapters", "worker.job", "worker.settings"})
    assert not [name for name in known if name.startswith(ADAPTERS) and family(name) != family(module)]


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"worker.adapters"}))
def test_only_the_composition_root_names_adapters(module: str) -> None:
    if not module.startswith(ADAPTERS):
        assert not [name for name in imports(module) if name.startswith(ADAPTERS)]


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("tenacity", {"worker.retrying"}),
        ("asyncio_throttle", {"worker.spacing"}),
        ("pyrage", {"worker.sealing"}),
        ("sqlite3", {"worker.sqlite", "worker.ledgers.sqlite", *SQLITE_QUEUE}),
        ("aioboto3", {"worker.cognito", "worker.aws.session"}),
        ("click", {f"worker.cli{part}" for part in ("", ".looking", ".queueing", ".secrets", ".settings", ".work")}),
    ],
)
def test_each_library_has_one_home(library: str, home: set[str]) -> None:
    users = set()
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            if any(name.split(".")[0] == library for name in names):
                users.add(module)
    assert users == home


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_file_says_why_it_exists_and_stays_small(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 300
