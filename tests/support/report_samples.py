"""Rollouts to look at on the report page, always the same: for its tests, and for the pictures in the documentation."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from worker.core.figures import Minute
from worker.core.histogram import CALL_SECONDS, USER_SECONDS, Histogram
from worker.core.model import Counts, Listed, Reason, State
from worker.core.ports import Backlog
from worker.report.facts import Facts, Left, UnderWay

DRAWN = 60
"""So many answers of a minute take a time of their own; the others take the same ones again."""
BEGAN = 1_795_680_000 // 60
"""UTC minutes: 26 November 2026, 08:00."""
STAMP = {"endpoint": "amazonaws.com", "region": "eu-central-1", "user pool": "eu-central-1_AbCdEfGhI"}


def minute(
    at: int, chance: random.Random, *, users: int, calls: int = 1, usual: float = 0.06, **troubles: int
) -> Minute:
    """One in which so many users were delivered, each with so many calls, and so many calls met each trouble."""
    settled, attempts = Counter({"delivered" if calls == 1 else "active": users}), Counter[str]()
    for operation, answer in list(
        {
            "AssociateSoftwareToken": "issued",
            "VerifySoftwareToken": "verified",
            "SetUserMFAPreference": "preferred",
        }.items()
    )[:calls]:
        attempts[f"{operation}:{answer}"] = users
    for trouble, number in troubles.items():
        attempts[f"AssociateSoftwareToken:{trouble}"] = number
    latency, waits = Histogram(CALL_SECONDS), Histogram(USER_SECONDS)
    took = [usual * math.exp(chance.gauss(0, 0.45)) for _ in range(min(users, DRAWN))]
    for seconds in took:
        latency.observe(seconds)
        waits.observe(seconds * 2.2 + 0.12)
    for histogram in (latency, waits):
        histogram.counts = [number * max(1, users // DRAWN) for number in histogram.counts]
    longest = max(took, default=0.0) * 2.2 + 0.12
    slow = troubles.get("throttled", 0) + troubles.get("no_answer", 0) * 20
    allowed = 20.0 * max(0.35, 1 - slow / 900)
    return Minute(at, settled, attempts, latency, waits, round(longest, 3), allowed, 20.0)


def _facts(counts: Counts, minutes: list[Minute], *, waiting: int = 0, expired: int = 0) -> Facts:
    made = (minutes[-1].minute + 3 if minutes else BEGAN) * 60
    return Facts(
        made_at=float(made),
        version="0.1.0",
        stamp=STAMP,
        ledger="/srv/rollout/mfa-worker.db",
        counts=counts,
        backlog=Backlog(waiting, expired),
        command=("mfa-worker", "-c", "/srv/rollout/mfa-worker.toml"),
        settings_file="/srv/rollout/mfa-worker.toml",
        minutes=minutes,
    )


@cache
def finished() -> Facts:
    """1,501 users in 76 minutes, and nobody is left."""
    chance = random.Random(1)
    minutes = [minute(BEGAN + n, chance, users=chance.randint(1_188, 1_194), conflict=n % 7 == 0) for n in range(1, 12)]
    minutes.append(minute(BEGAN + 12, chance, users=400))
    enrolled = sum(each.settled["delivered"] for each in minutes)
    skipped = {Reason.DISABLED: 31, Reason.ALREADY_ENROLLED: 12}
    minutes[-1].settled.update({f"skipped:{reason}": number for reason, number in skipped.items()})
    states = {State.DELIVERED: enrolled, State.SKIPPED: 43}
    return _facts(Counts(states, {str(reason): number for reason, number in skipped.items()}, duplicates=4), minutes)


@cache
def many_reasons() -> Facts:
    """A rollout that activates, and whose users met nearly everything that can be met."""
    chance = random.Random(2)
    minutes = [
        minute(BEGAN + n, chance, users=chance.randint(370, 396), calls=3, throttled=chance.choice((0, 0, 3, 9)),
               conflict=chance.randint(0, 8), server_error=chance.randint(0, 5), refused=chance.randint(0, 3),
               no_answer=chance.randint(0, 1))
        for n in range(95)
    ]  # fmt: skip
    reasons = {
        Reason.TOKEN_EXPIRED: 412,
        Reason.SIGN_IN_REFUSED: 57,
        Reason.REPLY_LOST: 9,
        Reason.CHALLENGE_UNANSWERABLE: 6,
        Reason.REFUSED: 23,
        Reason.USER_NOT_FOUND: 14,
        Reason.RETRIES_EXHAUSTED: 2,
        Reason.VERIFY_UNKNOWN: 5,
        Reason.PREFERENCE_REFUSED: 3,
        Reason.DISMISSED: 40,
        Reason.ALREADY_ENROLLED: 188,
    }
    states = {
        State.DELIVERED: 8,
        State.ACTIVE: sum(each.settled["active"] for each in minutes),
        State.NEEDS_SESSION: 484,
        State.FAILED: 39,
        State.SKIPPED: 228,
    }
    codes: Mapping[str, Mapping[str, int]] = {
        Reason.REFUSED: {"ResourceNotFoundException": 20, "ForbiddenException": 3},
        Reason.CHALLENGE_UNANSWERABLE: {"SMS_MFA": 4, "NEW_PASSWORD_REQUIRED": 2},
        Reason.DISMISSED: {"left the company": 40},
        Reason.PREFERENCE_REFUSED: {"AccessDeniedException": 3},
    }
    counts = Counts(states, {str(each): number for each, number in reasons.items()}, 310, 3, codes, 25, 2)
    return replace(_facts(counts, minutes), makes_tickets=True)


@cache
def trouble() -> Facts:
    """In the middle: throttled for a while, then an outage, and now a worker is at it again."""
    chance = random.Random(3)
    minutes = [minute(BEGAN + n, chance, users=chance.randint(1_180, 1_194)) for n in range(22)]
    minutes += [
        minute(BEGAN + n, chance, users=540 + 17 * (n - 22), usual=0.35, throttled=520 - 14 * (n - 22), server_error=31,
               no_answer=9, conflict=4)
        for n in range(22, 48)
    ]  # fmt: skip
    minutes += [minute(BEGAN + n, chance, users=0, usual=2.0, no_answer=14) for n in range(48, 51)]
    minutes += [minute(BEGAN + n, chance, users=chance.randint(1_100, 1_190), throttled=6) for n in range(71, 90)]
    delivered = sum(each.settled["delivered"] for each in minutes)
    states = {
        State.DELIVERED: delivered,
        State.IN_PROGRESS: 9,
        State.SEALED: 2,
        State.NEEDS_SESSION: 77,
        State.FAILED: 3,
    }
    reasons = {Reason.SESSION_EXPIRED: 61, Reason.REPLY_LOST: 16, Reason.THROTTLED_ALONE: 3}
    counts = Counts(states, {str(each): number for each, number in reasons.items()}, 12, 1, {}, None, None)
    facts = _facts(counts, minutes, waiting=8_420, expired=310)
    waiting = [
        UnderWay(f"user-{n}", State.SEALED if n < 2 else State.IN_PROGRESS, facts.made_at - 40 * 60 / (n + 1) ** 2)
        for n in range(10)
    ]
    warning = "Cognito's answers are late: the shared rate was cut to 7 of 20 requests/s at 08:22."
    return replace(facts, under_way=waiting, looked_at=11, warnings=[warning])


def empty() -> Facts:
    """A ledger in which nothing has begun."""
    return _facts(Counts({}, {}), [])


def waiting() -> Facts:
    """60,000 requests were pushed, and no worker has run."""
    return _facts(Counts({}, {}), [], waiting=60_000)


def one_minute() -> Facts:
    """200 users in ten seconds."""
    minutes = [minute(BEGAN, random.Random(4), users=200, conflict=3)]
    return _facts(Counts({State.DELIVERED: 200}, {}), minutes)


@cache
def fourteen_hours() -> Facts:
    """A million users at 20/s, with a pause, and with figures for all but the first hour of an earlier version."""
    chance = random.Random(5)
    minutes = [
        minute(BEGAN + n, chance, users=chance.randint(1_188, 1_194),
               usual=0.06 + 0.05 * math.sin(n / 130) ** 2, throttled=chance.choice((0,) * 30 + (25,)),
               server_error=int(chance.random() < 0.05), conflict=int(chance.random() < 0.1))
        for n in range(14 * 60)
        if not 372 <= n < 391
    ]  # fmt: skip
    delivered = sum(each.settled["delivered"] for each in minutes)
    states = {State.DELIVERED: delivered + 21_803, State.NEEDS_SESSION: 118, State.FAILED: 4}
    reasons = {Reason.TOKEN_EXPIRED: 112, Reason.REPLY_LOST: 6, Reason.USER_NOT_FOUND: 4}
    return _facts(Counts(states, {str(each): number for each, number in reasons.items()}, 1_204), minutes)


@cache
def two_days() -> Facts:
    """A run on Monday, one on Thursday, and a small one on Friday."""
    chance = random.Random(6)
    begins = [BEGAN + n for n in (*range(260), *range(4_500, 4_620), *range(5_900, 5_906))]
    minutes = [minute(at, chance, users=chance.randint(1_150, 1_194)) for at in begins]
    delivered = sum(each.settled["delivered"] for each in minutes)
    return _facts(Counts({State.DELIVERED: delivered}, {}), minutes)


def named() -> Facts:
    """The one with many reasons, naming who is left; some have names that are hard to show."""
    facts = many_reasons()
    nasty = (  # as people and attackers name users
        "<script>alert(1)</script>",
        'O\'Hara & "sons"',
        "=HYPERLINK(1)",
        "x" * 128,
        "\u202egnp.exe",
        "عائشة",
        "山田太郎",
        "a\nb",
    )
    since = facts.made_at - 86_400
    users = [Listed(name, Reason.TOKEN_EXPIRED, since) for name in nasty]
    users += [Listed(f"{n:08x}-1c2d-4e5f-8a9b-0123456789ab", Reason.TOKEN_EXPIRED, since + n) for n in range(60)]
    failed = [Listed(f"gone-{n}", Reason.REFUSED, since, "ResourceNotFoundException") for n in range(39)]
    return replace(facts, left=[Left(State.NEEDS_SESSION, users, 484), Left(State.FAILED, failed, 39)])


SAMPLES: Mapping[str, Callable[[], Facts]] = {
    sample.__name__: sample
    for sample in (*(finished, many_reasons, trouble, empty, waiting, one_minute, fourteen_hours, two_days, named),)
}
"""Each of them, by its name."""
