"""How long the rest will take: some arithmetic, honest from the first second on.

Before anybody is done, only the rate is known that Cognito allows, and what a user costs. A few seconds later the users
who were finished lately tell it better: with retries, refusals and slow channels in it. In between both count.
"""

from __future__ import annotations

from dataclasses import dataclass

TRUSTED_AFTER = 8.0
"""Seconds of watching after which only what was seen counts: shorter than the span of a rate (``core.stats``), so that
a learned rate shows within that span, and long enough that the first round of calls does not decide."""
TRUSTED_USERS = 8
"""Users who must have been finished meanwhile for the same: below that, at low rates, what is allowed tells it better.
"""
QUIET = 5.0
"""Seconds without an outcome after which nobody knows how long it takes. Calls take less than a second, so something
holds them up."""
QUIET_USERS = 4
"""The same in users at the allowed rate, whichever is longer: at one user in ten seconds, five seconds say nothing."""
TAIL = 1.5
"""Seconds without an outcome from which on nobody knows when the last ones are done who should be done by then: they
are tried again, or others hold them."""
LEAST = 1.0
"""Seconds that are left at least while anybody is."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left to do, and how fast it goes."""

    users: float
    """Users to be finished, without those whose credential will have died."""
    possible: float
    """Users/s for whom the rate suffices that is allowed now."""
    seen: float = 0.0
    """Users/s who were finished lately, by all workers."""
    seen_for: float = 0.0
    """Seconds over which that was seen."""
    quiet: float = 0.0
    """Seconds since the last user was finished, or since the work began."""
    first_at: float = 0.0
    """Seconds until anything can be done: the claim of a worker that died runs out then."""
    then: float = 0.0
    """Seconds that the end takes after the last user: a queue whose counts are approximate is watched for some time."""


def seconds_left(rest: Rest) -> float | None:
    """Return the seconds until all is done; ``None`` where nobody can know.

    It is never negative, and never below ``LEAST`` while anybody is left.
    """
    if rest.users <= 0:
        return max(0.0, rest.first_at) + max(0.0, rest.then)
    speed = users_per_second(rest)
    if speed <= 0 or (rest.first_at <= 0 and is_quiet(rest)):
        return None
    return max(LEAST, max(0.0, rest.first_at) + rest.users / speed) + max(0.0, rest.then)


def users_per_second(rest: Rest) -> float:
    """Return how many users/s are expected: what is possible at first, what was seen after some seconds."""
    trust = min(1.0, rest.seen_for / TRUSTED_AFTER, rest.seen * rest.seen_for / TRUSTED_USERS)
    return trust * rest.seen + (1 - trust) * rest.possible


def is_quiet(rest: Rest) -> bool:
    """Whether nobody was finished for so long that something must hold them up, or that all should be done."""
    speed = users_per_second(rest)
    if speed <= 0:
        return rest.quiet > QUIET
    return rest.quiet > min(max(QUIET, QUIET_USERS / speed), max(TAIL, rest.users / speed))
