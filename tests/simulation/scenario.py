"""What happens in one simulated rollout: who asks for what, what goes wrong, and who is killed or stopped where.

A scenario is plain data that prints as the Python expression that makes it, so that a failure can be pasted and
replayed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from worker.core.config import ActivationMode

EPOCH = 1_700_000_000.0
"""UTC, in seconds, at which virtual time begins."""
LEASE, CALL_TIMEOUT, CLOCK_SKEW, VISIBILITY = 30.0, 5.0, 60.0, 20.0
"""Seconds; smaller than in earnest, in the same proportions."""
SESSION_VALIDITY, MIN_VALIDITY = 180.0, 30.0


class Wrong(StrEnum):
    """What may become of one operation."""

    UNAVAILABLE = "away"
    """It fails, and nothing happened."""
    UNAVAILABLE_DONE = "away, done"
    """It fails, and happened."""
    UNAVAILABLE_LATE = "away, done later"
    """It fails, and happens afterwards."""
    UNSENT = "unsent"
    LOST = "lost request"
    LOST_REPLY = "lost reply"
    RESET = "reset, done later"
    """The connection breaks at once, and the service acts afterwards."""
    TIMED_OUT = "timed out, done later"
    CONFLICT = "conflict"
    INTERNAL = "internal error"
    INTERNAL_DONE = "internal error, done"
    THROTTLED = "throttled"
    FORBIDDEN = "forbidden"
    INVALID = "invalid parameter"
    DISABLED = "user is disabled"
    RECORD_REFUSED = "record refused"
    """The channel refuses this one record for good."""
    WRONG_CODE = "wrong code"
    """Cognito takes a right code for a wrong one."""
    SIGN_IN_REFUSED = "sign-in refused"
    LOCKED = "password attempts exceeded"
    CHALLENGE = "another challenge"
    TRIGGER_FAILS = "a trigger fails"


PLAIN = (Wrong.UNAVAILABLE, Wrong.UNAVAILABLE_DONE, Wrong.UNAVAILABLE_LATE)
OF_ONE_ITEM = (Wrong.DISABLED, Wrong.RECORD_REFUSED)
OF_ONE_SIGN_IN = (Wrong.SIGN_IN_REFUSED, Wrong.LOCKED, Wrong.CHALLENGE, Wrong.TRIGGER_FAILS)
CALLING = tuple(wrong for wrong in Wrong if wrong not in (*PLAIN, *OF_ONE_ITEM, *OF_ONE_SIGN_IN, Wrong.WRONG_CODE))
LOOKING = tuple(wrong for wrong in CALLING if wrong is not Wrong.CONFLICT)
SIGNING_IN = (*LOOKING, *OF_ONE_SIGN_IN)
VERIFYING = (*CALLING, Wrong.WRONG_CODE, Wrong.WRONG_CODE)
Operation = Literal[
    "put",
    "read",
    "associate",
    "deliver",
    "lease",
    "acknowledge",
    "give_back",
    "backlog",
    "unfinished",
    "begin",
    "answer",
    "look",
    "verify",
    "prefer",
]
Flow = Literal["none", "custom_auth", "user_password"]


@dataclass(frozen=True, slots=True)
class Fault:
    """``count`` operations of that name go wrong, from number ``first`` on, counted over all processes."""

    operation: Operation
    first: int
    wrong: Wrong
    count: int = 1


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What is done to the process that reaches step number ``step`` of the run; ``seconds``: how long it is paused."""

    step: int
    what: Literal["kill", "pause", "stop", "hurry", "restore", "damage", "rot"]
    """``damage``: everybody dies, and what is sealed in the ledger is not what was written; ``rot``: a row is not."""
    seconds: float = 0.0
    purge: bool = False
    """And every message is deleted."""
    back: int = 0
    """Where the ledger is restored, with all workers dead: how many commits are missing in the copy."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request on the queue. Durations in seconds."""

    user: str
    token: bool = False
    replace: bool = False
    life: float = 10_000.0
    """How long the credential lives from the start of the rollout."""
    arrives: float = 0.0
    copies: int = 1
    again: float | None = None
    """Delivered once more so long after it was deleted."""
    signs_in: bool = False
    """It brings a ticket or a password, as the scenario's ``flow`` has it, and neither a Session nor a token."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that decides how a rollout goes; the same scenario always goes the same way."""

    messages: tuple[Message, ...]
    disturbances: tuple[Disturbance, ...] = ()
    faults: tuple[Fault, ...] = ()
    workers: int = 1
    skews: tuple[float, ...] = (0.0,)
    """Seconds by which the machines' clocks are wrong, in the order of the processes' starts, again and again."""
    names_time: bool = False
    """Cognito's answers are dated, so that the workers know what time it is there."""
    rate: float = 5.0
    """Calls/s of each worker; so many secrets may be undelivered, at least one."""
    silent_until: float = 0.0
    """Cognito does not tell its time for so many seconds from the start of the rollout."""
    deaths_known: bool = True
    """The ledger and the queue know who is dead, as the embedded ones do."""
    one_at_a_time: bool = True
    """The queue leases one message of a user at a time, as the embedded one does."""
    killer: str | None = None
    """A user whose call kills the worker."""
    refused: tuple[str, ...] = ()
    """Users whom Cognito refuses as if it refused everybody, until no worker goes on because of them."""
    throttled: tuple[str, ...] = ()
    """Users whose every call is "too many requests", until then, or for 120 s: where nobody else is left from the
    start, nobody can say that it is their own limit, and the worker waits."""
    rounds: int = 1
    """How often those who need a session sign in again."""
    seed: int = 0
    """Of all latencies and jitters."""
    marked: bool = False
    """The ledger has a mark outside it, as the embedded one has: it is written after each commit of a row."""
    flow: Flow = "none"
    """How users are signed in whose message ``signs_in``: with a ticket or with a password."""
    activation: ActivationMode = ActivationMode.NONE
    look_first: bool = True
    requires_mfa: bool = False
    """The pool does: a password then brings a Session that sets up TOTP, and not a token."""
    shows_unpreferred: bool = True
    """A verified secret that is not preferred counts as an active factor at a sign-in (nobody knows if it does)."""
    enrolled: tuple[str, ...] = ()
    """Users who had an active factor before the rollout; they bring no Session or token of their own."""
    wrong_credentials: tuple[str, ...] = ()
    """Users whose tickets or passwords Cognito refuses, until they are given new ones."""
    after_wrong_code: Literal["new", "same", "none"] = "new"
    """What a Session is after a wrong code: replaced by a new one, good for another try, or spent."""
    token_life: float = 3_600.0
    """Seconds that an access token lives which a sign-in brought."""
    is_quick: bool = False
    """Every call takes a twentieth of a second and many users are worked on at once: the pace alone is the limit."""


def random_scenario(seed: int) -> Scenario:
    """A scenario with a little of everything, the same for the same seed."""
    dice = random.Random(seed)
    workers = dice.choice((1, 1, 2, 2, 3))
    return Scenario(
        messages=(*_messages(dice), *_many_of_one(random.Random(f"many of one {seed}"))),
        disturbances=tuple(_disturbance(dice) for _ in range(dice.choice((0, 1, 1, 2, 3, 4)))),
        faults=(
            *(_fault(dice) for _ in range(dice.choice((0, 0, 1, 2, 4)))),
            *_faults_of_one_item(random.Random(f"one item {seed}")),
        ),
        workers=workers,
        skews=tuple(dice.choice((0.0, dice.uniform(-30, 30), -30.0, 30.0)) for _ in range(4)),
        deaths_known=dice.random() < 0.5,
        one_at_a_time=random.Random(f"one at a time {seed}").random() < 0.5,
        killer="u0" if dice.random() < 0.05 else None,
        rounds=dice.choice((0, 1, 1, 2)),
        names_time=(names_time := dice.random() < 0.5),
        silent_until=dice.choice((0.0, 0.0, 20.0)) if names_time else 0.0,
        rate=dice.choice((5.0, 5.0, 1.0)),
        seed=seed,
    )


def _messages(dice: random.Random) -> tuple[Message, ...]:
    messages = []
    for number in range(dice.randint(1, 4)):
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            messages.append(  # noqa: PERF401 - two nested loops are easier to read
                Message(
                    user=f"u{number}",
                    token=dice.random() < 0.5,
                    replace=dice.random() < 0.25,
                    life=dice.choice((10_000.0, 10_000.0, 900.0, 180.0, dice.uniform(0, 200))),
                    arrives=dice.choice((0.0, 0.0, 0.0, dice.uniform(0, 200))),
                    copies=dice.choice((1, 1, 1, 2)),
                    again=dice.choice((None, None, None, dice.uniform(0, 100))),
                )
            )
    return tuple(messages)


def _many_of_one(dice: random.Random) -> tuple[Message, ...]:
    """In one scenario of six: many requests of the first user, most of them alike."""
    if dice.random() > 1 / 6:
        return ()
    usual = Message("u0", token=dice.random() < 0.5, life=dice.choice((10_000.0, 10_000.0, 180.0, 1.0)))
    return tuple(
        replace(
            usual,
            replace=dice.random() < 0.1,
            life=dice.choice((usual.life, usual.life, usual.life, 10_000.0, dice.uniform(0, 200))),
            arrives=dice.choice((0.0, 0.0, dice.uniform(0, 60))),
            again=dice.choice((None, None, None, dice.uniform(0, 100))),
        )
        for _ in range(dice.randint(4, 25))
    )


def _disturbance(dice: random.Random) -> Disturbance:
    what: Literal["kill", "pause", "stop", "hurry"] = dice.choice(("kill", "kill", "pause", "pause", "stop", "hurry"))
    return Disturbance(
        step=1 + int(dice.random() ** 1.5 * 120),
        what=what,
        seconds=round(dice.choice((dice.uniform(1, 40), dice.uniform(40, 400))), 1) if what == "pause" else 0.0,
        purge=dice.random() < 0.1,
    )


def _faults_of_one_item(dice: random.Random) -> tuple[Fault, ...]:
    """In one scenario of four: a record or a user is refused for good."""
    if dice.random() > 1 / 4:
        return ()
    wrong = dice.choice(OF_ONE_ITEM)
    operation: Operation = "deliver" if wrong is Wrong.RECORD_REFUSED else "associate"
    return (Fault(operation, dice.randint(1, 5), wrong, dice.choice((1, 1, 2))),)


def _fault(dice: random.Random) -> Fault:
    names: tuple[Operation, ...] = (
        "put",
        "put",
        "associate",
        "associate",
        "associate",
        "deliver",
        "deliver",
        "read",
        "lease",
    )
    operation = dice.choice((*names, "acknowledge", "give_back", "backlog", "unfinished"))
    wrong = dice.choice(CALLING if operation == "associate" else PLAIN)
    return Fault(operation, dice.randint(1, 12), wrong, dice.choice((1, 1, 2, 5, 8)))


def random_rollout(seed: int) -> Scenario:
    """A random scenario in which users are signed in, activated, or both; with credentials of all kinds."""
    dice = random.Random(f"rollout {seed}")
    scenario = random_scenario(seed)
    flow: Flow = dice.choice(("none", "custom_auth", "custom_auth", "user_password", "user_password"))
    modes = (ActivationMode.VERIFY, ActivationMode.PREFER)
    signs_in = flow != "none"
    users = sorted({message.user for message in scenario.messages})
    enrolled = tuple(user for user in users if signs_in and dice.random() < 0.1)
    return replace(
        scenario,
        messages=tuple(
            replace(message, signs_in=signs_in and (message.user in enrolled or dice.random() < 0.7))
            for message in scenario.messages
        ),
        faults=(*scenario.faults, *(_fault_of_a_rollout(dice, flow) for _ in range(dice.choice((0, 1, 1, 2, 3))))),
        flow=flow,
        activation=dice.choice((*modes, *modes, ActivationMode.NONE) if signs_in else modes),
        look_first=dice.random() < 0.8,
        requires_mfa=dice.random() < 0.5,
        shows_unpreferred=dice.random() < 0.7,
        enrolled=enrolled,
        wrong_credentials=tuple(user for user in users if dice.random() < 0.15),
        after_wrong_code=dice.choice(("new", "same", "none")),
        token_life=dice.choice((3_600.0, 3_600.0, 20.0, 60.0)),
        killer=scenario.killer if dice.random() < 0.5 else None,
    )


def _fault_of_a_rollout(dice: random.Random, flow: Flow) -> Fault:
    wrongs: dict[Operation, tuple[Wrong, ...]] = {"verify": VERIFYING, "prefer": (*CALLING, Wrong.DISABLED)}
    if flow != "none":
        wrongs |= {"begin": SIGNING_IN, "look": LOOKING}
    if flow == "custom_auth":
        wrongs |= {"answer": SIGNING_IN}
    operation = dice.choice(sorted((*wrongs, "verify")))
    return Fault(operation, dice.randint(1, 6), dice.choice(wrongs[operation]), dice.choice((1, 1, 2, 3, 6)))
