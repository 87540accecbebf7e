"""The command ``run``: from the first lease to the exit code, with signals, progress and reconciliation."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from worker.app.stores import Stores, open_intake, open_stores, stamp
from worker.app.wiring import open_worker
from worker.core.clock import SystemClock
from worker.core.errors import DependencyUnavailable, ExitCode, Interrupted, UsageError, WorkerError
from worker.core.model import Counts, State
from worker.core.ports import Backlog, Queue
from worker.core.stats import RunStats
from worker.engine import waves
from worker.engine.failure_rate import FailureRate
from worker.engine.shutdown import Shutdown
from worker.sealing.age import AgeSealer
from worker.settings import Settings
from worker.telemetry import progress, report

log = structlog.get_logger()

SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that writes gets the interpreter from a busy event loop (Python's default is 5 ms, ten
times as long; at the peak every write would wait that long)."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What ``run`` is asked for beyond the settings; ``tolerate`` is a share (0.005 is half a per cent)."""

    source: str | None = None
    follow: bool = False
    max_users: int | None = None
    tolerate: float = 0.0
    report: Path | None = None
    only: Path | None = None
    """A file of the users who alone are worked on."""
    stop_if_failing: float | None = None
    """The share of bad outcomes at which a person is called."""


def run_async(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's coroutine on the fastest loop there is."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def run_worker(settings: Settings, options: RunOptions, *, until: asyncio.Event | None = None) -> ExitCode:
    """Run one worker, and say on standard error how it went. ``until``: follow the queue until it is set.

    Raises ``UsageError`` before anything was touched; every later end is an exit code.
    """
    _refuse_what_cannot_work(settings, options)
    wave = waves.read_wave(options.only) if options.only else None
    shutdown = Shutdown()
    stats = RunStats(SystemClock())
    follow = until or (asyncio.Event() if options.follow else None)
    async with open_stores(settings) as stores:
        with _signals(shutdown), _tuned_interpreter(), stores.alive:
            try:
                counts, backlog = await _work(settings, options, stores, shutdown, stats, follow, wave)
            except DependencyUnavailable as unavailable:  # nobody can say what state users are in
                shutdown.request(unavailable)
                reason = shutdown.reason or unavailable
                log.error("stopped", cause=str(reason), cure=reason.hint, exit_code=int(reason.exit_code))  # noqa: TRY400
                return ExitCode.BUG if stats.bugs else reason.exit_code
        code = _exit_code(shutdown.reason, stats.bugs, counts, backlog, options.tolerate)
        _say(shutdown.reason, code, counts, backlog, stats)
        if options.report is not None:
            report.write(
                options.report,
                report.reconciliation(counts, backlog, stats, exit_code=code, stamp=stamp(settings)),
            )
        return code


async def _work(
    settings: Settings,
    options: RunOptions,
    stores: Stores,
    shutdown: Shutdown,
    stats: RunStats,
    follow: asyncio.Event | None,
    wave: waves.Wave | None,
) -> tuple[Counts, Backlog]:
    """Users' states counted at the end, and what waits: facts where the work is done, else the last known counts."""
    queue: Queue = stores.queue
    try:
        async with (
            open_intake(settings, stores, options.source, wave) as queue,
            open_worker(
                settings,
                stores,
                queue,
                shutdown,
                stats,
                max_users=options.max_users,
                wave=wave,
                failure_rate=None if options.stop_if_failing is None else FailureRate(options.stop_if_failing),
            ) as loop,
            progress.show(
                stats, _waiting(queue, options), quota=settings.rate.effective, interval=settings.log.interval
            ),
        ):
            await loop.run(follow)
    except DependencyUnavailable as unavailable:  # opening the channel, or giving back what is left
        shutdown.request(unavailable)
    if shutdown.reason is not None:
        return await _last_known(stores, queue, shutdown.reason)
    counts = await stores.recount()
    if wave is None:  # then the loop saw the queue empty
        return counts, Backlog(0)
    backlog = await queue.backlog()
    await waves.conclude(stores.ledger, wave, counts, backlog, shutdown)
    return counts, backlog


async def _last_known(stores: Stores, queue: Queue, reason: WorkerError) -> tuple[Counts, Backlog]:
    """The last known counts; but where an interrupted run seems to be done, only a recount may say so."""
    counts, backlog = await stores.counts(), await queue.backlog()
    if isinstance(reason, Interrupted) and not (counts.unfinished or backlog.waiting):
        counts = await stores.recount()
        backlog = Backlog(0 if await queue.is_empty() else 1)
    return counts, backlog


def _refuse_what_cannot_work(settings: Settings, options: RunOptions) -> None:
    """What can be seen to be wrong before the ledger is touched. Raises ``UsageError``."""
    AgeSealer(settings.seal.recipients)
    if options.source not in (None, "-") and not os.access(options.source, os.R_OK):
        raise UsageError(f"cannot read {options.source}", "name a file of requests, one JSON object a line")
    if options.source and options.only:
        raise UsageError("--only chooses among what is on the queue, not in --input", "push the requests first")
    if options.report is not None and not options.report.parent.is_dir():
        raise UsageError(
            f"there is no folder {options.report.parent} for the report", "create it, or name another --report"
        )


def _waiting(queue: Queue, options: RunOptions) -> Callable[[], Awaitable[int | None]]:
    async def waiting() -> int | None:
        return None if options.source or options.follow or options.only else (await queue.backlog()).waiting

    return waiting


def _exit_code(reason: WorkerError | None, bugs: int, counts: Counts, backlog: Backlog, tolerate: float) -> ExitCode:
    if bugs:
        return ExitCode.BUG
    work_left = backlog.waiting > 0 or counts.unfinished > 0
    if reason is None and work_left:
        return ExitCode.INTERRUPTED  # another worker has begun something since
    if reason is not None and (work_left or not isinstance(reason, Interrupted)):
        return reason.exit_code
    left_out = counts.states.get(State.NEEDS_SESSION, 0) + counts.states.get(State.FAILED, 0)
    return ExitCode.SOME_LEFT_OUT if left_out > tolerate * counts.accepted else ExitCode.DONE


def _say(reason: WorkerError | None, code: ExitCode, counts: Counts, backlog: Backlog, stats: RunStats) -> None:
    with suppress(OSError):  # the terminal may be gone; the exit code is not
        report.print_table(counts, backlog, stats, sys.stderr)
    if reason is not None and code is reason.exit_code:
        log.error("stopped", cause=str(reason), cure=reason.hint, exit_code=int(code))


@contextmanager
def _signals(shutdown: Shutdown) -> Iterator[None]:
    """The first SIGINT or SIGTERM lets users under way finish, the second one hurries."""
    loop = asyncio.get_running_loop()
    asked = Interrupted("interrupted with work left", "run the same command again to go on")

    def interrupt(name: str) -> None:
        log.warning("signal", signal=name, effect="hurrying" if shutdown.reason else "draining")
        shutdown.interrupt(asked)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt, number.name)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextmanager
def _tuned_interpreter() -> Iterator[None]:
    """Tune the interpreter: objects that exist now stay for hours, and writing threads need not wait for the loop."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval)
