"""No private name of a dependency is used: what is private may change in any release, and nobody is told.

Found as far as the source can tell. ``x._name`` is private to a dependency unless ``x`` is ``self`` or ``cls``, or the
same module defines ``_name``; so a private name that a module happens to share with a dependency is not seen. What the
classes of this project inherit is looked up in the classes themselves. Names that are public but not documented no scan
can find: ``docs/dependencies.md`` lists them, with the test that breaks when they change.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKER = sorted((ROOT / "worker").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

ALLOWED_IN_WORKER: set[str] = set()
"""Nothing. Whoever adds a name here says in ``docs/dependencies.md`` what it buys, and which test breaks with it."""

ALLOWED_IN_TESTS = {
    "_set_running_loop",  # asyncio: the simulation has an event loop of its own, whose processes die at any moment
    "_run",  # asyncio.Handle: the same
    "_log_destroy_pending",  # asyncio.Task: a task of a process that died is no mistake
}

DOCUMENTED = {"_asdict", "_exit", "_field_defaults", "_fields", "_make", "_replace"}
"""Names with an underscore that Python's own documentation describes: named tuples, and ``os._exit``."""

BY_NAME = {"delattr", "getattr", "hasattr", "object", "patch", "setattr"}
"""Functions that take the name of an attribute as text."""


WORDS = re.compile(r"\b_[A-Za-z]\w*")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in DOCUMENTED | {"_"}


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("worker", "tests", "__future__")


def defined(tree: ast.Module) -> set[str]:
    """Every private name that this module defines: functions, classes, variables, attributes of ``self``, slots."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node):
            names.add(node.attr)
    return names


def is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def used(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """The private names that this module uses and that are neither its own nor ``known``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not is_ours(node.module):
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names if not is_ours(alias.name) for part in alias.name.split(".")]
        elif isinstance(node, ast.Attribute) and not is_own(node):
            names = [node.attr]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
            texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
            names = [part for text in texts if isinstance(text, str) for part in text.split(".") if part.isidentifier()]
        else:
            continue
        yield from (name for name in names if is_private(name) and name not in known)


@cache
def private_to(base: type) -> frozenset[str]:
    """The private names of a class: what it defines, and what its methods write into ``self``."""
    names = set(vars(base))
    with suppress(OSError, TypeError):  # a class that is not written in Python
        names |= set(re.findall(r"self\.(_\w+)", inspect.getsource(base)))
    return frozenset(name for name in names if is_private(name))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def inherited(tree: ast.Module, source: str) -> Iterator[str]:
    """The private names of classes of dependencies that classes of this module, wherever in it, use or replace."""
    origin = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and not is_ours(node.module)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                module, name = origin.get(ast.unparse(base), ("", ""))
                found = getattr(importlib.import_module(module), name) if module else None
                for each in getattr(found, "__mro__", ()):
                    yield from private_to(each) & set(WORDS.findall(ast.get_source_segment(source, node) or ""))


def scanned(source: str) -> set[str]:
    tree = ast.parse(source)
    return {*used(tree, defined(tree)), *inherited(tree, source)}


@pytest.mark.parametrize("path", WORKER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_worker_uses_no_private_name_of_anything_it_imports(path: Path) -> None:
    assert scanned(path.read_text(encoding="utf-8")) <= ALLOWED_IN_WORKER


def test_the_tests_use_only_those_private_names_that_are_allowed() -> None:
    ours = {name for path in WORKER + TESTS for name in defined(parsed(path))} - ALLOWED_IN_TESTS
    names = {name for path in TESTS for name in used(parsed(path), ours)}
    assert names - fake_names() == ALLOWED_IN_TESTS


def fake_names() -> set[str]:
    """The private names in this file's own examples."""
    return {name for source in EXAMPLES for name in scanned(source)}


EXAMPLES = [
    "from aiobotocore._helpers import resolve_awaitable",
    "import aiobotocore._endpoint_helpers",
    "from botocore.httpsession import _is_ipaddress",
    "def ask(s3): return s3._ruleset_resolver",
    "class Mine(Theirs):\n    def open(self): return self.session._connector_owner",
    "setattr(client, '_endpoint', None)",
    """from aiobotocore.httpsession import AIOHTTPSession
def make():
    class Mine(AIOHTTPSession):
        def open(self): return self._proxy_config""",
    """from aiobotocore.httpsession import AIOHTTPSession as Base
class Mine(Base):
    async def _get_session(self, url): return await super()._get_session(url)""",
]


@pytest.mark.parametrize("source", EXAMPLES)
def test_the_scan_finds_a_private_name(source: str) -> None:
    assert scanned(source)


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos._exit(1)",
        "def later(row): return row._replace(state='sealed')",
        """class Secret:
            def __init__(self): self._value = 1
            def __eq__(self, other): return self._value == other._value""",
        "from worker.app.run import _exit_code",
    ],
)
def test_the_scan_leaves_alone_what_is_ours_or_documented(source: str) -> None:
    assert not scanned(source)


def inheriting() -> Iterator[type]:
    """The classes of this project that inherit from one of a dependency."""
    for path in WORKER:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.endswith("__main__"):
            for _, each in inspect.getmembers(importlib.import_module(name), inspect.isclass):
                if each.__module__ == name and any(not is_ours(base.__module__) for base in each.__mro__[1:-1]):
                    yield each


@pytest.mark.parametrize("ours", list(inheriting()))
def test_no_class_uses_or_replaces_what_is_private_to_the_class_it_inherits_from(ours: type) -> None:
    theirs = {name for base in ours.__mro__[1:] if not is_ours(base.__module__) for name in private_to(base)}
    assert set(WORDS.findall(inspect.getsource(ours))) & theirs <= ALLOWED_IN_WORKER


# What no scan finds is listed by hand, and the list is held to what it says.


def rows() -> list[list[str]]:
    """The rows of the tables that name a test."""
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "::test_" in line]
    return [row for row in cells if len(row) == 4]


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row[0]))
def test_each_undocumented_name_is_where_the_list_says_and_has_its_test(row: list[str]) -> None:
    what, where, _, tests = row
    source = "".join((ROOT / path).read_text(encoding="utf-8") for path in re.findall(r"`([\w/]+\.py)`", where))
    for name in re.findall(r"`([^`]+)`", what):
        assert re.split(r"\W", name)[-1] in source
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", tests)
    assert named
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")
