"""``init`` without settings: three lines of shell lead from nothing to a rehearsed rollout, asked or by flags."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import Ended, Process, until
from worker.sealing import age
from worker.settings import load

POOL = "eu-central-1_AbCdEfGhI"
FLAGS = ("--pool", POOL, "--issuer", "Example")


def start(folder: Path, *arguments: str, **more: object) -> Process:
    return Process.start(folder, "typed", *arguments, **more)  # type: ignore[arg-type]


async def typed(folder: Path, *arguments: str, **more: object) -> Ended:
    return await start(folder, *arguments, **more).ended()


def made(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()} - {"typed.out", "typed.err"}


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """The end that a person types into, and the end that a command reads."""
    person, command = os.openpty()
    try:
        yield person, command
    finally:
        os.close(person)
        os.close(command)


async def test_from_nothing_to_a_rehearsal_with_the_settings_just_written_and_its_secrets_opened(
    tmp_path: Path,
) -> None:
    written = await typed(tmp_path, "init", *FLAGS)
    rehearsed = await typed(
        tmp_path, *("rehearse", "-c", "mfa-worker.toml", "--users", "3", "--latency", "0", "--keep", "kept")
    )
    opened = await typed(tmp_path, "open", "-i", "identity.key", "kept/enrolments.jsonl")

    assert (written.code, rehearsed.code, opened.code) == (0, 0, 0)
    assert "mfa-worker rehearse -c mfa-worker.toml" in written.out
    assert "20 requests/s" in rehearsed.err
    assert "mfa-worker open -i kept/identity.txt" in rehearsed.out
    records = [json.loads(line) for line in opened.out.splitlines()]
    assert {record["username"] for record in records} == {"user-0", "user-1", "user-2"}
    assert all(record["otpauth_uri"].startswith("otpauth://totp/Example:user-") for record in records)
    assert made(tmp_path) == {"mfa-worker.toml", "identity.key", "kept"}


async def test_who_is_asked_may_answer_wrongly_and_is_asked_again(tmp_path: Path) -> None:
    private, public = age.keygen("today")
    with terminal() as (person, command):
        asking = start(tmp_path, "init", "--folder", "new", stdin=command)
        for answer in ("", "my-pool", POOL, "   ", "Example", private.splitlines()[-1], f"{public}, {public}"):
            os.write(person, f"{answer}\n".encode())
        ended = await asking.ended()

    assert ended.code == 0
    assert ended.err.count("needed: write it") == 2
    for part in ("that is no user pool's id", "that is a private key"):
        assert part in ended.err
    assert private.splitlines()[-1] not in ended.err + ended.out
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["mfa-worker.toml"]
    settings = load(tmp_path / "new" / "mfa-worker.toml", [], {})
    assert (settings.cognito.user_pool_id, settings.seal.recipients) == (POOL, (public,))


@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-D"])
async def test_whoever_gives_up_in_the_middle_leaves_nothing(tmp_path: Path, how: str) -> None:
    with terminal() as (person, command):
        asking = start(tmp_path, "init", "--folder", "new", stdin=command)
        os.write(person, f"{POOL}\n".encode())
        await until(lambda: "your service" in asking.err)
        if how == "Ctrl-D":
            os.write(person, b"\x04")
        else:
            asking.signal(signal.SIGINT)
        ended = await asking.ended()

    assert (ended.code, ended.out) == (4, "")
    assert "nothing was made" in ended.err
    assert "Traceback" not in ended.err
    assert made(tmp_path) == set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("init",), "--pool ID and --issuer NAME"),
        (("init", "--pool", POOL), "--issuer NAME"),
        (("init", "--issuer", "Example", "--folder", "new"), "--pool ID"),
        (("init", "--pool", "arn:aws:sqs:eu-central-1:123456789012:queue", "--issuer", "Example"), "list-user-pools"),
        (("init", *FLAGS, "--recipient", "ssh-ed25519 AAAA"), "an SSH key"),
        (("init", *FLAGS, "--issuer", " "), "the issuer is empty"),
        (("init", *FLAGS, "--cloudformation"), "leave out one of the two"),
        (("init", *FLAGS, "--set", "queue.kind=sqs"), "leave out one of the two"),
        (("-c", "mfa-worker.toml", "init", *FLAGS), "leave out one of the two"),
        (("init", *FLAGS, "--folder", "/proc/nowhere"), "--folder DIR"),
    ],
)
async def test_what_is_missing_or_wrong_is_named_and_nothing_is_made(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    ended = await typed(tmp_path, *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert made(tmp_path) == set()


async def test_twice_in_a_folder_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    await typed(tmp_path, "init", *FLAGS)
    before = (tmp_path / "mfa-worker.toml").read_bytes(), (tmp_path / "identity.key").read_bytes()

    with terminal() as (_, command):
        again = await typed(tmp_path, "init", stdin=command)

    assert (again.code, again.out) == (2, "")
    assert "mfa-worker check -c mfa-worker.toml" in again.err
    assert "user pool" not in again.err
    assert before == ((tmp_path / "mfa-worker.toml").read_bytes(), (tmp_path / "identity.key").read_bytes())


async def test_settings_of_another_rollout_in_the_environment_do_not_matter_to_whoever_names_a_folder(
    tmp_path: Path,
) -> None:
    environ = {"MFA_WORKER_CONFIG": str(tmp_path / "elsewhere.toml"), "AWS_REGION": "us-east-1"}

    ended = await typed(tmp_path, "init", *FLAGS, "--folder", "new", env=environ)

    assert ended.code == 0
    assert "AWS_REGION is us-east-1" in ended.err


async def test_with_settings_it_is_about_aws_and_says_where_nothing_is_to_make(tmp_path: Path) -> None:
    await typed(tmp_path, "init", *FLAGS)

    ended = await typed(tmp_path, "init", "-c", "mfa-worker.toml")

    assert (ended.code, ended.out) == (2, "")
    assert "nothing of this rollout is on AWS" in ended.err
    assert "mfa-worker check" in ended.err
