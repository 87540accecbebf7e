"""AWS on loopback: two emulators that differ where AWS is strict, so that what passes on both may hold.

Each runs as a process of its own for as long as the tests of one pytest process do; tests share it, and keep apart by
the names of what they create.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from worker.adapters.aws.session import Aws, AwsTarget

REGION = "eu-central-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "123456789012", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}
"""What an emulator accepts; the key id is the account."""
SERVICES = (
    *("sqs", "dynamodb", "s3", "secretsmanager", "kms", "sts", "service-quotas", "cognito-idp", "cloudformation"),
    "lambda",
)


@dataclass(frozen=True)
class Emulator:
    """One that runs."""

    name: str
    url: str
    pid: int
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Services that another process of it serves, and its URL."""

    def url_of(self, service: str) -> str:
        """Where that service is."""
        return self.elsewhere.get(service, self.url)

    @property
    def target(self) -> AwsTarget:
        """Where its services are."""
        return AwsTarget(REGION, endpoints={service: self.url_of(service) for service in SERVICES})

    def aws(self) -> Aws:
        """Its services, for ``async with``; credentials come from the environment (fixture ``aws_credentials``)."""
        return Aws(self.target)


def fresh(name: str) -> str:
    """A name that nobody else uses."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


@contextmanager
def moto() -> Iterator[Emulator]:
    port = free_port()
    arguments = [_tool("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with _served(arguments, port, {"MOTO_COGNITO_IDP_USER_POOL_ENABLE_TOTP": "true"}) as pid:
        yield Emulator("moto", f"http://127.0.0.1:{port}", pid)


@contextmanager
def ministack() -> Iterator[Emulator]:
    port = free_port()
    variables = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "IOT_MTLS_ENABLED": "0", "LOG_LEVEL": "ERROR"}
    unsigned = {"MINISTACK_REGION": REGION, "MINISTACK_ACCOUNT_ID": CREDENTIALS["AWS_ACCESS_KEY_ID"]}
    with _served([_tool("ministack")], port, variables | unsigned) as pid:
        yield Emulator("ministack", f"http://127.0.0.1:{port}", pid)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@contextmanager
def _served(arguments: list[str], port: int, variables: Mapping[str, str]) -> Iterator[int]:
    with TemporaryDirectory() as folder, (Path(folder) / "said").open("wb") as said:
        inherited = {key: text for key, text in os.environ.items() if not key.startswith(("AWS_", "MFA_WORKER_"))}
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            env={**inherited, "HOME": folder, "TMPDIR": folder, **CREDENTIALS, **variables},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            deadline = time.monotonic() + 30
            while not _listens(port):
                assert process.poll() is None, (Path(folder) / "said").read_text("utf-8", "replace")[-2000:]
                assert time.monotonic() < deadline, f"{arguments[0]} does not listen"
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True
