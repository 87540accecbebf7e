"""The ledger that the simulation believes in answers to every write as the real ones do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.adapters.ledgers.test_every_ledger import (  # noqa: F401 - run here with the fixture below
    test_a_fresh_row_never_overwrites_one_that_stands,
    test_a_row_that_replaces_an_older_version_is_lost_and_told_what_stands,
    test_a_row_that_replaces_one_that_is_missing_is_lost_and_leaves_nothing,
    test_a_row_that_replaces_the_version_that_stands_applies,
    test_any_sequence_of_writes_ends_as_compare_and_set_says,
    test_every_write_of_a_crowd_gets_its_own_answer,
    test_of_two_writes_at_the_same_time_one_applies_and_the_other_learns_of_it,
    test_repeating_a_write_that_applied_is_recognised,
    test_repeating_a_write_that_was_overtaken_since_is_lost,
    test_the_first_row_of_a_user_applies_and_is_read_back,
    test_the_same_write_twice_at_the_same_time_applies_once,
)
from tests.simulation.process import Process
from tests.simulation.stores import LedgerStore, Users
from worker.core.model import Enrolment, WriteResult


class Simulated:
    """The simulation's rows, for one process that nothing happens to."""

    def __init__(self) -> None:
        world: Any = SimpleNamespace(
            now=0.0, users=Users(), happened=lambda write: None, scenario=SimpleNamespace(marked=False)
        )
        self._store = LedgerStore(world)

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        return self._store.put(cast("Process", None), row, replaces)

    async def read(self, username: str) -> Enrolment | None:
        return self._store.rows.get(username)


@pytest.fixture
def ledger() -> Simulated:
    return Simulated()
