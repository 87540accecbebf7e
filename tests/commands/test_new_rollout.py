"""Where a rollout begins: it is said, no other one's secrets lie there, and nothing is made that was refused."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from tests.support.processes import Ended
from tests.support.rollout import Rollout
from worker.adapters.channels.kind import OpenableChannel
from worker.app import beginning
from worker.app.stores import Purpose, open_stores
from worker.settings import Settings


def make_away(rollout: Rollout) -> None:
    """What somebody does who tidies up: the ledger goes, and the delivered secrets stay."""
    for file in rollout.folder.glob("rollout.db*"):
        if file.is_file():
            file.unlink()


async def delivered(rollout: Rollout, *usernames: str) -> None:
    ended = await rollout.run("--input", rollout.file(await rollout.sign_in(*usernames)))
    assert ended.code == 0


def refused_beside_records(ended: Ended, rollout: Rollout) -> None:
    assert ended.code == 2, ended.err
    assert str(rollout.ledger) in ended.err
    assert "holds records already" in ended.err
    assert "mfa-worker run --new-rollout" in ended.err


# --- it is said -------------------------------------------------------------------------------------------------------


async def test_whoever_begins_a_ledger_is_told_so_with_its_path_and_the_settings_file(rollout: Rollout) -> None:
    requests = rollout.file(await rollout.sign_in("ana"))

    pushed, ran = await rollout.command("push", requests), await rollout.run()
    again = await rollout.run()

    for ended in (pushed, ran):
        (line,) = ended.logged("new_ledger")
        assert line["ledger"] == str(rollout.ledger)
        assert line["settings_file"] == str(rollout.config)
    assert again.code == 0
    assert again.logged("new_ledger") == []


async def test_after_a_push_status_says_what_waits_and_that_nobody_is_in_the_ledger(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana", "ben"))

    ended = await rollout.command("status", "--json")

    assert (ended.code, json.loads(ended.out)["backlog"]) == (0, 2)
    assert len(ended.logged("new_ledger")) == 1


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("status", "--json"), ("export", "--state", "failed"), ("export", "--state", "unrequested")],
)
@pytest.mark.parametrize("there", [None, b""])
async def test_what_only_reads_makes_no_ledger(
    rollout: Rollout, arguments: tuple[str, ...], there: bytes | None
) -> None:
    if there is not None:
        rollout.ledger.touch(0o600)

    ended = await rollout.command(*arguments)

    assert ended.code == 2
    assert f"there is no ledger at {rollout.ledger}" in ended.err
    assert [file.name for file in rollout.folder.glob("rollout.db*")] == ([] if there is None else ["rollout.db"])
    assert there is None or not rollout.ledger.read_bytes()


# --- the settings that count ------------------------------------------------------------------------------------------


async def test_a_mistyped_pool_is_corrected_after_the_first_push_and_nothing_else_is_needed(rollout: Rollout) -> None:
    requests = await rollout.sign_in("ana")
    for wrong in ({"user_pool_id": "us-east-1_mistyped"}, {"endpoint_url": "http://127.0.0.1:9"}):
        right = {key: rollout.settings().cognito.model_dump()[key] for key in wrong}
        rollout.configure(cognito=wrong)
        assert (await rollout.command("push", rollout.file(requests))).code == 0
        assert (await rollout.command("push", "--roster", rollout.file(["ana"]))).code == 0
        rollout.configure(cognito=right)

    assert (await rollout.run()).code == 0
    assert await rollout.states() == {"delivered": 1}
    rollout.configure(cognito={"user_pool_id": "us-east-1_mistyped"})
    for arguments in (("run",), ("push", rollout.file(requests)), ("status",)):
        ended = await rollout.command(*arguments)
        assert (ended.code, "belongs to another rollout" in ended.err) == (2, True)


# --- beside records ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["gone", "empty", "never one's row", "another path"])
async def test_a_new_ledger_beside_delivered_secrets_is_refused_and_nothing_is_made(rollout: Rollout, how: str) -> None:
    await delivered(rollout, "ana", "ben")
    make_away(rollout)
    if how == "empty":
        rollout.ledger.touch(0o600)
    elif how == "never one's row":
        aside = rollout.channel.rename(rollout.folder / "aside")
        await rollout.command("push", "--roster", rollout.file(["ana"]))
        aside.rename(rollout.channel)
    elif how == "another path":
        rollout.ledger = rollout.folder / "another.db"
        rollout.configure(queue={"path": str(rollout.ledger)})
    made = rollout.ledger.exists()
    requests = rollout.file(await rollout.sign_in("ana", "ben"))

    refused_beside_records(await rollout.run("--input", requests), rollout)
    dry = await rollout.run("--dry-run", "--input", requests)

    assert (dry.code, "holds records already" in dry.out) == (2, True)
    assert rollout.ledger.exists() is made
    assert (await rollout.fake_cognito.stats()).issued == 2


@pytest.mark.parametrize("is_made", [False, True])
async def test_a_worker_that_was_overtaken_while_it_began_goes_on(
    rollout: Rollout, monkeypatch: pytest.MonkeyPatch, is_made: bool
) -> None:
    if is_made:
        await rollout.push([])
    look = beginning.refuse_beside_records

    async def overtaken(settings: Settings, channel: OpenableChannel) -> None:
        await delivered(rollout, "ana")
        await look(settings, channel)

    monkeypatch.setattr(beginning, "refuse_beside_records", overtaken)
    async with open_stores(rollout.settings(), Purpose.RUN) as stores:
        assert stores.found.has_users


async def test_whoever_pushes_beside_delivered_secrets_is_told_that_run_will_refuse(rollout: Rollout) -> None:
    await delivered(rollout, "ana", "ben")
    make_away(rollout)
    requests = rollout.file(await rollout.sign_in("ana", "ben"))

    pushed = await rollout.command("push", requests)
    named = await rollout.command("push", "--roster", rollout.file(["ana"]))

    for ended in (pushed, named):
        (line,) = ended.logged("run_will_refuse")
        assert ended.code == 0
        assert "holds records already" in line["cause"]
        assert "must then be pushed again" in line["cure"]
    refused_beside_records(await rollout.run(), rollout)
    assert (await rollout.fake_cognito.stats()).issued == 2
    assert (await rollout.run("--new-rollout")).code == 0
    assert (await rollout.fake_cognito.stats()).issued == 4


async def test_a_new_rollout_that_is_meant_says_so_once_and_the_ledger_remembers(rollout: Rollout) -> None:
    await delivered(rollout, "ana")
    make_away(rollout)

    assert (await rollout.run("--new-rollout")).code == 0
    assert (await rollout.command("push", rollout.file(await rollout.sign_in("ben")))).code == 0
    assert (await rollout.run()).code == 0
    assert await rollout.states() == {"delivered": 1}


async def test_a_new_rollout_beside_must_exist_contradicts_itself(rollout: Rollout) -> None:
    rollout.configure(ledger={"must_exist": True})

    ended = await rollout.run("--new-rollout")

    assert ended.code == 2
    assert "--new-rollout" in ended.err
    assert "ledger.must_exist" in ended.err
    assert not rollout.ledger.exists()


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b'{"username": "ana", "generation": 1, "sea'])
async def test_a_channel_file_without_a_whole_record_is_none_of_another_rollout(
    rollout: Rollout, content: bytes | None
) -> None:
    if content is not None:
        rollout.channel.touch(0o600)
        rollout.channel.write_bytes(content)

    await delivered(rollout, "ana")


async def test_where_only_the_mark_is_left_whoever_pushes_is_told_and_run_refuses(
    rollout: Rollout,
) -> None:
    await delivered(rollout, "ana")
    make_away(rollout)
    rollout.channel.unlink()
    requests = rollout.file(await rollout.sign_in("ben"))

    pushed, ran = await rollout.command("push", requests), await rollout.run()
    begun = await rollout.run("--new-rollout")
    again = await rollout.command("push", requests)

    (said,) = pushed.logged("run_will_refuse")
    assert "mfa-worker run --new-rollout" in said["cure"]
    assert "pushed again" in said["cure"]
    assert (pushed.code, ran.code, begun.code, again.code) == (0, 2, 0, 0)
    assert again.logged("run_will_refuse") == []
    assert await rollout.states() == {"delivered": 1}


async def test_a_ledger_with_users_goes_on_beside_a_queue_that_is_new(rollout: Rollout) -> None:
    rollout.configure(queue={"path": str(rollout.folder / "queue.db")}, ledger={"path": str(rollout.ledger)})
    await delivered(rollout, "ana")
    for file in rollout.folder.glob("queue.db*"):
        file.unlink()

    await delivered(rollout, "ben")

    assert await rollout.states() == {"delivered": 2}


# --- must_exist -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["empty", "no row", "another program's", "a folder", "a link"])
@pytest.mark.parametrize("command", ["run", "push", "status"])
async def test_what_is_no_ledger_of_a_rollout_is_not_the_one_that_must_exist(
    rollout: Rollout, kind: str, command: str
) -> None:
    if kind == "no row":
        await rollout.push(await rollout.sign_in("ana"))
    elif kind == "a folder":
        rollout.ledger.mkdir()
    elif kind == "a link":
        rollout.ledger.symlink_to("nowhere.db")
    else:
        rollout.ledger.touch(0o600)
    if kind == "another program's":
        with closing(sqlite3.connect(rollout.ledger)) as connection:
            connection.executescript("CREATE TABLE users (id); CREATE TABLE bookmarks (url)")
    rollout.configure(ledger={"must_exist": True})

    ended = await rollout.command(command, *([rollout.file([])] if command == "push" else []))

    assert ended.code == 2, ended.err
    assert str(rollout.ledger) in ended.err
    assert not (rollout.folder / "nowhere.db").exists()


async def test_a_database_of_another_program_is_left_as_it_is(rollout: Rollout) -> None:
    rollout.ledger.touch(0o600)
    with closing(sqlite3.connect(rollout.ledger)) as connection:
        connection.executescript("CREATE TABLE users (id); CREATE TABLE bookmarks (url)")
    before = rollout.ledger.read_bytes()

    for command in ("run", "push", "status"):
        ended = await rollout.command(command, *([rollout.file([])] if command == "push" else []))
        assert (ended.code, "another program" in ended.err) == (2, True), ended.err

    assert rollout.ledger.read_bytes() == before


# --- another place than before ----------------------------------------------------------------------------------------


async def test_whoever_goes_on_delivering_to_another_place_is_told_once_where_the_other_records_are(
    rollout: Rollout,
) -> None:
    await delivered(rollout, "ana")
    first = str(rollout.channel)
    rollout.configure(channel={"path": str(rollout.folder / "elsewhere.jsonl")})
    requests = rollout.file(await rollout.sign_in("ben"))

    moved, again = await rollout.run("--input", requests), await rollout.run()

    (line,) = moved.logged("another_channel")
    assert (line["channel"], line["before"]) == (str(rollout.folder / "elsewhere.jsonl"), [first])
    assert (moved.code, again.code) == (0, 0)
    assert again.logged("another_channel") == []


async def test_a_channel_that_was_corrected_before_anybody_was_delivered_is_no_other_one(rollout: Rollout) -> None:
    right = str(rollout.channel)
    rollout.configure(channel={"path": str(rollout.folder / "mistyped.jsonl")})
    assert (await rollout.run()).code == 0
    rollout.configure(channel={"path": right})

    await delivered(rollout, "ana")
    again = await rollout.run()

    assert again.logged("another_channel") == []
