"""One user at a time through the real pipeline, in virtual time, on ports that answer as a test says.

The ledger keeps rows with their versions, the channel what was delivered. Cognito answers each operation with what the
test queued for it, and otherwise as if all were well. ``steps`` is the order in which everything happened.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from tests.support.rows import version
from tests.support.virtual_time import EPOCH, VirtualTime
from tests.support.worker_config import CALL_TIMEOUT, SESSION_VALIDITY, worker_config
from worker.core.clock import EndpointClock
from worker.core.config import ActivationMode
from worker.core.errors import ChannelUnavailable
from worker.core.model import (
    NEVER,
    Activation,
    Counts,
    CredentialKind,
    CustomChallenge,
    Enrolment,
    Issued,
    Listed,
    LookReply,
    Lost,
    NotEnrolled,
    Preferred,
    PreferReply,
    Reply,
    Request,
    Sealed,
    Secret,
    SignedIn,
    SignInReply,
    State,
    Verdict,
    Verified,
    VerifyReply,
    WriteResult,
    Written,
)
from worker.core.outlook import UNJUDGED, Outlook
from worker.core.pipeline import Pipeline
from worker.core.ports import Backlog, Deadlines, Lease, TimeAnswer, Way
from worker.core.resilience.call_attempts import RetryPolicy
from worker.core.resilience.cancellation import UNWATCHED, CancellationScope
from worker.core.stats import RunStats
from worker.engine.assembly import Ports, assemble
from worker.engine.shutdown import Shutdown

TOKEN_LIVES = 3_600.0
BASE32 = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXPAAAA"


class WatchedWay:
    """``Way`` that keeps the steps of a user with what came of each."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []

    def passed(self, step: str, began: float, answer: str = "") -> None:
        self.steps.append((step, answer))

    def ended(self, outcome: str) -> None:
        pass


class OneUser:
    """The world of a test: call ``enrol``, look at ``row`` and ``steps``."""

    def __init__(
        self,
        virtual: VirtualTime,
        mode: ActivationMode = ActivationMode.NONE,
        *,
        signs_in_to: CredentialKind = CredentialKind.ACCESS_TOKEN,
        look_first: bool = True,
        worker: str = "me",
        **config: Any,
    ) -> None:
        self.virtual = virtual
        self.signs_in_to = signs_in_to
        self.rows: dict[str, Enrolment] = {}
        self.steps: list[str] = []
        self.answers: dict[str, list[object]] = defaultdict(list)
        """What each operation answers next: a reply, or a function of the request that gives one."""
        self.seen: list[tuple[str, Request]] = []
        """Every request to Cognito, with the credential that it carried."""
        self.codes: list[tuple[float, str]] = []
        """Every code that was sent, and when (UTC seconds)."""
        self.records: list[Sealed] = []
        self.dead: set[str] = set()
        """Workers that are known to be dead."""
        self.takes = 0.1
        """Seconds until Cognito answers."""
        self.channel_is_away = False
        self._numbers = itertools.count(1)
        self.pace, self.sign_in_pace = Pace(), Pace()
        self.shutdown = Shutdown()
        self.clock = EndpointClock(virtual)
        self.stats = RunStats(virtual)
        self.config = worker_config(
            worker=worker,
            retry=RetryPolicy(attempts=4, base=0.2, cap=2.0, total=60.0, call_timeout=CALL_TIMEOUT),
            activation=mode,
            look_first=look_first,
            grace=5.0,
            **config,
        )
        ports = Ports(
            queue=self,
            ledger=self,
            channel=self,
            provider=self,
            pacer=self.pace,
            sealer=self,
            clock=self.clock,
            sign_ins=self,
            sign_in_pacer=self.sign_in_pace,
            own_sealer=Own(),
        )
        self.loop = assemble(ports, self.config, self.shutdown, self.stats)
        self.pipeline: Pipeline = self.loop._pipeline
        self.scopes: list[CancellationScope] = []

    # --- what a test does ---------------------------------------------------------------------------------------------

    def request(self, kind: CredentialKind = CredentialKind.TICKET, **fields: Any) -> Request:
        expires = NEVER if kind is CredentialKind.PASSWORD else EPOCH + 86_400.0
        number = next(self._numbers)
        made = Request("ana", kind, Secret(f"{kind} {number}"), f"r{number}", expires)
        return replace(made, **fields)

    async def enrol(self, request: Request, way: Way = UNWATCHED) -> Verdict:
        scope = CancellationScope()
        scope.way = way
        self.scopes.append(scope)
        task = asyncio.ensure_future(self.pipeline.enrol(request, scope))
        scope.task = task  # type: ignore[assignment]
        return await task

    async def finish(self, *, may_come: bool = False) -> None:
        scope = CancellationScope()
        self.scopes.append(scope)
        task = asyncio.ensure_future(self.pipeline.finish(self.row, scope, may_come=may_come))
        scope.task = task
        await task

    def stop(self, *, hurry: bool = False) -> None:
        """A signal."""
        for scope in self.scopes:
            scope.stop(hurry=hurry)

    def overtake(self) -> None:
        """Another worker takes over."""
        self.rows["ana"] = self.row._replace(worker="other", version=version())

    @property
    def row(self) -> Enrolment:
        return self.rows["ana"]

    @property
    def held(self) -> Activation:
        assert self.row.activation is not None
        return self.row.activation

    @property
    def calls(self) -> list[str]:
        """What was asked of Cognito."""
        return [operation for operation, _ in self.seen]

    # --- Cognito ------------------------------------------------------------------------------------------------------

    async def _answer(self, operation: str, request: Request, default: Callable[[], Any]) -> Any:
        self.steps.append(operation)
        self.seen.append((operation, request))
        await asyncio.sleep(self.takes)
        reply = self.answers[operation].pop(0) if self.answers[operation] else default()
        return reply(request) if callable(reply) else reply

    async def associate(self, request: Request) -> Reply:
        session = Secret(f"next {next(self._numbers)}") if request.kind is CredentialKind.SESSION else None
        secret = Secret(BASE32[:-4] + f"{len(self.calls):04}".translate(str.maketrans("0189", "ABCD")))
        reply: Reply = await self._answer("associate", request, lambda: Issued(secret, session, "id"))
        return reply

    async def verify(self, request: Request, code: Secret) -> VerifyReply:
        self.codes.append((self.clock.utc(), code.reveal()))
        reply: VerifyReply = await self._answer("verify", request, Verified)
        return reply

    async def prefer(self, request: Request) -> PreferReply:
        reply: PreferReply = await self._answer("prefer", request, Preferred)
        return reply

    async def begin(self, request: Request) -> SignInReply:
        default = self.signed_in
        if request.kind is CredentialKind.TICKET:
            default = lambda: CustomChallenge(Secret("challenge"))  # noqa: E731
        reply: SignInReply = await self._answer("begin", request, default)
        return reply

    async def answer(self, request: Request, _: CustomChallenge) -> SignInReply:
        reply: SignInReply = await self._answer("answer", request, self.signed_in)
        return reply

    async def look(self, request: Request) -> LookReply:
        reply: LookReply = await self._answer("look", request, NotEnrolled)
        return reply

    def signed_in(self) -> SignInReply:
        number = len(self.seen)
        if self.signs_in_to is CredentialKind.SESSION:
            return SignedIn(CredentialKind.SESSION, Secret(f"session by sign-in {number}"), SESSION_VALIDITY)
        return SignedIn(CredentialKind.ACCESS_TOKEN, Secret(f"token by sign-in {number}"), TOKEN_LIVES)

    async def ask_time(self) -> TimeAnswer:
        return TimeAnswer(told=True)

    # --- ledger, channel, seals ---------------------------------------------------------------------------------------

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        await asyncio.sleep(0.001)
        stands = self.rows.get(row.username)
        if (stands.version if stands else None) != replaces:
            return Lost(stands)
        self.rows[row.username] = row
        reason = f": {row.reason}" if row.reason else ""
        self.steps.append(f"[{row.state}{reason}]")
        return Written(row)

    async def read(self, username: str) -> Enrolment | None:
        return self.rows.get(username)

    async def unfinished(self) -> AsyncGenerator[Enrolment]:
        for row in list(self.rows.values()):
            if row.is_unfinished:
                yield row

    def is_dead(self, worker: str) -> bool:
        return worker in self.dead

    async def deliver(self, username: str, sealed: Sealed) -> None:
        if self.channel_is_away:
            raise ChannelUnavailable("away", "wait")
        self.steps.append("deliver")
        self.records.append(sealed)

    def record(self) -> dict[str, Any]:
        """The newest one that was delivered."""
        found: dict[str, Any] = json.loads(self.records[-1].blob)
        return found

    def seal(self, plaintext: bytes) -> bytes:
        return plaintext

    def sealed_size(self, plaintext: int) -> int:
        return plaintext

    # --- not needed for one user --------------------------------------------------------------------------------------

    async def counts(self) -> Counts:
        raise NotImplementedError

    recount = counts

    def listed(self, state: State) -> AsyncIterator[Sequence[Listed]]:
        raise NotImplementedError

    async def count(self, *, duplicates: int = 0, malformed: int = 0) -> None:
        raise NotImplementedError

    async def lease(self, most: int, outlook: Outlook = UNJUDGED) -> Sequence[Lease]:
        raise NotImplementedError

    async def lease_expired(self, most: int, now: float) -> Sequence[Lease]:
        raise NotImplementedError

    async def deadlines(self, now: float) -> Deadlines:
        raise NotImplementedError

    async def lease_elsewhere(self, most: int) -> Sequence[Lease]:
        raise NotImplementedError

    async def lease_others(self, username: str, most: int) -> Sequence[Lease]:
        raise NotImplementedError

    async def acknowledge(self, lease: Lease) -> None:
        raise NotImplementedError

    async def give_back(self, lease: Lease, delay: float) -> None:
        raise NotImplementedError

    async def backlog(self) -> Backlog:
        raise NotImplementedError

    async def is_empty(self) -> bool:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


class Pace:
    """A ``Pacer`` that lets everybody pass at once, unless a test says how long each has to wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        """Seconds that each turn takes next."""
        self.turns = 0
        self.cuts = 0

    async def acquire(self) -> None:
        self.turns += 1
        if self.waits:
            await asyncio.sleep(self.waits.pop(0))

    def throttled(self, sent_at: float) -> None:
        self.cuts += 1


class Own:
    """An ``OwnSealer`` whose seal a test can see through."""

    def seal(self, plaintext: bytes) -> bytes:
        return b"own:" + plaintext

    def open(self, blob: bytes) -> bytes:
        if not blob.startswith(b"own:"):
            raise ValueError("another identity's")
        return blob[4:]


def play(one: OneUser, story: Coroutine[Any, Any, None]) -> None:
    """Run the story to its end, in virtual time."""
    one.virtual.run(story)
