"""Answers ``/metrics``, ``/healthz`` and ``/readyz`` on the run's own event loop.

On that loop on purpose: that there is an answer shows that the loop goes round, and the numbers need no lock. In
return no client may cost the run much: a page of metrics is made once a second at most, there are few connections at
once, each is closed after its one answer or after a few seconds, and of a request only its head is read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from socket import socket
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from worker.telemetry.metrics.collector import registry
from worker.telemetry.metrics.health import alive, not_ready, stuck
from worker.telemetry.metrics.watched import Watched

MOST_CONNECTIONS = 32
"""Connections at once, beyond which the oldest one is dropped, so that clients that hold theirs keep no probe out: some
scrapers and probes, and far below what a process may have open, which the run needs for Cognito."""
CONNECTION_LIVES = 10.0
"""Seconds after which a connection is closed whatever it does: as long as Prometheus waits by default
(``scrape_timeout``)."""
FRESH = 1.0
"""Seconds for which a page of metrics is given out again: making one takes 1.5 to 3 ms of the run's time
(measured)."""
LONGEST_LINE = 1_024
"""Bytes of a request's first line, and of each of its headers."""
MOST_HEADERS = 64
"""Headers of a request; Prometheus and the kubelet send six."""

_PLAIN = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every version of Prometheus reads ("Exposition formats", Prometheus documentation)."""
_PATHS = "/metrics\n/healthz\n/readyz\n"


@asynccontextmanager
async def serve(sockets: Sequence[socket], watched: Watched) -> AsyncIterator[None]:
    """Answer on these sockets while the body of the ``async with`` runs; they are closed at its end."""
    loop = asyncio.get_running_loop()
    server = _Server(_Pages(watched).answer)
    listening = [await loop.create_server(server, sock=each) for each in sockets]
    try:
        yield
    finally:
        for each in listening:
            each.close()
        server.drop_all()
        await server.shutdown(timeout=1.0)


class _Pages:
    """What is answered to a request."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._registry = registry(watched)
        self._made: dict[bool, tuple[float, bytes]] = {}
        """The last page in either format, and when it was made (monotonic seconds)."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer GET and HEAD; whatever comes, the connection ends with it."""
        return _last(self._page(request))

    def _page(self, request: web.BaseRequest) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            return _text("only GET and HEAD are answered\n", 405, Allow="GET, HEAD")
        match request.path:
            case "/metrics":
                return self._metrics(is_open="application/openmetrics-text" in request.headers.get("Accept", ""))
            case "/healthz":
                problem = stuck(self._watched)
                return _text(f"{problem or alive(self._watched)}\n", 503 if problem else 200)
            case "/readyz":
                reason = not_ready(self._watched)
                return _text(f"{reason or 'ready'}\n", 503 if reason else 200)
            case _:
                return _text(f"there is nothing here but\n{_PATHS}", 404)

    def _metrics(self, *, is_open: bool) -> web.Response:
        made_at, page = self._made.get(is_open, (float("-inf"), b""))
        if (now := time.monotonic()) - made_at >= FRESH:
            page = _encoded(self._registry, is_open=is_open)
            self._made[is_open] = now, page
        kind = openmetrics.CONTENT_TYPE_LATEST if is_open else _PLAIN
        return web.Response(body=page, headers={"Content-Type": kind})


def _encoded(found: CollectorRegistry, *, is_open: bool) -> bytes:
    if not is_open:
        return generate_latest(found)
    text: bytes = openmetrics.generate_latest(found)  # type: ignore[no-untyped-call] # it has no types of its own
    return text


def _text(text: str, status: int, **headers: str) -> web.Response:
    return web.Response(text=text, status=status, headers=headers)


def _last(response: web.StreamResponse) -> web.StreamResponse:
    """The answer with which its connection ends."""
    response.headers.update({"Cache-Control": "no-store", "Server": "mfa-worker"})
    response.force_close()
    return response


class _Connection(web.RequestHandler):
    """One client's. What is no request is refused without repeating any of it: aiohttp would show the line."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """See ``web.RequestHandler``."""
        del message
        return _last(super().handle_error(request, status, exc, "this is no HTTP request\n"))


class _Server(web.Server):
    """Drops connections that are too many or take too long."""

    def __init__(self, handler: Any) -> None:
        super().__init__(handler)
        self._silent = logging.getLogger("worker.metrics.server")  # what strangers send is none of the run's business
        self._silent.disabled = True
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}

    def __call__(self) -> web.RequestHandler:
        """Return what answers a new connection."""
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            logger=self._silent,
            access_log=self._silent,
            keepalive_timeout=CONNECTION_LIVES,
            lingering_time=0.0,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            max_headers=MOST_HEADERS,
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """A client connected."""
        super().connection_made(handler, transport)
        loop = asyncio.get_running_loop()
        if len(self._open) >= MOST_CONNECTIONS:
            oldest = next(iter(self._open))
            loop.call_soon(self._open.pop(oldest).abort)  # later: its task may not have begun, and would fail
        self._open[handler] = transport
        loop.call_later(CONNECTION_LIVES, transport.abort)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """A connection is closed."""
        super().connection_lost(handler, exc)
        self._open.pop(handler, None)

    def drop_all(self) -> None:
        """Close every connection at once, also one that is still being answered."""
        for transport in list(self._open.values()):
            transport.abort()
