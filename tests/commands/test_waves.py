"""Waves: a run for some named users alone, one that stops when too many fare badly, and a roster of who is to come."""

from __future__ import annotations

import json

import pytest

from tests.support.rollout import Rollout


def named(rollout: Rollout, *usernames: str) -> str:
    path = rollout.folder / "wave.txt"
    path.write_text("\n".join(usernames), "utf-8")
    return str(path)


async def test_a_wave_works_on_the_named_users_and_leaves_the_others_waiting(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(30))))

    ended = await rollout.run("--only", named(rollout, "user-7", "", "  user-21\t", "user-28"))

    assert ended.code == 5
    assert set(await rollout.users("delivered")) == {"user-7", "user-21", "user-28"}
    assert (await rollout.status())["backlog"] == 27
    assert ended.logged("no_request") == []
    assert (await rollout.run()).code == 0
    assert await rollout.states() == {"delivered": 30}


async def test_a_wave_with_nobody_else_waiting_ends_as_a_run_does(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("session_expired@eve=1x")
    await rollout.push(await rollout.sign_in("ana", "eve", credential="session"))

    assert (await rollout.run("--only", named(rollout, "ana"))).code == 5
    assert (await rollout.run("--only", named(rollout, "eve", "ana"))).code == 1
    assert await rollout.states() == {"delivered": 1, "needs_session": 1}


async def test_named_users_whom_nobody_asked_for_are_told(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana", "ben"))

    ended = await rollout.run("--only", named(rollout, "ana", "ben", "cleo", "Dora D.", "#5"))

    assert ended.code == 0
    (said,) = ended.logged("no_request")
    assert said["cause"] == "3 of 5 named users have no request"
    assert said["such_as"] == ["#5", "Dora D.", "cleo"]


async def test_what_dead_workers_left_of_others_is_not_finished_by_a_wave(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_latency(1.5)
    await rollout.push(await rollout.sign_in("ben"))
    running = rollout.start("run")
    await rollout.until_called(1)
    await running.kill()
    await rollout.fake_cognito.set_latency(0.0)
    await rollout.push(await rollout.sign_in("ana"))

    assert (await rollout.run("--only", named(rollout, "ana"))).code == 5
    assert await rollout.states() == {"delivered": 1, "in_progress": 1}
    await (
        rollout.until_answered()
    )  # the call that was cut off takes longer than a call may, and conflicts with the next
    assert (await rollout.run()).code == 0
    assert await rollout.states() == {"delivered": 2}


@pytest.mark.parametrize("content", [b"", b"\n  \n", b"\xff\xfe\n", b"ana\n" + b"x" * 129])
async def test_a_wave_that_names_nobody_or_not_only_users_is_refused_before_anything_is_touched(
    rollout: Rollout, content: bytes
) -> None:
    (rollout.folder / "wave.txt").write_bytes(content)

    assert (await rollout.run("--only", "wave.txt")).code == 2
    assert (await rollout.run("--only", "no-such-file")).code == 2
    assert (await rollout.run("--only", named(rollout, "ana"), "--input", rollout.file([]))).code == 2
    assert not rollout.ledger.exists()


async def test_at_most_so_many_of_a_wave_are_worked_on(rollout: Rollout) -> None:
    users = [f"user-{number}" for number in range(20)]
    await rollout.push(await rollout.sign_in(*users))

    assert (await rollout.run("--only", named(rollout, *users[5:15]), "--max-users", "4")).code == 5
    assert (await rollout.states())["delivered"] == 4
    assert (await rollout.run("--only", named(rollout, *users[5:15]), "--max-users", "6")).code == 5
    assert set(await rollout.users("delivered")) == set(users[5:15])


async def test_a_rollout_with_bad_sessions_stops_for_a_person_with_reasons_and_a_cure(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 40})
    users = [f"user-{number}" for number in range(200)]
    await rollout.push(await rollout.sign_in(*users))
    await rollout.fake_cognito.revoke(users)

    ended = await rollout.run("--stop-if-failing", "5%", "--max-users", "150")

    assert ended.code == 3
    (said,) = ended.logged("stopped")
    assert "token_revoked" in said["cause"]
    assert "5 %" in said["cause"]
    assert said["cure"]
    status = await rollout.status()
    failed = status["states"]["needs_session"]
    assert 20 <= failed <= 60, "it stopped late"
    assert status["backlog"] + failed == 200


async def test_a_wave_stops_too_where_it_fares_badly_and_not_for_a_few(rollout: Rollout) -> None:
    users = [f"user-{number}" for number in range(40)]
    await rollout.push(await rollout.sign_in(*users))
    await rollout.fake_cognito.revoke(["user-3"])
    wave = named(rollout, *users[:30])

    assert (await rollout.run("--only", wave, "--stop-if-failing", "20%")).code == 5
    assert await rollout.states() == {"delivered": 29, "needs_session": 1}
    await rollout.fake_cognito.revoke(users[30:])
    assert (await rollout.run("--stop-if-failing", "0.2")).code == 1, "with ten outcomes nothing is concluded"


@pytest.mark.parametrize("share", ["-1%", "nan", "many"])
async def test_an_impossible_share_is_refused_by_the_name_of_its_option(rollout: Rollout, share: str) -> None:
    ended = await rollout.run("--stop-if-failing", share)

    assert ended.code == 2
    assert "--stop-if-failing" in ended.err


async def test_a_roster_shows_who_never_got_a_request(rollout: Rollout) -> None:
    roster = rollout.folder / "roster.txt"
    roster.write_text('ana\n{"username": "ben", "state": "unrequested"}\n\n cleo \nO\'Hara 😀\n' + "x" * 129, "utf-8")

    pushed = await rollout.command("push", "--roster", "roster.txt")
    assert (pushed.code, pushed.out) == (1, "roster: 4 new, malformed 1\n")
    assert (await rollout.command("push", "--roster", "roster.txt")).out == "roster: 0 new, malformed 1\n"
    await rollout.push(await rollout.sign_in("ana", "cleo", "somebody else"))
    assert (await rollout.run()).code == 0

    status = json.loads((await rollout.command("status", "--json")).out)
    assert status["roster"] == {"unrequested": 2}
    assert status["accepted"] == 3
    exported = await rollout.command("export", "--state", "unrequested")
    assert [json.loads(line) for line in exported.out.splitlines()] == [
        {"username": "O'Hara 😀", "state": "unrequested"},
        {"username": "ben", "state": "unrequested"},
    ]
    again = await rollout.run("--only", rollout.file(exported.out.splitlines()))
    assert again.logged("no_request")[0]["cause"] == "2 of 2 named users have no request"


async def test_a_roster_and_requests_can_be_pushed_together(rollout: Rollout) -> None:
    (rollout.folder / "roster.txt").write_text("ana\nben\n", "utf-8")
    requests = rollout.file(await rollout.sign_in("ana"))

    pushed = await rollout.command("push", requests, "--roster", "roster.txt")

    assert pushed.code == 0
    assert pushed.out == "roster: 2 new, malformed 0\naccepted 1, duplicate 0, malformed 0\n"
