"""The small commands: push, status, export, open, keygen, check, rehearse, and help that is there at once."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pty
import subprocess
import sys
import time

import pytest

from tests.processes import COMMAND, Rollout
from worker import sealing

STATES = ["in_progress", "sealed", "delivered", "active", "needs_session", "failed", "skipped"]


async def test_push_says_how_many_and_reads_standard_input(rollout: Rollout) -> None:
    ana, ben = await rollout.sign_in("ana", "ben")
    lines = f"{json.dumps(ana)}\n\n  \r\n{json.dumps(ana)}\nbroken\n{json.dumps(ben)}"
    reading, writing = os.pipe()
    os.write(writing, lines.encode())
    os.close(writing)

    pushing = rollout.start("push", stdin=reading)
    os.close(reading)
    ended = await pushing.ended()

    assert (ended.code, ended.out) == (1, "accepted 2, duplicate 1, malformed 1\n")
    assert "is not JSON" in ended.err


async def test_push_without_a_mistake_exits_with_0_and_a_missing_file_is_2(rollout: Rollout) -> None:
    pushed = await rollout.command("push", rollout.file(await rollout.sign_in("ana")))
    missing = await rollout.command("push", "nowhere.jsonl")
    assert (pushed.code, pushed.out) == (0, "accepted 1, duplicate 0, malformed 0\n")
    assert (missing.code, missing.out) == (2, "")
    assert "nowhere.jsonl" in missing.err


async def test_ten_thousand_duplicates_of_a_message_are_counted_and_quick(rollout: Rollout) -> None:
    (ana,) = await rollout.sign_in("ana")

    file = rollout.file([ana] * 10_000)
    began = time.monotonic()
    pushed = await rollout.command("push", file)
    took = time.monotonic() - began

    assert pushed.out == "accepted 1, duplicate 9999, malformed 0\n"
    assert took < 20
    assert (await rollout.run()).code == 0
    assert (await rollout.status())["duplicates"] == 9_999


async def test_status_as_json_is_exactly_what_scripts_rely_on(rollout: Rollout) -> None:
    await rollout.standin.set_faults("session_spent@ben=1x")
    requests = await rollout.sign_in("ana", "ben", credential="session")
    await rollout.push([*requests, requests[0], "broken"])
    await rollout.run()
    await rollout.push(await rollout.sign_in("cleo", credential="session", validity=0.001))
    await rollout.push(await rollout.sign_in("dora"))

    ended = await rollout.command("status", "--json")

    assert ended.code == 0
    assert ended.out.count("\n") == 1
    assert json.loads(ended.out) == {
        "states": {**dict.fromkeys(STATES, 0), "delivered": 1, "needs_session": 1},
        "reasons": {"session_spent": 1},
        "accepted": 2,
        "backlog": 2,
        "duplicates": 1,
        "malformed": 1,
        "past_session_expiry": 1,
    }


async def test_status_for_people_says_what_to_do(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana"))

    ended = await rollout.command("status")

    assert ended.code == 0
    assert "run again" in ended.out


@pytest.mark.parametrize("command", [("status",), ("export", "--state", "failed")])
async def test_who_only_looks_begins_no_rollout(rollout: Rollout, command: tuple[str, ...]) -> None:
    ended = await rollout.command(*command)

    assert (ended.code, ended.out) == (2, "")
    assert not rollout.ledger.exists()


async def test_what_export_prints_can_be_pushed_back_with_a_session_added(rollout: Rollout) -> None:
    await rollout.standin.set_faults("session_spent@ana=1x")
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben", credential="session")))

    exported = await rollout.command("export", "--state", "needs_session")
    (user,) = map(json.loads, exported.out.splitlines())
    assert user.keys() == {"username", "state", "reason", "since"}
    (again,) = await rollout.sign_in(user["username"], credential="session")
    pushed = await rollout.command("push", rollout.file([{**user, "session": again["session"]}]))

    assert pushed.code == 0
    assert (await rollout.run()).code == 0
    assert (await rollout.command("export", "--state", "needs_session")).out == ""


async def test_export_of_a_state_that_is_none_names_the_nearest(rollout: Rollout) -> None:
    await rollout.push([])

    ended = await rollout.command("export", "--state", "need_session")

    assert ended.code == 2
    assert "needs_session" in ended.err


@pytest.mark.parametrize("users", [1, 1000])
async def test_a_reader_that_goes_away_is_no_error(rollout: Rollout, users: int) -> None:
    requests = await rollout.sign_in(*(f"user-{number}" for number in range(users)), validity=0)
    await rollout.run("--input", rollout.file(requests))
    reading, writing = os.pipe()
    os.close(reading)

    ended = await rollout.command("export", "--state", "needs_session", stdout=writing)
    os.close(writing)

    assert (ended.code, ended.err) == (0, "")


async def test_open_gives_the_highest_generation_of_each_user(rollout: Rollout) -> None:
    for more in ({}, {"replace": True}):
        await rollout.run("--input", rollout.file([{**each, **more} for each in await rollout.sign_in("ana", "ben")]))
    first, rest = rollout.folder / "first.jsonl", rollout.folder / "rest.jsonl"
    lines = rollout.channel.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    rest.write_text("".join(lines[::-1][:3]) + "\n" + lines[3][:50])  # newest first, then a line that was torn
    first.write_text(lines[0])

    ended = await rollout.command("open", str(first), str(rest), "--identity", str(rollout.identity))

    assert ended.code == 1
    assert "1 not opened" in ended.err
    opened = {record["username"]: record["secret_code"] for record in map(json.loads, ended.out.splitlines())}
    truth = await rollout.standin.truth()
    assert opened == {name: user.secrets[-1].secret_code for name, user in truth.items()}


async def test_open_reads_a_single_age_file_and_standard_input(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    sealed = json.loads(rollout.channel.read_text())["sealed"]
    age, odd = rollout.folder / "ana.age", rollout.folder / "odd.age"
    age.write_bytes(base64.b64decode(sealed))
    odd.write_bytes(sealing.AgeSealer([rollout.recipient]).seal(b"[]"))

    single = await rollout.command("open", "-i", str(rollout.identity), "ana.age")
    strange = await rollout.command("open", "-i", str(rollout.identity), "odd.age")
    with rollout.channel.open("rb") as stream:
        piped = await rollout.command("open", "-i", str(rollout.identity), "-", stdin=stream.fileno())

    assert single.out == piped.out
    assert json.loads(single.out)["username"] == "ana"
    assert (strange.code, strange.out) == (1, "")


async def test_open_shows_secrets_on_a_terminal_only_when_told_so(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    secret = rollout.opened()["ana"]["secret_code"]

    refused = await _on_a_terminal(rollout, "open", "-i", str(rollout.identity))
    shown = await _on_a_terminal(rollout, "open", "-i", str(rollout.identity), "--show")

    assert refused[0] == 2
    assert "--show" in refused[1]
    assert secret not in refused[1]
    assert shown[0] == 0
    assert secret in shown[1]


async def _on_a_terminal(rollout: Rollout, *arguments: str) -> tuple[int, str]:
    """Exit code, and what a person saw."""
    return await asyncio.to_thread(_play_terminal, rollout, arguments)


def _play_terminal(rollout: Rollout, arguments: tuple[str, ...]) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=rollout.folder,
        env={**os.environ, "MFA_WORKER_CONFIG": str(rollout.config)},
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65_536):
            seen += chunk
    except OSError:
        pass  # the other end is closed
    os.close(ours)
    return process.wait(), seen.decode()


async def test_progress_and_logs_on_a_terminal_stay_off_standard_output(rollout: Rollout) -> None:
    requests = rollout.file(await rollout.sign_in("ana", "\x1b[31mben"))

    code, seen = await _on_a_terminal(rollout, "run", "--input", requests)

    assert code == 0
    assert "2 accepted = 2 delivered." in seen
    assert "[31mben" not in seen


async def test_keygen_makes_a_private_file_and_never_writes_over_one(rollout: Rollout) -> None:
    made = await rollout.command("keygen", "-o", "new.key", config=False)
    again = await rollout.command("keygen", "-o", "new.key", config=False)

    key = rollout.folder / "new.key"
    assert made.code == 0
    assert made.out.startswith("age1")
    assert key.stat().st_mode & 0o777 == 0o600
    assert made.out.strip() in key.read_text()
    assert (again.code, again.out) == (2, "")
    assert "never overwritten" in again.err
    assert sealing.AgeSealer([made.out.strip()])


async def test_keygen_into_a_pipe_prints_the_identity_and_on_a_terminal_it_refuses(rollout: Rollout) -> None:
    piped = await rollout.command("keygen", config=False)
    code, seen = await _on_a_terminal(rollout, "keygen")

    assert "AGE-SECRET-KEY-1" in piped.out
    assert piped.err.startswith("age1")
    assert code == 2
    assert "AGE-SECRET-KEY" not in seen


async def test_check_passes_where_all_is_well_and_touches_nothing(rollout: Rollout) -> None:
    ended = await rollout.command("check", "--json")

    assert ended.code == 0, ended.out
    assert json.loads(ended.out)["ok"] is True
    assert not rollout.ledger.exists()
    assert (await rollout.standin.stats()).wire_requests == 0


async def test_check_says_everything_that_would_go_wrong_at_once(rollout: Rollout) -> None:
    rollout.configure(
        cognito={"endpoint_url": "http://127.0.0.1:1", "session_handoff": None},
        channel={"path": str(rollout.folder / "nowhere" / "out.jsonl")},
        seal={"recipients": []},
    )
    await rollout.push(await rollout.sign_in("ana", credential="session"))

    ended = await rollout.command("check")
    as_json = json.loads((await rollout.command("check", "--json")).out)

    assert ended.code == 2
    for part in ("seal", "channel", "cognito"):
        assert f"FAILS   {part}" in ended.out
    assert as_json["ok"] is False
    assert {"way", "queue"} <= {finding["about"] for finding in as_json["findings"]}
    assert all(finding["cure"] for finding in as_json["findings"] if finding["level"] == "fails")


async def test_a_rehearsal_proves_every_promise(rollout: Rollout) -> None:
    arguments = ("--users", "60", "--rate", "100", "--latency", "0", "--fault", "conflict=10%", "--json")

    ended = await rollout.command("rehearse", *arguments, config=False)

    assert ended.code == 0, ended.err
    proof = json.loads(ended.out)
    assert proof["holds"] is True
    assert proof["states"] == {"delivered": 60}


async def test_a_rehearsal_of_a_fault_that_is_none_names_the_nearest(rollout: Rollout) -> None:
    ended = await rollout.command("rehearse", "--fault", "conflikt=2%", config=False)

    assert ended.code == 2
    assert "conflict" in ended.err


async def test_help_and_version_are_there_at_once(rollout: Rollout) -> None:
    probe = (
        "import sys; sys.argv = ['mfa-worker', '--help']\n"
        "import worker.cli\n"
        "try: worker.cli.main()\n"
        "except SystemExit: print(*sorted(sys.modules), sep='\\n', file=sys.stderr)"
    )
    ended = await rollout.command("--help", command=(sys.executable, "-c", probe), config=False)
    assert ended.code == 0
    heavy = {
        "botocore",
        "aioboto3",
        "pydantic",
        "pydantic_settings",
        "aiohttp",
        "structlog",
        "rich",
        "uvloop",
        "pyrage",
    }
    assert heavy & set(ended.err.split()) == set()
    for command in ("run", "push", "status", "export", "open", "keygen", "check", "config", "rehearse"):
        assert f"\n  {command} " in ended.out

    bare = min([_seconds(sys.executable, "-c", "pass") for _ in range(5)])
    helped = min([_seconds(*COMMAND, "--help") for _ in range(5)])
    assert helped < 0.2 or helped < 10 * bare


def _seconds(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


@pytest.mark.parametrize(
    "arguments",
    [
        ("rnu",),
        ("run", "--inptu", "-"),
        ("run", "--max-users", "0"),
        ("run", "unexpected"),
        ("export",),
        ("open",),
        ("status", "--set", "rate.requests_per_second"),
    ],
)
async def test_wrong_usage_exits_with_2_and_prints_no_result(rollout: Rollout, arguments: tuple[str, ...]) -> None:
    ended = await rollout.command(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err
    assert "Traceback" not in ended.err


async def test_the_folder_of_a_rehearsal_can_be_kept(rollout: Rollout) -> None:
    ended = await rollout.command("rehearse", "--users", "3", "--latency", "0", "--keep", "kept", config=False)

    assert ended.code == 0
    kept = rollout.folder / "kept"
    assert all((kept / name).exists() for name in ("enrolments.jsonl", "identity.txt", "rehearsal.db"))
