"""A rollout of very many users in virtual time: users with passwords, whose Sessions live for three minutes.

The engine, the pipeline and the pacer are the real ones; queue, ledger, channel and Cognito are as cheap as can be and
keep nothing of whoever is finished, so that what memory grows by is the worker's own. It shows that no Session ages in
a queue: whoever is signed in is called for within seconds, in the last hour as in the first. CI runs 10,000 users
(``test_many_users``). A million take about twenty minutes of one core::

    python -m tests.simulation.many_users --users 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from tests.simulation.ports import MarkingSealer, OpenSealer
from tests.support.pace_stores import MemoryPaceStore, TickingTime
from tests.support.totp import code_at
from tests.support.worker_config import SESSION_VALIDITY, worker_config
from worker.core.clock import EndpointClock
from worker.core.config import ActivationMode
from worker.core.model import (
    NEVER,
    Counts,
    CredentialKind,
    CustomChallenge,
    Enrolment,
    Issued,
    Listed,
    LookReply,
    Lost,
    Preferred,
    PreferReply,
    Reason,
    Refused,
    Reply,
    Request,
    Sealed,
    Secret,
    SignedIn,
    SignInReply,
    State,
    Verified,
    VerifyReply,
    WriteResult,
    Written,
    WrongCode,
)
from worker.core.outlook import UNJUDGED, Outlook
from worker.core.ports import Backlog, Channel, CountedLedger, Deadlines, Lease, Queue, TimeAnswer
from worker.core.stats import RunStats
from worker.engine.assembly import CognitoProvider, Ports, assemble
from worker.engine.shutdown import Shutdown
from worker.pacing.pacer import SharedPacer

QUOTA = 25.0
"""Calls/s for enrolling, verifying and preferring together (``docs/aws.md``)."""
SIGN_INS = 60.0
"""Sign-ins/s, the default of ``sign_in.requests_per_second``."""
"""Seconds that a Session lives by default."""
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
"""Everybody's."""


@dataclass
class Report:
    """What came of it. Seconds are of virtual time."""

    users: int
    took: float = 0.0
    """Seconds from the first call to the last."""
    calls: int = 0
    sign_ins: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    died: int = 0
    """Sessions that were dead when they were used."""
    longest_wait: float = 0.0
    """Seconds between the birth of a Session by a sign-in and the call that used it, at most."""
    longest_to_verify: float = 0.0
    """The same for the Session that the call brought, and the verification."""
    most_unfinished: int = 0
    """Users between claim and outcome at the same time, at most."""

    @property
    def used(self) -> float:
        """Which part of the quota was used."""
        return self.calls / (self.took * QUOTA)


class PasswordQueue(Queue):
    """A request with a password for each user, made when it is leased."""

    def __init__(self, users: int) -> None:
        self._left = iter(range(users))
        self.waiting = users

    async def lease(self, most: int, outlook: Outlook = UNJUDGED) -> Sequence[Lease]:
        leases = []
        for _ in range(min(most, self.waiting)):
            number = next(self._left)
            request = Request(f"u{number}", CredentialKind.PASSWORD, Secret("correct horse"), f"r{number}", NEVER)
            leases.append(Lease(request, None))
        self.waiting -= len(leases)
        return leases

    async def lease_expired(self, most: int, now: float) -> Sequence[Lease]:
        return ()

    async def lease_elsewhere(self, most: int) -> Sequence[Lease]:
        return await self.lease(most)

    async def lease_others(self, username: str, most: int) -> Sequence[Lease]:
        return ()

    async def deadlines(self, now: float) -> Deadlines:
        return Deadlines()

    async def acknowledge(self, lease: Lease) -> None:
        pass

    async def give_back(self, lease: Lease, delay: float) -> None:
        raise AssertionError("nobody is given back where nothing goes wrong")

    async def backlog(self) -> Backlog:
        return Backlog(self.waiting)

    async def is_empty(self) -> bool:
        return self.waiting == 0

    async def close(self) -> None:
        pass


class CountingLedger(CountedLedger):
    """Rows by compare-and-set, as long as they are unfinished; afterwards it counts them."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._rows: dict[str, Enrolment] = {}

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        stands = self._rows.get(row.username)
        if (stands.version if stands else None) != replaces:
            return Lost(stands)
        if row.is_unfinished:
            self._rows[row.username] = row
            self._report.most_unfinished = max(self._report.most_unfinished, len(self._rows))
        else:
            self._rows.pop(row.username, None)
            self._report.outcomes[f"{row.state} {row.reason or ''}".strip()] += 1
        return Written(row)

    async def read(self, username: str) -> Enrolment | None:
        return self._rows.get(username)

    async def unfinished(self) -> AsyncGenerator[Enrolment]:
        for row in list(self._rows.values()):
            yield row

    def is_dead(self, worker: str) -> bool:
        return False

    async def counts(self) -> Counts:
        return await self.recount()

    async def recount(self) -> Counts:
        rows = self._rows.values()
        return Counts(Counter(row.state for row in rows), Counter(str(row.reason) for row in rows if row.reason))

    def listed(self, state: State) -> AsyncIterator[Sequence[Listed]]:
        raise NotImplementedError

    async def count(self, *, duplicates: int = 0, malformed: int = 0) -> None:
        pass


class QuickChannel(Channel):
    """Confirms at once."""

    async def deliver(self, username: str, sealed: Sealed) -> None:
        await asyncio.sleep(0.005)


class QuickCognito(CognitoProvider):
    """A pool that requires MFA: a password brings a Session, a Session a secret and the next Session."""

    def __init__(self, clock: TickingTime, report: Report) -> None:
        self._clock, self._report = clock, report
        self._dice = random.Random(0)
        self._born: dict[str, float] = {}
        self._number = 0
        self._first: float | None = None

    async def begin(self, request: Request) -> SignInReply:
        self._report.sign_ins += 1
        await asyncio.sleep(self._dice.uniform(0.05, 0.6))
        return SignedIn(CredentialKind.SESSION, self._session(), SESSION_VALIDITY)

    async def answer(self, request: Request, challenge: CustomChallenge) -> SignInReply:
        raise NotImplementedError

    async def look(self, request: Request) -> LookReply:
        raise NotImplementedError

    async def ask_time(self) -> TimeAnswer:
        return TimeAnswer(told=False)

    async def associate(self, request: Request) -> Reply:
        age = self._use(request)
        self._report.longest_wait = max(self._report.longest_wait, age)
        await asyncio.sleep(self._dice.uniform(0.03, 0.2))
        if age >= SESSION_VALIDITY:
            self._report.died += 1
            return Refused(State.NEEDS_SESSION, Reason.SESSION_EXPIRED)
        return Issued(Secret(SECRET), self._session(), f"request-{self._number}")

    async def verify(self, request: Request, code: Secret) -> VerifyReply:
        age = self._use(request)
        self._report.longest_to_verify = max(self._report.longest_to_verify, age)
        is_right = code.reveal() == code_at(SECRET, self._clock.utc())
        await asyncio.sleep(self._dice.uniform(0.03, 0.2))
        if age >= SESSION_VALIDITY:
            self._report.died += 1
            return Refused(State.NEEDS_SESSION, Reason.SESSION_EXPIRED)
        return Verified() if is_right else WrongCode(None)

    async def prefer(self, request: Request) -> PreferReply:
        self._called()
        await asyncio.sleep(self._dice.uniform(0.03, 0.2))
        return Preferred()

    def _session(self) -> Secret:
        self._number += 1
        session = f"session-{self._number:012}"
        self._born[session] = self._clock.monotonic()
        return Secret(session)

    def _use(self, request: Request) -> float:
        """Use the request's Session up; how many seconds old it is."""
        self._called()
        return self._clock.monotonic() - self._born.pop(request.credential.reveal())

    def _called(self) -> None:
        now = self._clock.monotonic()
        self._first = now if self._first is None else self._first
        self._report.calls += 1
        self._report.took = now - self._first


async def _run(users: int, mode: ActivationMode, ticking: TickingTime) -> Report:
    report = Report(users)
    clock = EndpointClock(ticking)
    cognito = QuickCognito(ticking, report)
    queue = PasswordQueue(users)
    async with (
        SharedPacer(MemoryPaceStore(latency=0.005), QUOTA, clock) as pacer,
        SharedPacer(MemoryPaceStore(latency=0.005), SIGN_INS, clock) as sign_in_pacer,
    ):
        worker = assemble(
            Ports(
                queue=queue,
                ledger=CountingLedger(report),
                channel=QuickChannel(),
                provider=cognito,
                pacer=pacer,
                sealer=OpenSealer(),
                clock=clock,
                sign_ins=cognito,
                sign_in_pacer=sign_in_pacer,
                own_sealer=MarkingSealer(),
            ),
            worker_config(
                activation=mode,
                clock_skew=60.0,
                min_validity=60.0,
                refusal_patience=60.0,
                rate=QUOTA,
                concurrency=256,
                ahead=8,
                sweep=60.0,
            ),
            shutdown := Shutdown(),
            RunStats(clock),
        )
        await worker.run()
    assert shutdown.reason is None, shutdown.reason
    return report


def run(users: int, mode: ActivationMode = ActivationMode.VERIFY) -> Report:
    """The whole rollout, in virtual time."""
    ticking = TickingTime()
    return cast("Report", ticking.run(cast("Any", _run(users, mode, ticking))))


def main() -> int:
    """Run one rollout and print what came of it; 1 if somebody was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.many_users", description=__doc__)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--mode", type=ActivationMode, default=ActivationMode.VERIFY, choices=list(ActivationMode))
    chosen = parser.parse_args()
    report = run(chosen.users, chosen.mode)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{report.users:,} users in {report.took:,.0f} s of virtual time, {time.process_time():,.0f} s of CPU")
    print(f"{report.calls:,} calls, {report.used:.2%} of the quota; {report.sign_ins:,} sign-ins")
    print(f"outcomes: {dict(report.outcomes)}")
    print(f"Sessions that died waiting: {report.died}")
    print(f"longest from a Session's birth to its call: {report.longest_wait:.2f} s")
    print(f"longest from the next Session's birth to the verification: {report.longest_to_verify:.2f} s")
    print(f"at most {report.most_unfinished} users unfinished at once; {usage.ru_maxrss / 1024:.0f} MiB at the peak")
    return 0 if report.outcomes["active"] == report.users or chosen.mode is ActivationMode.NONE else 1


if __name__ == "__main__":
    sys.exit(main())
