"""Targets: what people type behind options and write into files of their own, and what an opened record holds."""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from typing import Any, cast

import click

from tests.fuzzing.harness import Target
from tests.fuzzing.of_requests import SCRATCH, written
from worker.cli import cli
from worker.cli.completion import SHELLS, VARIABLE
from worker.cli.options import duration
from worker.core.errors import UsageError
from worker.core.key_uri import issuer_fits, otpauth_uri
from worker.core.record import parse_object, record_address
from worker.handout import template
from worker.handout.cells import Rows, cell
from worker.handout.chosen import Chosen, day, since
from worker.handout.letters import Style
from worker.handout.names import file_name
from worker.handout.table import attributes_of
from worker.rehearsal.fake_cognito.faults import FaultError, FaultPlan
from worker.settings.types import share
from worker.telemetry.report import refuse_other_files

NOW = 1_750_000_000.0
STYLE = Style(template.load(None, "en"), None)


def options(data: bytes) -> None:
    """A text behind ``--since``, ``--until``, ``--tolerate``, ``--valid-for`` and ``--fault``."""
    text = data.decode("utf-8", "surrogateescape")
    for read in (
        lambda: since(text, NOW),
        lambda: day(text),
        lambda: share(text),
        lambda: FaultPlan([text]),
        lambda: duration(cast("Any", None), cast("Any", None), text),
    ):
        with suppress(UsageError, click.BadParameter, FaultError, ValueError):
            read()


def opened_record(data: bytes) -> None:
    """A record as ``open`` takes it, whatever its other fields hold: chosen, and made a row and a letter."""
    try:
        record = parse_object(data)
        record_address(record)
        record["secret_code"].encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    Chosen([record["username"]], NOW).takes(record)
    Rows(io.StringIO()).write([cell(str(value)) for value in (record["username"], *attributes_of(record).values())])
    file_name(record["username"], ".svg").encode("ascii")
    if (
        isinstance(uri := record.get("otpauth_uri"), str)
        and uri.startswith("otpauth://totp/")
        and uri.isascii()
        and uri.isprintable()
    ):
        json.dumps(STYLE.letter_of(record)).encode()


def key_uri(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    service, account = text[: len(text) // 2], text[len(text) // 2 :]
    uri = otpauth_uri(service, account, "JBSWY3DPEHPK3PXP")
    assert uri.isascii()
    assert len(uri) <= 2_953 or not issuer_fits(service)


def letter_template(data: bytes) -> None:
    folder = SCRATCH / f"template-{os.getpid()}"
    if not folder.exists():
        template.copy_ours(folder)
    (folder / "en.toml").unlink()
    (folder / "en.toml").write_bytes(data)
    loaded = template.load(folder, "en")
    Style(loaded, day("2026-12-31")).letter_of(
        {"username": "a", "secret_code": "b", "otpauth_uri": "otpauth://totp/a", "attributes": {}}
    )


def report_file(data: bytes) -> None:
    refuse_other_files(written(data, "report"))


def completion(data: bytes) -> None:
    """The words that a shell hands over, and at which of them the cursor is."""
    first, _, words = data.decode("utf-8", "surrogateescape").replace("\0", "").partition("\n")
    os.environ.update(COMP_WORDS=words, COMP_CWORD=first if first.isdecimal() and len(first) < 4 else "1")
    SHELLS["bash"][0](cli, {}, "mfa-worker", VARIABLE).complete()


TEMPLATE = (template.OURS / "en.toml").read_bytes()

TARGETS = {
    "options": Target(
        options,
        (
            b"2026-11-25T08:00Z",
            b"24h",
            b"7d ago",
            b"1/0",
            b"0.5%",
            b"1e999/1e-999",
            b"throttle=2%",
            b"reset@ana=3x",
            "１h".encode(),
            b"9" * 400 + b"d",
            b"..h",
            b"truncate=" + b"9" * 5_000 + b"x",
        ),
        shapes={
            "digits": lambda n: b"9" * n + b"h",
            "dots": lambda n: b"." * n + b"d",
            "blanks": lambda n: b"1" + b" " * n + b"h",
            "fault": lambda n: b"a" * n + b"=1",
        },
    ),
    "opened_record": Target(
        opened_record,
        (
            b'{"username":"ana","generation":7,"secret_code":"JBSW","otpauth_uri":"otpauth://totp/A:ana?secret=JBSW&issuer=%ff","attributes":{"name":"=1","address":"a\\nb"},"associated_at":"2025-01-31T12:00:00Z"}',
            b'{"username":"\\u202e","generation":7,"secret_code":"J","attributes":[1],"associated_at":5}',
        ),
        shapes={
            "address": lambda n: (
                b'{"username":"a","generation":7,"secret_code":"J","otpauth_uri":"otpauth://totp/a","attributes":{"address":"'
                + rb"\n" * (n // 2)
                + b'"}}'
            )
        },
    ),
    "key_uri": Target(
        key_uri,
        (b"Example:ana", "é🗝".encode() * 90, b"%" * 3_000),
        shapes={"colons": lambda n: b":" * n, "quoted": lambda n: b"\xf0\x9f\x97\x9d" * (n // 4)},
    ),
    "letter_template": Target(
        letter_template,
        (
            TEMPLATE,
            TEMPLATE.replace(b"{", b"{attributes."),
            b"x = " + b"9" * 5_000,
            b"a" + b".a" * 200 + b" = 1",
            b"x = " + b"[" * 2_000,
            b"\xff",
        ),
        documented=(UsageError,),
        shapes={
            "dots": lambda n: b"a" + b".a" * (n // 2) + b" = 1",
            "braces": lambda n: b'title = "' + b"{a" * (n // 2) + b'"',
        },
    ),
    "report_file": Target(
        report_file,
        (b'{"states":{},"verdict":{}}', b"[" * 2_000, b"9" * 5_000),
        documented=(UsageError,),
        shapes={"brackets": lambda n: b"[" * n},
    ),
    "completion": Target(
        completion,
        (
            b"1\nmfa-worker ru",
            b"3\nmfa-worker run --set cog",
            b"2\nmfa-worker rehearse --fault x/",
            b"1\nmfa-worker 'a",
            b"999\n",
        ),
    ),
}
