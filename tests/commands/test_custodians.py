"""A whole rollout to custodians with keys of several kinds: sealed, checked, changed, delivered again and opened."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.age_keys import behind_passphrase, ssh_key, tagged_pq
from tests.support.age_plugin import Mood, Plugin
from tests.support.processes import COMMAND
from tests.support.rollout import Rollout
from worker.sealing import age


@pytest.fixture
def plugin(rollout: Rollout) -> Plugin:
    (folder := rollout.folder / "bin").mkdir()
    rollout.variables["PATH"] = f"{folder}:{os.environ['PATH']}"
    return Plugin(folder)


def key_file(path: Path, content: str | bytes) -> str:
    path.touch(0o600)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


async def test_each_custodian_opens_what_is_sealed_to_all_and_check_says_who_can(
    rollout: Rollout, plugin: Plugin
) -> None:
    private, public = ssh_key()
    rollout.configure(seal={"recipients": [rollout.recipient, public, plugin.recipient]})
    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    assert ended.code == 0, ended.err
    ssh = key_file(rollout.folder / "id_ed25519", private)
    stub = key_file(rollout.folder / "stub", plugin.identity)

    for key in (str(rollout.identity), ssh, stub):
        opened = await rollout.command("open", "-i", key)
        assert [json.loads(line)["username"] for line in opened.out.splitlines()] == ["ana"]
    checked = await rollout.command("check", "-i", ssh, "-i", stub, "--json")

    said = [each["said"] for each in json.loads(checked.out)["findings"] if each["about"] == "seal"]
    assert any("number 2 of seal.recipients (an SSH key (ed25519)" in each and each.endswith(ssh) for each in said)
    assert any("number 3 of seal.recipients (a key of the age plugin hardware" in each for each in said)
    assert any(each.startswith("nobody tried to open what is sealed to number 1 of") for each in said)
    assert any("from its beginning" in each for each in said)
    shown = await rollout.command("config", "show")
    assert "#   3: a key of the age plugin hardware" in shown.out


async def test_a_plugin_that_is_missing_or_broken_stops_a_run_before_anything_is_touched(
    rollout: Rollout, plugin: Plugin
) -> None:
    rollout.configure(seal={"recipients": [rollout.recipient, plugin.recipient]})
    requests = rollout.file(await rollout.sign_in("ana"))
    plugin.mood = Mood.NOT_PLUGGED_IN
    broken = await rollout.run("--input", requests)
    plugin.program.unlink()
    missing, shown = await rollout.run("--input", requests), await rollout.command("config", "show")

    assert (broken.code, missing.code) == (2, 2)
    assert "the token is not plugged in" in broken.err
    assert "COPY age-plugin-hardware /usr/local/bin/" in missing.err
    assert "age-plugin-hardware is not on the PATH here" in shown.out
    assert not rollout.ledger.exists()
    assert "ana" not in await rollout.fake_cognito.truth(), "nobody was called"


async def test_a_plugin_that_breaks_in_the_middle_ends_the_run_and_the_next_one_loses_nobody(
    rollout: Rollout, plugin: Plugin
) -> None:
    rollout.configure(seal={"recipients": [rollout.recipient, plugin.recipient]}, run={"concurrency": 1})
    await rollout.push(await rollout.sign_in("ana", "ben"))
    plugin.breaks_after = 4  # what is tried out before the first call, and the first user
    broken = await rollout.run()
    plugin.breaks_after = None
    mended = await rollout.run()

    assert broken.code == 3, broken.err
    (line,) = broken.logged("stopped")
    assert "the age plugin hardware does not seal" in line["cause"]
    assert mended.code == 0, mended.err
    truth = await rollout.fake_cognito.truth()
    assert sorted(len(user.secrets) for user in truth.values()) == [1, 2]
    assert not (await rollout.audit()).stale


async def test_others_are_refused_until_they_are_accepted(rollout: Rollout) -> None:
    rollout.configure(ledger={"keep_sealed": True})
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    other = age.keygen("today")[1]
    rollout.configure(seal={"recipients": [other.upper()]})
    requests = rollout.file(await rollout.sign_in("ben"))

    refused = await rollout.run("--input", requests)
    checked = await rollout.command("check")
    accepted = await rollout.run("--input", requests, "--accept-recipients")
    again = await rollout.command("redeliver", rollout.file(["ana"]))

    assert (refused.code, accepted.code, again.code) == (2, 0, 0)
    assert f"{other[:16]}…{other[-6:]} came" in refused.err
    assert "mfa-worker run --accept-recipients" in refused.err
    assert "seals to other recipients" in checked.out
    assert len(accepted.logged("recipients_changed")) == 1
    assert len(again.logged("recipients_were_others")) == 1


async def test_what_is_wrong_in_the_settings_is_said_by_every_command(rollout: Rollout) -> None:
    for text, said in (("https://github.com/ada.keys", "keys are not fetched"), (tagged_pq(), "post-quantum")):
        rollout.configure(seal={"recipients": [rollout.recipient, text]})
        for command in (("run",), ("status",), ("config", "show")):
            ended = await rollout.command(*command)
            assert ended.code == 2
            assert said in ended.err


async def test_a_key_file_behind_a_passphrase_is_opened_on_a_terminal_without_echo(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))
    key = key_file(rollout.folder / "locked.age", behind_passphrase(rollout.identity.read_bytes(), b"open sesame"))
    output = rollout.folder / "opened.jsonl"

    without = await rollout.command("open", "-i", key, str(rollout.channel))
    shown = _typed(rollout, "open sesame\n", "open", "-i", key, "-o", str(output), str(rollout.channel))

    assert without.code == 2
    assert f"age -d {key} | mfa-worker" in without.err
    assert f"Passphrase of {key}:" in shown
    assert "sesame" not in shown
    assert json.loads(output.read_text())["username"] == "ana"


def _typed(rollout: Rollout, text: str, *arguments: str) -> str:
    """What a terminal shows where this is typed once the command asks."""
    ours, theirs = pty.openpty()
    takes_terminal = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    start = f"{takes_terminal}os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", start, *COMMAND, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=rollout.folder,
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65_536):
            seen += chunk
            if text and b": " in seen:
                os.write(ours, text.encode())
                text = ""
    except OSError:
        pass  # the other end is closed
    os.close(ours)
    assert process.wait() == 0, seen
    return seen.decode()
