"""A channel is one folder: one that nobody knows is put beside the worker's own, and all of the worker works with it.

The folder is ``tests/support/channels/folder``. What else was written for it is the fixture below, which has it pass
what every channel has to pass.
"""
# ruff: noqa: ASYNC240 - a test may look at a file

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.adapters.channels.rigs import Arrival, ChannelUnderTest, delivered_lines
from tests.adapters.channels.test_every_channel import *  # noqa: F403 - the suite, with the fixture of this module
from tests.support.folder_channel import COMMAND, one_channel_more
from tests.support.rollout import Rollout, rollout_in
from worker.app.stores import open_channel
from worker.core.errors import UsageError
from worker.settings import explain, load

POOL = "cognito.user_pool_id=eu-central-1_AbCdEfGhI"
CHOSEN = [POOL, "channel.kind=folder"]


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[ChannelUnderTest]:
    async def arrived() -> list[Arrival]:
        return [each for file in tmp_path.glob("*.json") for each in delivered_lines(file)]

    with one_channel_more():
        async with open_channel(load(None, [*CHOSEN, f"channel.folder={tmp_path}"], {})) as opened:
            yield ChannelUnderTest(opened, arrived)


@pytest.fixture
def one_more() -> Iterator[None]:
    with one_channel_more():
        yield


@pytest.fixture
async def rollout(tmp_path: Path) -> AsyncIterator[Rollout]:
    async with rollout_in(tmp_path) as rollout:
        (tmp_path / "out").mkdir()
        rollout.configure(channel={"kind": "folder", "folder": str(tmp_path / "out"), "path": None})
        yield rollout


def complaint(*overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(None, [*CHOSEN, *overrides], {})
    return str(caught.value)


def test_its_keys_are_settings_like_all_others(one_more: None) -> None:
    rows = {row.key: row for row in explain(None, [*CHOSEN, "channel.folder=out"], {})}

    assert (rows["channel.folder"].value, rows["channel.folder"].source) == ('"out"', "--set channel.folder")
    assert rows["channel.folder"].help == "the folder that records are put into"
    assert "folder (a file a record)" in rows["channel.kind"].help
    assert "channel.folder (from the default): is required where kind is folder" in complaint()
    assert "channel.foldre (from --set channel.foldre): is no setting; did you mean channel.folder?" in complaint(
        "channel.foldre=out"
    )


def test_without_its_folder_nothing_of_it_is_known() -> None:
    text = complaint("channel.folder=out")

    assert "channel.folder (from --set channel.folder): is no setting" in text
    assert "should be 'file', 's3', 'secretsmanager' or 'sqs'" in complaint()


async def test_the_worker_delivers_through_it_and_open_reads_it_back(rollout: Rollout) -> None:
    requests = await rollout.sign_in("ana", "ben")
    again = [{**each, "replace": True} for each in await rollout.sign_in("ana")]

    ran = [await rollout.run("--input", rollout.file(each), command=COMMAND) for each in (requests, again)]
    opened = await rollout.command("open", "-i", str(rollout.identity), command=COMMAND)
    named = await rollout.command(
        "open", f"folder:{rollout.folder / 'out'}", "-i", str(rollout.identity), command=COMMAND
    )

    assert [ended.code for ended in (*ran, opened, named)] == [0, 0, 0, 0]
    assert len(list((rollout.folder / "out").iterdir())) == 3
    assert opened.out == named.out
    secrets = {record["username"]: record["secret_code"] for record in map(json.loads, opened.out.splitlines())}
    truth = await rollout.fake_cognito.truth()
    assert secrets == {name: user.secrets[-1].secret_code for name, user in truth.items()}


async def test_open_says_how_it_is_named(rollout: Rollout) -> None:
    helped = await rollout.command("open", "--help", command=COMMAND)

    assert "folder:PATH" in helped.out


@pytest.mark.parametrize(
    ("is_there", "level", "said"), [(True, "ok", "is there"), (False, "fails", "there is no folder")]
)
async def test_check_asks_what_it_has_to_ask(rollout: Rollout, is_there: bool, level: str, said: str) -> None:
    if not is_there:
        (rollout.folder / "out").rmdir()

    ended = await rollout.command("check", "--json", command=COMMAND)

    findings = json.loads(ended.out)["findings"]
    (found,) = [each for each in findings if each["about"] == "channel"]
    assert (found["level"], said in found["said"]) == (level, True)
    assert (ended.code == 0) is is_there
