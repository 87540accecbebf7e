"""Whether the worker lives, and whether it works: two questions, since only one of them is a reason to end it.

``/healthz`` asks whether it has hung. Whoever asks kills it for a "no", so the answer is "yes" in all but one case:
users are under way, nothing moved for longer than ``run.watchdog``, and the run, which ends itself then, did not manage
to. An outage of Cognito, of a store or of a channel is no reason: a new process would wait for the same thing, and each
restart costs claims that have to run out. That the event loop itself has stopped shows as no answer at all.

``/readyz`` asks whether users can be called for just now, and names the reason where they cannot.
"""

from __future__ import annotations

from worker.core.errors import ExitCode
from worker.telemetry.metrics.watched import Dependency, Watched

RESERVE = 60.0
"""Seconds beyond all that an end may take, before a worker that has not ended counts as stuck: a slow disk is not."""

WAITING = {
    Dependency.ENDPOINT: "Cognito's endpoint to answer",
    Dependency.POOL: "Cognito to stop refusing everybody",
    Dependency.LEDGER: "the ledger",
    Dependency.CHANNEL: "the channel",
    Dependency.QUEUE: "the queue",
    Dependency.OTHER: "something outside",
}
"""What is said of each dependency. The log says more, to those who may read it."""


def stuck(watched: Watched) -> str | None:
    """Why a restart would help, in one line; ``None`` where it would not."""
    users = watched.work.under_way if watched.work is not None else 0
    idle = watched.stats.idle
    if users and idle > watched.watchdog + watched.ending_takes + RESERVE:
        return f"stuck: {users} users under way, nothing moved for {idle:.0f} s, and the run did not end by itself"
    return None


def not_ready(watched: Watched) -> str | None:
    """Why no user can be called for just now, in one line; ``None`` where they can."""
    code = watched.ending()
    if code is not None:
        return (
            "draining after a signal" if code == ExitCode.INTERRUPTED else f"ending with exit code {code}: see its log"
        )
    if watched.work is None:
        return "counting, then ending" if watched.has_worked else "opening ledger, queue and channel"
    if (dependency := watched.waits_for) is not None:
        return f"waiting for {WAITING[dependency]}"
    return None


def alive(watched: Watched) -> str:
    """What a worker that is not stuck does, in one line."""
    return "ok: " + (not_ready(watched) or ("working" if watched.work and watched.work.under_way else "nothing to do"))
