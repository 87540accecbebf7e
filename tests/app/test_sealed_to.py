"""Whom a rollout seals to: kept in its ledger, so that nobody is added and nobody left out unseen."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.age_keys import ssh_key
from tests.support.rows import row
from worker.adapters.ledgers.found import RECIPIENTS
from worker.app import sealed_to
from worker.app.stores import Purpose, open_stores
from worker.core.errors import UsageError
from worker.core.ports import Found
from worker.sealing import age
from worker.settings import Settings, load
from worker.setup.checks import sealing

ADA, BOB, EVE = (age.keygen("today")[1] for _ in range(3))


def settings(folder: Path, *recipients: str) -> Settings:
    given = [
        "cognito.user_pool_id=eu-central-1_AbCdEfGhI",
        f"queue.path={folder / 'rollout.db'}",
        f"channel.path={folder / 'enrolments.jsonl'}",
        f"seal.recipients={json.dumps(recipients)}",
    ]
    return load(None, given, {})


async def begin(folder: Path, *recipients: str, name: str = "ana", accept: bool = False) -> Found:
    """One run in which a user gets a row; what the ledger says of itself then."""
    async with open_stores(settings(folder, *recipients), Purpose.RUN, accept_recipients=accept) as stores:
        await stores.ledger.put(row(name), None)
        return await stores.ledger.look()


async def refused(folder: Path, recipients: Sequence[str]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        await begin(folder, *recipients)
    assert "--accept-recipients" in caught.value.hint
    return caught.value


async def test_a_run_that_seals_to_others_is_refused_and_says_who_came_and_who_went(tmp_path: Path) -> None:
    await begin(tmp_path, ADA, BOB)
    said = str(await refused(tmp_path, [ADA, EVE]))
    assert f"{EVE[:16]}…{EVE[-6:]} came" in said
    assert f"{BOB[:16]}…{BOB[-6:]} went" in said
    assert ADA[:16] not in said
    assert "came" not in str(await refused(tmp_path, [ADA]))
    assert "went" not in str(await refused(tmp_path, [ADA, BOB, EVE]))


async def test_order_repetitions_spelling_and_comments_make_no_others(tmp_path: Path) -> None:
    key = ssh_key()[1]
    await begin(tmp_path, ADA, key)
    await begin(tmp_path, f"{key.partition(' ada')[0]} of Ada's new laptop", ADA.upper(), ADA, name="ben")


async def test_others_that_are_meant_are_accepted_once_said_and_remembered(tmp_path: Path) -> None:
    await begin(tmp_path, ADA, BOB)
    with capture_logs() as logs:
        found = await begin(tmp_path, ADA, EVE, name="ben", accept=True)
    (said,) = [line for line in logs if line["event"] == "recipients_changed"]
    assert said["came"] == [f"{EVE[:16]}…{EVE[-6:]}"]
    assert said["went"] == [f"{BOB[:16]}…{BOB[-6:]}"]
    assert found.stamp[RECIPIENTS] == "\n".join(sorted([ADA, EVE]))
    (note,) = [value for name, value in found.notes.items() if name.startswith(sealed_to.UNTIL)]
    assert note == "\n".join(sorted([ADA, BOB]))

    with capture_logs() as logs:
        again = await begin(tmp_path, ADA, EVE, name="cem", accept=True)
    assert not [line for line in logs if line["event"] == "recipients_changed"]
    assert again.notes == found.notes
    await refused(tmp_path, [ADA, BOB])


async def test_a_ledger_of_an_earlier_version_gets_them_and_says_so(tmp_path: Path) -> None:
    await begin(tmp_path, ADA)
    with closing(sqlite3.connect(tmp_path / "rollout.db")) as ledger:
        ledger.execute("DELETE FROM stamp WHERE name = ?", (RECIPIENTS,))
        ledger.commit()
    async with open_stores(settings(tmp_path, BOB), Purpose.RUN) as stores:
        with capture_logs() as logs:
            sealed_to.say_recorded(stores.found)
        assert [line["event"] for line in logs] == ["recipients_recorded"]
        await stores.ledger.put(row("ben"), None)
    await refused(tmp_path, [ADA])


async def test_what_does_not_seal_needs_no_recipients(tmp_path: Path) -> None:
    await begin(tmp_path, ADA)
    for purpose in (Purpose.PUSH, Purpose.EXISTING):
        async with open_stores(settings(tmp_path, BOB), purpose):
            pass


async def test_nothing_is_accepted_where_no_rollout_has_begun(tmp_path: Path) -> None:
    with capture_logs() as logs:
        found = await begin(tmp_path, ADA, accept=True)
    assert found.stamp[RECIPIENTS] == ADA
    assert not [line for line in logs if line["event"] == "recipients_changed"]


async def test_of_two_that_accept_others_at_once_one_is_refused(tmp_path: Path) -> None:
    await begin(tmp_path, ADA)
    async with open_stores(settings(tmp_path, ADA), Purpose.RUN) as stores:
        before = stores.found
        await sealed_to.accept(settings(tmp_path, BOB), stores.ledger, before)
        with pytest.raises(UsageError, match="another worker changed the recipients"):
            await sealed_to.accept(settings(tmp_path, EVE), stores.ledger, before)


async def test_check_says_what_the_ledger_was_begun_with(tmp_path: Path) -> None:
    first = await begin(tmp_path, ADA)
    (same,) = sealing.of_the_ledger(settings(tmp_path, ADA), first)
    (other,) = sealing.of_the_ledger(settings(tmp_path, BOB), first)
    second = await begin(tmp_path, BOB, name="ben", accept=True)
    (changed,) = sealing.of_the_ledger(settings(tmp_path, BOB), second)
    assert not same.fails
    assert other.fails
    assert "it was sealed to other recipients" in changed.said
    assert not sealing.of_the_ledger(settings(tmp_path, BOB), Found())
