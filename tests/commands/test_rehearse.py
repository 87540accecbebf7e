"""``rehearse``: whole rollouts, from usernames, passwords, tokens and Sessions to users who sign in with a code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.processes import Ended
from tests.support.rollout import Rollout
from worker.rehearsal.fake_cognito.faults import FAULTS

QUICK = ("--users", "40", "--rate", "100", "--latency", "0.01", "--set", "cognito.call_timeout=2s")


async def rehearsed(rollout: Rollout, *arguments: str) -> Ended:
    return await rollout.command("rehearse", *QUICK, *arguments, config=False)


def proof(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    told: dict[str, Any] = json.loads(ended.out)
    return told


@pytest.mark.parametrize(
    ("origin", "calls", "sign_ins", "looks"),
    [
        ("usernames", 3, 80, 40),
        ("passwords", 3, 40, 40),
        ("passwords --mfa required", 2, 40, 0),
        ("tokens", 3, 0, 0),
        ("sessions", 2, 0, 0),
    ],
)
async def test_a_whole_rollout_ends_with_everybody_active_and_signed_in_with_a_code(
    rollout: Rollout, origin: str, calls: int, sign_ins: int, looks: int
) -> None:
    told = proof(await rehearsed(rollout, "--activate", "--json", "--from", *origin.split()))

    assert told["holds"] is True
    assert told["states"] == {"active": 40}
    assert (told["signed_in_with_code"], told["cannot_sign_in"], told["not_active"]) == (40, 0, 0)
    assert (told["calls_a_user"], told["sign_ins"], told["looks"]) == (calls, sign_ins, looks)
    assert told["users_per_second"] > 0


async def test_without_activation_nobody_is_verified_or_signed_in(rollout: Rollout) -> None:
    told = proof(await rehearsed(rollout, "--from", "usernames", "--json"))

    assert told["states"] == {"delivered": 40}
    assert (told["calls_a_user"], told["not_active"], told["signed_in_with_code"]) == (1, None, None)


async def test_a_verified_secret_that_nobody_is_asked_for_is_not_tried(rollout: Rollout) -> None:
    told = proof(
        await rehearsed(rollout, "--from", "tokens", "--activate", "--set", "activation.mode=verify", "--json")
    )

    assert told["states"] == {"active": 40}
    assert (told["not_active"], told["signed_in_with_code"]) == (0, None)


async def test_people_read_what_it_cost_and_who_can_sign_in(rollout: Rollout) -> None:
    ended = await rehearsed(rollout, "--from", "usernames", "--activate")

    rows = {line[:19].strip(): line[20:] for line in ended.out.splitlines()}
    assert rows["users"] == "40: 40 active"
    assert rows["pace"].startswith("3.00 calls a user, ")
    assert rows["sign-in requests"] == "80: 0 refused, and 40 looks"
    assert rows["can sign in"] == "40 of the active, with a code from the opened record"
    assert rows["cannot sign in"] == rows["not active"] == "0"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--from usernames --credential token", "leave out --credential; --from tokens means the same"),
        ("--from sessions --mfa optional", "leave out --mfa"),
        ("--from names", "'usernames'"),
        ("--from usernames --set sign_in.flow=user_password", "set custom_auth"),
        ("--from passwords --set sign_in.flow=none", "set admin_user_password or user_password"),
        ("--activate --set activation.mode=none", "leave out one of them"),
        ("--fault conflict/InitAuth=1", "did you mean InitiateAuth"),
        ("--fault wrong_code/GetUser=1", "only in VerifySoftwareToken"),
    ],
)
async def test_what_contradicts_itself_is_refused_with_the_cure(rollout: Rollout, arguments: str, told: str) -> None:
    ended = await rehearsed(rollout, *arguments.split())

    assert (ended.code, ended.out) == (2, "")
    assert told in " ".join(ended.err.split())
    assert "Traceback" not in ended.err


async def test_the_older_way_to_say_where_it_begins_still_works(rollout: Rollout) -> None:
    told = proof(await rehearsed(rollout, "--credential", "session", "--from", "sessions", "--json"))

    assert told["states"] == {"delivered": 40}


async def test_every_fault_is_listed_with_its_meaning(rollout: Rollout) -> None:
    ended = await rehearsed(rollout, "--fault", "help")

    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()] == list(FAULTS)
    assert "HTTP 200 with the status ERROR, did not act (VerifySoftwareToken)" in ended.out
