"""A headless Chromium, driven over the DevTools protocol, to look at pages as a browser does.

Nothing is fetched from anywhere: the protocol runs over a socket of loopback, and the profile is a folder of the test.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from tests.support.processes import until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
"""Debian's package; ``None`` where it is missing."""
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--no-default-browser-check", "--disable-extensions", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps", "--mute-audio", "--no-pings"),
    *("--disable-features=Translate,OptimizationHints,MediaRouter", "--remote-debugging-port=0"),
)
"""As root there is no sandbox; the others keep it from doing anything that it was not asked for."""
WITHIN = 30.0
"""Seconds that a start, or an answer, may take."""


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self._socket, self._session = socket, session
        self._numbers = itertools.count(1)
        self.events: list[Mapping[str, Any]] = []
        """Whatever happened, in order: console messages, requests…"""

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        number = next(self._numbers)
        asked = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json({**asked, "sessionId": self._session} if self._session else asked)
        async with asyncio.timeout(WITHIN):
            while True:
                said = await self._socket.receive_json()
                if said.get("id") == number:
                    assert "error" not in said, f"{method}: {said['error']}"
                    result: dict[str, Any] = said["result"]
                    return result
                self.events.append(said)

    async def open(self, path: Path) -> None:
        """Show that file, until it is loaded."""
        for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=path.as_uri())
        await self.evaluate(
            "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        )

    async def evaluate(self, script: str) -> Any:
        """Return what that script gives, as JSON."""
        result = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def seen_as(self, *, width: int, dark: bool = False, height: int = 900) -> None:
        """Show it in a window of that width, in light or dark."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", media="screen", features=scheme)
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if width < 600 else 1,
            mobile=width < 600,
        )

    def named(self, method: str) -> list[Mapping[str, Any]]:
        """The parameters of all events of that name."""
        return [event["params"] for event in self.events if event.get("method") == method]


@asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """Start one with an empty profile, and yield its only tab."""
    assert CHROMIUM is not None
    # In a folder of a short name: the path of a socket in it has at most 107 characters.
    with TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as folder:
        told = Path(folder) / "DevToolsActivePort"
        process = await asyncio.create_subprocess_exec(
            *(CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"),
            env={**os.environ, "HOME": folder, "TMPDIR": folder, "DBUS_SESSION_BUS_ADDRESS": "disabled:"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            await until(lambda: told.exists() and len(told.read_text().split()) == 2)
            port, path = told.read_text().split()
            async with (
                aiohttp.ClientSession() as client,
                client.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0) as socket,
            ):
                whole = Page(socket, "")
                targets = (await whole.call("Target.getTargets"))["targetInfos"]
                tab = next(each["targetId"] for each in targets if each["type"] == "page")
                session = (await whole.call("Target.attachToTarget", targetId=tab, flatten=True))["sessionId"]
                yield Page(socket, session)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
