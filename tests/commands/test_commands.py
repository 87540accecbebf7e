"""The small commands: push, status, export, open, keygen, check, rehearse, and help that is there at once."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time

import pytest

from tests.support.processes import COMMAND
from tests.support.rollout import Rollout

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
    await rollout.fake_cognito.set_faults("session_spent@ben=1x")
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
        "dead_letters": 0,
        "roster": {"unrequested": 0},
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
    await rollout.fake_cognito.set_faults("session_spent@ana=1x")
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben", credential="session")))

    exported = await rollout.command("export", "--state", "needs_session")
    (user,) = map(json.loads, exported.out.splitlines())
    assert user.keys() == {"username", "state", "reason", "since"}
    assert "needs_session: 1 user\n" in exported.err
    assert "1 session_spent: The Session had been used already" in exported.err
    assert "Next: add a credential to each" in exported.err
    (again,) = await rollout.sign_in(user["username"], credential="session")
    pushed = await rollout.command("push", rollout.file([{**user, "session": again["session"]}]))

    assert pushed.code == 0
    assert (await rollout.run()).code == 0
    nobody = await rollout.command("export", "--state", "needs_session")
    assert (nobody.out, nobody.err) == ("", "needs_session: 0 users; all states: mfa-worker status\n")


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


async def test_check_passes_where_all_is_well_and_touches_nothing(rollout: Rollout) -> None:
    ended = await rollout.command("check", "--json")

    assert ended.code == 0, ended.out
    assert json.loads(ended.out)["ok"] is True
    assert not rollout.ledger.exists()
    assert (await rollout.fake_cognito.stats()).wire_requests == 0


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


async def test_a_rehearsal_that_cannot_write_says_so_and_is_no_bug(rollout: Rollout) -> None:
    nowhere = rollout.folder / "nowhere" / "rehearsal.db"
    ended = await rollout.command(
        "rehearse", "--users", "2", "--set", f"queue.path={nowhere}", "--set", f"ledger.path={nowhere}", config=False
    )

    assert ended.code == 75
    assert "No such file or directory" in ended.err
    assert "Traceback" not in ended.err


async def test_looking_at_a_rollout_on_one_host_does_not_load_the_aws_sdk(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    probe = (
        "import sys\n"
        "import worker.cli\n"
        "try: worker.cli.main()\n"
        "except SystemExit: print({'aioboto3', 'botocore', 'aiohttp'} & set(sys.modules), file=sys.stderr)"
    )
    for command in (["status"], ["export", "--state", "delivered"]):
        ended = await rollout.command(*command, command=(sys.executable, "-c", probe))
        assert ended.err.endswith("set()\n"), command


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
    """Of processor time, which on an idle machine is the time that passes: a start waits for nothing."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return used() - before


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
async def test_streams_that_whoever_started_us_closed_spoil_nothing(rollout: Rollout, closed: str) -> None:
    requests = rollout.file(await rollout.sign_in("ana"))
    shell = ("sh", "-c", f'exec {COMMAND[0]} "$@" {closed}', "sh")

    ended = await rollout.run("--input", requests, command=shell)

    assert ended.code == 0
    assert rollout.opened().keys() == {"ana"}


async def test_a_full_disk_under_standard_output_is_no_bug(rollout: Rollout) -> None:
    await rollout.push([])

    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123
        ended = await rollout.command("status", stdout=full.fileno())

    assert ended.code == 75
    assert "Traceback" not in ended.err


async def test_a_terminal_without_unicode_is_no_bug(rollout: Rollout) -> None:
    await rollout.push([])

    ended = await rollout.command("check", env={"PYTHONIOENCODING": "ascii"}, command=COMMAND)

    assert ended.code == 0
    assert "ADVICE" in ended.out


async def test_credentials_for_loopback_go_through_no_proxy(rollout: Rollout) -> None:
    proxy = "http://127.0.0.1:1"

    ended = await rollout.run(
        "--input",
        rollout.file(await rollout.sign_in("ana")),
        env={"HTTP_PROXY": proxy, "http_proxy": proxy, "ALL_PROXY": proxy},
    )

    assert ended.code == 0


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
