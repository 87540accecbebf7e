"""Opens the port that ``metrics.port`` names, before anything else is touched, or says why it cannot be opened."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from worker.core.errors import UsageError

SUGGESTED = 100
"""How many of the next ports are tried, to suggest a free one in place of one that is taken."""
NO_ADDRESS_CURE = "name one of its addresses: 127.0.0.1 for this machine alone, 0.0.0.0 (or ::) for others too"


def listen(host: str, port: int) -> Sequence[socket.socket]:
    """Open a socket for each address that ``host`` stands for. Raises ``UsageError`` with the cure."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise UsageError(f"metrics.host is {host!r}, which is no address of this machine", NO_ADDRESS_CURE) from None
    sockets: list[socket.socket] = []
    try:
        sockets.extend(_open(address, family) for family, *_, address in dict.fromkeys(found))
    except OSError as error:
        for each in sockets:
            each.close()
        raise _refusal(error, host, port) from None
    return sockets


def is_for_others(sockets: Sequence[socket.socket]) -> bool:
    """Whether another machine may reach any of these."""
    return not all(ipaddress.ip_address(each.getsockname()[0]).is_loopback for each in sockets)


def url(listening: socket.socket) -> str:
    """Where to ask, such as ``http://127.0.0.1:9464``."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _open(address: tuple[Any, ...], family: int) -> socket.socket:
    both = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address[:2], family=family, dualstack_ipv6=both)


def _refusal(error: OSError, host: str, port: int) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        free = next((each for each in range(port + 1, min(port + SUGGESTED, 65_535)) if _is_free(host, each)), None)
        return UsageError(
            f"metrics.port {port} is taken on {host}, perhaps by another worker",
            f"mfa-worker run --set metrics.port={free or 'PORT'}: each worker of a host needs its own (0: none)",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return UsageError(
            f"this user may not listen on metrics.port {port}", "choose one above 1023, such as metrics.port = 9464"
        )
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return UsageError(f"metrics.host is {host}, which is no address of this machine", NO_ADDRESS_CURE)
    return UsageError(f"metrics.port {port} on {host} cannot be opened: {error.strerror}", "choose another one, or 0")


def _is_free(host: str, port: int) -> bool:
    try:
        for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            _open(address, family).close()
    except OSError:
        return False
    return True
