"""Targets: settings from a file, the environment, files that variables name, and flags."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tests.fuzzing.harness import MARKER, Target
from tests.fuzzing.of_requests import written
from worker.adapters.aws.queue import region_and_account
from worker.cli.first import next_steps
from worker.core.errors import UsageError
from worker.settings import explain, load
from worker.settings.queue_urls import QueueUrl, first_pair
from worker.settings.types import Collector, Endpoint, Recipients, Seconds, Share, shown
from worker.setup.first_settings import issuer, pool_id, recipient

GOOD = b"""
[cognito]
region = "us-east-1"
user_pool_id = "us-east-1_Example"
[seal]
recipients = ["age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"]
[otp]
issuer = "Example"
[queue]
kind = "sqlite"
[channel]
kind = "file"
path = "sealed.jsonl"
"""


def settings_file(data: bytes) -> None:
    path = written(data, "settings")
    load(path, [], {})
    explain(path, [], {})


def first_steps(data: bytes) -> str:
    return " ".join(next_steps(written(data, "settings"), {}))


def environment(data: bytes) -> None:
    """``NAME=value`` lines, as variables and as flags."""
    text = data.decode("utf-8", "surrogateescape")
    pairs = [line.partition("=") for line in text.split("\n") if "=" in line and "\0" not in line]
    flags = [f"{name.lower()}={value}" for name, _, value in pairs[::2]]
    variables = {f"MFA_WORKER_{name.upper()}": value for name, _, value in pairs if not name.upper().endswith("_FILE")}
    load(written(GOOD, "good"), flags, variables)


def secret_file(data: bytes) -> None:
    names = {"MFA_WORKER_SIGN_IN__CLIENT_SECRET_FILE": str(written(data, "secret"))}
    load(written(GOOD, "good"), ["sign_in.flow=custom_auth", "sign_in.client_id=abc"], names)


KINDS: tuple[Any, ...] = (Seconds, Share, Endpoint, Collector, Recipients, QueueUrl)
ADAPTERS: tuple[TypeAdapter[Any], ...] = tuple(map(TypeAdapter, KINDS))


def values(data: bytes) -> str:
    text, said = data.decode("utf-8", "surrogateescape"), ""
    for adapter in ADAPTERS:
        try:
            shown(adapter.validate_python(text), is_seconds=True)
        except ValidationError as error:
            said += str(error.errors(include_input=False, include_url=False, include_context=False))
    return said


def queue_urls(data: bytes) -> None:
    """Only what ``QueueUrl`` took is looked at any further."""
    try:
        url = TypeAdapter(QueueUrl).validate_python(data.decode("utf-8", "replace"))
    except ValidationError:
        return
    region_and_account(url or "")
    first_pair({"one": url, "other": "https://sqs.us-east-1.amazonaws.com/123456789012/q"})


def typed_in(data: bytes) -> str:
    """What somebody answers to ``init``."""
    text, said = data.decode("utf-8", "surrogateescape"), ""
    for asked in (pool_id, issuer, recipient):
        try:
            asked(text)
        except UsageError as error:
            said += f"{error} {error.hint}"
    return said


def _as_key(data: bytes) -> bool:
    """Whether the marker may be the name of a key, which is repeated, or the text cannot be told."""
    try:
        found = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return re.search(rb"(?m)^[^=#\n]*" + re.escape(MARKER), data) is not None
    return any(MARKER.decode() in each for each in _keys(found))


def _keys(found: object) -> list[str]:
    if isinstance(found, dict):
        return [key for each in found for key in (each, *_keys(found[each]))]
    return [key for each in found for key in _keys(each)] if isinstance(found, list) else []


TOML = (
    GOOD,
    GOOD.replace(b'"us-east-1_Example"', b'"%s"' % MARKER),
    GOOD.replace(b'"Example"', b"'%s\xe2\x84\x80'" % MARKER).replace(
        b'"sqlite"', b'"sqs"\nurl = "https://%s@h\xe2\x84\x80/q"' % MARKER
    ),
    GOOD.replace(b"issuer =", b"issuer = 1\na.b.c = [[{x=1}]]\nd ="),
    b"cognito:\n  region: us-east-1\n",
    b'{"cognito": {}}',
    b"x = " + b"[" * 2_000,
    b"x = " + b"9" * 5_000,
    b"[retry]\nx = 1_0\ny = 0xFF\nz = 2025-01-31T12:00:00Z\nw = nan\nv = " + b"9" * 100,
)

TARGETS = {
    "settings_file": Target(
        settings_file,
        TOML,
        documented=(UsageError,),
        repeats=_as_key,
        shapes={
            "brackets": lambda n: b"x = " + b"[" * n,
            "inline": lambda n: b"x = " + b"{a=" * (n // 3),
            "dots": lambda n: b"a" + b".a" * (n // 2) + b" = 1",
            "table of dots": lambda n: b"[a" + b".a" * (n // 2) + b"]",
            "quoted dots": lambda n: b"''" + b".''" * (n // 3) + b" = 1",
            "digits": lambda n: b"x = " + b"9" * n,
            "fraction": lambda n: b"x = 1." + b"9" * n,
            "keys": lambda n: b"".join(b"k%d = 1\n" % i for i in range(n // 10)),
            "tables": lambda n: b"".join(b"[t%d]\n" % i for i in range(n // 7)),
            "comment": lambda n: b"#" * n,
            "yaml": lambda n: b"a" * n + b"\n" + b"-" * n,
            "quotes": lambda n: b"x = '''" + b"'" * n,
            "blanks": lambda n: b"x" + b" " * n,
        },
    ),
    "first_steps": Target(
        first_steps,
        TOML,
        shapes={"dots": lambda n: b"a" + b".a" * (n // 2) + b" = 1", "brackets": lambda n: b"x = " + b"[" * n},
    ),
    "environment": Target(
        environment,
        (
            b'SEAL__RECIPIENTS=["%s"]\nRATE__REQUESTS_PER_SECOND=1e999\nCOGNITO__SESSION_VALIDITY=3m' % MARKER,
            b"QUEUE__KIND=sqs\nQUEUE__URL=https://[%s\nCHANNEL__KIND=%s" % (MARKER, MARKER),
            b"SEAL__RECIPIENTS=" + b"[" * 2_000,
            b"METRICS__PORT=\xd9\xa3\nRETRY__X=1_0\nLOG=1\nCOGNITO__USER_POOL_ID=\xed\xa0\x80\nSEAL__RECIPIENTS="
            + b"9" * 5_000,
        ),
        documented=(UsageError,),
        repeats=lambda data: re.search(rb"(?m)^[^=\n]*" + re.escape(MARKER), data) is not None,
        shapes={
            "brackets": lambda n: b"SEAL__RECIPIENTS=" + b"[" * n,
            "digits": lambda n: b"SEAL__RECIPIENTS=" + b"9" * n,
        },
    ),
    "secret_file": Target(
        secret_file,
        (MARKER, b"\xff" + MARKER, MARKER + b"\0", "\ufeffsecret".encode("utf-16")),
        documented=(UsageError,),
    ),
    "values": Target(
        values,
        (
            b"3m",
            b"1/4",
            "１/４".encode(),
            b"0/0",
            b"https://%s@host:8443" % MARKER,
            "https://%s@h℀".encode() % MARKER,
            b"https://[%s]/" % MARKER,
            b"http://127.0.0.1:99999999999",
            b'["age1%s"]' % MARKER,
            b"https://sqs.us-east-1.amazonaws.com/123456789012/q.fifo",
        ),
        shapes={
            "digits": lambda n: b"9" * n,
            "blanks": lambda n: b" " * n + b"x",
            "slashes": lambda n: b"https://" + b"/" * n,
            "brackets": lambda n: b"[" * n,
            "dots": lambda n: b"1" + b".1" * (n // 2),
        },
    ),
    "queue_urls": Target(
        queue_urls, (b"https://sqs.us-east-1.amazonaws.com/123456789012/q", b"http://[::1]:1/q", b"https://h/%2F/%ff")
    ),
    "typed_in": Target(
        typed_in,
        (
            b"us-east-1_Example",
            b"arn:aws:cognito-idp:us-east-1:1:userpool/us-east-1_Example",
            b"AGE-SECRET-KEY-1" + MARKER,
            MARKER,
            b"age1yubikey1q",
            b"ssh-ed25519 AAAA",
            b"a\0b",
        ),
        shapes={
            "arn": lambda n: b"arn:" + b"a" * n,
            "words": lambda n: b"a-" * (n // 2),
            "quotes": lambda n: b'"' * n,
            "hosts": lambda n: b"https://cognito-idp." + b"a." * (n // 2),
        },
    ),
}
