"""What every ledger promises to whoever compares records with it: it tells of all users, and is not changed by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.adapters.ledgers import rigs
from tests.adapters.ledgers.rigs import PAGE, STAMP, OpenLedger, create_table, in_turn
from tests.support.emulators import Emulator
from tests.support.rows import NASTY_NAMES, row, sealed
from worker.adapters.ledgers.dynamodb import reads
from worker.adapters.ledgers.dynamodb.recorded import DynamoRecorded
from worker.adapters.ledgers.sqlite import recorded as sqlite_recorded
from worker.adapters.ledgers.sqlite.recorded import SqliteRecorded
from worker.core.errors import UsageError
from worker.core.model import Reason, Recorded, State
from worker.core.ports import SecretsRecorded

DELIVERED = sealed(7, blob=b"")


class Rig(NamedTuple):
    open_ledger: OpenLedger
    recorded: Callable[[Mapping[str, str]], SecretsRecorded]


@pytest.fixture(params=["sqlite", "moto", "ministack"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    if request.param == "sqlite":
        monkeypatch.setattr(sqlite_recorded, "_PAGE", PAGE)
        path = tmp_path / "a folder?&#" / "rollout.db"
        path.parent.mkdir()
        yield Rig(
            rigs._sqlite(path, with_queue=True), lambda stamp: SqliteRecorded(path, stamp, path.with_name("mark"))
        )
        return
    request.getfixturevalue("aws_credentials")
    emulator: Emulator = request.getfixturevalue(request.param)
    monkeypatch.setattr(reads, "PAGE", PAGE)
    async with AsyncExitStack() as stack:
        aws = await stack.enter_async_context(emulator.aws())
        dynamodb = in_turn(await aws.dynamodb(), emulator, asyncio.Lock())
        table = await create_table(dynamodb)
        yield Rig(rigs._dynamodb(dynamodb, table), lambda stamp: DynamoRecorded(dynamodb, table, stamp))


async def told(ledger: SecretsRecorded, usernames: Sequence[str] | None = None) -> dict[str, Recorded]:
    await ledger.check()
    found = [each async for page in ledger.read(usernames) for each in page]
    assert len({each.username for each in found}) == len(found)
    return {each.username: each for each in found}


async def test_everybody_is_told_of_with_the_newest_secret(rig: Rig) -> None:
    rows = [row(name, State.DELIVERED, sealed=DELIVERED, since=5.5) for name in NASTY_NAMES]
    rows += [row(f"user {number}") for number in range(PAGE)]
    rows.append(row("out", State.SEALED, sealed=sealed(8)))
    rows.append(row("kept", State.ACTIVE, sealed=sealed(9)))
    rows.append(row("older", State.DELIVERED, sealed=DELIVERED._replace(digest="")))
    rows.append(row("dead", State.NEEDS_SESSION, reason=Reason.REPLY_LOST, sealed=DELIVERED))
    async with rig.open_ledger() as ledger:
        await asyncio.gather(*(ledger.put(each, None) for each in rows))
        await ledger.add_to_roster(["nobody"])
        found = await told(rig.recorded(STAMP))
        assert found.keys() == {each.username for each in rows}
        assert await told(rig.recorded(STAMP), ["out", "nobody", "strange", "kept"]) == {
            name: found[name] for name in ("out", "kept")
        }
    digest = DELIVERED.digest
    assert found[NASTY_NAMES[0]] == Recorded(NASTY_NAMES[0], "delivered", None, 5.5, 7, digest)
    assert {each.digest for name, each in found.items() if name in NASTY_NAMES} == {digest}
    assert (found["user 0"].generation, found["user 0"].digest) == (None, "")
    assert (found["out"].generation, found["out"].digest) == (8, digest)
    assert (found["kept"].state, found["kept"].digest) == ("active", digest), "of what is kept it is made"
    assert (found["older"].generation, found["older"].digest) == (7, "")
    assert (found["dead"].reason, found["dead"].digest) == ("reply_lost", digest)
    assert await told(rig.recorded(STAMP)) == found, "also when no worker has it open"


async def test_another_rollouts_is_refused_and_so_is_one_without_users(rig: Rig) -> None:
    async with rig.open_ledger() as ledger:
        with pytest.raises(UsageError, match="no user's row"):
            await rig.recorded(STAMP).check()
        await ledger.put(row(), None)
    with pytest.raises(UsageError, match="another rollout: its user pool"):
        await rig.recorded(STAMP | {"user pool": "us-east-1_Another"}).check()
    await rig.recorded(STAMP).check()
