"""One user with many requests, as a producer makes them that repeats itself, between others who have one each."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from tests.support.rollout import Request, Rollout

MANY = 600
OTHERS = [f"user-{number}" for number in range(20)]


async def many(rollout: Rollout, number: int = MANY, **keys: object) -> list[Request]:
    """So many requests of Ana with one credential."""
    [request] = await rollout.sign_in("ana")
    return [{**request, "id": f"request {each}", **keys} for each in range(number)]


async def test_two_workers_call_once_for_each_user_and_end_together(rollout: Rollout) -> None:
    await rollout.push(await many(rollout))
    await rollout.push(await rollout.sign_in(*OTHERS))
    one, two = rollout.start("run"), rollout.start("run")

    assert [(await one.ended()).code, (await two.ended()).code] == [0, 0]
    assert (await rollout.fake_cognito.stats()).wire_requests == len(OTHERS) + 1
    status = await rollout.status()
    assert (status["states"]["delivered"], status["duplicates"]) == (len(OTHERS) + 1, MANY - 1)
    assert status["backlog"] == 0


async def test_a_file_may_hold_them_too(rollout: Rollout) -> None:
    ended = await rollout.run("--input", rollout.file([*await many(rollout), *await rollout.sign_in(*OTHERS)]))

    assert ended.code == 0
    assert (await rollout.fake_cognito.stats()).wire_requests == len(OTHERS) + 1
    assert (await rollout.status())["duplicates"] == MANY - 1


async def test_nothing_but_dead_ones_is_one_outcome(rollout: Rollout) -> None:
    await rollout.push(await many(rollout, expires_at="2001-02-03T04:05:06Z"))

    assert (await rollout.run()).code == 1
    assert await rollout.users("needs_session") == {"ana": "token_expired"}
    assert (await rollout.status())["duplicates"] == MANY - 1
    with closing(sqlite3.connect(rollout.ledger)) as ledger:
        ((settled,),) = ledger.execute("SELECT settled FROM users").fetchall()
    assert len(settled) < 100


async def test_times_of_every_kind_are_told_apart(rollout: Rollout) -> None:
    """Long past, before they were issued, at the end of time: whoever has one that lives is enrolled."""
    past = {"expires_at": "0001-01-01T00:00:00+14:00"}
    before = {"issued_at": "9999-01-01T00:00:00Z", "expires_at": "2001-01-01T00:00:00Z"}
    never = {"expires_at": "9999-12-31T23:59:59-14:00"}
    requests = [each for times in (past, before, never) for each in await many(rollout, 3, **times)]
    await rollout.push([{**each, "id": str(number)} for number, each in enumerate(requests)])

    assert (await rollout.run()).code == 0
    assert await rollout.users("delivered") == {"ana": None}
    assert (await rollout.fake_cognito.stats()).wire_requests == 1


async def test_an_id_with_an_outcome_never_replaces_again_however_often_it_comes(rollout: Rollout) -> None:
    requests = await many(rollout, 70, replace=True, expires_at="9999-12-31T23:59:59Z")
    await rollout.push(requests)

    assert (await rollout.run()).code == 0
    calls = (await rollout.fake_cognito.stats()).wire_requests
    assert calls == 70
    await rollout.push(requests)
    assert (await rollout.run()).code == 0
    assert (await rollout.fake_cognito.stats()).wire_requests == calls
    assert (await rollout.status())["duplicates"] == 70


async def test_a_ledger_with_plain_ids_goes_on(rollout: Rollout) -> None:
    """As earlier versions wrote them: nothing of it is worked on again, and the row becomes small."""
    first, *others = await many(rollout, 40, replace=True)
    await rollout.push([first])
    assert (await rollout.run()).code == 0
    with closing(sqlite3.connect(rollout.ledger)) as ledger, ledger:
        ids = [first["id"], *(f"{number:0256d}" for number in range(2_000)), *(each["id"] for each in others[:-1])]
        ledger.execute("UPDATE users SET settled = ?", (json.dumps(ids),))
    await rollout.push([first, *others])

    assert (await rollout.run()).code == 0
    assert (await rollout.fake_cognito.stats()).wire_requests == 2
    with closing(sqlite3.connect(rollout.ledger)) as ledger:
        ((settled,),) = ledger.execute("SELECT settled FROM users").fetchall()
    assert len(settled) < 13_000
