"""Commands of the worker as real processes, without the second that Python takes to import them.

The worker is imported once, in a process that does nothing else; for every command that process forks. What runs then
has its own id, files, environment, signals and exit code, and can be killed like any other. What only a process that
was *executed* can show (imports, the command line, how Python opens its streams and ends) is tested with ``COMMAND``.

This file is also the program of that process. It hears of a command by four descriptors on its control socket: a
conversation, and the standard streams. In the conversation the test says what to run, as JSON; the answer is the
process id in a line of its own and, when the process is over, its return code in another (negative: the signal).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

SERVICES = ("cognito-idp", "sqs", "dynamodb", "s3", "secretsmanager", "kms", "sts")
"""Whose descriptions the fork server reads, which is most of what a client of one costs."""

# --- what a test sees -------------------------------------------------------------------------------------------------


class Forked:
    """A process that was forked, with what the tests use of ``subprocess.Popen``."""

    def __init__(self, conversation: socket.socket) -> None:
        self._conversation = conversation
        self._heard = b""
        while b"\n" not in self._heard:
            part = conversation.recv(100)
            assert part, "the fork server is gone"
            self._heard += part
        conversation.setblocking(False)
        self.pid = int(self._heard.split(b"\n")[0])
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The return code, once the process is over."""
        if self.returncode is None:
            with contextlib.suppress(BlockingIOError):
                self._heard += self._conversation.recv(100)
            if self._heard.count(b"\n") > 1:
                self.returncode = int(self._heard.split(b"\n")[1])
                self._conversation.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To the process, unless it is over."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks. It ends with ``close``, or with the process that started it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                (sys.executable, "-P", __file__, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )

    def start(
        self,
        arguments: Sequence[str],
        *,
        script: Path | None,
        folder: Path,
        env: Mapping[str, str],
        streams: Sequence[int],
    ) -> Forked:
        """``mfa-worker``, or a script of Python, with these arguments; ``streams``: its standard ones, in order."""
        conversation, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"."], [theirs.fileno(), *streams])
        conversation.sendall(json.dumps([script and str(script), list(arguments), str(folder), dict(env)]).encode())
        conversation.shutdown(socket.SHUT_WR)
        return Forked(conversation)

    def close(self) -> None:
        """Wait for its end, which comes when every process that it forked is over."""
        self._control.close()
        self._process.wait()


# --- the process that forks -------------------------------------------------------------------------------------------


def _serve(control: socket.socket) -> None:
    _import_the_worker()
    while True:
        word, descriptors, _, _ = socket.recv_fds(control, 1, 4)
        if not word:
            break
        if os.fork() == 0:
            control.close()
            _guard(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _bury(os.WNOHANG)
    _bury(0)


def _import_the_worker() -> None:
    import worker

    for module in pkgutil.walk_packages(worker.__path__, "worker."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    _be_impatient()
    _describe_services()
    gc.collect()
    gc.freeze()  # so that no collection in a forked process touches, and thereby copies, what all of them share


def _be_impatient() -> None:
    """An emulator has a message at once or not at all, where AWS is asked for five seconds, and twice, by ``open``."""
    from worker.adapters.channels.sqs import source

    source.POLL = 1


def _describe_services() -> None:
    import botocore.session

    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    session = botocore.session.Session()
    for service in SERVICES:
        session.create_client(service, "eu-central-1", aws_access_key_id="none", aws_secret_access_key="none").close()


def _bury(options: int) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, options) != (0, 0):
            pass


def _guard(descriptors: list[int]) -> None:
    """Fork the command, and say when it is over; in the forked process, return into it."""
    conversation = socket.socket(fileno=descriptors[0])
    asked = b""
    while part := conversation.recv(1 << 16):
        asked += part
    script, arguments, folder, env = json.loads(asked)
    pid = os.fork()
    if pid == 0:
        conversation.close()
        _become(script, arguments, folder, env, descriptors[1:])
    for descriptor in descriptors[1:]:
        os.close(descriptor)
    with contextlib.suppress(BrokenPipeError):  # nobody asks any more
        conversation.sendall(b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        conversation.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def hear_signals() -> None:
    """In a new process: take signals as from a terminal, even where the tests run in the background or under nohup.

    A shell ignores SIGQUIT for what runs in the background, nohup SIGHUP, and every process inherits that.
    """
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def _become(script: str | None, arguments: list[str], folder: str, env: dict[str, str], streams: list[int]) -> NoReturn:
    """``mfa-worker`` or the script, as Python would."""
    hear_signals()
    for standard, descriptor in enumerate(streams):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - Python opens them anew in every process
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [script or str(Path(sys.executable).with_name("mfa-worker")), *arguments]
    try:
        if script:
            runpy.run_path(script, run_name="__main__")
            sys.exit(0)
        from worker.cli import main

        main()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)  # to free everything that was imported takes longer than most commands: 0.3 s


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
