"""The world around a worker fails: damaged and missing files, connections that hang, descriptors that run out."""

from __future__ import annotations

import asyncio
import resource
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.disks import small_disk
from tests.support.processes import Ended
from tests.support.rollout import Rollout


@pytest.mark.parametrize("damage", ["beginning", "middle"])
async def test_a_damaged_ledger_is_said_to_be_damaged_and_never_begun_anew(rollout: Rollout, damage: str) -> None:
    requests = rollout.file(await rollout.sign_in(*(f"user-{number}" for number in range(200))))
    await rollout.run("--max-users", "100", "--input", requests)
    intact = rollout.ledger.read_bytes()
    rollout.ledger.write_bytes(
        b"\xff" * 200 + intact[200:] if damage == "beginning" else intact[:8192] + b"\xff" * (len(intact) - 8192)
    )

    ended = await rollout.run("--input", requests)

    _said_damaged(ended)
    assert (await rollout.fake_cognito.stats()).wire_requests == 100
    for leftover in rollout.folder.glob("rollout.db-*"):
        leftover.unlink()
    rollout.ledger.write_bytes(intact)
    assert (await rollout.run("--input", requests)).code == 0
    assert (await rollout.fake_cognito.stats()).issued == 200


@pytest.mark.parametrize("command", ["run", "status", "push"])
async def test_a_file_that_is_no_ledger_is_left_as_it_is(rollout: Rollout, command: str) -> None:
    notes = b"these are my notes\n" * 1000
    rollout.ledger.touch(0o600)
    rollout.ledger.write_bytes(notes)

    _said_damaged(await rollout.command(command))

    assert rollout.ledger.read_bytes() == notes


def _said_damaged(ended: Ended) -> None:
    assert ended.code == 3
    assert "damaged" in ended.err
    assert "backup" in ended.err
    assert "Traceback" not in ended.err


async def test_a_ledger_that_vanished_is_not_begun_anew_where_it_must_exist(rollout: Rollout) -> None:
    rollout.configure(ledger={"must_exist": None})
    requests = rollout.file(await rollout.sign_in("ana"))
    await rollout.run("--input", requests)
    rollout.configure(ledger={"must_exist": True})
    rollout.ledger.unlink()

    ended = await rollout.run("--input", requests)

    assert ended.code == 2
    assert "restore" in ended.err
    assert not rollout.ledger.exists()


async def test_a_rebuilt_ledger_still_gives_the_later_secret_the_higher_generation(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    for file in rollout.folder.glob("rollout.db*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()

    await rollout.run("--new-rollout", "--input", rollout.file(await rollout.sign_in("ana")))

    assert not (await rollout.audit()).stale


@pytest.mark.parametrize("taken", ["the channel's file", "the ledger"])
async def test_a_file_that_is_taken_away_under_a_running_worker_ends_the_run_and_costs_nobody_anything(
    rollout: Rollout, taken: str
) -> None:
    rollout.configure(rate={"requests_per_second": 60})
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(90))))
    file = rollout.channel if taken == "the channel's file" else rollout.ledger
    away = file.with_name("away")
    running = rollout.start("run")
    await rollout.until_delivered(10)

    file.rename(away)
    ended = await running.ended()

    assert ended.code == 3, ended.err
    (stopped,) = ended.logged("stopped")
    assert stopped["cause"].startswith(f"{taken}, {file}, was removed or moved away")
    assert not file.exists()
    called = (await rollout.fake_cognito.stats()).wire_requests
    assert called < 90
    away.rename(file)
    ended = await rollout.run()
    assert ended.code == 0, ended.err
    audit = await rollout.audit()
    assert (audit.stale, audit.twice) == (set(), set())
    assert await rollout.states() == {"delivered": 90}


async def test_a_channel_that_is_away_for_a_while_makes_secrets_wait_and_calls_pause(rollout: Rollout) -> None:
    with small_disk(rollout.folder / "mounted", 256) as folder:
        rollout.channel = folder / "enrolments.jsonl"
        rollout.configure(
            channel={"path": str(rollout.channel), "patience": 60.0},
            run={"concurrency": 8},
            rate={"requests_per_second": 50},
        )
        await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(80)), credential="session"))
        running = rollout.start("run")
        await rollout.until_delivered(10)

        ballast = _fill(folder)
        await rollout.until_in("sealed", 1)
        await _quiet_for(rollout, 0.5)
        called = (await rollout.fake_cognito.stats()).wire_requests
        await _quiet_for(rollout, 1.0)
        assert (await rollout.fake_cognito.stats()).wire_requests == called
        ballast.unlink()
        ended = await running.ended()

        assert ended.code == 0
        assert (await rollout.fake_cognito.stats()).issued == 80
        assert not (await rollout.audit()).stale


def _fill(folder: Path) -> Path:
    """Fill the disk of this folder with a file."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 512):
            pass
    return ballast


async def test_a_torn_line_is_closed_and_skipped(rollout: Rollout) -> None:
    rollout.channel.write_bytes(b'{"username": "ana", "gener')

    await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben")))
    opened = await rollout.command("open", "-i", str(rollout.identity))

    assert opened.code == 1
    assert "1 not opened" in opened.err
    assert opened.out.count("\n") == 2


async def test_a_connection_that_hangs_costs_one_call_timeout(rollout: Rollout) -> None:
    rollout.configure(cognito={"call_timeout": 0.5}, ledger={"lease": 1.5})
    await rollout.fake_cognito.set_faults("hang@ana=1x", "hang@ben=2x")

    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben", "cleo")), within=15)

    assert ended.code == 0
    assert await rollout.states() == {"delivered": 3}


async def test_a_run_in_which_nothing_moves_says_what_it_waits_for(rollout: Rollout) -> None:
    rollout.configure(
        cognito={"call_timeout": 20.0, "patience": 60},
        ledger={"lease": 60.0},
        run={"watchdog": 1.0, "grace": 0.2},
    )
    await rollout.fake_cognito.set_faults("hang=100%")

    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana")), within=15)

    assert ended.code == 75
    cause = ended.logged("stopped")[0]["cause"]
    assert "nothing moved" in cause
    assert "waiting for" in cause


@pytest.mark.parametrize("descriptors", [15, 24])
async def test_running_out_of_descriptors_exits_with_75_and_loses_nobody(rollout: Rollout, descriptors: int) -> None:
    rollout.configure(
        run={"concurrency": 64, "grace": 1.0},
        rate={"requests_per_second": 500},
        cognito={"patience": 1.0},
        channel={"patience": 1.0},
    )
    await rollout.fake_cognito.set_latency(0.2)
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(120)), credential="session"))

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    starved = await rollout.run(limits=few)
    assert starved.code == 75, starved.err
    assert "Traceback" not in starved.err
    ended = await rollout.run()

    assert ended.code == 0
    assert await rollout.states() == {"delivered": 120}
    assert (await rollout.fake_cognito.stats()).issued == 120
    assert not (await rollout.audit()).stale


async def _quiet_for(rollout: Rollout, seconds: float) -> None:
    """Nothing arrives at the fake Cognito for so long: what is looked for is that nothing happens."""
    await asyncio.sleep(seconds)
    assert (await rollout.fake_cognito.stats()).in_flight == 0
