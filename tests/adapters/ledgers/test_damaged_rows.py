"""A row that a disk has changed is found by its checksum, whatever bit it is; what earlier versions wrote is read."""

from __future__ import annotations

import asyncio
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.adapters.ledgers.rigs import opened
from tests.support.rows import activation, row, sealed
from worker.adapters.ledgers.sqlite.ledger import _CHECKSUM, _COLUMNS, _values
from worker.adapters.ledgers.sqlite.row_checksum import checksum, is_damaged
from worker.core.errors import PersonMustAct, RowDamaged
from worker.core.model import Enrolment, Reason, State, Written

ANA = row("ana", State.NEEDS_SESSION, reason=Reason.SESSION_EXPIRED, sealed=sealed(), activation=activation())


def changed(path: Path, statement: str, *parameters: object, keeps_checksum: bool = True) -> None:
    """Change a row as a disk does: no trigger hears of it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if keeps_checksum:
            connection.execute("DROP TRIGGER row_has_another_checksum")
        connection.execute(statement, parameters)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    async with opened(tmp_path / "rollout.db") as ledger:
        for each in (ANA, row("bob", State.DELIVERED, sealed=sealed(2, blob=b""))):
            await ledger.put(each, None)
    return tmp_path / "rollout.db"


@pytest.mark.parametrize(
    "change",
    [
        "state = 'delivered', reason = NULL",
        "generation = generation + 4",
        "request_id = 'another'",
        "settled = replace(settled, '[', '{')",
        "sealed_generation = 3",
        "since = since + 1",
        "doubt = 1",
        "version = 'worker:0'",
        "activation = X'00'",
        "kind = CAST(X'61ff62' AS TEXT)",
        "reason = CAST(X'ff' AS TEXT)",
        "crashes = 'many'",
        "checksum = checksum + 1",
        "checksum = 'none'",
        "blob = 'text'",
    ],
)
async def test_a_row_that_was_changed_is_named_and_no_other(path: Path, change: str) -> None:
    changed(path, f"UPDATE users SET {change} WHERE username = 'ana'")
    async with opened(path) as ledger:
        with pytest.raises(RowDamaged, match="'ana'") as damaged:
            await ledger.read("ana")
        assert "recover" in damaged.value.hint
        found: list[RowDamaged] = []
        assert [each.username async for each in ledger.every_row(found)] == ["bob"]
        assert [each.username for each in found] == ["ana"]
        with pytest.raises(PersonMustAct):
            await ledger.examine(60.0)


async def test_counts_that_are_not_those_of_the_rows_are_found_and_counted_again(path: Path) -> None:
    changed(path, "UPDATE tally SET number = number + 1 WHERE state = 'delivered'")
    async with opened(path) as ledger:
        with pytest.raises(PersonMustAct, match="counts"):
            await ledger.examine(60.0)
        await ledger.begin_recovery()
        await ledger.end_recovery()
        assert await ledger.examine(60.0)


async def test_what_a_person_or_an_earlier_version_writes_is_a_row_that_nobody_can_judge(path: Path) -> None:
    changed(path, "UPDATE users SET detail = 'by hand' WHERE username = 'ana'", keeps_checksum=False)
    async with opened(path) as ledger:
        assert await ledger.read("ana") == ANA._replace(detail="by hand")
        assert isinstance(await ledger.put(ANA._replace(version="worker:new"), ANA.version), Written)
    changed(path, "UPDATE users SET detail = 'damaged' WHERE username = 'ana'")
    async with opened(path) as ledger:
        with pytest.raises(RowDamaged):
            await ledger.read("ana")


def test_the_checksum_is_the_same_in_every_version_of_python_and_of_the_worker() -> None:
    """Otherwise every row of an older ledger would count as damaged."""
    made = row("zoë", State.SEALED, sealed=sealed(session_expires_at=1.7e9 + 0.25), activation=activation())
    values = _values(made._replace(version="worker:1", doubt=True, crashes=2, detail="x"), None)
    assert checksum(values[:_CHECKSUM]) == 6_696_746_949


ANYBODY = [ANA, row("zoë", doubt=True, crashes=1), row("ben", State.SEALED, sealed=sealed(7))]


@pytest.mark.parametrize("stands", ANYBODY, ids=[each.username for each in ANYBODY])
def test_no_single_bit_of_what_a_row_says_can_change_unseen(stands: Enrolment) -> None:
    values = _values(stands, None)
    for at, value in enumerate(values[:_CHECKSUM]):
        if _COLUMNS[at] != "blob":  # which has a digest of its own
            for damaged in _with_one_bit_changed(value):
                assert is_damaged([*values[:at], damaged, *values[at + 1 : _CHECKSUM]], values[_CHECKSUM])


def _with_one_bit_changed(value: object) -> Iterator[object]:
    """Every value of a column that differs from this one in a bit."""
    match value:
        case str() | bytes():
            data = value.encode() if isinstance(value, str) else value
            for bit in range(8 * len(data)):
                changed = bytearray(data)
                changed[bit // 8] ^= 1 << bit % 8
                yield changed.decode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(changed)
        case int():
            yield from (int(value) ^ 1 << bit for bit in range(48))
        case float():
            (stored,) = struct.unpack("<Q", struct.pack("<d", value))
            yield from (struct.unpack("<d", struct.pack("<Q", stored ^ 1 << bit))[0] for bit in range(64))


async def test_a_later_kind_of_checksum_is_not_judged(path: Path) -> None:
    changed(path, "UPDATE users SET checksum = (9 << 32) + 1 WHERE username = 'ana'")
    async with opened(path) as ledger:
        assert await ledger.read("ana") == ANA
        assert await asyncio.wait_for(ledger.examine(60.0), 60)
