"""Serves the fake Cognito on 127.0.0.1, in a separate process that ends when its parent ends.

    python -m worker.rehearsal.fake_cognito.server [--port N] [--config-stdin]

prints `{"url": "http://127.0.0.1:PORT"}` when it is ready and serves until its standard input ends or SIGTERM comes.
With `--config-stdin` the first line of standard input is a FakeCognitoConfig in JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Self

import uvloop
from aiohttp import web

from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.rehearsal.fake_cognito.control import control_app
from worker.rehearsal.fake_cognito.http import CognitoProtocol
from worker.rehearsal.fake_cognito.service import FakeUserPool


class FakeCognitoServer:
    """The listening socket of one fake Cognito, for `async with`; `url` is its address."""

    def __init__(self, cognito: FakeUserPool) -> None:
        self.cognito = cognito
        self.url = ""
        self._connections: set[CognitoProtocol] = set()
        self._control = web.AppRunner(control_app(cognito), access_log=None, shutdown_timeout=1.0)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError where the port is taken."""
        await self._control.setup()
        elsewhere = self._control.server
        assert elsewhere is not None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: CognitoProtocol(self.cognito, self._connections, elsewhere),
            "127.0.0.1",
            self.cognito.config.port,
            backlog=4096,  # connections that wait to be accepted: a worker may open thousands at once
        )
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        """Stop listening and drop every connection."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self._control.cleanup()


async def serve(config: FakeCognitoConfig, until: Callable[[asyncio.Event], None]) -> None:
    """Print the address and serve until SIGTERM comes or `until` sets the event that it is called with."""
    over = asyncio.Event()
    async with FakeCognitoServer(FakeUserPool(config)) as server:
        print(json.dumps({"url": server.url}), flush=True)  # noqa: T201 - the one result of this command
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        until(over)
        gc.freeze()  # so that the garbage collector does not pause a server that measures milliseconds
        await over.wait()


def _when_stdin_ends(over: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def wait() -> None:
        # Read the descriptor itself: a thread that holds the lock of sys.stdin would make Python fail at exit.
        while os.read(sys.stdin.fileno(), 65536):
            pass
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.rehearsal.fake_cognito.server", description="A fake Cognito."
    )
    parser.add_argument("--port", type=int, help="on 127.0.0.1; by default the system chooses")
    parser.add_argument(
        "--config-stdin", action="store_true", help="read a FakeCognitoConfig from the first line of stdin"
    )
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        config = FakeCognitoConfig.from_json(sys.stdin.buffer.readline()) if asked.config_stdin else FakeCognitoConfig()
        if asked.port is not None:
            config = config.replaced({"port": asked.port})
        uvloop.run(serve(config, _when_stdin_ends))
    except (ValueError, OSError) as error:
        print(f"the fake Cognito cannot serve: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
