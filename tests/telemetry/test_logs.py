"""The real chain on a real stream: whatever is logged, by whomever, no credential and no control character gets out."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tests.support.terminal import Terminal
from worker.core.model import CredentialKind, Request, Secret
from worker.telemetry.logs import clean, configure

SESSION = "AYABeN0tReal" + "x7/Qz+" * 30
JWT = "eyJraWQiOiJ4In0.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
IDENTITY = "AGE-SECRET-KEY-1QQPQ9V4K7XW"
BASE32 = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
URI = f"otpauth://totp/Example:alice?secret={BASE32}&issuer=Example"
CREDENTIALS = [SESSION, JWT, IDENTITY, BASE32, URI]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(params=["json", "console"])
def stream(request: pytest.FixtureRequest) -> io.StringIO:
    out = io.StringIO()
    configure(request.param, "info", out)
    return out


@pytest.fixture
def lines() -> io.StringIO:
    out = io.StringIO()
    configure("json", "info", out)
    return out


def only(out: io.StringIO) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_a_line_is_one_json_object_with_time_level_and_event(lines: io.StringIO) -> None:
    structlog.get_logger().info("settled", username="zoë", state="delivered", seconds=1.5, more=None)
    line = only(lines)
    assert line.pop("timestamp").endswith("Z")
    assert line.pop("level") == "info"
    assert line == {"event": "settled", "username": "zoë", "state": "delivered", "seconds": 1.5, "more": None}


@pytest.mark.parametrize("text", CREDENTIALS)
def test_what_looks_like_a_credential_is_masked_wherever_it_stands(stream: io.StringIO, text: str) -> None:
    log = structlog.get_logger().bind(bound=text)
    log.info(
        f"event {text}", plain=f"error: {text}.", deep={"list": [(text,), {"x": {text}}], text: 1}, raw=text.encode()
    )
    log.warning("object", error=ValueError(text), cause=[RuntimeError(text)])
    assert text not in stream.getvalue()
    assert text[:40] not in stream.getvalue()
    assert "***" in stream.getvalue()


@pytest.mark.parametrize("key", ["session", "AccessToken", "secret_code", "Secret-Code", "password", "Authorization"])
def test_what_stands_under_a_telling_key_is_masked_whatever_it_looks_like(stream: io.StringIO, key: str) -> None:
    structlog.get_logger().info("call", **{key: "hunter2"}, params=[{key: "hunter2"}, {"x": {key: ["hunter2"]}}])
    assert "hunter2" not in stream.getvalue()


def test_a_secret_shows_nothing_under_any_key(stream: io.StringIO) -> None:
    request = Request("alice", CredentialKind.SESSION, Secret("hunter2"), "1", 0.0, {"mail": "hunter2"})
    structlog.get_logger().info("x", a=Secret("hunter2"), b=[Secret("hunter2")], c={Secret("hunter2"): 1}, d=request)
    assert "hunter2" not in stream.getvalue()
    assert "alice" in stream.getvalue()


def test_what_is_no_credential_stays(lines: io.StringIO) -> None:
    kept = {
        "needs_session": 5,
        "username": "3f0c9e5a-8a41-4b3c-9d52-0d3f1c3f2b11",
        "id": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "code": "ConcurrentModificationException",
        "path": "/var/lib/mfa-worker/enrolments.jsonl",
        "arn": "arn:aws:sqs:eu-central-1:123456789012:mfa",
    }
    structlog.get_logger().info("x", **kept)
    assert {key: value for key, value in only(lines).items() if key in kept} == kept


def test_a_traceback_has_neither_local_variables_nor_credentials(stream: io.StringIO) -> None:
    def fails(session: str) -> None:
        local = "hunter2" + session[:3]
        raise RuntimeError(f"Invalid session {session} for {len(local)}")

    try:
        try:
            fails(SESSION)
        except RuntimeError as error:
            raise ValueError(JWT) from error
    except ValueError:
        structlog.get_logger().exception("bug")
    text = stream.getvalue()
    assert "Traceback" in text
    assert "in fails" in text
    assert not any(secret in text for secret in (SESSION, JWT, "hunter2A"))


def test_a_readable_traceback_cannot_pass_for_a_log_line() -> None:
    out = io.StringIO()
    configure("console", "info", out)
    error = ValueError("first\n2026-01-01 [info] all is well\x1b[2J")
    structlog.get_logger().error("bug", exc_info=error)
    assert not any(line.startswith("2026-01-01") for line in out.getvalue().splitlines())
    assert "\x1b[2J" not in out.getvalue()


@pytest.mark.parametrize("char", ["\n", "\r", "\x00", "\x1b", "\x7f", "\x9b", "\u200b", "\u202e", "\u2028", "\ud800"])
def test_what_does_not_print_is_escaped(stream: io.StringIO, char: str) -> None:
    structlog.get_logger().info(f"a{char}b", username=f"c{char}d", deep={f"e{char}f": [f"g{char}h"]})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert char == "\n" or char not in text
    assert ascii(char)[2:-1] in text


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_makes_one_line_that_prints(event: str, username: str) -> None:
    for name in ("json", "console"):
        out = io.StringIO()
        configure("json" if name == "json" else "console", "info", out)
        structlog.get_logger().info(event, username=username)
        assert out.getvalue().removesuffix("\n").isprintable()


@given(st.binary(min_size=10, max_size=200), st.text(max_size=30), st.text(max_size=30))
def test_a_base32_secret_is_masked_in_any_text(secret: bytes, before: str, after: str) -> None:
    text = base64.b32encode(secret).decode().rstrip("=")
    assert text not in clean(before + text + after)


def test_an_object_that_cannot_be_shown_does_not_stop_the_line(stream: io.StringIO) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    endless: list[object] = []
    endless.append(endless)
    structlog.get_logger().info("x", broken=Broken(), endless=endless)
    assert "Broken" in stream.getvalue()


@pytest.mark.parametrize("name", ["botocore.endpoint", "aiohttp.client", "asyncio"])
def test_libraries_pass_the_same_chain(lines: io.StringIO, name: str) -> None:
    logging.getLogger(name).error("sent %s\x1b", {"Session": "hunter2", "token": JWT})
    line = only(lines)
    assert (line["level"], line["logger"]) == ("error", name)
    assert JWT not in line["event"]
    assert "\x1b" not in line["event"]


def test_libraries_are_heard_from_warnings_on_even_where_we_debug() -> None:
    out = io.StringIO()
    configure("json", "debug", out)
    structlog.get_logger().debug("ours")
    logging.getLogger("botocore.endpoint").info("whole request")
    logging.getLogger("botocore.endpoint").debug("whole request")
    assert only(out)["event"] == "ours"


def test_a_library_that_logs_badly_neither_fails_nor_leaks(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    configure("json", "info", out)  # here: it takes away pytest's own handler, which would fail
    logging.getLogger("x").error("%d users", "hunter2")
    assert only(out)["event"] == "%d users"
    assert "hunter2" not in capsys.readouterr().err


def test_exceptions_of_tasks_nobody_awaited_pass_the_chain_too(lines: io.StringIO) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "lost", "exception": ValueError(JWT)})

    asyncio.run(main())
    line = only(lines)
    assert line["logger"] == "asyncio"
    assert "ValueError: ***" in line["exception"]


def test_warnings_of_python_are_log_lines(lines: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in only(lines)["event"]


def test_the_level_silences_what_is_below() -> None:
    out = io.StringIO()
    configure("json", "error", out)
    structlog.get_logger().warning("quiet")
    structlog.get_logger().error("loud")
    assert only(out)["event"] == "loud"


def test_auto_is_readable_on_a_terminal_and_json_elsewhere() -> None:
    for out, is_json in ((io.StringIO(), True), (Terminal(), False)):
        configure("auto", "info", out)
        structlog.get_logger().info("x", y=1)
        assert out.getvalue().startswith("{") is is_json


@pytest.mark.parametrize("name_and_value", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_there_are_no_colours_where_nobody_wants_them(
    name_and_value: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for coloured in (True, False):
        configure("auto", "info", out := Terminal())
        structlog.get_logger().info("x")
        assert ("\x1b" in out.getvalue()) is coloured
        monkeypatch.setenv(*name_and_value)


def test_without_a_stream_it_writes_to_what_stderr_is_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    configure("json", "info")
    log = structlog.get_logger()
    for _ in range(2):
        monkeypatch.setattr(sys, "stderr", out := io.StringIO())
        log.info("x")
        assert only(out)["event"] == "x"


def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    out = io.StringIO()
    configure("json", "info", out)
    out.close()
    structlog.get_logger().info("x")


def test_a_stream_that_knows_only_ascii_gets_ascii() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    configure("console", "info", out)
    structlog.get_logger().info("zoë")
    assert b"zo\\xeb" in raw.getvalue()
