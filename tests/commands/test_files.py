"""Files that are not the ones meant, as an operator meets them: on the command line, with real processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.rollout import Rollout


def contents(*files: Path) -> list[tuple[int, bytes]]:
    return [(file.stat().st_ino, file.read_bytes()) for file in files]


@pytest.fixture
async def done(rollout: Rollout) -> Rollout:
    """A rollout of two users, with no path in its settings."""
    rollout.configure(queue={"path": None}, channel={"path": None})
    rollout.ledger, rollout.channel = rollout.folder / "mfa-worker.db", rollout.folder / "enrolments.jsonl"
    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben")))
    assert ended.code == 0, ended.err
    return rollout


@pytest.mark.parametrize("named", ["absolute", "relative", "through a link"])
async def test_the_same_settings_mean_the_same_files_wherever_a_command_is_run(done: Rollout, named: str) -> None:
    elsewhere = done.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link.toml").symlink_to(done.config)
    config = {"absolute": str(done.config), "relative": "../mfa-worker.toml", "through a link": "link.toml"}[named]
    requests = done.file(await done.sign_in("ana", "ben"))
    done.folder = elsewhere

    ended = await done.run("--config", config, "--input", requests, config=False)

    assert ended.code == 0, ended.err
    assert (await done.fake_cognito.stats()).issued == 2
    assert not [path for path in elsewhere.iterdir() if path.suffix in (".db", ".jsonl")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--report", "enrolments.jsonl"),
        ("run", "--report", "mfa-worker.db"),
        ("run", "--report", "mfa-worker.toml"),
        ("run", "--report", "identity.txt"),
        ("run", "--report", "enrolments.jsonl.mark"),
        ("run", "--input", "enrolments.jsonl"),
        ("run", "--set", "channel.path=mfa-worker.db"),
        ("run", "--set", "channel.path=identity.txt"),
        ("run", "--set", "channel.path=/dev/null"),
        ("run", "--set", "ledger.path=enrolments.jsonl"),
        ("push", "mfa-worker.db"),
        ("push", "enrolments.jsonl"),
        ("push", "--roster", "mfa-worker.db"),
    ],
)
async def test_an_option_that_names_another_file_is_refused_and_nothing_is_touched(
    done: Rollout, arguments: tuple[str, ...]
) -> None:
    files = [done.ledger, done.channel, done.config, done.identity]
    before = contents(*files)

    ended = await done.command(*arguments)

    assert (ended.code, ended.err.count("→")) == (2, 1), ended.err
    assert contents(*files) == before


async def test_a_report_is_written_again_and_nothing_of_it_stays_half_done(done: Rollout) -> None:
    report = done.folder / "report.json"
    for _ in range(2):
        assert (await done.run("--report", str(report))).code == 0

    assert json.loads(report.read_bytes())["states"]["delivered"] == 2
    assert not list(done.folder.glob(".mfa-worker-*"))


async def test_check_names_a_file_that_is_not_the_one_meant(done: Rollout) -> None:
    ended = await done.command("check", "--set", "channel.path=mfa-worker.db")

    assert ended.code == 2
    assert "ledger.path and channel.path are the same file" in ended.out


def emptied(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate()


def put_in_its_place(path: Path) -> None:
    (other := path.with_name("other")).write_bytes(path.read_bytes())
    other.rename(path)


@pytest.mark.parametrize("take_away", [Path.unlink, emptied, put_in_its_place])
@pytest.mark.parametrize("name", ["enrolments.jsonl", "mfa-worker.db", "mfa-worker.db-wal"])
async def test_a_worker_that_only_waits_notices_too(
    done: Rollout, take_away: Callable[[Path], None], name: str
) -> None:
    if name.endswith("-wal") and take_away is emptied:
        return  # a write-ahead log is emptied again and again
    waiting = done.start("run", "--follow")
    await done.push(await done.sign_in("cleo"))
    await done.until_delivered(3)

    take_away(done.folder / name)
    ended = await waiting.ended()

    assert ended.code == 3, ended.err
    assert f"{name}, was" in ended.logged("stopped")[0]["cause"]
    assert (await done.fake_cognito.stats()).issued == 3
