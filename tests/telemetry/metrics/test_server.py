"""What strangers may send: they get an answer or are dropped, and the run does not notice."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.metrics import ask, free_port
from tests.support.processes import until
from worker.core.clock import SystemClock
from worker.core.model import State
from worker.core.stats import RunStats
from worker.telemetry.metrics import server
from worker.telemetry.metrics.listening import listen
from worker.telemetry.metrics.watched import Watched


@pytest.fixture
def run() -> Watched:
    return Watched(RunStats(SystemClock()), watchdog=300.0, ending_takes=30.0)


@pytest.fixture
async def port(run: Watched) -> AsyncIterator[int]:
    port = free_port()
    async with server.serve(listen("127.0.0.1", port), run):
        yield port


async def sent(port: int, data: bytes, within: float = 5.0) -> bytes:
    """What comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(within):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_metrics_come_in_the_text_format_and_in_openmetrics_where_that_is_asked_for(port: int) -> None:
    plain = await ask(port, "/metrics")
    assert (plain.status, plain.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "mfa_worker_build_info{" in plain.text

    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
    opened = await ask(port, "/metrics", Accept=accept)
    assert opened.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert opened.text.endswith("# EOF\n")


async def test_health_is_plain_text_and_nothing_is_kept_by_a_cache_or_told_of_the_software(port: int) -> None:
    healthy, ready = await ask(port, "/healthz"), await ask(port, "/readyz")

    assert (healthy.status, healthy.text) == (200, "ok: opening ledger, queue and channel\n")
    assert (ready.status, ready.text) == (503, "opening ledger, queue and channel\n")
    assert (healthy.headers["Cache-Control"], healthy.headers["Server"]) == ("no-store", "mfa-worker")


async def test_head_is_get_without_the_text(port: int) -> None:
    for path in ("/metrics", "/healthz"):
        answer = await ask(port, path, "HEAD")
        assert (answer.status, answer.text) == (200, "")
        assert int(answer.headers["Content-Length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_nothing_else_is_done(port: int, method: str) -> None:
    answer = await ask(port, "/metrics", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz/x", "/../../etc/passwd", "/%00", "/metrics%2f"])
async def test_elsewhere_there_is_nothing(port: int, path: str) -> None:
    answer = await ask(port, path)
    assert (answer.status, "/readyz" in answer.text) == (404, True)


async def test_a_query_changes_nothing(port: int) -> None:
    assert (await ask(port, "/healthz?probe=1")).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1_000 + b"\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 100_000,
    ],
    ids=["TLS", "version", "nonsense", "long line", "long header", "many headers", "large body"],
)
async def test_what_is_no_request_is_refused_without_a_word_in_the_log(
    port: int, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = await sent(port, data)

    assert b" 200 " not in answer.partition(b"\n")[0]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert (await ask(port, "/healthz")).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"GET /\xce?%s HTTP/1.1\r\n\r\n",
        b"%s\x01 / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/%s\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization: \0%s\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: %s\r\n\r\n",
        b"GET /%s" + b"a" * 2_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_a_refusal_repeats_nothing_of_what_was_sent_and_does_not_tell_of_the_software(
    port: int, data: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data % b"pr1v4te")
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert answer.endswith(b"\r\n\r\nthis is no HTTP request\n")
    assert b"pr1v4te" not in answer
    assert b"Server: mfa-worker\r\n" in answer


async def test_a_client_that_never_ends_its_request_is_dropped(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTION_LIVES", 0.1)
    assert await sent(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: ") == b""
    assert await sent(port, b"") == b""


async def test_an_old_client_that_names_no_host_is_answered(port: int) -> None:
    assert b" 200 OK" in await sent(port, b"GET /healthz HTTP/1.0\r\n\r\n")


async def test_each_connection_ends_with_its_answer(port: int) -> None:
    answer = await sent(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_of_too_many_connections_the_oldest_are_dropped_and_whoever_asks_now_is_served(port: int) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2 * server.MOST_CONNECTIONS)]
    try:
        dropped: list[bool] = []

        async def are_dropped() -> bool:
            nonlocal dropped
            await asyncio.sleep(0.01)
            dropped = [reader.at_eof() or reader.exception() is not None for reader, _ in waiting]
            return sum(dropped) == server.MOST_CONNECTIONS

        await until(are_dropped, within=5)
        assert all(dropped[: server.MOST_CONNECTIONS])
        assert b"200 OK" in await sent(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    finally:
        for _, writer in waiting:
            writer.close()
    gc.collect()
    assert failures == []


async def test_a_page_is_made_once_a_second_at_most(port: int, run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    first = (await ask(port, "/metrics")).text
    run.stats.settled(State.DELIVERED)
    assert (await ask(port, "/metrics")).text == first

    monkeypatch.setattr(server, "FRESH", 0.0)
    assert 'state="delivered"} 1.0' in (await ask(port, "/metrics")).text


async def test_an_end_waits_for_no_client(run: Watched) -> None:
    port = free_port()
    async with asyncio.timeout(5):
        async with server.serve(listen("127.0.0.1", port), run):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\n")
            await asyncio.sleep(0)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.close()
    assert reader
