"""A sealed record that was damaged in the ledger is not delivered, and its user signs in again."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.support.rollout import Rollout


async def test_a_record_that_was_damaged_before_its_delivery_never_leaves(rollout: Rollout) -> None:
    away = rollout.folder / "away"  # there is no such folder yet, so nothing can be delivered
    rollout.configure(channel={"patience": 0.2, "path": str(away / "enrolments.jsonl")})
    await rollout.push(await rollout.sign_in("ana", "ben"))
    stopped = await rollout.run()
    with closing(sqlite3.connect(rollout.ledger, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER row_has_another_checksum")
        (blob,) = connection.execute("SELECT blob FROM users WHERE username = 'ana'").fetchone()
        damaged = blob[:-1] + bytes([blob[-1] ^ 1])
        connection.execute("UPDATE users SET blob = ? WHERE username = 'ana'", (damaged,))
    away.mkdir()

    ended = await rollout.run()

    assert (stopped.code, ended.code) == (75, 1), stopped.err + ended.err
    assert "record_damaged" in ended.err
    assert await rollout.users("needs_session") == {"ana": "reply_lost"}
    assert list(await rollout.users("delivered")) == ["ben"]
