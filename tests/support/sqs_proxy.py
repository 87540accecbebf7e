"""Stands between a worker and SQS on loopback: counts what passes, and breaks what it is told to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

JSON = "application/x-amz-json-1.0"


class Proxy:
    """Everything is by the name of an operation; numbers count down as the fault is done."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.url = ""
        self.requests: Counter[str] = Counter()
        self.received = 0
        """Messages in answers to polls."""
        self.open = 0
        """Polls under way."""
        self.most_open = 0
        self.down = False
        """Connections end without an answer."""
        self.counts_lag = False
        """Every count of messages is 0."""
        self.errors: dict[str, str] = {}
        """Operations that are refused, with the code."""
        self.refused_for: dict[str, str] = {}
        """Queues for which every operation but sending is refused, with the code."""
        self.entries_refused: dict[str, str] = {}
        """Operations of which every entry is refused for good, with the code."""
        self.failing: Counter[str] = Counter()
        """Batches whose first entry fails and goes no further."""
        self.swallowed: Counter[str] = Counter()
        """Batches that go no further, and are said to have succeeded."""
        self.cut_off: Counter[str] = Counter()
        """Requests whose answer is lost but for its status."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as self._session:
            yield self
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        asked = await request.json()
        self.requests[operation] += 1
        if self.down:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        code = self.refused_for.get(asked.get("QueueUrl", "")) if operation != "SendMessageBatch" else None
        if code := code or self.errors.get(operation):
            return _answer({"__type": f"com.amazonaws.sqs#{code}", "message": "echoes what was sent"}, 400)
        if code := self.entries_refused.get(operation):
            ids = [entry["Id"] for entry in asked["Entries"]]
            return _answer({"Failed": [{"Id": each, "Code": code, "SenderFault": True} for each in ids]})
        if self._is_next(self.swallowed, operation):
            return _answer({"Successful": [{"Id": entry["Id"]} for entry in asked["Entries"]]})
        failed = asked["Entries"].pop(0)["Id"] if self._is_next(self.failing, operation) else None
        answer: dict[str, Any] = {}
        status = 200
        if failed is None or asked["Entries"]:
            answer, status = await self._pass(request, operation, asked)
        if failed is not None:
            answer.setdefault("Failed", []).append({"Id": failed, "Code": "InternalError", "SenderFault": False})
        if self.counts_lag and operation == "GetQueueAttributes":
            answer["Attributes"] |= {name: "0" for name in answer["Attributes"] if name.startswith("ApproximateN")}
        return _answer({} if self._is_next(self.cut_off, operation) else answer, status)

    async def _pass(self, request: web.Request, operation: str, asked: dict[str, Any]) -> tuple[dict[str, Any], int]:
        is_poll = operation == "ReceiveMessage"
        self.open += is_poll
        self.most_open = max(self.most_open, self.open)
        headers = {key: request.headers[key] for key in ("X-Amz-Target", "Authorization", "X-Amz-Date")}
        try:
            async with self._session.post(
                self._upstream, data=json.dumps(asked), headers={**headers, "Content-Type": JSON}
            ) as passed:
                answer = json.loads(await passed.read() or b"{}")
                self.received += len(answer.get("Messages", ()))
                return answer, passed.status
        finally:
            self.open -= is_poll

    @staticmethod
    def _is_next(faults: Counter[str], operation: str) -> bool:
        if not faults[operation]:
            return False
        faults[operation] -= 1
        return True


def _answer(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=status, headers={"Content-Type": JSON})
