"""Says on this host, without a port and without a file, whether a run has hung: ``mfa-worker health`` asks.

A container's health check has to work without ``metrics.port``, and under a read-only root, where no file can be
touched. So each run listens on a Unix socket with an abstract name (unix(7)), which is no file and ends with its
process, and answers on its own event loop what ``/healthz`` says: no answer means that the loop stands still. A client
gets one line and can hold nothing open. Only the run's own user and root are answered, and only they are believed,
since the name is seen by everybody who shares the network: other users of a host, other containers of a Pod.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from worker.telemetry.metrics.health import alive, stuck
from worker.telemetry.metrics.watched import Watched

log = structlog.get_logger()

PREFIX = "mfa-worker-health-"
"""How the names of these sockets begin; something random follows."""
LISTED = Path("/proc/net/unix")
"""Where Linux lists the Unix sockets of this network namespace (proc(5)): ``@`` stands for the NUL that makes a name
abstract."""
PATIENCE = 20.0
"""Seconds in which a run must answer; it takes a millisecond. Below the time-out of the image's health check (30 s)."""
_ACCEPTS = 0x10000
"""The flag in that list of a socket that listens (``__SO_ACCEPTCON``)."""
_CREDENTIALS = struct.Struct("3i")
"""Process, user and group of the other end (``struct ucred`` of unix(7))."""
_MOST_WAITING = 16
"""Clients that wait for their answer at once; there is one a minute."""
_LONGEST = 1_024
"""Bytes of an answer, at most."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one run said; ``process``: its number as seen from here."""

    process: int
    is_well: bool
    text: str


@contextmanager
def answering(watched: Watched) -> Iterator[None]:
    """Answer on this host while the body runs, on the running event loop. Where that cannot be, the log says so."""
    loop, listening = asyncio.get_running_loop(), None
    try:
        listening = _listen()
        loop.add_reader(listening.fileno(), _answer, listening, watched)
    except OSError as error:
        log.warning(
            "health_not_answered",
            cause=f"no abstract Unix socket could be opened: {error.strerror}",
            cure="nothing, unless a health check asks: it needs Linux, then; or ask metrics.port for /healthz",
        )
    try:
        yield
    finally:
        if listening is not None:
            loop.remove_reader(listening.fileno())
            listening.close()


def ask() -> list[Answer]:
    """Ask every run of this user here, or of every user where root asks. Raises ``OSError`` where none can be seen."""
    found = (_ask(name) for name in _names())
    return sorted((each for each in found if each is not None), key=lambda each: each.process)


def _listen() -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.settimeout(0)
        listening.bind(f"\0{PREFIX}{secrets.token_hex(8)}")
        listening.listen(_MOST_WAITING)
    except BaseException:
        listening.close()
        raise
    return listening


def _answer(listening: socket.socket, watched: Watched) -> None:
    with suppress(OSError):  # whoever asked has ended
        client, _ = listening.accept()
        with client:
            _, user = _peer(client)
            if user in (os.geteuid(), 0):
                problem = stuck(watched)
                client.send(f"{problem or alive(watched)}\n".encode()[:_LONGEST])


def _names() -> Iterator[str]:
    for line in LISTED.read_text("utf-8", errors="replace").splitlines()[1:]:
        fields = line.split()
        if len(fields) == 8 and fields[7].startswith(f"@{PREFIX}") and int(fields[3], 16) & _ACCEPTS:
            yield fields[7][1:]


def _ask(name: str) -> Answer | None:
    """Ask one run; ``None`` where it is not ours, or has ended meanwhile."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(PATIENCE)
        process = 0
        try:
            asking.connect(f"\0{name}")
            process, user = _peer(asking)
            if not process or (user != os.geteuid() and os.geteuid()):
                return None
            text = asking.recv(_LONGEST).decode("utf-8", errors="replace").strip()
        except TimeoutError:
            return Answer(
                process, is_well=False, text=f"no answer within {PATIENCE:.0f} s: its event loop stands still"
            )
        except OSError:
            return None
    return Answer(process, is_well=text.startswith("ok"), text=text) if text else None


def _peer(connected: socket.socket) -> tuple[int, int]:
    """Process and user of the other end; 0 is a process of another container."""
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(found)
    return process, user
