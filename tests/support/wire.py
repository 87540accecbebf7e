"""A real wire on loopback that does what a test says: answer, break off, speak TLS, stand behind a proxy."""

from __future__ import annotations

import asyncio
import datetime
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
GOOD = json.dumps({"SecretCode": SECRET, "Session": "n" * 40}).encode()


def answer(body: bytes = GOOD, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "x-amzn-requestid: r-1", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Wire:
    """A server that does what it is told, once per request, and remembers the head and body that it was sent."""

    url: str = ""
    does: Behaviour | bytes = field(default_factory=answer)
    seen: list[tuple[str, bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if "expect: 100-continue" in head.lower():
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0] or 0)
                self.seen.append((head, await reader.readexactly(length)))
                if callable(self.does):
                    await self.does(writer)
                else:
                    writer.write(self.does)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):  # the last: the test is over
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """A wire that listens, over TLS if so asked."""
    wire = Wire()
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0, ssl=tls)
    wire.url = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield wire
    server.close()


@contextmanager
def unused_port() -> Iterator[str]:
    """A port of ours on which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@dataclass
class Proxy:
    """A proxy for HTTPS that leads to one wire, whatever it is asked for; or that refuses."""

    port: int
    url: str = ""
    refuses: bool = False
    heads: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if self.refuses:
            writer.write(b"HTTP/1.1 407 Who are you?\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        onward, back = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        with suppress(asyncio.CancelledError):  # the test is over
            await asyncio.gather(_pipe(reader, back), _pipe(onward, writer))


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while received := await source.read(65536):
            sink.write(received)
    except ConnectionError:
        pass
    finally:
        sink.close()


@asynccontextmanager
async def proxying(wire: Wire) -> AsyncIterator[Proxy]:
    """A proxy before the wire."""
    proxy = Proxy(int(wire.url.rpartition(":")[2]))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield proxy
    server.close()


@dataclass
class Authority:
    """Somebody who signs certificates: those who trust ``file`` trust what it signs."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of these tests")])
        certificate = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = self.folder / "authority.pem"
        self.file.write_bytes(self._signed(certificate))

    def server(self, *names: str) -> ssl.SSLContext:
        """A server's side of TLS, with a certificate for those host names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._builder(subject, key.public_key()).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        file = self.folder / f"{names[0]}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + self._signed(certificate)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def _signed(self, certificate: x509.CertificateBuilder) -> bytes:
        return certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
