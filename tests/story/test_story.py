"""The story of a rollout, one idea a test: read it from top to bottom.

A migration script signs users in and makes a request of each sign-in; ``mfa-worker`` enrols the users and seals their
secrets. The real program runs here, against a fake Cognito that knows the truth.
"""

from __future__ import annotations

import json
import signal

import pytest

from tests.support.processes import COMMAND
from tests.support.rollout import Rollout
from worker.sealing import age


async def test_requests_go_in_and_sealed_secrets_come_out(rollout: Rollout) -> None:
    requests = await rollout.sign_in("ana", "ben", "cleo")

    await rollout.push(requests)
    ended = await rollout.run(command=COMMAND)

    assert ended.code == 0
    delivered = rollout.opened()
    truth = await rollout.fake_cognito.truth()
    assert {name: record["secret_code"] for name, record in delivered.items()} == {
        name: user.secrets[-1].secret_code for name, user in truth.items()
    }
    assert delivered.keys() == {"ana", "ben", "cleo"}


async def test_a_secret_opens_only_with_the_identity(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana"))
    await rollout.run()
    somebody_else = rollout.folder / "somebody-else.txt"
    age.write_identity(somebody_else, age.keygen("today")[0])

    mine = await rollout.command("open", "-i", str(rollout.identity))
    theirs = await rollout.command("open", "-i", str(somebody_else))

    assert mine.code == 0
    assert json.loads(mine.out)["otpauth_uri"].startswith("otpauth://totp/Example:ana?secret=")
    assert (theirs.code, theirs.out) == (1, "")


async def test_who_is_done_is_never_called_again(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana"))
    await rollout.run()

    await rollout.push(await rollout.sign_in("ana"))
    ended = await rollout.run()

    assert ended.code == 0
    assert (await rollout.fake_cognito.stats()).wire_requests == 1
    assert (await rollout.status())["duplicates"] == 1


async def test_replace_gives_a_new_secret_and_a_higher_generation(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana"))
    await rollout.run()
    first = rollout.opened()["ana"]

    await rollout.push([{**request, "replace": True} for request in await rollout.sign_in("ana")])
    await rollout.run()

    second = rollout.opened()["ana"]
    assert second["generation"] > first["generation"]
    assert second["secret_code"] != first["secret_code"]
    assert not (await rollout.audit()).stale


async def test_duplicates_change_nothing(rollout: Rollout) -> None:
    requests = await rollout.sign_in("ana", "ben")

    await rollout.push(requests * 50)
    ended = await rollout.run()

    assert ended.code == 0
    assert (await rollout.fake_cognito.stats()).issued == 2
    assert (await rollout.status())["duplicates"] == 98


async def test_malformed_lines_stop_nothing(rollout: Rollout) -> None:
    ana, ben = await rollout.sign_in("ana", "ben")

    pushed = await rollout.push([ana, "this is no request", '{"username": "cleo"}', ben])
    ended = await rollout.run()

    assert pushed.malformed.total() == 2
    assert ended.code == 0
    assert rollout.opened().keys() == {"ana", "ben"}
    assert (await rollout.status())["malformed"] == 2


async def test_a_passing_trouble_is_overcome(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("conflict@ana=2x", "throttled@ben=2x", "internal_error@cleo=2x")

    await rollout.push(await rollout.sign_in("ana", "ben", "cleo", credential="session"))
    ended = await rollout.run()

    assert ended.code == 0
    assert await rollout.states() == {"delivered": 3}


async def test_who_cannot_be_enrolled_is_named_with_the_reason(rollout: Rollout) -> None:
    await rollout.push(
        [
            *await rollout.sign_in("ana"),
            *await rollout.sign_in("ben", credential="session", validity=0.001),
        ]
    )
    ended = await rollout.run()
    exported = await rollout.command("export", "--state", "needs_session")

    assert ended.code == 1
    user = json.loads(exported.out)
    assert (user["username"], user["state"], user["reason"]) == ("ben", "needs_session", "session_expired")


async def test_a_lost_reply_is_reported_and_repaired_by_another_sign_in(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("cut_after@ana=1x")  # a secret is issued, and the answer never arrives
    await rollout.push(await rollout.sign_in("ana", credential="session"))
    ended = await rollout.run()
    assert ended.code == 1
    assert await rollout.users("needs_session") == {"ana": "reply_lost"}
    assert rollout.opened() == {}

    exported = await rollout.command("export", "--state", "needs_session")
    users = [json.loads(line) for line in exported.out.splitlines()]
    signed_in = await rollout.sign_in(*(user["username"] for user in users), credential="session")
    await rollout.push({**user, **request} for user, request in zip(users, signed_in, strict=True))
    ended = await rollout.run()

    assert ended.code == 0
    assert rollout.opened().keys() == {"ana"}
    assert not (await rollout.audit()).stale


async def test_a_killed_run_goes_on_where_it_stopped(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 50})
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(60))))

    killed = rollout.start("run")
    await rollout.until_delivered(11)
    await killed.kill()
    ended = await rollout.run()

    assert ended.code == 0
    assert await rollout.states() == {"delivered": 60}
    assert not (await rollout.audit()).stale


async def test_a_run_that_is_asked_to_stop_says_that_work_is_left(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 20})
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(60))))

    asked = rollout.start("run")
    await rollout.until_delivered(1)
    asked.signal(signal.SIGTERM)
    ended = await asked.ended()

    assert ended.code == 4
    status = await rollout.status()
    assert status["states"]["delivered"] + status["backlog"] == 60
    assert status["states"]["delivered"] == len(rollout.opened()) > 0


@pytest.mark.parametrize("credential", ["token", "session"])
async def test_everybody_accepted_is_in_exactly_one_state(rollout: Rollout, credential: str) -> None:
    names = [f"user-{number}" for number in range(40)]
    await rollout.fake_cognito.set_faults("conflict=5%", "cut_after=5%", "cut_before=5%", "invalid_parameter=5%")

    await rollout.push(await rollout.sign_in(*names, credential="session" if credential == "session" else "token"))
    await rollout.run()

    status = await rollout.status()
    assert sum(status["states"].values()) == status["accepted"] == 40
    assert status["backlog"] == 0
    assert not (await rollout.audit()).stale
