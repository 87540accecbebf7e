"""``health``: what a container's health check hears of a real run, from its first second to its end."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.support.processes import Process, until
from tests.support.rollout import Rollout
from worker.telemetry.metrics import on_host
from worker.telemetry.metrics.on_host import Answer


async def said_by(run: Process) -> Answer | None:
    """Other tests have runs of their own on this host."""
    answers = await asyncio.to_thread(on_host.ask)
    return next((each for each in answers if each.process == run.popen.pid), None)


async def test_a_run_without_a_port_is_well_until_it_is_wedged_and_gone_once_it_has_ended(
    rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rollout.start("run", "--follow")

    async def is_idle() -> bool:
        found = await said_by(run)
        assert found is None or found.is_well
        return found is not None and found.text == "ok: nothing to do"

    await until(is_idle)
    monkeypatch.setattr(on_host, "PATIENCE", 1.0)
    run.signal(signal.SIGSTOP)
    wedged = await said_by(run)
    run.signal(signal.SIGCONT)
    assert wedged is not None
    assert (wedged.is_well, wedged.text) == (False, "no answer within 1 s: its event loop stands still")

    run.signal(signal.SIGTERM)
    assert (await run.ended()).code == 0
    assert await said_by(run) is None
