"""``run``: its exit codes and options, as scripts rely on them."""

from __future__ import annotations

import json
import signal
import socket
import sys

import pytest

from tests.support.processes import COMMAND, until
from tests.support.rollout import Rollout


async def test_everybody_delivered_exits_with_0_and_leaves_standard_output_empty(rollout: Rollout) -> None:
    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben")))

    assert (ended.code, ended.out) == (0, "")
    assert "2 accepted = 2 delivered." in ended.err


async def test_nothing_to_do_exits_with_0(rollout: Rollout) -> None:
    assert (await rollout.run()).code == 0


async def test_somebody_who_needs_a_session_makes_it_1_unless_tolerated(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("session_expired@eve=1x")
    users = [f"user-{number}" for number in range(99)]
    requests = await rollout.sign_in("eve", *users, credential="session")

    assert (await rollout.run("--input", rollout.file(requests))).code == 1
    assert (await rollout.run("--tolerate", "0.5%")).code == 1
    assert (await rollout.run("--tolerate", "1%")).code == 0


@pytest.mark.parametrize("share", ["-1%", "101%", "nan"])
async def test_an_impossible_tolerance_is_refused(rollout: Rollout, share: str) -> None:
    ended = await rollout.run("--tolerate", share)

    assert ended.code == 2
    assert "--tolerate" in ended.err
    assert not rollout.ledger.exists()


@pytest.mark.parametrize("fault", ["totp_off", "pool_gone", "not_enabled"])
async def test_a_pool_that_refuses_everybody_exits_with_3_and_costs_nobody_anything(
    rollout: Rollout, fault: str
) -> None:
    await rollout.fake_cognito.set_faults(f"{fault}=100%")
    users = [f"user-{number}" for number in range(20)]
    await rollout.push(await rollout.sign_in(*users, credential="session"))

    stopped = await rollout.run()

    assert stopped.code == 3
    (said,) = stopped.logged("stopped")
    assert said["cure"]
    assert (await rollout.fake_cognito.stats()).wire_requests <= 10
    status = await rollout.status()
    assert (status["backlog"], status["reasons"]) == (20, {})


async def test_when_the_pool_is_repaired_the_same_requests_go_through(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("totp_off=100%")
    await rollout.push(await rollout.sign_in("ana", "ben", "cleo", "dora", credential="session"))
    assert (await rollout.run()).code == 3

    await rollout.fake_cognito.set_faults()

    assert (await rollout.run()).code == 0
    assert await rollout.states() == {"delivered": 4}


async def test_a_single_refusal_of_that_kind_stops_nobody(rollout: Rollout) -> None:
    rollout.configure(run={"concurrency": 1})
    faults = ("totp_off", "pool_gone", "not_enabled", "waf", "waf_400")
    await rollout.fake_cognito.set_faults(*(f"{fault}@{fault}=1x" for fault in faults))

    ended = await rollout.run("--input", rollout.file(await rollout.sign_in(*faults)))

    assert ended.code == 0
    assert (await rollout.fake_cognito.stats()).faults == dict.fromkeys(faults, 1)


async def test_an_endpoint_that_is_away_exits_with_75_and_loses_nothing(rollout: Rollout) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        unavailable = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        rollout.configure(cognito={"endpoint_url": unavailable})
        await rollout.push(await rollout.sign_in("ana", "ben", "cleo", credential="session"))

        ended = await rollout.run()

    assert ended.code == 75
    assert "cognito.endpoint_url" in ended.logged("stopped")[0]["cure"]
    status = await rollout.status()
    assert status["backlog"] == 3
    assert status["reasons"] == {}


async def test_max_users_is_exact_and_exits_with_5_while_work_is_left(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(30))))

    codes, delivered = [], []
    for most in ("10", "20"):
        codes.append((await rollout.run("--max-users", most)).code)
        delivered.append((await rollout.states())["delivered"])

    assert codes == [5, 0]
    assert delivered == [10, 30]
    assert (await rollout.fake_cognito.stats()).wire_requests == 30


async def test_duplicates_do_not_count_as_users(rollout: Rollout) -> None:
    requests = await rollout.sign_in(*(f"user-{number}" for number in range(10)))
    await rollout.run("--input", rollout.file(requests))

    more = await rollout.sign_in(*(f"more-{number}" for number in range(10)))
    ended = await rollout.run("--max-users", "5", "--input", rollout.file([*requests, *more]))

    assert ended.code == 5
    assert await rollout.states() == {"delivered": 15}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "its terminal was closed"])
async def test_the_first_signal_gives_the_rest_back_and_finishes_calls_in_flight(
    rollout: Rollout, number: signal.Signals
) -> None:
    await rollout.fake_cognito.set_latency(0.6)
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(200)), credential="session"))

    running = rollout.start("run", command=COMMAND)
    await rollout.until_called(5)
    running.signal(number)
    ended = await running.ended(within=5)

    assert ended.code == 4
    assert ended.logged("signal")[0]["effect"] == "draining"
    status = await rollout.status()
    issued = (await rollout.fake_cognito.stats()).issued
    assert status["states"]["delivered"] == issued > 0
    assert status["backlog"] == 200 - issued
    assert (await rollout.run()).code == 0
    assert (await rollout.fake_cognito.stats()).issued == 200
    assert not (await rollout.audit()).stale


async def test_a_second_signal_does_not_wait_for_answers(rollout: Rollout) -> None:
    rollout.configure(cognito={"call_timeout": 4.0}, ledger={"lease": 12.0}, run={"grace": 30.0})
    await rollout.fake_cognito.set_faults("hang=100%")
    await rollout.push(await rollout.sign_in("ana", "ben", credential="session"))

    running = rollout.start("run")
    await rollout.until_called(2)
    running.signal(signal.SIGINT)
    await until(lambda: '"draining"' in running.err)
    running.signal(signal.SIGINT)
    ended = await running.ended(within=2)

    assert ended.code == 4
    assert [line["effect"] for line in ended.logged("signal")] == ["draining", "hurrying"]
    await rollout.fake_cognito.set_faults()
    assert (await rollout.run()).code == 0


async def test_a_grace_that_is_over_does_not_wait_for_answers_either(rollout: Rollout) -> None:
    rollout.configure(cognito={"call_timeout": 20.0}, ledger={"lease": 60.0}, run={"grace": 0.3})
    await rollout.fake_cognito.set_faults("hang=100%")
    await rollout.push(await rollout.sign_in("ana"))

    running = rollout.start("run")
    await rollout.until_called(1)
    running.signal(signal.SIGTERM)

    assert (await running.ended(within=5)).code == 4


async def test_a_signal_when_all_is_done_is_no_interruption(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana"))
    running = rollout.start("run", "--follow")
    await rollout.until_delivered(1)
    await until(lambda: _is_finished(rollout))

    running.signal(signal.SIGTERM)

    assert (await running.ended()).code == 0


async def test_follow_stays_and_takes_what_comes_later(rollout: Rollout) -> None:
    running = rollout.start("run", "--follow")
    for number, name in enumerate(("ana", "ben"), 1):
        await rollout.push(await rollout.sign_in(name))
        await rollout.until_delivered(number)
    assert not running.is_over

    running.signal(signal.SIGTERM)

    assert (await running.ended()).code == 0


async def test_the_report_reconciles_everybody(rollout: Rollout) -> None:
    report = rollout.folder / "report.json"
    ana, ben = await rollout.sign_in("ana", "ben", credential="session")
    await rollout.fake_cognito.set_faults("session_spent@ben=1x")

    ended = await rollout.run("--input", rollout.file([ana, ana, "?", ben]), "--report", str(report))

    told = json.loads(report.read_text())
    assert report.stat().st_mode & 0o777 == 0o600
    assert told["states"]["delivered"] == told["states"]["needs_session"] == 1
    assert told["reasons"] == {"session_spent": 1}
    assert (told["accepted"], told["backlog"], told["duplicates"], told["malformed"]) == (2, 0, 1, 1)
    assert told["exit_code"] == ended.code == 1
    assert told["rollout"]["user pool"] == "us-east-1_rehearsal"


async def test_a_report_that_cannot_be_written_is_refused_before_the_work(rollout: Rollout) -> None:
    requests = rollout.file(await rollout.sign_in("ana"))

    ended = await rollout.run("--input", requests, "--report", str(rollout.folder / "nowhere" / "report.json"))

    assert ended.code == 2
    assert "nowhere" in ended.err
    assert not rollout.ledger.exists()


async def test_requests_that_cannot_be_read_are_refused_before_the_work(rollout: Rollout) -> None:
    ended = await rollout.run("--input", "nowhere.jsonl")

    assert ended.code == 2
    assert "nowhere.jsonl" in ended.err
    assert not rollout.ledger.exists()


async def test_python_m_worker_is_the_same_command(rollout: Rollout) -> None:
    requests = rollout.file(await rollout.sign_in("ana"))

    ended = await rollout.run("--input", requests, command=(sys.executable, "-m", "worker"))

    assert ended.code == 0
    assert rollout.opened().keys() == {"ana"}


async def test_a_ledger_of_another_pool_is_refused_with_2_and_nothing_is_touched(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("eve")))
    await rollout.push(await rollout.sign_in("ana"))
    before = await rollout.status()

    rollout.configure(cognito={"user_pool_id": "us-east-1_other"})
    ended = await rollout.run()
    assert ended.code == 2
    assert "us-east-1_other" in ended.err

    rollout.configure(cognito={"user_pool_id": "us-east-1_rehearsal"})
    assert await rollout.status() == before
    assert (await rollout.fake_cognito.stats()).wire_requests == 1


async def test_a_ledger_that_must_exist_and_does_not_is_refused_with_2(rollout: Rollout) -> None:
    rollout.configure(ledger={"must_exist": True})

    for arguments in (("run",), ("push", "-")):
        ended = await rollout.command(*arguments)
        assert ended.code == 2, arguments
        assert "does not exist" in ended.err

    assert not rollout.ledger.exists()


async def test_nobody_to_seal_to_is_refused_with_2_and_nothing_is_touched(rollout: Rollout) -> None:
    rollout.configure(seal={"recipients": []})
    requests = rollout.file(await rollout.sign_in("ana"))

    ended = await rollout.run("--input", requests)

    assert ended.code == 2
    assert "keygen" in ended.err
    assert not rollout.ledger.exists()


async def test_raw_sessions_that_nobody_verifies_in_time_are_warned_of(rollout: Rollout) -> None:
    rollout.configure(cognito={"session_handoff": None})

    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben", credential="session")))

    assert len(ended.logged("sessions_without_handoff")) == 1


async def _is_finished(rollout: Rollout) -> bool:
    return (await rollout.states()).keys() == {"delivered"} and not (await rollout.status())["backlog"]
