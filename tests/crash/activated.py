"""A whole rollout from bare usernames or from passwords, with faults and with workers that are killed, to active MFA.

    python -m tests.crash.activated [--from usernames] [--mfa optional] [--on embedded] [--users 2000] [--kills 3]

prints one line, and exits with 1 where somebody is not active, or cannot sign in with a code of the opened record.
``--on aws`` takes SQS and DynamoDB, on an emulator. The pool checks tickets with the triggers of ``config/sign-in``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.support.aws_rollout import aws_rollout_in
from tests.support.emulators import CREDENTIALS, Emulator, ministack
from tests.support.pool_triggers import KEY, installed
from tests.support.processes import until
from tests.support.rollout import Request, Rollout, rollout_in
from worker.core.model import NOT_ACTIVATED
from worker.rehearsal.fake_cognito.credentials import ID_TOKEN_HEAD, REFRESH_TOKEN_HEAD
from worker.rehearsal.fake_cognito.operations import Category
from worker.rehearsal.scenario import PASSWORD
from worker.rehearsal.script import password_of
from worker.rehearsal.signing_in import sign_in_with_codes
from worker.requests.ticket import make_ticket
from worker.sealing import age

FAULTS = ("conflict=2%", "internal_error=1%", "internal_error_acted=1%", "cut_after=1%")
"""Of every operation: conflicts, internal errors, lost replies."""
PATIENT = 1.5
"""Seconds for a call, and the pause after a lost reply."""
LONGEST = 0.4
"""Seconds from the moment when a worker has done its part to its death, at most."""
ROUNDS = 5
"""How often whoever is left is pushed again."""
ACCESS_TOKEN_HEAD = base64.urlsafe_b64encode(b'{"kid":"rehearsal","alg":"HS256"}').rstrip(b"=").decode()
"""How every access token of the fake Cognito begins."""


@dataclass
class Outcome:
    """What became of everybody."""

    users: int
    kills: int
    states: dict[str, int]
    reasons: dict[str, int]
    pushed_again: int
    """Requests that were made anew for users who were left after a run."""
    calls: int
    """Of the enrolments' quota, for all users together."""
    sign_ins: int
    looks: int
    unaccounted: int
    stale: int
    """Users who hold a secret that is not the newest."""
    signed_in_at_once: int
    """Users for whom two sign-ins overlapped, or two calls."""
    cannot_sign_in: int
    """Users who do not get in with a code of the opened record, or do without one."""
    code: int
    """Of the last run."""
    seconds: float
    """From the first worker's start to the last one's end."""

    @property
    def wrong(self) -> dict[str, object]:
        """What is not as it must be, by name; nothing where everything is."""
        found: dict[str, object] = {
            "unaccounted": self.unaccounted,
            "stale": self.stale,
            "signed_in_at_once": self.signed_in_at_once,
            "cannot_sign_in": self.cannot_sign_in,
            "code": self.code,
            "states": self.states if self.states != {"active": self.users} else None,
        }
        return {name: what for name, what in found.items() if what}

    @property
    def holds(self) -> bool:
        return not self.wrong


async def activated(
    rollout: Rollout, *, origin: str, users: int, kills: int, seed: int, rate: float, by_session: bool = False
) -> Outcome:
    """Enrol and activate everybody, with ``kills`` workers that die on the way."""
    dice = random.Random(seed)
    _configure(rollout, origin, rate, by_session=by_session)
    await rollout.fake_cognito.configure(
        password=PASSWORD,
        mfa="required" if by_session else "optional",
        faults=FAULTS,
        latency=0.02,
        jitter=0.02,
    )
    names = [f"user-{number}" for number in range(users)]
    await rollout.push(_requests(rollout, origin, names))

    began = time.monotonic()
    calls = users * (2 if by_session else 3)
    for number in range(kills):
        await _kill_at_work(rollout, calls * (number + 1) / (kills + 1), dice.uniform(0, LONGEST))
    ended, again = await rollout.run(within=600), 0
    for _ in range(ROUNDS):
        left = await _left(rollout) if ended.code == 1 else []
        if not left:
            break
        again += len(left)
        await rollout.push(_requests(rollout, origin, left))
        ended = await rollout.run(within=600)
    took = time.monotonic() - began
    return await _outcome(rollout, users, kills, again, ended.code, took)


def _configure(rollout: Rollout, origin: str, rate: float, *, by_session: bool) -> None:
    identity = rollout.folder / "own-identity.txt"
    if not identity.exists():
        age.write_identity(identity, age.keygen("rollout")[0])
    rollout.configure(
        cognito={"call_timeout": PATIENT, "session_handoff": None},
        ledger={"lease": 3 * PATIENT},
        rate={"requests_per_second": rate},
        run={"concurrency": None},
        sign_in={
            "flow": "custom_auth" if origin == "usernames" else "user_password",
            "client_id": rollout.fake_cognito.config.client_id,
            "requests_per_second": 2 * rate,
        },
        activation={"mode": "verify" if by_session else "prefer", "identity": str(identity)},
    )


def _requests(rollout: Rollout, origin: str, names: list[str]) -> list[Request]:
    if origin == "passwords":
        rollout.credentials |= {password_of(name) for name in names}
        return [{"username": name, "password": password_of(name)} for name in names]
    key, config = base64.urlsafe_b64decode(f"{KEY}="), rollout.fake_cognito.config
    about: dict[str, Any] = {"user_pool_id": config.user_pool_id, "client_id": config.client_id}
    ends = time.time() + 3600 + random.random()
    made = {name: make_ticket(key, username=name, not_after=ends, **about) for name in names}
    rollout.credentials |= set(made.values())
    return [{"username": name, "ticket": ticket} for name, ticket in made.items()]


async def _kill_at_work(rollout: Rollout, calls: float, seconds: float) -> None:
    """Let a worker go on until so many calls were made, and for so long, and kill it."""

    async def done_its_part() -> bool:
        return worker.is_over or (await rollout.fake_cognito.stats()).wire_requests >= calls

    worker = rollout.start("run")
    await until(done_its_part, 600)
    await asyncio.sleep(seconds)  # not a wait for anything: the moment of death
    assert not worker.is_over, worker.err
    await worker.kill()
    await rollout.until_answered()


async def _left(rollout: Rollout) -> list[str]:
    """Whom another request may help."""
    delivered = await rollout.users("delivered")
    not_activated = [name for name, reason in delivered.items() if reason in NOT_ACTIVATED]
    return [*await rollout.users("needs_session"), *await rollout.users("failed"), *not_activated]


async def _outcome(rollout: Rollout, users: int, kills: int, again: int, code: int, took: float) -> Outcome:
    stats, status = await rollout.fake_cognito.stats(), await rollout.status()
    categories = {name: each.wire_requests for name, each in stats.categories.items()}
    newest: dict[str, tuple[int, str]] = {}
    for record in await rollout.delivered():
        assert "session" not in record, "the worker spends it itself"
        one = (record["generation"], record["secret_code"])
        newest[record["username"]] = max(one, newest.get(record["username"], one))
    secrets = {name: secret for name, (_, secret) in newest.items()}
    truth = await rollout.fake_cognito.truth()
    active = [*await rollout.users("active")]
    await rollout.fake_cognito.configure(faults=(), latency=0.0, jitter=0.0)
    able = await sign_in_with_codes(rollout.fake_cognito, {name: secrets.get(name, "") for name in active})
    _refuse_tokens(rollout)
    return Outcome(
        users=users,
        kills=kills,
        states=await rollout.states(),
        reasons={reason: number for reason, number in status["reasons"].items() if number},
        pushed_again=again,
        calls=categories[Category.UPDATES],
        sign_ins=categories[Category.SIGN_INS] + categories[Category.ANSWERS],
        looks=stats.looked,
        unaccounted=users - status["accepted"] + status["backlog"],
        stale=sum(secrets.get(name) != truth[name].secrets[-1].secret_code for name in active),
        signed_in_at_once=len(stats.sign_ins_overlapping.keys() | stats.overlapping.keys()),
        cannot_sign_in=len(set(active) - able),
        code=code,
        seconds=round(took, 1),
    )


def _refuse_tokens(rollout: Rollout) -> None:
    """No token of a sign-in was said, or lies anywhere; and where the queue is a file, no credential is left in it."""
    heads = [ID_TOKEN_HEAD, REFRESH_TOKEN_HEAD, ACCESS_TOKEN_HEAD]
    told = rollout.told()
    assert not [head for head in heads if head in told]
    for file in filter(Path.is_file, rollout.folder.glob("*.db*")):
        content = file.read_bytes()
        assert not [head for head in heads if head.encode() in content], file.name
        assert not [each for each in rollout.credentials if each.encode() in content], file.name


@asynccontextmanager
async def rollout_on(where: str, folder: Path, emulator: Emulator | None) -> AsyncIterator[Rollout]:
    """A rollout whose stores are embedded, or on SQS and DynamoDB; its pool runs the triggers of ``config/sign-in``."""
    trigger = installed(os.environ.__setitem__).handler
    if emulator is None:
        assert where == "embedded"
        async with rollout_in(folder, trigger=trigger) as rollout:
            yield rollout
    else:
        async with aws_rollout_in(folder, emulator, "sqs", trigger=trigger) as aws:
            yield aws


async def _main(where: str, **asked: Any) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        if where == "embedded":
            async with rollout_on(where, Path(folder), None) as rollout:
                return await activated(rollout, **asked)
        os.environ.update(CREDENTIALS)
        with ministack() as emulator:
            async with rollout_on(where, Path(folder), emulator) as rollout:
                return await activated(rollout, **asked)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.crash.activated", description="From a list to active MFA.")
    parser.add_argument("--from", dest="origin", choices=("usernames", "passwords"), default="usernames")
    parser.add_argument("--mfa", choices=("optional", "required"), default="optional")
    parser.add_argument("--on", dest="where", choices=("embedded", "aws"), default="embedded")
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=100.0)
    given = vars(parser.parse_args())
    given["by_session"] = given.pop("mfa") == "required"
    outcome = asyncio.run(_main(**given))
    print("holds" if outcome.holds else "BROKEN", json.dumps(asdict(outcome)))
    sys.exit(not outcome.holds)
