"""A ledger that was restored from a backup is noticed, and brought up to what the channel shows; nobody is stale."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.rollout import Rollout

USERS = tuple(f"user-{number}" for number in range(12))


def copied(ledger: Path) -> Path:
    """The ledger as ``cp`` copies it, with its write-ahead log."""
    for suffix in ("", "-wal", "-shm"):
        file = ledger.with_name(ledger.name + suffix)
        if file.exists():
            shutil.copy2(file, file.with_name(f"backup{suffix}"))
    return ledger.with_name("backup")


def backed_up(ledger: Path) -> Path:
    """The ledger as SQLite's own backup copies it."""
    path = ledger.with_name("backup")
    with closing(sqlite3.connect(ledger)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    source.close()
    target.close()
    path.chmod(0o600)
    return path


def restore(backup: Path, ledger: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        file = ledger.with_name(ledger.name + suffix)
        file.unlink(missing_ok=True)
        saved = backup.with_name(backup.name + suffix)
        if saved.exists():
            shutil.copy2(saved, file)


def mark_of(rollout: Rollout) -> Path:
    return rollout.channel.with_name("enrolments.jsonl.mark")


async def enrolled(rollout: Rollout, *usernames: str, replace: bool = False) -> None:
    """Push requests of these users; nothing runs yet."""
    requests: list[dict[str, Any]] = await rollout.sign_in(*usernames)
    await rollout.push([request | ({"replace": True} if replace else {}) for request in requests])


@pytest.mark.parametrize("save", [copied, backed_up])
async def test_after_a_restore_only_who_was_being_replaced_is_in_doubt(rollout: Rollout, save: Any) -> None:
    await enrolled(rollout, *USERS)
    assert (await rollout.run()).code == 0
    backup = save(rollout.ledger)
    await rollout.fake_cognito.set_faults("internal_error_acted@user-0=20x", "internal_error_acted@user-1=20x")
    await enrolled(rollout, "user-0", "user-1", "user-2", replace=True)
    await enrolled(rollout, "new")
    assert (await rollout.run()).code == 1
    assert await rollout.users("needs_session") == {"user-0": "reply_lost", "user-1": "reply_lost"}

    restore(backup, rollout.ledger)

    refused = await rollout.run()
    assert refused.code == 3
    assert "older copy" in refused.err
    assert "mfa-worker recover" in refused.err
    pushed = await rollout.command("push", rollout.file([]))
    (said,) = pushed.logged("run_will_refuse")  # a newer copy would overwrite the queue in it
    assert (pushed.code, "older copy" in said["cause"], "pushed again" in said["cure"]) == (0, True, True)
    told = await rollout.command("status", "--json")
    assert told.code == 0
    assert told.logged("ledger_is_older"), told.err
    shown = await rollout.command("status")
    assert "→ restore the newest copy of the ledger, or bring this one up to date: mfa-worker recover" in shown.out
    assert "hand out" not in shown.out
    checked = await rollout.command("check")
    assert checked.code == 2
    assert "older copy" in checked.out
    shown = await rollout.command("recover")
    assert shown.code == 0
    assert "'user-0', 'user-1'" in shown.out
    assert "1 users become delivered" in shown.out
    assert "1 users get a row" in shown.out
    assert (await rollout.run()).code == 3, "a plan changes nothing"
    done = await rollout.command("recover", "--yes", "--json")
    assert done.code == 0
    assert sorted(json.loads(done.out)["in_doubt"]) == ["user-0", "user-1"]
    assert await rollout.users("needs_session") == {"user-0": "reply_lost", "user-1": "reply_lost"}
    assert (await rollout.run()).code == 1
    assert len(await rollout.users("delivered")) == len(USERS) - 1
    assert not (await rollout.audit()).stale

    await rollout.fake_cognito.set_faults()
    await enrolled(rollout, "user-0", "user-1")
    assert (await rollout.run()).code == 0
    assert not (await rollout.audit()).stale


async def test_a_ledger_whose_rows_cannot_be_found_is_not_recovered_but_restored(rollout: Rollout) -> None:
    await enrolled(rollout, *USERS)
    assert (await rollout.run()).code == 0
    backup = copied(rollout.ledger)
    with closing(sqlite3.connect(rollout.ledger)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (name,) = connection.execute("SELECT username FROM users ORDER BY username LIMIT 1").fetchone()
    content = rollout.ledger.read_bytes()
    at = content.rindex(name.encode())
    rollout.ledger.write_bytes(content[:at] + b"z" + content[at + 1 :])

    for options in ([], ["--yes"]):
        refused = await rollout.command("recover", *options)
        assert refused.code == 3
        assert "is damaged (" in refused.err
        assert "restore the newest backup" in refused.err

    restore(backup, rollout.ledger)
    assert (await rollout.command("recover", "--yes")).code == 0
    assert (await rollout.run()).code == 0


async def test_without_a_backup_an_empty_ledger_gets_its_rows_from_the_channel(rollout: Rollout) -> None:
    await enrolled(rollout, *USERS)
    assert (await rollout.run()).code == 0
    aside = rollout.folder / "aside"
    aside.mkdir()
    for file in (
        rollout.ledger,
        *(rollout.ledger.with_name(rollout.ledger.name + suffix) for suffix in ("-wal", "-shm")),
    ):
        if file.exists():
            file.rename(aside / file.name)

    await rollout.push([])
    recovered = await rollout.command("recover", "--yes")
    assert recovered.code == 0, recovered.err
    await enrolled(rollout, *USERS, "late")
    assert (await rollout.run()).code == 0

    assert (await rollout.status())["states"]["delivered"] == len(USERS) + 1
    audit = await rollout.audit()
    assert not audit.stale
    truth = await rollout.fake_cognito.truth()
    assert {len(truth[user].secrets) for user in USERS} == {1}


async def test_a_damaged_name_at_the_end_of_the_channel_is_damage_and_no_older_ledger(rollout: Rollout) -> None:
    await enrolled(rollout, *USERS)
    assert (await rollout.run()).code == 0
    channel = rollout.ledger.parent / "enrolments.jsonl"
    whole = channel.read_bytes()
    at = whole.rindex(b'"username"') + 14
    channel.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])

    refused = await rollout.run()
    assert refused.code == 3
    assert "lacks records that the ledger calls delivered" in refused.err
    assert "older copy" not in refused.err

    channel.write_bytes(whole)
    assert (await rollout.run()).code == 0


async def test_a_users_doubt_outlives_later_runs_until_a_new_secret_is_delivered(rollout: Rollout) -> None:
    await enrolled(rollout, *USERS)
    assert (await rollout.run()).code == 0
    backup = copied(rollout.ledger)
    await rollout.fake_cognito.set_faults("internal_error_acted@user-0=20x", "internal_error_acted@user-1=20x")
    await enrolled(rollout, "user-0", "user-1", replace=True)
    assert (await rollout.run()).code == 1
    await rollout.fake_cognito.set_faults()
    await enrolled(rollout, "user-1")
    assert (await rollout.run()).code == 1
    await enrolled(rollout, "new")
    assert (await rollout.run()).code == 1

    restore(backup, rollout.ledger)

    done = await rollout.command("recover", "--yes", "--json")
    assert json.loads(done.out)["in_doubt"] == ["user-0"]
    assert not (await rollout.audit()).stale


async def test_a_kill_at_any_moment_raises_no_alarm_and_a_copy_from_its_middle_does(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 60})
    await enrolled(rollout, *USERS, *(f"more-{number}" for number in range(40)))
    for delivered in (3, 14, 25):
        running = rollout.start("run")
        await rollout.until_delivered(delivered)
        await running.kill()
    backup = copied(rollout.ledger)
    await rollout.fake_cognito.set_faults("internal_error_acted@user-3=40x")
    await enrolled(rollout, "user-3", replace=True)
    assert (await rollout.run()).code == 1, "no alarm after three kills"

    restore(backup, rollout.ledger)

    assert (await rollout.run()).code == 3
    assert (await rollout.command("recover", "--yes")).code == 0
    await rollout.fake_cognito.set_faults()
    assert (await rollout.run()).code in (0, 1)
    assert not (await rollout.audit()).stale
    assert (await rollout.status())["states"]["delivered"] + len(await rollout.users("needs_session")) == 52


async def test_a_copy_of_the_ledger_with_its_mark_is_noticed_by_the_end_of_the_channel(rollout: Rollout) -> None:
    await enrolled(rollout, "ana")
    assert (await rollout.run()).code == 0
    with closing(sqlite3.connect(rollout.ledger)) as ledger, ledger:  # it was begun an hour ago
        ledger.execute("UPDATE mark SET value = value - 3600000 WHERE name = 'since'")
    ledger.close()
    with rollout.channel.open("a") as channel:  # what is no record alarms nobody
        later = {"username": "ana", "generation": 10**17, "attempt_id": "", "associated_at": "", "sealed": "YWdl"}
        channel.write(f"junk\n{json.dumps(later)}\n" + json.dumps({"username": "zoe", "generation": 10**13}) + "\n")
    assert (await rollout.run()).code == 0
    backup = copied(rollout.ledger)
    shutil.copy2(mark_of(rollout), rollout.folder / "backup.mark")
    await enrolled(rollout, "ben")
    assert (await rollout.run()).code == 0

    restore(backup, rollout.ledger)
    shutil.copy2(rollout.folder / "backup.mark", mark_of(rollout))

    refused = await rollout.run()
    assert refused.code == 3
    assert "at the end of" in refused.err
    assert (await rollout.command("recover", "--yes")).code == 0
    assert set(await rollout.users("delivered")) == {"ana", "ben"}
    assert (await rollout.run()).code == 0


async def test_a_recovery_that_was_interrupted_is_finished_before_anything_else(rollout: Rollout) -> None:
    await enrolled(rollout, "ana")
    assert (await rollout.run()).code == 0
    with closing(sqlite3.connect(rollout.ledger)) as ledger, ledger:
        ledger.execute("INSERT INTO mark VALUES ('recovering', 1)")
    ledger.close()

    refused = await rollout.run()
    assert refused.code == 3
    assert "mfa-worker recover --yes" in refused.err
    assert (await rollout.command("recover", "--yes")).code == 0
    assert (await rollout.run()).code == 0


async def test_nothing_is_recovered_beside_a_worker_that_runs(rollout: Rollout) -> None:
    await enrolled(rollout, "ana")
    running = rollout.start("run", "--follow")
    await rollout.until_delivered(1)

    refused = await rollout.command("recover", "--yes")

    assert refused.code == 2
    assert "stop all workers" in refused.err
    await running.kill()
    told = await rollout.command("recover", "--yes")
    assert told.code == 0
    assert "nothing shows that this ledger is an older copy" in told.out


async def test_a_new_ledger_beside_the_mark_of_another_is_refused(rollout: Rollout) -> None:
    await enrolled(rollout, "ana")
    assert (await rollout.run()).code == 0
    for file in rollout.folder.glob("rollout.db*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    rollout.channel.rename(rollout.folder / "printed.jsonl")  # so the channel does not show it either

    refused = await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))

    assert refused.code == 2
    assert "--new-rollout" in refused.err
    assert len((await rollout.fake_cognito.truth())["ana"].secrets) == 1


async def test_a_mark_that_is_missing_or_torn_is_written_anew_with_its_names(rollout: Rollout) -> None:
    await enrolled(rollout, "ana", "ben")
    assert (await rollout.run()).code == 0
    backup = copied(rollout.ledger)
    await rollout.fake_cognito.set_faults("internal_error_acted@ana=20x")
    await enrolled(rollout, "ana", replace=True)
    assert (await rollout.run()).code == 1
    mark_of(rollout).unlink()
    await enrolled(rollout, "cem")
    assert (await rollout.run()).code == 1
    with mark_of(rollout).open("r+b") as file:
        file.write(b"torn")
    await enrolled(rollout, "dan")
    assert (await rollout.run()).code == 1

    restore(backup, rollout.ledger)

    assert (await rollout.run()).code == 3
    assert json.loads((await rollout.command("recover", "--json")).out)["in_doubt"] == ["ana"]


async def test_the_mark_is_private_and_no_link_is_followed(rollout: Rollout) -> None:
    await enrolled(rollout, "ana")
    victim = rollout.folder / "victim"
    victim.write_text("mine")
    mark_of(rollout).symlink_to(victim)

    refused = await rollout.run()

    assert refused.code == 2
    assert "symbolic link" in refused.err
    assert victim.read_text() == "mine"
    mark_of(rollout).unlink()
    assert (await rollout.run()).code == 0
    assert mark_of(rollout).stat().st_mode & 0o777 == 0o600


async def test_a_ledger_of_the_earlier_version_gets_a_mark_without_an_alarm(rollout: Rollout) -> None:
    await enrolled(rollout, "ana")
    assert (await rollout.run()).code == 0
    with closing(sqlite3.connect(rollout.ledger)) as ledger, ledger:
        ledger.execute("DROP TABLE mark")
    ledger.close()
    mark_of(rollout).unlink()
    await enrolled(rollout, "ben")

    assert (await rollout.run()).code == 0
    assert mark_of(rollout).exists()


async def test_a_ledger_whose_rows_alone_are_older_is_noticed_by_who_is_in_question(rollout: Rollout) -> None:
    """So it is after ``cp BACKUP LEDGER`` under a running worker: the number is written again, old rows stay."""
    await enrolled(rollout, *USERS)
    assert (await rollout.run()).code == 0
    backup = copied(rollout.ledger)
    await rollout.fake_cognito.set_faults("internal_error_acted@user-0=20x")
    await enrolled(rollout, "user-0", replace=True)
    assert (await rollout.run()).code == 1
    assert (await rollout.run()).code == 1, "nothing is wrong with the ledger itself"
    with closing(sqlite3.connect(rollout.ledger)) as ledger:
        (number,) = ledger.execute("SELECT value FROM mark WHERE name = 'number'").fetchone()

    restore(backup, rollout.ledger)
    with closing(sqlite3.connect(rollout.ledger)) as ledger, ledger:
        ledger.execute("UPDATE mark SET value = ? WHERE name = 'number'", (number,))

    refused = await rollout.run()
    assert refused.code == 3
    assert "partly an older copy" in refused.err
    assert (await rollout.command("recover", "--yes")).code == 0
    assert await rollout.users("needs_session") == {"user-0": "reply_lost"}
    assert (await rollout.run()).code == 1
    assert not (await rollout.audit()).stale
