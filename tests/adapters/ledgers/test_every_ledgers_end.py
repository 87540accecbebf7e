"""What every ledger does at the end of a rollout: what is sealed goes by ordinary writes, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

from tests.adapters.ledgers.rigs import OpenLedger, WholeLedger
from tests.support.rows import row, sealed
from worker.core.model import Lost, State, Written
from worker.core.ports import Ending, Recoverable
from worker.core.purging import purged

SEALED = b"age-never-to-be-found-again" * 8


class EndedLedger(WholeLedger, Ending, Recoverable, Protocol):
    """What the end of a rollout asks of a ledger."""


async def test_what_was_sealed_is_in_no_file_once_it_is_tidied_and_every_row_stays(
    open_ledger: OpenLedger, tmp_path: Path
) -> None:
    async with open_ledger() as opened:
        ledger = cast("EndedLedger", opened)
        kept = row("ana", State.DELIVERED, sealed=sealed(blob=SEALED))
        other = row("zoe", State.SEALED, sealed=sealed(blob=b"age-the-only-copy"))
        for each in (kept, other):
            await ledger.put(each, None)
        erased = purged(kept, 2e9, activations=False)
        assert erased is not None
        new = erased._replace(version="end:1")
        assert isinstance(await ledger.put(new, "another"), Lost), "whoever was faster wins"
        assert isinstance(await ledger.put(new, kept.version), Written)

        assert await ledger.tidy()
        assert await ledger.tidy(), "again it is nothing"

        assert {each.username: each async for each in ledger.every_row()} == {"ana": new, "zoe": other}
        assert (await ledger.recount()).accepted == 2
    assert not [each for each in tmp_path.rglob("*") if each.is_file() and SEALED[:40] in each.read_bytes()]  # noqa: ASYNC240
