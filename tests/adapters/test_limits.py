"""What ``ulimit`` allows is raised where it can be, told where it is too little, and a limit that is met is 75."""

from __future__ import annotations

import resource

import pytest

from tests.support.rollout import Rollout
from worker.adapters import limits

INFINITE = resource.RLIM_INFINITY
CURED = {
    resource.RLIMIT_NOFILE: ((40, 40), "40 files", "ulimit -n 192"),
    resource.RLIMIT_FSIZE: ((1 << 20, INFINITE), "1,048,576 bytes", "ulimit -f unlimited"),
    resource.RLIMIT_CPU: ((600, INFINITE), "600 s of CPU", "LimitCPU=infinity"),
    resource.RLIMIT_AS: ((1 << 28, INFINITE), "256 MiB of addresses", "ulimit -v unlimited"),
    resource.RLIMIT_DATA: ((1 << 27, INFINITE), "128 MiB of data", "ulimit -d unlimited"),
    resource.RLIMIT_NPROC: ((10, INFINITE), "10 processes and threads", "nproc=64"),
}


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[int, int]]:
    """The limits of a system that has none, until the test sets some."""
    found: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: found.get(kind, (INFINITE, INFINITE)))
    monkeypatch.setattr(resource, "setrlimit", found.__setitem__)
    return found


@pytest.mark.parametrize("kind", CURED)
def test_a_limit_that_a_run_would_meet_is_named_with_its_cure(system: dict[int, tuple[int, int]], kind: int) -> None:
    assert list(limits.too_low(32, writes_files=True)) == []
    system[kind], said, cured = CURED[kind]
    ((cause, cure),) = limits.too_low(32, writes_files=True)
    assert said in cause
    assert cured in cure


def test_where_no_file_is_written_none_can_be_too_large(system: dict[int, tuple[int, int]]) -> None:
    system[resource.RLIMIT_FSIZE] = (4096, 4096)
    assert list(limits.too_low(32, writes_files=False)) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((64, 4096), (192, 4096)),
        ((64, 100), (100, 100)),
        ((1024, 4096), (1024, 4096)),
        ((64, INFINITE), (192, INFINITE)),
    ],
)
def test_the_soft_limit_of_files_is_raised_as_far_as_is_needed_and_allowed(
    system: dict[int, tuple[int, int]], before: tuple[int, int], after: tuple[int, int]
) -> None:
    system[resource.RLIMIT_NOFILE] = before
    limits.allow_files(32)
    assert system[resource.RLIMIT_NOFILE] == after


def small() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


async def test_a_file_that_may_not_grow_is_75_with_the_cure_and_the_next_command_goes_on(rollout: Rollout) -> None:
    requests = rollout.file(await rollout.sign_in(*(f"user-{number}" for number in range(400))))
    stopped = await rollout.command("push", requests, limits=small)
    assert stopped.code == 75, stopped.err
    assert "ulimit -f unlimited (no file may grow beyond 200,000 bytes now)" in stopped.err
    assert "Traceback" not in stopped.err
    assert (await rollout.command("push", requests)).code == 0
    assert (await rollout.status())["backlog"] == 400


async def test_check_tells_of_it_before_anything_is_touched(rollout: Rollout) -> None:
    told = await rollout.command("check", "--json", limits=small)
    assert "no file may grow beyond 200,000 bytes here" in told.out
    assert not rollout.ledger.exists()
