"""The command ``run``: from the first lease to the exit code, with signals, progress and reconciliation."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import structlog

from worker.app import beginning, older, sealed_to
from worker.app.damage import looking_at_all_rows, refuse_damaged
from worker.app.looking import ONE_BY_ONE_IN_A_RUN, Looking, plan_of
from worker.app.monitoring import Observe, monitored
from worker.app.observing import observed, refuse_without_otel
from worker.app.stores import Purpose, Stores, open_intake, open_stores, parser_of, stamp
from worker.app.wiring import open_worker
from worker.app.written_files import refuse_wrong_files
from worker.core.clock import SystemClock
from worker.core.errors import (
    DependencyUnavailable,
    ExitCode,
    Interrupted,
    MaxUsersReached,
    PersonMustAct,
    UsageError,
    WorkerError,
)
from worker.core.model import Counts
from worker.core.ports import Backlog, Queue
from worker.core.stats import RunStats
from worker.engine import waves
from worker.engine.failure_rate import FailureRate
from worker.engine.shutdown import Shutdown
from worker.requests.refused import Refused
from worker.requests.usernames import read_usernames
from worker.sealing.trial import opened_sealer
from worker.settings import Settings
from worker.telemetry import progress, report

log = structlog.get_logger()

SWITCH_INTERVAL = 0.0005
"""Seconds after which a busy event loop lets a thread that writes to disk run. Python's default is 5 ms; when the loop
is busiest, every write would wait that long."""

GC_THRESHOLD = 20_000
"""New objects after which the garbage collector looks at them; Python's default is 700. Nearly everything is freed
without it, but with many users under way it looked at what they need again and again: 71 µs of CPU a user, flat out,
and 3 µs with this (measured). As many objects are some megabytes."""

_DRAINING = "draining", "nobody is begun any more, and whoever was begun is finished; a second signal cuts that short"
"""What the first signal does, for scripts and for people."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of ``run``, beside the settings. Shares are numbers such as 0.005 for half a per cent."""

    source: str | None = None
    """A file of requests, ``-`` for standard input; ``None``: take requests from the queue."""
    follow: bool = False
    """Whether to go on when the queue is empty."""
    max_users: int | None = None
    tolerate: float = 0.0
    """The share of users who may be left to a person without changing the exit code."""
    report: Path | None = None
    only: Path | None = None
    """A file that names the only users to work on."""
    stop_if_failing: float | None = None
    """The share of bad outcomes above which the run stops, because a person must look at them."""
    new_rollout: bool = False
    """Whether a rollout is meant to begin, even where the channel holds records already."""
    accept_recipients: bool = False
    """Whether the recipients of the settings are meant, even where the ledger was begun with others."""
    rehearses: bool = False
    """Whether this is a run of a rehearsal: its ledger is always new, it prints its own result, and what to do next is
    not what a real run needs."""


def run_async(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's coroutine on uvloop, which is faster than asyncio's own event loop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def run_worker(settings: Settings, options: RunOptions, *, until: asyncio.Event | None = None) -> ExitCode:
    """Run one worker, print the result to standard error, and return the exit code.

    ``until``: go on when the queue is empty until this event is set. Raises ``UsageError`` only before anything was
    changed; every later failure becomes an exit code.
    """
    _refuse_what_cannot_work(settings, options)
    wave = read_usernames(options.only) if options.only else None
    shutdown = Shutdown()
    stats = RunStats(SystemClock())
    follow = until or (asyncio.Event() if options.follow else None)
    refused = Refused(parser_of(settings).digest)
    async with (
        monitored(settings, stats, shutdown) as observe,
        open_stores(
            settings, Purpose.RUN, new_rollout=options.new_rollout, accept_recipients=options.accept_recipients
        ) as stores,
    ):
        if not options.rehearses:
            beginning.say_new(settings, stores.found)
            beginning.say_exposed(settings)
            beginning.say_surroundings(settings)
            sealed_to.say_recorded(stores.found)
        are_sound = await refuse_damaged(stores)
        if refusal := await older.refusal(settings, stores):
            raise refusal
        with _signals(shutdown, _interrupted(options)), _tuned_interpreter(), stores.alive:
            looking = nullcontext() if are_sound else looking_at_all_rows(stores, shutdown)
            try:
                async with looking:
                    counts, backlog = await _work(
                        settings, options, stores, shutdown, stats, follow, wave, refused, observe
                    )
            except (DependencyUnavailable, PersonMustAct) as unavailable:  # the states of the users are not known
                shutdown.request(unavailable)
                reason = shutdown.reason or unavailable
                _say_stopped(reason)
                report.print_lines(refused.lines(), sys.stderr)
                return ExitCode.BUG if stats.bugs else reason.exit_code
        malformed = refused.total + stores.queue.malformed_found
        code = _exit_code(shutdown.reason, stats.bugs, counts, backlog, options.tolerate, malformed)
        report.print_lines(refused.lines(), sys.stderr)
        if not options.rehearses:
            _print_table(counts, backlog, stats)
        if shutdown.reason is not None and code is shutdown.reason.exit_code:
            _say_stopped(shutdown.reason)
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
    refused: Refused,
    observe: Observe,
) -> tuple[Counts, Backlog]:
    """Run the worker; return the users by state and the backlog: counted if all work is done, else as last known."""
    queue: Queue = stores.queue
    try:
        async with (
            open_intake(settings, stores, options.source, refused, wave) as queue,
            observed(settings, stores, stats, queue) as observer,
            open_worker(
                settings,
                stores,
                queue,
                shutdown,
                stats,
                max_users=options.max_users,
                wave=wave,
                failure_rate=None if options.stop_if_failing is None else FailureRate(options.stop_if_failing),
                observer=observer,
            ) as loop,
            observe(stores, queue, loop),
            progress.show(
                stats,
                Looking(settings, stores, ONE_BY_ONE_IN_A_RUN),
                replace(
                    plan_of(settings),
                    source=options.source,
                    is_wave=options.only is not None,
                    follow=options.follow,
                ),
                lambda: (shutdown.reason, shutdown.hurry.is_set()),
                interval=settings.log.interval,
            ),
        ):
            gc.freeze()  # what exists now, the SDK's models above all, is never garbage: it need not be looked at again
            await loop.run(follow)
    except (DependencyUnavailable, PersonMustAct) as stopped:  # opening the channel, or giving back what is left
        shutdown.request(stopped)
    if shutdown.reason is not None:
        return await _last_known(stores, queue, shutdown.reason)
    counts = await stores.recount()
    if wave is None:  # the loop ended because the queue is empty
        return counts, Backlog(0)
    backlog = await queue.backlog()
    await waves.conclude(stores.ledger, wave, counts, backlog, shutdown)
    return counts, backlog


async def _last_known(stores: Stores, queue: Queue, reason: WorkerError) -> tuple[Counts, Backlog]:
    """Return the last known counts. If an interrupted run seems to have finished everything, count again to be sure."""
    counts, backlog = await stores.counts(), await queue.backlog()
    if isinstance(reason, Interrupted) and not (counts.unfinished or backlog.waiting):
        counts = await stores.recount()
        backlog = Backlog(0 if await queue.is_empty() else 1)
    return counts, backlog


def _refuse_what_cannot_work(settings: Settings, options: RunOptions) -> None:
    """Raise ``UsageError`` for what can be seen to be wrong before the ledger is touched."""
    with opened_sealer(settings.seal.recipients):
        pass
    refuse_without_otel(settings)
    if options.source not in (None, "-") and not os.access(options.source, os.R_OK):
        why = "permission denied" if os.path.lexists(options.source) else "there is no such file"
        raise UsageError(f"cannot read {options.source}: {why}", "name a file of requests, one JSON object a line")
    if options.source and options.only:
        raise UsageError(
            "--only chooses among what is on the queue, not in --input", "push the requests first: mfa-worker push FILE"
        )
    if options.new_rollout and settings.ledger.must_exist:
        raise UsageError(
            "--new-rollout begins a rollout, and ledger.must_exist = true says that it has begun",
            "leave out --new-rollout, or set ledger.must_exist = false until it has",
        )
    read = {"--input": options.source, "--only": options.only}
    refuse_wrong_files(settings, delivers=True, report=options.report, read=read)


def _exit_code(
    reason: WorkerError | None, bugs: int, counts: Counts, backlog: Backlog, tolerate: float, malformed: int
) -> ExitCode:
    """``malformed``: how many requests of the input, or of those that came over the queue, this run could not read."""
    if bugs:
        return ExitCode.BUG
    work_left = backlog.waiting > 0 or counts.unfinished > 0
    if reason is None and work_left:
        return ExitCode.INTERRUPTED  # another worker has begun something since this one finished
    if reason is not None and (work_left or not isinstance(reason, Interrupted)):
        return reason.exit_code
    if counts.dead_letters:
        return ExitCode.SOME_LEFT_OUT
    left_out = counts.left_to_a_person > tolerate * counts.accepted
    return ExitCode.SOME_LEFT_OUT if malformed or left_out else ExitCode.DONE


def _print_table(counts: Counts, backlog: Backlog, stats: RunStats) -> None:
    with suppress(OSError):  # where standard error cannot be written, there is still the exit code
        report.print_table(counts, backlog, stats, sys.stderr)


def _say_stopped(reason: WorkerError) -> None:
    """Log why the run ended before its work was done: no error where somebody asked for that."""
    about = {"cause": str(reason), "cure": reason.hint, "exit_code": int(reason.exit_code)}
    if isinstance(reason, MaxUsersReached | Interrupted):
        log.info("stopped", **about)
    else:
        log.error("stopped", **about)


def _interrupted(options: RunOptions) -> Interrupted:
    if options.rehearses:
        return Interrupted("the rehearsal was interrupted", "begin it again; with fewer --users it is shorter")
    return Interrupted("interrupted with work left", "run the same command again to go on")


@contextmanager
def _signals(shutdown: Shutdown, interrupted: Interrupted) -> Iterator[None]:
    """Handle signals: the first one lets users who were begun finish, the second one cuts off calls.

    SIGHUP comes when a terminal is closed; under ``nohup`` it stays ignored.
    """
    loop = asyncio.get_running_loop()

    def interrupt(name: str) -> None:
        effect, means = ("hurrying", "calls are cut off") if shutdown.reason else _DRAINING
        log.warning("signal", signal=name, effect=effect, means=means)
        shutdown.interrupt(interrupted)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        loop.add_signal_handler(number, interrupt, number.name)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
            # a further signal must not cut off what an interrupted run has to tell
            was_interrupted = isinstance(shutdown.reason, Interrupted)
            signal.signal(number, signal.SIG_IGN if was_interrupted else before[number] or signal.SIG_DFL)


@contextmanager
def _tuned_interpreter() -> Iterator[None]:
    """Tune Python for a long run: garbage is collected less often, and threads that write wait less."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(GC_THRESHOLD, *threshold[1:])
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
