"""Targets: requests, in every form in which they come, their times and tickets."""

from __future__ import annotations

import base64
import io
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.fuzzing.harness import MARKER, Target, text_of
from tests.support.triggers import load_triggers
from worker.core.errors import Malformed, UsageError
from worker.requests import envelopes
from worker.requests.lines import Line, LineSplitter, digest, read_lines, stripped
from worker.requests.message import Parser
from worker.requests.named_users import NamedUsers
from worker.requests.refused import Refused
from worker.requests.ticket import is_genuine, make_ticket, read_key, read_not_after
from worker.requests.times import epoch, is_plain, plain
from worker.requests.usernames import named_lines, read_usernames, why_not

POOL, CLIENT, NOW = "us-east-1_Example", "exampleclient", 1_750_000_000.0
KEY = bytes(range(32))
PARSERS = [Parser(POOL, 180.0, flow=flow) for flow in ("none", "custom_auth", "user_password")]
TICKET = make_ticket(KEY, user_pool_id=POOL, client_id=CLIENT, username="ana", not_after=1_800_000_000)
SCRATCH = Path(tempfile.mkdtemp(prefix="fuzzing-"))
"""Files that targets write, because their parsers read files."""


def written(data: bytes, name: str = "file") -> Path:
    """A file of this process with these bytes, which nobody else can read.

    It is a new one each time: some file systems write to the disk at once what takes the place of a file's content.
    """
    path = SCRATCH / f"{name}-{os.getpid()}"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    return path


def request(data: bytes) -> str:
    said = ""
    for parser in PARSERS:
        try:
            found = parser.parse(data, NOW, latest=NOW + 5, origin="origin")
        except Malformed as reason:
            said += f"{reason} {parser.digest(data)}"
            continue
        pushed, body = parser.to_push(data, NOW, origin="origin")
        again = parser.parse(body, NOW, latest=NOW + 5, origin="origin")
        assert again == found == parser.parse(data, NOW, latest=NOW + 5, origin="origin")
        assert again.id == pushed.id
        assert again.username.encode()
        assert json.dumps(dict(again.attributes)).encode()
    return said


def _told(line: Line) -> tuple[object, ...]:
    """What is told of a line; of a file that is no text, how much was read of it at once does not count."""
    return line._replace(raw=b"" if line.flaw else line.raw)


def request_lines(data: bytes) -> str:
    """However the bytes are cut into chunks, the lines are the same."""
    lines = list(read_lines(io.BytesIO(data)))
    refused, splitter = Refused(), LineSplitter()
    cut = (
        [line for at in range(0, len(data), 7) for line in splitter.feed(data[at : at + 7])] if len(data) < 999 else []
    )
    assert len(data) >= 999 or [_told(each) for each in (*cut, *splitter.feed(b""))] == [_told(each) for each in lines]
    for line in lines:
        try:
            PARSERS[0].parse(line.message(), NOW)
        except Malformed as reason:
            refused.add(line, str(reason))
    refused.owed()
    return "\n".join(refused.lines())


def access_token(data: bytes) -> None:
    token = ".".join(("e30", base64.urlsafe_b64encode(data).rstrip(b"=").decode(), "c2ln"))
    if len(token) <= 16_384:
        raw = json.dumps({"username": "ana", "access_token": token}).encode()
        found = PARSERS[0].parse(raw, NOW)
        assert -1e12 < found.expires_at < 1e12


def named_users(data: bytes) -> str:
    users, said = NamedUsers(lambda _: TICKET), ""
    for line in read_lines(io.BytesIO(data)):
        try:
            PARSERS[1].parse(users.message(line), NOW)
        except Malformed as reason:
            said += str(reason)
    return said


def usernames(data: bytes) -> str:
    said = " ".join(why_not(line) for line, name in named_lines(io.BytesIO(data)) if name is None)
    read_usernames(written(data))
    return said


def ticket(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    not_after = read_not_after(text)
    if not_after is None or not is_genuine(text, KEY, user_pool_id=POOL, client_id=CLIENT, username="ana"):
        return
    again = make_ticket(KEY, user_pool_id=POOL, client_id=CLIENT, username="ana", not_after=not_after)
    assert again == text


def ticket_key(data: bytes) -> None:
    assert len(read_key(written(data))) == 32


def _triggers() -> Any:
    module = load_triggers()
    module.read_key_with(lambda: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
    return module


TRIGGERS = _triggers()


def trigger(data: bytes) -> None:
    """What a client answers in a sign-in is anything; the trigger and the worker agree on every ticket."""
    os.environ.update(CLIENT_ID=CLIENT, ROLLOUT_ENDS="4000000000", KEY_SECRET="key")
    answer = text_of(data)
    event = {
        "triggerSource": "VerifyAuthChallengeResponse_Authentication",
        "userPoolId": POOL,
        "userName": "ana",
        "callerContext": {"clientId": CLIENT},
        "request": {"challengeAnswer": answer, "privateChallengeParameters": {}},
        "response": {},
    }
    correct = TRIGGERS.verify_auth_challenge_response(event)["response"]["answerCorrect"]
    ends = read_not_after(answer)
    ours = is_genuine(answer, KEY, user_pool_id=POOL, client_id=CLIENT, username="ana") if ends is not None else False
    assert correct == (ours and ends is not None and ends > time.time())


def times(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    at = epoch(text)
    assert abs(epoch(plain(at)) - at) < 1e-3
    is_plain(text)


def envelope(data: bytes) -> str:
    return f"{envelopes.named(data)} {envelopes.not_json(data)} {digest(data)} {len(stripped(data))}"


def _line(**values: object) -> bytes:
    return json.dumps({"username": "ana", **values}).encode()


REQUESTS = (
    _line(session=MARKER.decode() * 2),
    _line(session="s" * 40, issued_at="2025-06-15T12:00:00Z", attributes={"email": "a@example.org"}),
    _line(access_token="e30.eyJleHAiOjE3NTAwMDM2MDB9.c2ln"),
    _line(ticket=TICKET, replace=True, expires_at="2027-01-01T00:00:00+02:00"),
    _line(password=MARKER.decode(), id="one"),
    _line(session="s" * 40, state="failed", reason=None, since=[1, {"a": {}}], detail=""),
    _line(session="s" * 40, Pass=MARKER.decode()),
    b'\xef\xbb\xbf {"username": "ana", "username": "b", "session": "%s"} ' % (MARKER * 2),
    b'{"Type":"Notification","TopicArn":"arn","Message":"{}"}',
    b'"{\\"username\\": \\"ana\\"}"',
    b"username,session\nana," + MARKER,
)

TARGETS = {
    "request": Target(
        request,
        REQUESTS,
        shapes={
            "nesting": lambda n: b'{"since":' * (n // 9),
            "brackets": lambda n: b"[" * n,
            "keys": lambda n: b"{%s}" % b",".join(b'"k%d":1' % i for i in range(n // 9)),
            "ignored": lambda n: (
                b'{"username":"a","session":"%s","since":[%s]}' % (b"s" * 40, b",".join([b"{}"] * (n // 3)))
            ),
            "one number": lambda n: b'{"username":"a","session":"%s","since":%s}' % (b"s" * 40, b"9" * n),
            "marks": lambda n: b"\xef\xbb\xbf" * (n // 3),
            "blanks": lambda n: b" " * n + b"x",
            "escapes": lambda n: b'{"username":"%s' % (rb"\u0041" * (n // 6)),
            "base64": lambda n: b"A" * n,
            "form": lambda n: b"%" * n,
        },
    ),
    "request_lines": Target(
        request_lines,
        (b"\n".join(REQUESTS), b"\r\n".join(REQUESTS), "\ufeffana\nb\n".encode("utf-16"), b"\x1f\x8b\x08" + MARKER),
        repeats=lambda data: b"username" in data,
        shapes={
            "one line": lambda n: b"a" * n,
            "short lines": lambda n: b"a\n" * (n // 2),
            "blank lines": lambda n: b"\n" * n,
            "quoted": lambda n: b'{"username":"' + b"\\" * n,
            "csv": lambda n: b" ," * (n // 2),
            "UTF-16": lambda n: ("\ufeff" + "a\n" * (n // 4)).encode("utf-16"),
        },
    ),
    "access_token": Target(
        access_token,
        (
            b'{"exp":1750003600,"username":"ana","iss":"https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Example"}',
            b'{"exp":1e999,"token_use":"id"}',
        ),
    ),
    "named_users": Target(
        named_users,
        (b"ana\nb\n", b'{"username":"ana","ticket":null}', b"username,email\nana,b", b'["ana",\n"b"]', b"a\tb"),
        shapes={
            "brackets": lambda n: b'{"":' + b"[" * n,
            "words": lambda n: b"user" * (n // 4),
            "[": lambda n: b"[" * n,
        },
    ),
    "usernames": Target(usernames, (b"ana\n", b'{"username":"ana"}\n', b"\xff"), documented=(UsageError,)),
    "ticket": Target(ticket, (TICKET.encode(), TICKET[:53].encode())),
    "ticket_key": Target(
        ticket_key,
        (b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n", b"AGE-SECRET-KEY-1" + MARKER, b"\xff" * 32, MARKER * 2),
        documented=(UsageError,),
        shapes={"dashes": lambda n: b"-----" * (n // 5), "words": lambda n: b"AGE-SECRET-KEY" * (n // 14)},
    ),
    "trigger": Target(trigger, (TICKET.encode(), MARKER, b"")),
    "times": Target(
        times,
        (b"2025-01-31T12:00:00Z", b"2016-12-31T23:59:60Z", b"0000-02-29 00:00:00.1z"),
        documented=(ValueError,),
        shapes={"digits": lambda n: b"2025-01-31T12:00:00." + b"1" * n},
    ),
    "envelope": Target(
        envelope,
        (
            b'{"Records":[{"eventSource":"aws:s3"}]}',
            b'{"detail":{"username":"a"},"source":"s","detail-type":"d"}',
            b"eyJ1c2VyIjoxfQ==",
        ),
        shapes={
            "form": lambda n: b"a" * n + b"=",
            "deep": lambda n: b"[" * n,
            "text": lambda n: b'"' + b"[" * n + b'"',
        },
    ),
}
