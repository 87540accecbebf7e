"""Asks a worker what a monitoring system would ask, and reads what Prometheus would read."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class Answer:
    """What came of one request."""

    status: int
    text: str
    headers: dict[str, str]


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


async def ask(port: int, path: str, method: str = "GET", **headers: str) -> Answer:
    """One request on a connection of its own."""
    async with aiohttp.request(method, f"http://127.0.0.1:{port}{path}", headers=headers) as response:
        return Answer(response.status, await response.text(), dict(response.headers))


async def until_served(port: int) -> None:
    """Wait until somebody listens there."""

    async def served() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    await until(served)


def samples(text: str) -> Samples:
    """Every value of a page of metrics, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float | None:
    """One value; ``None`` where it is not there."""
    return found.get((name, frozenset(labels.items())))


def total(found: Samples, name: str, **labels: str) -> float:
    """The sum over everything with these labels, whatever the others are."""
    return sum(number for (each, given), number in found.items() if each == name and frozenset(labels.items()) <= given)
