"""What the help desk asks: where one user is, why, since when, and why they got two letters."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws_rollout import aws_rollout_in
from tests.support.emulators import Emulator
from tests.support.processes import Ended
from tests.support.rollout import Rollout

KEYS = ["username", "state", "reason", "since", "generation", "attempt_id", "events"]


async def shown(rollout: Rollout, *name: str) -> dict[str, Any]:
    ended = await rollout.command("show", "--json", *name)
    assert ended.code == 0, ended.err
    told: dict[str, Any] = json.loads(ended.out)
    assert list(told) == KEYS
    assert all(list(event) == ["at", "what", "detail"] for event in told["events"])
    return told


def happened(told: dict[str, Any]) -> list[str]:
    return [f"{event['what']} {event['detail']}".rstrip() for event in told["events"]]


async def two_letters(rollout: Rollout) -> dict[str, Any]:
    """``ana`` gets a secret, another one by ``replace``, and that one again; ``eve`` fails."""
    rollout.configure(ledger={"keep_sealed": True})
    await rollout.fake_cognito.set_faults("invalid_parameter@eve=1x", "conflict@ana=9x")
    rollout.configure(retry={"attempts": 12})
    await rollout.push(await rollout.sign_in("ana", "eve"))
    assert (await rollout.run()).code == 1
    first = await shown(rollout, "ana")
    await rollout.push([request | {"replace": True} for request in await rollout.sign_in("ana")])
    assert (await rollout.run()).code == 1
    assert (await rollout.command("redeliver", rollout.file(["ana"]))).code == 0
    told = await shown(rollout, "ana")
    assert (told["username"], told["state"], told["reason"]) == ("ana", "delivered", None)
    assert (await rollout.attempts())["ana"] == {first["attempt_id"], told["attempt_id"]}
    assert told["generation"] > first["generation"]
    assert happened(told) == [
        "claimed",
        "answered conflict (9 times)",
        "answered issued",
        f"sealed {first['generation']}",
        "delivered",
        "claimed to replace",
        "answered issued",
        f"sealed {told['generation']}",
        "delivered",
        "redelivered",
    ]
    assert [event["at"] for event in told["events"]] == sorted(event["at"] for event in told["events"])
    told = await shown(rollout, "eve")
    assert (told["state"], told["reason"], told["attempt_id"]) == ("failed", "invalid_parameter", None)
    assert happened(told) == ["claimed", "answered invalid_parameter", "concluded failed: invalid_parameter"]
    return first


async def test_why_a_user_got_two_letters_has_an_answer(rollout: Rollout) -> None:
    first = await two_letters(rollout)
    ended = await rollout.command("show", "ana")
    assert "Attempts      at least 2 by workers, 11 answers of Cognito's\n" in ended.out
    assert f"Sent earlier  generation {first['generation']}, delivered 20" in ended.out
    assert f"in {rollout.channel}, and in the ledger, sealed" in " ".join(ended.out.split())
    assert f"mfa-worker -c {rollout.config} open --user ana -i KEYFILE --letters letter.pdf" in ended.out
    failed = await rollout.command("show", "eve")
    assert "failed: invalid_parameter, since 20" in failed.out
    assert f"printf '%s\\n' eve | mfa-worker -c {rollout.config} dismiss - --why TEXT" in failed.out


async def test_the_same_on_aws(tmp_path: Path, ministack: Emulator, aws_credentials: None) -> None:
    async with aws_rollout_in(tmp_path, ministack, "s3") as rollout:
        await two_letters(rollout)
        ended = await rollout.command("show", "ana")
        told = await shown(rollout, "ana")
        key = f"{rollout.name}/secrets/ana/{told['generation']}-{told['attempt_id']}.age"
        assert f"s3://{rollout.name}/{key}" in ended.out
        assert "SQS cannot tell" in ended.out
        nobody = await rollout.command("show", "Ana")
        assert (nobody.code, nobody.out) == (1, "")
        assert "did you mean 'ana'?" in nobody.err


async def test_whoever_waits_is_known_and_nobody_else(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana"))
    waits = await rollout.command("show", "ana")
    assert waits.code == 0
    assert "1 request of this user waits; what it brought lives until 20" in " ".join(waits.out.split())
    assert (await shown(rollout, "ana"))["state"] is None
    await rollout.command("push", "--roster", rollout.file(["ben"]))
    assert (await shown(rollout, "ben"))["state"] == "unrequested"

    for name, hint in (
        ("Ana ", "admin-get-user"),
        ("x@example.com", """--filter 'email = "x@example.com"'"""),
        ("a\nb\x1b[31m", "nobody knows 'a\\nb\\x1b[31m'"),
    ):
        ended = await rollout.command("show", name)
        assert (ended.code, ended.out) == (1, "")
        assert hint in ended.err
        assert "\x1b" not in ended.err


async def test_what_can_be_no_username_is_refused(rollout: Rollout) -> None:
    assert (await rollout.command("show", "ana")).code == 2, "there is no ledger"
    await rollout.push(await rollout.sign_in("-ana"))
    dashed: Ended = await rollout.command("show", "-ana")
    assert (dashed.code, "goes behind two: show -- USER" in dashed.err) == (2, True)
    assert (await rollout.command("show", "--", "-ana")).code == 0
    for name in ("", "x" * 129, "\udcff"):
        ended = await rollout.command("show", name)
        assert (ended.code, ended.out) == (2, "")
        assert "1 to 128 characters" in ended.err


@pytest.mark.parametrize(("column", "value", "code"), [("state", "levitating", 3), ("events", None, 0)])
async def test_a_row_of_another_version_is_shown_or_named(
    rollout: Rollout, column: str, value: str | None, code: int
) -> None:
    await rollout.push(await rollout.sign_in("ana"))
    assert (await rollout.run()).code == 0
    with closing(sqlite3.connect(rollout.ledger)) as connection, connection:
        connection.execute(f"UPDATE users SET {column} = ?", (value,))
    ended = await rollout.command("show", "ana")
    assert ended.code == code, ended.err
    if code:
        assert "levitating" in ended.err
        assert "run the version that wrote it" in ended.err
    else:
        assert "an earlier version of the worker wrote this row" in ended.out
