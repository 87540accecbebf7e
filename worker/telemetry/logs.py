"""Logging that shows no credentials and cannot manipulate a terminal.

Everything that this project or a library logs passes through one chain of processors. Its last step before rendering
cleans every string: what looks like a credential becomes ``***``, and characters that are not printable are escaped.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from worker.core.model import Secret
from worker.core.text import escape

MASK = "***"
"""What is shown instead of a credential."""

# fmt: off
_CREDENTIAL_KEYS = frozenset({
    "secretcode", "otpauth", "otpauthuri", "secret", "plaintext",
    "session", "sessiontoken", "awssessiontoken", "xamzsecuritytoken",
    "token", "accesstoken", "idtoken", "refreshtoken",
    "credential", "credentials", "password", "passwd", "passphrase", "authorization", "cookie", "setcookie",
    "identity", "privatekey", "secretkey", "apikey", "secretaccesskey", "awssecretaccesskey",
})
# fmt: on
"""Keys whose value is masked whatever it looks like: the names of credentials in Cognito, AWS's SDK and HTTP. They are
written here in lower case without ``_`` and ``-``, so that each stands for all its spellings."""

_LOOKS_SECRET = re.compile(
    r"""
      eyJ[\w-]{4,}(?:\.[\w-]*)+                 # a JWT, also a torn one
    | (?i:AGE-(?:SECRET-KEY|PLUGIN)-[\w-]+)     # an age identity
    | (?i:otpauth(?:-migration)?://\S*)         # a Key URI
    | [A-Z2-7]{16,}=*                           # a secret code in base32
    | [\w+/=-]{100,}                            # an opaque Session
    """,
    re.VERBOSE | re.ASCII,
)
"""What is masked in any text, because only credentials look like this. Sessions have hundreds of characters."""


def clean(text: str) -> str:
    """Return the text, safe for a log line or a terminal: credentials masked, unprintable characters escaped."""
    shortest = 16  # characters of the shortest text that can match: a secret code
    return escape(_LOOKS_SECRET.sub(MASK, text) if len(text) >= shortest else text)


def configure(
    format: Literal["auto", "json", "console"] = "auto",  # noqa: A002 - the setting's name
    level: str = "info",
    stream: TextIO | None = None,
) -> None:
    """Set up structlog and the standard library's logging for the whole process; may be called again.

    ``auto`` is readable text on a terminal and JSON lines elsewhere. Without ``stream``, lines go to what
    ``sys.stderr`` is at the moment of writing, so that a progress bar can print them above itself.
    """
    terminal = (stream or sys.stderr).isatty()
    console = format == "console" or (format == "auto" and terminal)
    coloured = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=coloured, sort_keys=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,  # plain tracebacks, without local variables
            _Cleaner(margin="  | " if console else ""),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(stream),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_ToStructlog(logging.WARNING)]
    root.setLevel(logging.WARNING)  # whatever ``level`` is: libraries write whole requests into their debug logs
    logging.captureWarnings(capture=True)


def json_line(values: Mapping[str, object], stream: TextIO | None = None) -> None:
    """Write one JSON object, cleaned like every line, whatever the format and the level of the log are.

    ``stream``: standard error by default.
    """
    cleaned = _Cleaner(margin="")(None, "info", dict(values))
    _Lines(stream).msg(json.dumps(cleaned))


class _Cleaner:
    """The processor that cleans every value. Each line of a traceback begins with ``margin``, so that none looks like
    a log line.
    """

    def __init__(self, margin: str) -> None:
        self._margin = margin

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        trace = event.pop("exception", None)
        first = [key for key in ("timestamp", "level", "event") if key in event]
        keys = [*first, *(key for key in event if key not in first)]
        cleaned = {key: self._value(key, event[key], 0) for key in keys}
        if trace is not None:
            lines = _LOOKS_SECRET.sub(MASK, str(trace)).splitlines()
            cleaned["exception"] = "\n".join(self._margin + escape(line) for line in lines)
        return cleaned

    def _value(self, key: object, value: object, depth: int) -> object:
        if str(key).replace("_", "").replace("-", "").lower() in _CREDENTIAL_KEYS or isinstance(value, Secret):
            return MASK
        if isinstance(value, str):
            return clean(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict | list | tuple | set | frozenset):
            if depth == 6:  # nothing is nested this deep on purpose, and an object may contain itself
                return "…"
            if isinstance(value, dict):
                return {clean(str(inner)): self._value(inner, each, depth + 1) for inner, each in value.items()}
            return [self._value("", each, depth + 1) for each in value]
        return clean(_described(value))


def _described(value: object) -> str:
    """Return any object as text; an exception with the name of its class."""
    try:
        return f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    except Exception as error:  # noqa: BLE001 - somebody else's object must not stop a log line
        return f"<{type(value).__name__}: {type(error).__name__} when shown>"


class _Lines:
    """Writes structlog's lines to a stream. A line that cannot be written is dropped, and the run goes on."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        stream = self._stream or sys.stderr
        try:
            try:
                stream.write(f"{line}\n")
            except UnicodeEncodeError:
                stream.write(f"{line.encode('ascii', 'backslashreplace').decode()}\n")
            stream.flush()
        except (OSError, ValueError):  # the stream is closed, its disk is full, or its reader has ended
            pass

    log = debug = info = warn = warning = error = exception = critical = fatal = msg


class _ToStructlog(logging.Handler):
    """Sends the log records of libraries through the same chain."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # the arguments do not fit the text; they may be secret, so leave them out
            text = str(record.msg)
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        structlog.get_logger().log(level, text, logger=record.name, exc_info=record.exc_info)
