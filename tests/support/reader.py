"""Somebody who reads a page and types what it says: its shell blocks, in a folder, against a fake Cognito.

A page's blocks are typed into one shell after the other, as in one terminal: what a block exports, the next one has.
``mfa-worker`` is found where the page's readers have it, in ``.venv/bin``; unless it is the real program, that is a
script which asks the fork server for it, so that a command costs a few hundredths of a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.processes import COMMAND, WITHIN, fork_server

SHIM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({address!r})
    socket.send_fds(asked, [b"."], [0, 1, 2])
    asked.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    asked.shutdown(socket.SHUT_WR)
    code = int(asked.recv(20))
sys.exit(code)
"""
"""``mfa-worker``, for whoever types it."""


class Reader:
    """One terminal in one folder."""

    def __init__(self, folder: Path, address: str, env: Mapping[str, str], *, real: bool = False) -> None:
        self.folder = folder
        self._env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8", **env}
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        if real:
            (programs / "mfa-worker").symlink_to(COMMAND[0])
        else:
            (programs / "mfa-worker").write_text(SHIM.format(python=sys.executable, address=address), "utf-8")
            (programs / "mfa-worker").chmod(0o755)

    async def types(self, block: str) -> tuple[str, str]:
        """Type a block; return what it printed to standard output and to standard error. It must not fail."""
        kept = self.folder / ".environment"
        load, keep = f"if [ -e {kept} ]; then . {kept}; fi", f"export -p > {kept}"
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", f"{load}\n{block}\n{keep}"),
            cwd=self.folder,
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), WITHIN)
        assert process.returncode == 0, f"exit {process.returncode} of:\n{block}\n{out.decode()}\n{err.decode()}"
        return out.decode(), err.decode()


@contextmanager
def typed_commands() -> Iterator[str]:
    """Serve the commands that are typed; yields the address for ``Reader``."""
    folder = tempfile.mkdtemp(prefix="typed-")  # pytest's folders may be longer than a socket's address can be
    address = str(Path(folder) / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        thread = threading.Thread(target=_serve, args=(listening,))
        thread.start()
        try:
            yield address
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            shutil.rmtree(folder)


def _serve(listening: socket.socket) -> None:
    starting = threading.Lock()
    answering: list[threading.Thread] = []
    with suppress(OSError):  # it was shut down
        while True:
            asked, _ = listening.accept()
            answering.append(threading.Thread(target=_answer, args=(asked, starting)))
            answering[-1].start()
    for thread in answering:
        thread.join()


def _answer(asked: socket.socket, starting: threading.Lock) -> None:
    with asked:
        _, streams, _, _ = socket.recv_fds(asked, 1, 3)
        text = b""
        while part := asked.recv(1 << 16):
            text += part
        arguments, folder, env = json.loads(text)
        with starting:
            forked = fork_server().start(arguments, script=None, folder=Path(folder), env=env, streams=streams)
        for stream in streams:
            os.close(stream)
        while (code := forked.poll()) is None:
            time.sleep(0.005)
        asked.sendall(b"%d" % (code & 0xFF))
