"""Nothing secret is at rest unsealed, in a log, in a traceback or among a process's arguments."""

from __future__ import annotations

import json
import re
import sys

from tests.support.processes import COMMAND
from tests.support.rollout import Rollout, found_in

OWN = re.compile(r"requests-\d+\.jsonl|identity\.txt")
"""Files that the test wrote, or that are meant to hold a secret."""

BUG = """
import sys
from worker import cli
from worker.core import pipeline
seal = pipeline.seal_record
def broken(request, issued, *rest, **more):
    if request.username != "eve":
        return seal(request, issued, *rest, **more)
    raise RuntimeError(f"{request.credential.reveal()} got {issued.secret_code.reveal()} {request!r} {issued!r}")
pipeline.seal_record = broken
sys.argv[0] = "mfa-worker"
cli.main()
"""


async def test_after_a_run_no_file_holds_a_credential_or_a_secret(rollout: Rollout) -> None:
    requests = await rollout.sign_in(*(f"user-{number}" for number in range(50)), credential="session")
    await rollout.push([*requests, json.dumps({"username": "x", "session": "too-short-secret"})])
    assert (await rollout.run()).code == 0
    rollout.opened()

    secrets = await rollout.known_secrets() | {"too-short-secret"}
    assert len(secrets) > 150
    assert _held(rollout, secrets) == {}


async def test_what_a_killed_worker_leaves_holds_no_secret_and_is_private(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 50})
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(50))))
    running = rollout.start("run", command=COMMAND)
    await rollout.until_delivered(6)
    arguments = running.command_line
    await running.kill()

    secrets = await rollout.known_secrets()
    assert found_in(arguments, secrets) == []
    assert _held(rollout, secrets - rollout.credentials) == {}
    files = [*rollout.folder.glob("rollout.db*"), rollout.channel]
    assert len(files) > 3
    assert {file.stat().st_mode & 0o077 for file in files} == {0}


async def test_a_bug_over_one_user_tells_no_secret_and_costs_the_others_nothing(rollout: Rollout) -> None:
    requests = rollout.file(await rollout.sign_in("ana", "eve", "ben", credential="session"))

    ended = await rollout.run("--input", requests, command=(sys.executable, "-c", BUG), within=30)

    assert ended.code == 70
    assert ended.logged("bug")
    assert "RuntimeError" in ended.err
    assert found_in(ended.err, await rollout.known_secrets()) == []
    assert await rollout.users("delivered") == {"ana": None, "ben": None}
    assert (await rollout.run("--input", requests)).code == 1


async def test_a_bug_of_a_command_tells_no_secret_either(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    broken = (
        "import sys, json\n"
        "from worker import cli\n"
        "from worker.sealing import open as opened\n"
        "def dumps(record): secret = record['secret_code']; raise RuntimeError(secret)\n"
        "opened.json = type('broken', (), {'loads': json.loads, 'dumps': dumps})\n"
        "cli.main()"
    )

    ended = await rollout.command("open", "-i", str(rollout.identity), command=(sys.executable, "-c", broken))

    assert ended.code == 70
    assert ended.out == ""
    assert "RuntimeError" in ended.err
    assert found_in(ended.err, await rollout.known_secrets()) == []


def _held(rollout: Rollout, secrets: set[str]) -> dict[str, list[str]]:
    """Which files hold which secrets."""
    files = [file for file in rollout.folder.rglob("*") if file.is_file() and not OWN.fullmatch(file.name)]
    by_file = {file.name: found_in(file.read_bytes().decode("latin-1"), secrets) for file in files}
    return {name: found for name, found in by_file.items() if found}
