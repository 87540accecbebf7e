"""The port is opened before anything is touched, or refused with what to do."""

from __future__ import annotations

import socket

import pytest

from tests.support.metrics import free_port
from worker.core.errors import UsageError
from worker.telemetry.metrics.listening import is_for_others, listen, url


def test_by_default_this_machine_alone_can_ask() -> None:
    port = free_port()
    (listening,) = listen("127.0.0.1", port)
    with listening:
        assert not is_for_others([listening])
        assert url(listening) == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_others_are_let_in_where_the_address_says_so(host: str) -> None:
    if host == "::" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    port = free_port()
    (listening,) = listen(host, port)
    with listening:
        assert is_for_others([listening])
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_name_is_listened_to_on_each_of_its_addresses() -> None:
    sockets = listen("localhost", free_port())
    assert not is_for_others(sockets)
    for each in sockets:
        each.close()


def test_a_taken_port_is_refused_with_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            UsageError, match=f"metrics.port {port} is taken on 127.0.0.1, perhaps by another worker"
        ) as caught:
            listen("127.0.0.1", port)
        suggested = int(caught.value.hint.partition("--set metrics.port=")[2].partition(":")[0])
        assert suggested != port
        for each in listen("127.0.0.1", suggested):
            each.close()


@pytest.mark.parametrize(
    "host", ["nowhere.invalid", "192.0.2.1", "127.0.0.1:9464", "http://127.0.0.1", "a b", "ü" * 80]
)
def test_what_is_no_address_of_this_machine_is_refused_with_those_that_are(host: str) -> None:
    with pytest.raises(UsageError, match="is no address of this machine") as caught:
        listen(host, free_port())
    assert "127.0.0.1 for this machine alone" in caught.value.hint


def test_a_port_that_this_user_may_not_open_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", forbidden)
    with pytest.raises(UsageError, match=r"may not listen on metrics\.port 80") as caught:
        listen("127.0.0.1", 80)
    assert "metrics.port = 9464" in caught.value.hint
