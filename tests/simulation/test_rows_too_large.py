"""A ledger that refuses a row for its size, which nobody could know before the call: that user's own outcome."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.ports import SimulatedLedger
from tests.simulation.scenario import Message, Scenario
from tests.simulation.world import World
from worker.core.errors import RecordRefused
from worker.core.model import Enrolment, Reason, State, WriteResult

put = SimulatedLedger.put


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("token", [True, False])
def test_a_row_that_the_ledger_never_takes_fails_its_user_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, first: int, token: bool
) -> None:
    sealed: list[str] = []

    async def refusing(self: SimulatedLedger, row: Enrolment, replaces: str | None) -> WriteResult:
        if row.state is State.SEALED and row.username == "ann" and row.worker is not None and row.sealed is not None:
            sealed.append(row.sealed.attempt_id)
            if len(set(sealed)) >= first:
                raise RecordRefused("ItemTooLarge")
        return await put(self, row, replaces)

    monkeypatch.setattr(SimulatedLedger, "put", refusing)
    ann = Message("ann", token=token)
    world = World(Scenario((ann, replace(ann, replace=True, arrives=20.0), Message("bob", token=token)), rounds=0))
    world.run()
    rows = world.ledger.rows
    assert (rows["ann"].state, rows["ann"].reason) == (State.FAILED, Reason.RECORD_TOO_LARGE)
    assert rows["ann"].detail == "ItemTooLarge"
    assert rows["bob"].state is State.DELIVERED
