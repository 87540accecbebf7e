"""What tests share: a rollout, virtual time, so that a minute of patience costs nothing, and AWS on loopback."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import structlog
from hypothesis import settings

from tests.support import emulators, processes
from tests.support.emulators import Emulator
from tests.support.rollout import Rollout, rollout_in
from tests.support.virtual_time import VirtualTime

TESTS = Path(__file__).parent
ROOT = TESTS.parent

# The same examples on every machine and every time, however slow; ``pytest --hypothesis-profile=default`` draws others.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# A shell ignores SIGINT for what runs in the background, and every process that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption(
        "--simulation-scenarios",
        type=int,
        default=1200,
        metavar="N",
        help="How many random scenarios the simulation plays, always the same ones: 1,200 take about ten seconds.",
    )
    group.addoption(
        "--simulation-from",
        type=int,
        default=0,
        metavar="SEED",
        help="The first of them, to look where nobody has looked yet.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """The processes of a whole run share the work of rewriting the tests' assertions, most of what collecting costs.

    Each begins to import the tests at another place, and leaves behind, as bytecode, what it rewrote; when it comes to
    where another one began, it finds the rest done.
    """
    worker: dict[str, Any] | None = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args != session.config.getini("testpaths"):
        return
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(TESTS.rglob("test_*.py"))]
    first = int(worker["workerid"].removeprefix("gw")) * len(modules) // worker["workercount"]
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    for module in modules[first:] + modules[:first]:
        with suppress(BaseException):  # pytest finds it again, and says where
            importlib.import_module(module)
    sys.dont_write_bytecode = writes


@pytest.fixture(autouse=True)
def logs_are_as_before() -> Iterator[None]:
    """Whoever sets up logging sets it up for one test."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def virtual() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
async def rollout(tmp_path: Path) -> AsyncIterator[Rollout]:
    """One for every test, with files for stores."""
    async with rollout_in(tmp_path) as rollout:
        yield rollout


@pytest.fixture(scope="session", autouse=True)
def the_fork_server_ends() -> Iterator[None]:
    yield
    if processes.fork_server.cache_info().currsize:
        processes.fork_server().close()


@pytest.fixture(scope="session", autouse=True)
def shared_loader() -> Iterator[None]:
    """The descriptions of AWS's services are read once, not for every client: most of what one costs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session")
def moto() -> Iterator[Emulator]:
    with emulators.moto() as running:
        yield running


@pytest.fixture(scope="session")
def ministack() -> Iterator[Emulator]:
    with emulators.ministack() as running:
        yield running


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has what an emulator accepts, and nothing else of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, text in emulators.CREDENTIALS.items():
        monkeypatch.setenv(name, text)


@pytest.fixture(params=["moto", "ministack"])
def emulator(request: pytest.FixtureRequest, aws_credentials: None) -> Emulator:
    """Each of the two, so that a test passes on both."""
    running: Emulator = request.getfixturevalue(request.param)
    return running
