"""``open --against-ledger``: only what this rollout's worker delivered, whatever somebody else put into the channel."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.aws_rollout import AwsRollout, aws_rollout_in
from tests.support.emulators import Emulator
from tests.support.processes import Ended
from tests.support.rollout import Rollout
from worker.adapters.channels.s3.keys import key_of
from worker.core.model import Sealed
from worker.core.record import record_line
from worker.sealing.age import AgeSealer

EVIL = "NOBODYSHOULDUSETHISSECRET"
NEWER = 2**52
"""A generation above every true one."""


def forged(rollout: Rollout, username: str, generation: int = NEWER) -> Sealed:
    """What anybody can seal who knows the recipient, which is public."""
    record = {"username": username, "generation": generation, "secret_code": EVIL, "otpauth_uri": "otpauth://totp/x"}
    blob = AgeSealer([rollout.recipient]).seal(json.dumps(record).encode())
    return Sealed(generation, str(uuid.uuid4()), "2030-01-01T00:00:00.000Z", blob)


def forge(rollout: Rollout, username: str, generation: int = NEWER) -> None:
    with rollout.channel.open("ab") as channel:
        channel.write(record_line(username, forged(rollout, username, generation)) + b"\n")


async def opened(rollout: Rollout, *more: str, **options: Any) -> tuple[Ended, dict[str, str]]:
    """How the command ended, and the secret of each user that it gave out."""
    ended = await rollout.command("open", "-i", str(rollout.identity), "--against-ledger", *more, **options)
    records = [json.loads(text) for text in ended.out.splitlines()]
    found = {each["username"]: each["secret_code"] for each in records}
    rollout.secrets |= set(found.values())
    assert EVIL not in ended.out + ended.err
    return ended, found


async def truth(rollout: Rollout) -> dict[str, str]:
    return {name: user.secrets[-1].secret_code for name, user in (await rollout.fake_cognito.truth()).items()}


async def delivered(rollout: Rollout, *usernames: str) -> dict[str, str]:
    await rollout.push(await rollout.sign_in(*usernames))
    assert (await rollout.run()).code == 0
    return await truth(rollout)


def files_beside(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.parent.glob(f"{path.name}*") if each.is_file()}


async def test_a_forged_record_neither_comes_out_nor_hides_the_true_one(rollout: Rollout) -> None:
    true = await delivered(rollout, "ana", "ben")
    forge(rollout, "ana")
    forge(rollout, "eve", 1)
    before = files_beside(rollout.ledger)

    ended, found = await opened(rollout)
    assert (ended.code, found) == (1, true)
    assert f"compared with the ledger {rollout.ledger}: 2 users, 2 with a digest, last changed 2" in ended.err
    assert f"enrolments.jsonl:3, ana, generation {NEWER}\n" in ended.err
    assert "enrolments.jsonl:4, eve, generation 1\n" in ended.err
    assert files_beside(rollout.ledger) == before, "nothing is changed or made"

    csv, output = rollout.folder / "all.csv", rollout.folder / "secrets.jsonl"
    ended, found = await opened(rollout, "--csv", str(csv), "-o", str(output), "--user", "ben", "--since", "1h")
    assert (ended.code, found) == (0, {}), ended.err
    assert json.loads(output.read_text())["secret_code"] == true["ben"]
    assert len(csv.read_text().splitlines()) == 2
    ended, _ = await opened(rollout, "--user", "\udcff", "--user", "zoe")
    assert ended.code == 1
    assert "no record of 2 of the users that --user names" in ended.err


async def test_the_ledger_may_be_a_copy_elsewhere_and_in_use(rollout: Rollout, tmp_path: Path) -> None:
    await rollout.push(await rollout.sign_in("ana", "ben"))
    running = rollout.start("run", "--follow")
    await rollout.until_in("delivered", 2)
    ended, found = await opened(rollout)
    assert (ended.code, found) == (0, await truth(rollout)), ended.err
    running.signal(signal.SIGTERM)
    assert (await running.ended()).code in (0, 4)
    copy = tmp_path / "elsewhere" / "copy of the ledger.db"
    copy.parent.mkdir()
    shutil.copy(rollout.ledger, copy)
    copy.chmod(0o444)
    copy.parent.chmod(0o555)
    ended, found = await opened(rollout, "--set", f"ledger.path={copy}")
    assert (ended.code, found) == (0, await truth(rollout)), ended.err
    assert list(copy.parent.iterdir()) == [copy]
    copy.parent.chmod(0o700)


async def test_a_replaced_secret_is_not_handed_out_by_an_older_ledger_beside_its_mark(rollout: Rollout) -> None:
    await delivered(rollout, "ana")
    older = rollout.folder / "older.db"
    shutil.copy(rollout.ledger, older)
    requests = await rollout.sign_in("ana")
    await rollout.push([requests[0] | {"replace": True}])
    assert (await rollout.run()).code == 0
    newest = await truth(rollout)
    ended, found = await opened(rollout)
    assert (ended.code, found) == (0, newest), ended.err
    assert "1 older record of users whose newest was opened" in ended.err

    elsewhere, found = await opened(rollout, "--set", f"ledger.path={older}")
    assert (elsewhere.code, found) == (3, {}), "the mark beside the channel tells"
    assert "the ledger is an older copy" in elsewhere.err
    rollout.channel.with_name(rollout.channel.name + ".mark").unlink()
    carried, found = await opened(rollout, "--set", f"ledger.path={older}")
    assert carried.code == 1, "where there is no mark, the channel tells: nobody could say who is right"
    assert "where the ledger is a copy: discard what was opened of these users" in carried.err
    shutil.copy(older, rollout.ledger)  # so that what is looked at in the end fits together


async def test_whoever_the_ledger_took_from_the_channel_is_vouched_for_by_nobody(rollout: Rollout) -> None:
    await delivered(rollout, "ana")
    older = rollout.folder / "older.db"
    shutil.copy(rollout.ledger, older)
    await delivered(rollout, "ben")
    shutil.copy(older, rollout.ledger)
    assert (await rollout.command("recover", "--yes")).code == 0
    ended, found = await opened(rollout)
    assert (ended.code, set(found)) == (1, {"ana"})
    assert "recover took the user from the channel:\n" in ended.err


async def test_a_ledger_of_an_earlier_version_names_everybody(rollout: Rollout) -> None:
    await delivered(rollout, "ana")
    with closing(sqlite3.connect(rollout.ledger)) as ledger:
        ledger.execute("ALTER TABLE users DROP COLUMN digest")
    ended, found = await opened(rollout)
    assert (ended.code, found) == (1, {})
    assert "1 user, 0 with a digest" in ended.err
    assert "open them without --against-ledger" in ended.err
    assert await rollout.states() == {"delivered": 1}, "and this version goes on with it"


async def test_a_wrong_ledger_is_refused_with_what_to_do(rollout: Rollout) -> None:
    await delivered(rollout, "ana")
    shutil.copy(rollout.ledger, rollout.folder / "open.db")
    (rollout.folder / "open.db").chmod(0o666)
    for more, said in {
        "ledger.path=/nowhere/rollout.db": "there is no ledger at /nowhere/rollout.db",
        "ledger.path=mfa-worker.toml": "is no ledger",
        "ledger.path=.": "is no ledger: it is no regular file",
        "ledger.path=open.db": "can be changed by every user of this host, so what it knows proves nothing",
        "cognito.user_pool_id=us-east-1_Another": "belongs to another rollout: its user pool",
    }.items():
        ended, found = await opened(rollout, "--set", more)
        assert (ended.code, found) == (2, {}), ended.err
        assert said in ended.err
        assert "→" in ended.err


async def test_without_settings_nobody_knows_which_ledger(rollout: Rollout) -> None:
    ended, _ = await opened(rollout, str(rollout.channel), config=False)
    assert ended.code == 2
    assert "name them: -c FILE" in ended.err


async def forge_object(rollout: AwsRollout, username: str) -> None:
    sealed = forged(rollout, username)
    async with rollout.emulator.aws() as aws:
        key = key_of(f"{rollout.name}/secrets", username, "username", sealed.generation, sealed.attempt_id)
        await (await aws.s3()).put_object(Bucket=rollout.name, Key=key, Body=sealed.blob)


async def test_the_same_on_aws(tmp_path: Path, ministack: Emulator, aws_credentials: None) -> None:
    async with aws_rollout_in(tmp_path, ministack, "s3") as rollout:
        await rollout.push_by_command(await rollout.sign_in("ana", "ben"))
        assert (await rollout.run()).code == 0
        await forge_object(rollout, "ana")
        ended, found = await opened(rollout)
        assert (ended.code, found) == (1, await truth(rollout)), ended.err
        assert f"ana, generation {NEWER}" in ended.err
        ended, found = await opened(rollout, rollout.source, "--user", "ben")
        assert (ended.code, set(found)) == (0, {"ben"}), ended.err
