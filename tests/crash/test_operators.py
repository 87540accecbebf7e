"""What people do to the files of a rollout between two runs: the next one goes on, or says what is wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.power_cut import CHANNEL, FILES, LEDGER, Found, found, put, settings_in
from tests.support.rollout import Rollout
from worker.core.errors import ExitCode
from worker.core.model import State

LOG, MARK = f"{LEDGER}-wal", f"{CHANNEL}.mark"
Files = dict[str, bytes]
Change = Callable[[Files, Files, Files], Files]
"""Makes other files of those after one run, after the next, and after a third that was killed."""


def files_of(rollout: Rollout) -> Files:
    return {name: (rollout.folder / name).read_bytes() for name in FILES if (rollout.folder / name).exists()}


def without(files: Files, *names: str) -> Files:
    return {name: data for name, data in files.items() if name not in names}


def with_zeros_at_its_end(data: bytes) -> bytes:
    return data[:-600] + bytes(600)


REFUSED: dict[str, tuple[Change, ExitCode, str]] = {
    "the file system check left an empty ledger": (
        lambda _, later, __: {**later, LEDGER: b""},
        ExitCode.USAGE,
        "holds records already",
    ),
    "the ledger is gone": (lambda _, later, __: without(later, LEDGER), ExitCode.USAGE, "holds records already"),
    "an older ledger": (
        lambda early, later, _: {**later, LEDGER: early[LEDGER]},
        ExitCode.PERSON_MUST_ACT,
        "the ledger is an older copy",
    ),
    "an older channel's file": (
        lambda early, later, _: {**later, CHANNEL: early[CHANNEL]},
        ExitCode.PERSON_MUST_ACT,
        "lacks records that the ledger calls delivered",
    ),
    "zeros at the end of the channel's file": (
        lambda _, later, __: {**later, CHANNEL: with_zeros_at_its_end(later[CHANNEL])},
        ExitCode.PERSON_MUST_ACT,
        "lacks records that the ledger calls delivered",
    ),
    "somebody deleted the write-ahead log": (
        lambda _, __, killed: without(killed, LOG),
        ExitCode.PERSON_MUST_ACT,
        "the ledger is an older copy",
    ),
    "a later log beside an early ledger": (
        lambda early, _, killed: {**killed, LEDGER: early[LEDGER]},
        ExitCode.PERSON_MUST_ACT,
        "are of two moments",
    ),
    "the ledger is cut": (
        lambda _, later, __: {**later, LEDGER: later[LEDGER][: len(later[LEDGER]) // 2]},
        ExitCode.PERSON_MUST_ACT,
        "is damaged",
    ),
    "zeros in the ledger": (
        lambda _, later, __: {**later, LEDGER: later[LEDGER][:8192] + bytes(4096) + later[LEDGER][12288:]},
        ExitCode.PERSON_MUST_ACT,
        "is damaged",
    ),
}
GOES_ON: dict[str, Change] = {
    "nothing": lambda _, later, __: later,
    "a kill": lambda _, __, killed: killed,
    "an older mark": lambda early, later, _: {**later, MARK: early[MARK]},
    "no mark": lambda _, later, __: without(later, MARK),
    "an empty mark": lambda _, later, __: {**later, MARK: b""},
    "the channel's file was fetched": lambda _, later, __: without(later, CHANNEL),
    "the channel's file was emptied": lambda _, later, __: {**later, CHANNEL: b""},
}


@pytest.fixture
async def moments(rollout: Rollout) -> tuple[Files, Files, Files]:
    """The files after a run, after the next one, and after one that was killed."""
    moments = []
    for users in (("ana", "ben"), ("cem", "dai")):
        await rollout.push(await rollout.sign_in(*users))
        assert (await rollout.run()).code == 0
        moments.append(files_of(rollout))
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(9))))
    await rollout.fake_cognito.set_latency(0.2)
    rollout.configure(run={"concurrency": 2})
    dying = rollout.start("run")
    await rollout.until_delivered(7)
    await dying.kill()
    killed = files_of(rollout)
    assert killed[LOG]
    return moments[0], moments[1], killed


async def test_each_is_found_and_named_or_does_no_harm(
    rollout: Rollout, moments: tuple[Files, Files, Files], tmp_path: Path
) -> None:
    (folder := tmp_path / "state").mkdir()
    settings = settings_in(folder, rollout)

    async def made_of(files: Files) -> Found:
        put(folder, files)
        return await found(settings)

    for what, (change, code, said) in REFUSED.items():
        left = await made_of(change(*moments))
        assert left.refusal is not None, what
        assert (left.refusal.exit_code, said in str(left.refusal)) == (code, True), f"{what}: {left.refusal}"
        assert left.refusal.hint, what
    for what, change in GOES_ON.items():
        left = await made_of(change(*moments))
        assert left.refusal is None, f"{what}: {left.refusal}"
        assert {left.rows[name].state for name in ("ana", "ben", "cem", "dai")} == {State.DELIVERED}, what
    put(folder, moments[1])
    with closing(sqlite3.connect(settings.ledger.path, isolation_level=None)) as connection:
        connection.execute("VACUUM")
    assert (await found(settings)).refusal is None, "somebody vacuumed it"


async def test_users_whose_records_are_gone_from_the_channel_sign_in_again(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana", "ben"))
    assert (await rollout.run()).code == 0
    await rollout.push(await rollout.sign_in("cem", "dai"))
    assert (await rollout.run()).code == 0
    lines = rollout.channel.read_bytes().splitlines(keepends=True)
    rollout.channel.write_bytes(b"".join(lines[:-1]))

    refused = await rollout.run()
    shown = await rollout.command("recover")
    done = await rollout.command("recover", "--yes")

    assert refused.code == 3
    assert "lacks records" in refused.err
    assert "their record is gone from the channel's file (1)" in shown.out
    assert "Traceback" not in done.out + done.err
    (lost,) = await rollout.users("needs_session")
    assert lost in ("cem", "dai")
    await rollout.push(await rollout.sign_in(lost))
    assert (await rollout.run()).code == 0
    assert not (await rollout.audit()).stale


async def test_users_whose_rows_are_damaged_sign_in_again(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana", "ben"))
    assert (await rollout.run()).code == 0
    with closing(sqlite3.connect(rollout.ledger, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER row_has_another_checksum")
        connection.execute("UPDATE users SET generation = generation - 4096 WHERE username = 'ana'")

    refused = await rollout.run()
    asked = await rollout.command("show", "ana")
    shown = await rollout.command("recover")
    checked = await rollout.command("check")
    assert (await rollout.command("recover", "--yes")).code == 0

    assert (refused.code, asked.code, shown.code, checked.code) == (3, 3, 0, 2)
    assert "the row of 'ana' in the ledger cannot be read: it is not what was written" in refused.err
    assert "their row is damaged (1)" in shown.out
    assert await rollout.users("needs_session") == {"ana": "reply_lost"}
    assert list(await rollout.users("delivered")) == ["ben"]
    await rollout.push(await rollout.sign_in("ana"))
    assert (await rollout.run()).code == 0
    assert not (await rollout.audit()).stale
