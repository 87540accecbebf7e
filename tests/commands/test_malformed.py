"""Input that is not what it seems: who writes it is told where, what and whom, by ``run``, ``push`` and ``status``."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from tests.support.rollout import Request, Rollout

SECRET = "AYABeSecretThatLostItsPlaceAndMustNotBePrinted"


async def typo_in_line_4(rollout: Rollout) -> list[Request | str]:
    """Three requests and a misspelt one, after a blank line."""
    ada, ben, cleo, dora = await rollout.sign_in("ada", "ben", "cleo", "dora")
    cleo["acces_token"] = cleo.pop("access_token")
    return [ada, ben, "", cleo, dora]


def put_aside(told: str) -> list[tuple[str, int]]:
    return sorted((each["reason"], each["number"]) for each in json.loads(told)["put_aside"])


@pytest.mark.parametrize("source", ["file", "pipe"])
async def test_a_run_names_each_malformed_line_and_ends_with_1(rollout: Rollout, source: str) -> None:
    file = rollout.file(await typo_in_line_4(rollout))
    if source == "file":
        ended = await rollout.run("--input", file)
    else:
        reading, writing = os.pipe()
        os.write(writing, (rollout.folder / file).read_bytes())
        os.close(writing)
        ended = await rollout.start("run", "--input", "-", stdin=reading).ended()
        os.close(reading)

    assert ended.code == 1
    said = 'line 4 (cleo): has the unknown key "acces_token"; did you mean access_token?'
    assert said in ended.err.splitlines()
    assert '"event": "malformed_line"' in ended.err
    assert "1 malformed, put aside: mfa-worker status --malformed" in ended.err
    assert await rollout.states() == {"delivered": 3}


async def test_the_same_file_again_is_malformed_again_and_counted_once(rollout: Rollout) -> None:
    file = rollout.file(await typo_in_line_4(rollout))
    assert [(await rollout.run("--input", file)).code for _ in range(2)] == [1, 1]
    assert (await rollout.command("push", file)).code == 1

    told = await rollout.command("status", "--json", "--malformed")
    assert json.loads(told.out)["malformed"] == 1
    assert put_aside(told.out) == [('has the unknown key "acces_token"; did you mean access_token?', 1)]
    assert (await rollout.run()).code == 0, "what was pushed is no malformed request of this run"


async def test_a_malformed_message_on_the_queue_ends_the_run_that_meets_it_with_1(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana", "ben"))
    rollout.configure(otp={"issuer": "Example", "account": "email"})  # their requests have no such attribute

    ended = await rollout.run()

    assert ended.code == 1
    assert await rollout.states() == {}
    listed = await rollout.command("status", "--malformed")
    assert "has no attribute email, which otp.account names as what people see" in listed.out
    assert (await rollout.run()).code == 0


async def test_push_names_lines_and_says_how_many_more(rollout: Rollout) -> None:
    (ana,) = await rollout.sign_in("ana")
    pushed = await rollout.command("push", rollout.file([ana, *['{"username": "ben"}'] * 5_000]))

    assert (pushed.code, pushed.out) == (1, "accepted 1, duplicate 0, malformed 5000\n")
    lines = [line for line in pushed.err.splitlines() if not line.startswith("{")]  # without the log
    assert lines[:20] == [
        f"line {number} (ben): has no credential; add session or access_token" for number in range(2, 22)
    ]
    assert lines[20] == "and 4,980 more"
    assert (await rollout.status())["malformed"] == 5_000


@pytest.mark.parametrize("how", ["run", "push", "keep-fresh"])
async def test_a_key_that_may_be_a_secret_stands_nowhere(rollout: Rollout, how: str) -> None:
    (ada,) = await rollout.sign_in("ada")
    file = rollout.file([{**ada, SECRET: 1}, json.dumps({"username": "ben", "since": {SECRET: 1}, SECRET: 2})])
    if how == "run":
        ended = await rollout.run("--input", file)
    else:
        ended = await rollout.command("push", file, *(["--keep-fresh"] if how == "keep-fresh" else []))
    listed = await rollout.command("status", "--malformed")

    assert ended.code == 1
    assert f"line 1 (ada): has the unknown key of {len(SECRET)} characters" in ended.err
    for said in (ended.err, ended.out, listed.out):
        assert SECRET not in said
    for path in rollout.folder.glob("rollout.db*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize("how", ["run", "push", "keep-fresh"])
async def test_a_file_in_another_encoding_is_told_once(rollout: Rollout, how: str) -> None:
    requests = await rollout.sign_in("ada", "ben")
    path = rollout.folder / "utf-16.jsonl"
    path.write_bytes("\n".join(json.dumps(request) for request in requests).encode("utf-16"))
    if how == "run":
        ended = await rollout.run("--input", str(path))
    else:
        ended = await rollout.command("push", str(path), *(["--keep-fresh"] if how == "keep-fresh" else []))

    assert ended.code == 1
    assert "lines 1 to 2: is UTF-16, not UTF-8: convert the file (iconv -f UTF-16 -t UTF-8)" in ended.err.splitlines()
    assert (await rollout.status())["malformed"] == 2


async def test_a_large_file_of_something_else_is_told_once_and_soon(rollout: Rollout) -> None:
    path = rollout.folder / "users.csv"
    path.write_text("username,access_token\n" + "".join(f"user-{n},eyJh.eyJ1.c2ln\n" for n in range(60_000)))
    async with asyncio.timeout(30):
        ended = await rollout.run("--input", str(path))

    assert ended.code == 1
    told = [line for line in ended.err.splitlines() if line.startswith("line")]
    assert told == ["lines 1 to 60001: is CSV, not JSON; one JSON object a line is needed (mlr -S --icsv --ojsonl cat)"]
    assert (await rollout.status())["malformed"] == 60_001


async def test_a_roster_names_the_lines_that_are_no_usernames(rollout: Rollout) -> None:
    path = rollout.folder / "roster.txt"
    path.write_bytes(b"ana\n\n" + b"x" * 129 + b"\nzo\xeb\nben\n")
    pushed = await rollout.command("push", "--roster", str(path))
    assert (pushed.code, pushed.out) == (1, "roster: 2 new, malformed 2\n")
    assert pushed.err.splitlines()[-2:] == [
        "line 3: is no username: 1 to 128 characters",
        "line 4: is not UTF-8; if it is Latin-1: iconv -f LATIN1 -t UTF-8",
    ]


async def test_a_dry_run_names_the_lines_too(rollout: Rollout) -> None:
    told = await rollout.run("--dry-run", "--input", rollout.file(await typo_in_line_4(rollout)))
    assert 'line 4 (cleo): has the unknown key "acces_token"; did you mean access_token?' in told.out


async def test_requests_of_an_operator_who_does_all_that_is_allowed(rollout: Rollout) -> None:
    ada, ben, cleo, dora = await rollout.sign_in("ada", "ben", "cleo", "dora", credential="session")
    requests = [
        {**ada, "expires_at": "2098-12-31T23:59:60.123456789012Z", "access_token": None},
        {**ben, "expires_at": None, "issued_at": None, "attributes": None, "replace": None, "id": None},
        {
            **cleo,
            "detail": "ForbiddenException",
            "state": "failed",
            "reason": "refused",
            "since": "2025-01-01T00:00:00Z",
        },
        json.dumps({**dora, "expires_at": "2098-12-31t23:59:59-00:00"}),
    ]
    path = rollout.folder / "requests.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf"
        + b"\r\n\xef\xbb\xbf".join((each if isinstance(each, str) else json.dumps(each)).encode() for each in requests)
    )
    ended = await rollout.run("--input", str(path))
    assert (ended.code, await rollout.states()) == (0, {"delivered": 4}), ended.err
