"""Identities, and opening what was sealed to them: never on a terminal unless told so."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import COMMAND, Ended
from tests.support.rollout import Rollout
from worker.sealing import age


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
    truth = await rollout.fake_cognito.truth()
    assert opened == {name: user.secrets[-1].secret_code for name, user in truth.items()}


async def test_open_reads_a_single_age_file_and_standard_input(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    sealed = json.loads(rollout.channel.read_text())["sealed"]
    whole, odd = rollout.folder / "ana.age", rollout.folder / "odd.age"
    whole.write_bytes(base64.b64decode(sealed))
    odd.write_bytes(age.AgeSealer([rollout.recipient]).seal(b"[]"))

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
    assert age.AgeSealer([made.out.strip()])


async def test_keygen_into_a_pipe_prints_the_identity_and_on_a_terminal_it_refuses(rollout: Rollout) -> None:
    piped = await rollout.command("keygen", config=False)
    code, seen = await _on_a_terminal(rollout, "keygen")

    assert "AGE-SECRET-KEY-1" in piped.out
    assert piped.err.startswith("age1")
    assert code == 2
    assert "AGE-SECRET-KEY" not in seen


# --- where opened secrets go ------------------------------------------------------------------------------------------


async def test_secrets_go_into_a_private_file_whole_or_not_at_all(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    other = rollout.folder / "other.key"
    age.write_identity(other, age.keygen("today")[0])
    output = rollout.folder / "secrets.jsonl"
    output.write_text("of yesterday")
    output.chmod(0o644)

    wrong = await rollout.command("open", "-i", str(other), "-o", "secrets.jsonl")
    unharmed = output.read_text()
    right = await rollout.command("open", "-i", str(rollout.identity), "-o", "secrets.jsonl")

    assert (wrong.code, wrong.out, unharmed) == (1, "", "of yesterday")
    assert "ana" in wrong.err
    assert (right.code, right.out) == (0, "")
    assert output.stat().st_mode & 0o777 == 0o600
    assert json.loads(output.read_text()) == rollout.opened()["ana"]
    assert not list(rollout.folder.glob(".mfa-worker-*"))


async def test_secrets_are_never_written_over_a_file_in_use(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    link, hard = rollout.folder / "link", rollout.folder / "hard"
    link.symlink_to(rollout.identity)
    os.link(rollout.channel, hard)
    files = [rollout.channel, rollout.identity, rollout.config, rollout.folder / "rollout.db"]
    before = {path: path.read_bytes() for path in files}

    for path in (*files, link, hard, rollout.folder):
        ended = await rollout.command("open", "-i", str(rollout.identity), "-o", str(path))
        assert (ended.code, ended.out) == (2, ""), path
        assert "→" in ended.err

    assert {path: path.read_bytes() for path in files} == before


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666, 0o640, 0o600])
@pytest.mark.parametrize("flags", [os.O_TRUNC, os.O_APPEND], ids=["truncated", "appended"])
async def test_the_empty_file_of_the_shell_is_closed_to_others(rollout: Rollout, mode: int, flags: int) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    output = rollout.folder / "out"

    for arguments in (["open", "-i", str(rollout.identity)], ["keygen"]):
        output.write_text("of yesterday" if flags == os.O_TRUNC else "")
        output.chmod(mode)
        ended = await _into(output, flags, rollout, *arguments)
        assert ended.code == 0
        assert output.stat().st_size
        assert output.stat().st_mode & 0o777 == 0o600
        assert ended.err.count("-o FILE") == (mode != 0o600)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
async def test_a_file_that_others_had_open_already_gets_no_secret(rollout: Rollout, mode: int) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    output = rollout.folder / "out"
    output.write_text("of yesterday\n")
    output.chmod(mode)

    for arguments in (
        ["open", "-i", str(rollout.identity)],
        ["open", "--show", "-i", str(rollout.identity)],
        ["keygen"],
    ):
        ended = await _into(output, os.O_APPEND, rollout, *arguments)
        assert ended.code == 2
        assert "-o FILE" in ended.err
        assert output.read_text() == "of yesterday\n"
        assert output.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_another_users_file_gets_no_secret(rollout: Rollout) -> None:
    output = rollout.folder / "out"
    output.touch(0o644)
    os.chown(output, 1234, 1234)

    ended = await _into(output, os.O_TRUNC, rollout, "keygen")

    assert (ended.code, output.read_text()) == (2, "")


async def _into(output: Path, flags: int, rollout: Rollout, *arguments: str) -> Ended:
    """Run a command as the shell does with ``> output``, or ``>>``."""
    stream = os.open(output, os.O_WRONLY | flags)
    try:
        return await rollout.command(*arguments, stdout=stream)
    finally:
        os.close(stream)


async def test_the_identity_may_come_through_standard_input(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    with rollout.identity.open("rb") as stream:
        opened = await rollout.command("open", "-i", "-", stdin=stream.fileno())
    with rollout.identity.open("rb") as stream:
        both = await rollout.command("open", "-i", "-", "-", stdin=stream.fileno())

    assert json.loads(opened.out)["username"] == "ana"
    assert (both.code, both.out) == (2, "")
    assert "both" in both.err
