"""A rollout whose worker is killed again and again, at any moment, and what is true at the end.

    python -m tests.crash.long_kill [--users 2000] [--kills 20] [--seed 0] [--credential session]

prints one line, and exits with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.processes import until
from tests.support.rollout import Audit, Rollout, rollout_in
from worker.rehearsal.fake_cognito.config import CredentialKind

RATE = 400
CONCURRENCY = 32
PATIENT = 4.0
"""Seconds for a call, also on a machine that is busy with other things."""
LONGEST = 0.4
"""Seconds from the first call of a worker to its death, at most."""
ROUNDS = 5
"""How often whoever needs a session is signed in again."""


@dataclass
class Outcome:
    """What became of everybody."""

    users: int
    kills: int
    states: dict[str, int]
    calls_in_flight: int
    """At the moments of the kills, as the fake Cognito saw them, together."""
    lost: int
    """Users who were told so: their secret was issued, and died with a worker."""
    lost_at_most: int
    """The most that one kill cost."""
    false_alarms: int
    """Users who were told so, and nothing of theirs was lost."""
    unaccounted: int
    stale: int
    """Users who hold a secret that is not the newest."""
    twice: int
    """Users who were sent several secrets though none of theirs was reported as lost."""

    @property
    def holds(self) -> bool:
        wrong = self.unaccounted or self.stale or self.twice or self.false_alarms
        return not wrong and self.lost_at_most <= CONCURRENCY and self.states == {"delivered": self.users}


async def long_kill(
    rollout: Rollout, *, users: int, kills: int, seed: int, credential: CredentialKind, rate: float = RATE
) -> Outcome:
    """Kill ``kills`` workers, one after the other, then let the rollout come to its end."""
    dice = random.Random(seed)
    rollout.configure(
        cognito={"call_timeout": PATIENT},  # what is lost here shall be lost by kills alone
        ledger={"lease": 3 * PATIENT},
        rate={"requests_per_second": rate},
        run={"concurrency": CONCURRENCY},
    )
    await rollout.fake_cognito.set_latency(0.04, jitter=0.02)
    names = [f"user-{number}" for number in range(users)]
    await rollout.push(await rollout.sign_in(*names, credential=credential))

    in_flight, most_lost, orphans = 0, 0, 0
    for _ in range(kills):
        in_flight += await _kill_at_work(rollout, dice.uniform(0, LONGEST))
        before, orphans = orphans, await _missing(rollout)
        most_lost = max(most_lost, orphans - before)

    told = set[str]()
    false_alarms = set[str]()
    code, rounds = (await rollout.run()).code, 0
    while code == 1 and rounds < ROUNDS:
        lost = {name for name, reason in (await rollout.users("needs_session")).items() if reason == "reply_lost"}
        told |= lost
        false_alarms |= lost - await _missed(rollout)
        again = [*await rollout.users("needs_session"), *await rollout.users("failed")]
        await rollout.push(await rollout.sign_in(*again, credential=credential))
        code, rounds = (await rollout.run()).code, rounds + 1

    audit: Audit = await rollout.audit()
    status = await rollout.status()
    return Outcome(
        users=users,
        kills=kills,
        states=await rollout.states(),
        calls_in_flight=in_flight,
        lost=len(told),
        lost_at_most=most_lost,
        false_alarms=len(false_alarms),
        unaccounted=users - status["accepted"] + status["backlog"],
        stale=len(audit.stale),
        twice=len(audit.twice - told),
    )


async def _kill_at_work(rollout: Rollout, seconds: float) -> int:
    """Let a worker make calls for so long, and kill it; how many were in flight then."""
    called = (await rollout.fake_cognito.stats()).wire_requests

    async def works() -> bool:
        return worker.is_over or (await rollout.fake_cognito.stats()).wire_requests > called

    worker = rollout.start("run")
    await until(works)
    await asyncio.sleep(seconds)  # not a wait for anything: the moment of death
    worker.popen.kill()
    in_flight = (await rollout.fake_cognito.stats()).in_flight
    await until(lambda: worker.is_over)

    async def quiet() -> bool:
        return (await rollout.fake_cognito.stats()).in_flight == 0

    await until(quiet)
    return in_flight


async def _missing(rollout: Rollout) -> int:
    """How many secrets were issued that neither the channel nor the ledger has."""
    attempts = await rollout.attempts()
    known = sum(map(len, attempts.values())) + len(await _sealed_only(rollout, attempts))
    return (await rollout.fake_cognito.stats()).issued - known


async def _missed(rollout: Rollout) -> set[str]:
    """Whose they are."""
    attempts = await rollout.attempts()
    sealed = await _sealed_only(rollout, attempts)
    issued = {name: len(user.secrets) for name, user in (await rollout.fake_cognito.truth()).items()}
    return {name for name, each in issued.items() if each > len(attempts.get(name, ())) + (name in sealed)}


async def _sealed_only(rollout: Rollout, attempts: dict[str, set[str]]) -> set[str]:
    """Sealed, and not in the channel too: a worker may have died between delivering and saying so."""
    return (await rollout.users("sealed")).keys() - attempts.keys()


async def _main(arguments: argparse.Namespace) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        async with rollout_in(Path(folder)) as rollout:
            return await long_kill(rollout, **vars(arguments))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.crash.long_kill", description="Kill, and kill again.")
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--credential", choices=("session", "token"), default="session")
    outcome = asyncio.run(_main(parser.parse_args()))
    print("holds" if outcome.holds else "BROKEN", json.dumps(asdict(outcome)))
    sys.exit(not outcome.holds)
