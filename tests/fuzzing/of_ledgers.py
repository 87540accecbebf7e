"""Targets: what the embedded ledger, its log and its mark hold, where somebody or something damaged them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.fuzzing.harness import MARKER, Target, text_of
from tests.fuzzing.of_requests import written
from worker.adapters.ledgers.sqlite.ledger import _COLUMNS, _enrolment
from worker.adapters.ledgers.sqlite.mark import _line_of, _parsed, _plus
from worker.adapters.sqlite.matching_log import _commits
from worker.adapters.sqlite.newest import NewestRecords
from worker.app.older import told_by
from worker.core import figures, history, settled
from worker.core.errors import RowDamaged, RowUnreadable
from worker.core.record import line_address


def _cells(data: bytes) -> Sequence[Any] | None:
    """Cells of a row as SQLite returns them: JSON, where an object with one text stands for bytes."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not found or not isinstance(found[0], str):
        return None
    return [
        str(cell["b"]).encode("utf-8", "replace") if isinstance(cell, dict) and "b" in cell else cell for cell in found
    ]


def sqlite_row(data: bytes) -> None:
    """A row that was read is written without loss."""
    if (cells := _cells(data)) is None or any(isinstance(cell, list | dict) for cell in cells):
        return
    cells = [*cells, *[None] * len(_COLUMNS)][: len(_COLUMNS) - 1]
    row = _enrolment(cells)
    row.settled.__contains__("id")


def events(data: bytes) -> None:
    found = history.load_text(text_of(data))
    assert len(found) <= history.MOST
    again = history.load_text(history.dump(found))
    assert [event._replace(at=0.0) for event in again] == [event._replace(at=0.0) for event in found]


def settled_ids(data: bytes) -> None:
    """Ids that were settled stay so, whatever else is stored."""
    try:
        stored = json.loads(data)
    except (ValueError, RecursionError):
        return
    found = settled.load(stored)
    more = found.add("another")
    assert "another" in more
    assert "another" in settled.load(json.loads(json.dumps(more.dump())))


def minute(data: bytes) -> None:
    found = figures.load(29_000_000, data.decode("utf-8", "replace"))
    if found is not None:
        assert figures.load(29_000_000, found.dump()) is not None
        figures.merged([found, found])


def mark(data: bytes) -> None:
    """What the mark says is said again where it is written anew."""
    found = _parsed(data)
    again = _parsed(
        b"".join([_line_of(found.ledger or "0" * 32, found.number), *(_plus(*name) for name in found.names.items())])
    )
    assert again.names == found.names
    assert again.number == found.number


def log_beside(data: bytes) -> None:
    _commits(written(data, "log"))


def recovered_line(data: bytes) -> None:
    """A line of a channel, of which ``recover`` takes what its ledger lacks."""
    if (told := told_by(data)) is None:
        return
    user, generation = line_address(told)
    with NewestRecords() as newest:
        newest.keep([(user, told.get("username"), generation, told["attempt_id"], told["associated_at"])])
        assert newest.take(user) is not None


def _line(**more: object) -> bytes:
    about = {"username": "ana", "generation": 7, "attempt_id": "a", "associated_at": "2025-01-31T12:00:00Z"}
    return json.dumps({**about, "sealed": "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSA=", **more}).encode()


_ROW: list[Any] = ["ana", "1", "in_progress", None, 1.5, 7, "w", 2.5, 0, 0, None, None, None, "[]", *[None] * 8]
ROWS = (
    json.dumps(_ROW).encode(),
    json.dumps(
        [
            *_ROW[:14],
            7,
            "attempt",
            "2025-01-31T12:00:00Z",
            {"b": "age"},
            None,
            None,
            {"b": '["session", 5.0, true]\nage'},
            '[1,[0,"c"]]',
        ]
    ).encode(),
    json.dumps([*_ROW[:2], MARKER.decode(), *_ROW[3:]]).encode(),
)

TARGETS = {
    "sqlite_row": Target(
        sqlite_row, ROWS, documented=(RowUnreadable, RowDamaged), repeats=lambda _: True
    ),  # an unknown state
    "events": Target(
        events,
        (
            b'[1750000000000,[0,"c"],[5,"a","detail"],[1,"d","",3]]',
            b'[1e999,[1,"c"]]',
            b'[0,[0.5,"c","d",1e999]]',
            b"[1,[0,[],{}]]",
        ),
        shapes={"brackets": lambda n: b"[" * n, "events": lambda n: b"[1" + b',[1,"c"]' * (n // 8) + b"]"},
    ),
    "settled_ids": Target(
        settled_ids,
        (
            b'["a","b"]',
            json.dumps(settled.load([f"id-{i}" for i in range(90)]).dump()).encode(),
            b'[{"newest":["A"],"older":"eNoDAAAAAAE="}]',
        ),
        documented=(AttributeError, KeyError, TypeError, ValueError),  # of a row, each is ``RowUnreadable``
        shapes={"ids": lambda n: b'["a"' + b',"b"' * (n // 4) + b"]"},
    ),
    "minute": Target(
        minute,
        (
            b'{"s":{"delivered":3},"a":{},"c":[0,{}],"u":[1.5,{"0.5":3,"":1}],"m":1,"r":[20,20]}',
            b'{"s":{"a":1e999},"a":{},"c":[0,{}],"u":[0,{}],"m":NaN,"r":[1,1]}',
        ),
        shapes={
            "brackets": lambda n: b"[" * n,
            "names": lambda n: b'{"s":{' + b",".join(b'"%d":1' % i for i in range(n // 9)) + b"}}",
        },
    ),
    "mark": Target(
        mark,
        (
            _line_of("0" * 32, 7) + _plus("ana", 5) + b'- 6 "ana"\n+ 9999999999999999999 "b"\n',
            _line_of("0" * 32, 7) + b'+ 1 "\xff"\n',
            b"x\n" * 40 + rb'+ 1 "\ud800"',
        ),
        shapes={
            "lines": lambda n: _line_of("0" * 32, 7) + b'+ 1 "a"\n' * (n // 8),
            "one line": lambda n: _line_of("0" * 32, 7) + b'+ 1 "' + b"a" * n + b"\n",
            "escapes": lambda n: _line_of("0" * 32, 7) + b'+ 1 "' + rb"\u0041" * (n // 6) + b"\n",
        },
    ),
    "log_beside": Target(
        log_beside,
        (b"\0" * 32 + b"\0\0\0\1" + b"\0" * 200, b"7\x7f\x06\x82\x00-\xe2\x18\x00\x00\x10\x00" + b"\0" * 40),
        shapes={"frames of no size": lambda n: b"\0" * n},
    ),
    "recovered_line": Target(
        recovered_line,
        (_line(), _line(attempt_id="\ud800"), _line(generation=10**30)),
        shapes={"brackets": lambda n: b"[" * n},
    ),
}
