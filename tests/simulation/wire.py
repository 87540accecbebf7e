"""Cognito as one simulated process sees it: enrolments, sign-ins, looks, verifications and preferences on one wire.

Like every operation a wire attempt has two steps (``ports``): before it leaves, and when Cognito has acted on it. In
between it goes its way, whether or not its caller lives to hear of it (``truth``).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, cast

from tests.simulation.history import Call
from tests.simulation.ports import Port
from tests.simulation.scenario import CALL_TIMEOUT, EPOCH, Operation
from tests.simulation.truth import NO_ANSWER, Course
from worker.core.model import (
    CustomChallenge,
    LookReply,
    PreferReply,
    Reply,
    Request,
    Secret,
    SignInReply,
    TryAgain,
    VerifyReply,
)
from worker.core.ports import TimeAnswer

TIME_TAKES = 0.01
"""Seconds that the endpoint takes to tell its time."""


class _Wire(Port):
    async def _attempt(self, operation: Operation, request: Request, code: str = "") -> Any:
        process, world, cognito = self._process, self._world, self._world.cognito
        about = f"{operation} {request.username} {request.id}"
        late = await process.before(about)
        if world.scenario.killer == request.username and operation == "associate":
            world.kill(process)
            await process.loop.create_future()
        wrong = world.wrong(operation)
        course = cognito.course(wrong, request.username if operation == "associate" else None)
        call = cognito.receive(Call(process, request, world.now, late, operation, code), wrong)
        answer: asyncio.Future[Any] = process.loop.create_future()

        def act() -> None:
            if call.over:
                return
            cognito.close(call)
            reply = cognito.act(call)
            process.after(about)
            if course.instead is None:
                world.after(
                    course.heard_after - cast("float", course.acts_after), lambda: process.answer(answer, reply)
                )

        self._schedule(call, course, act, answer)
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                reply = await answer
        except TimeoutError:
            reply = NO_ANSWER
        except asyncio.CancelledError:
            cognito.give_up(call)
            raise
        else:
            if world.scenario.names_time:
                process.clock.heard(math.floor(EPOCH + world.now), world.now - call.sent_at)
        call.reply = reply
        call.ambiguous = isinstance(reply, TryAgain) and reply.ambiguous
        call.answered = not call.ambiguous
        return reply

    def _schedule(self, call: Call, course: Course, act: Callable[[], None], answer: asyncio.Future[Any]) -> None:
        process, world = self._process, self._world
        call.act = act
        if course.acts_after is None:
            world.after(course.heard_after, lambda: world.cognito.close(call))
        else:
            call.acts_at = world.now + course.acts_after
            world.after(course.acts_after, act)
        if course.instead is not None:
            instead = course.instead
            world.tell(process.name, f"{call.operation} {call.request.username}: will be told {instead}")
            world.after(course.heard_after, lambda: process.answer(answer, instead))


class SimulatedProvider(_Wire):
    """``Provider`` and ``TimeSource``."""

    async def ask_time(self) -> TimeAnswer:
        process, world = self._process, self._world
        asked_at = world.now
        await asyncio.sleep(TIME_TAKES)
        if world.now < world.scenario.silent_until:
            return TimeAnswer(told=False, trouble="away")
        if world.scenario.names_time:
            process.clock.heard(math.floor(EPOCH + world.now), world.now - asked_at)
        return TimeAnswer(told=world.scenario.names_time)

    async def associate(self, request: Request) -> Reply:
        return cast("Reply", await self._attempt("associate", request))

    async def verify(self, request: Request, code: Secret) -> VerifyReply:
        return cast("VerifyReply", await self._attempt("verify", request, code.reveal()))

    async def prefer(self, request: Request) -> PreferReply:
        return cast("PreferReply", await self._attempt("prefer", request))


class SimulatedSignIns(_Wire):
    """``SignIns``."""

    async def begin(self, request: Request) -> SignInReply:
        return cast("SignInReply", await self._attempt("begin", request))

    async def answer(self, request: Request, challenge: CustomChallenge) -> SignInReply:
        return cast("SignInReply", await self._attempt("answer", request, challenge.session.reveal()))

    async def look(self, request: Request) -> LookReply:
        return cast("LookReply", await self._attempt("look", request))
