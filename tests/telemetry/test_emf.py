"""The lines for CloudWatch: its format to the letter, what happened since the line before, and nothing secret."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from tests.support.processes import until
from tests.support.rollout import POOL, Rollout
from worker.core.clock import SystemClock
from worker.core.errors import QueueUnavailable
from worker.core.figures import ENROLS
from worker.core.model import Reason, State
from worker.core.ports import Backlog
from worker.core.stats import RunStats
from worker.telemetry import emf

SIZES = "Bytes Kilobytes Megabytes Gigabytes Terabytes Bits Kilobits Megabits Gigabits Terabits Count"
UNITS = {"Seconds", "Microseconds", "Milliseconds", "Percent", "None", *SIZES.split()}
UNITS |= {f"{each}/Second" for each in SIZES.split()}
"""CloudWatch's units (API reference, MetricDatum)."""


def conforms(line: str) -> dict[str, Any]:
    """The object in the line, which must be as the specification asks: *Root node* to *Target members*."""
    assert line == line.strip()
    root: dict[str, Any] = json.loads(line)
    meta = root["_aws"]
    assert set(meta) == {"Timestamp", "CloudWatchMetrics"}
    assert type(meta["Timestamp"]) is int
    assert 1.6e12 < meta["Timestamp"] < 4e12  # milliseconds since the epoch
    for directive in meta["CloudWatchMetrics"]:
        assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
        assert 1 <= len(directive["Namespace"]) <= 255
        for dimensions in directive["Dimensions"]:
            assert len(dimensions) <= 30
            assert all(isinstance(root[each], str) and 1 <= len(root[each]) <= 1024 for each in dimensions)
        assert 1 <= len(directive["Metrics"]) <= 100
        names = [each["Name"] for each in directive["Metrics"]]
        assert len(set(names)) == len(names)
        for metric in directive["Metrics"]:
            assert set(metric) <= {"Name", "Unit", "StorageResolution"}
            assert metric["Unit"] in UNITS
            assert type(root[metric["Name"]]) in (int, float)  # neither a boolean nor a text
    return root


@pytest.fixture
def stats() -> RunStats:
    return RunStats(SystemClock())


async def seven() -> Backlog:
    return Backlog(7)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [conforms(line) for line in out.getvalue().splitlines()]


async def test_each_line_has_what_happened_since_the_one_before(stats: RunStats) -> None:
    out = io.StringIO()
    async with emf.written(stats, seven, SystemClock(), {"UserPool": POOL}, every=0.02, stream=out):
        stats.answered(ENROLS, "issued", 0.08)
        stats.answered(ENROLS, "throttled", 0.02)
        stats.sent()
        stats.settled(State.DELIVERED)
        stats.finished_after(0.3)
        await until(lambda: bool(out.getvalue()))
        stats.settled(State.NEEDS_SESSION, Reason.TOKEN_EXPIRED)
    found = lines(out)
    assert (found[0]["Delivered"], found[0]["Throttled"], found[0]["Requests"], found[0]["Waiting"]) == (1, 1, 1, 7)
    assert found[0]["CallLatency"] == 50
    assert 75 < found[0]["CallLatencyP99"] <= 100
    assert found[0]["LeaseToOutcome"] == 0.3
    assert sum(each["Delivered"] for each in found) == sum(each["NeedsSession"] for each in found) == 1
    assert found[-1]["UserPool"] == POOL


async def test_a_minute_in_which_nothing_happened_says_so_with_zeros(stats: RunStats) -> None:
    out = io.StringIO()
    async with emf.written(stats, seven, SystemClock(), {"UserPool": POOL}, stream=out):
        pass
    (found,) = lines(out)
    assert (found["Delivered"], found["Requests"], found["Throttled"]) == (0, 0, 0)
    assert "CallLatency" not in found


async def test_a_queue_that_cannot_be_counted_leaves_only_its_number_out(stats: RunStats) -> None:
    async def away() -> Backlog:
        raise QueueUnavailable("away")

    out = io.StringIO()
    async with emf.written(stats, away, SystemClock(), {"UserPool": POOL}, every=0.001, stream=out):
        await asyncio.sleep(0.02)
    assert all("Waiting" not in each for each in lines(out))
    assert len(lines(out)) > 1


async def test_what_looks_like_a_credential_is_masked_like_everywhere(stats: RunStats) -> None:
    out = io.StringIO()
    async with emf.written(stats, seven, SystemClock(), {"UserPool": "JBSWY3DPEHPK3PXPJBSWY3DP"}, stream=out):
        pass
    assert lines(out)[0]["UserPool"] == "***"


async def test_a_run_writes_them_at_any_level_and_format_where_that_was_asked_for(rollout: Rollout) -> None:
    rollout.configure(log={"metrics": "emf", "level": "error", "format": "console"})
    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben")))
    (found,) = [conforms(line) for line in ended.err.splitlines() if line.startswith('{"event": "metrics"')]
    assert (found["Delivered"], found["Requests"], found["UserPool"]) == (2, 2, POOL)
    assert (found["AllowedRate"], found["ConfiguredRate"]) == (200, 200)


async def test_a_run_writes_none_unless_it_was_asked_for(rollout: Rollout) -> None:
    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    assert "_aws" not in ended.err
