"""The command ``report``: the page's file, what it says of a real rollout, and what it never says."""

from __future__ import annotations

import html
import os
import re
import shlex
import signal
import stat
from pathlib import Path

import pytest

from tests.support.disks import small_disk
from tests.support.rollout import Rollout

COMMAND = re.compile(r"<pre><code>(.*?)</code></pre>")


def text_of(page: Path) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page.read_text("utf-8").partition("<body>")[2]))


async def test_it_says_who_is_left_and_why_and_the_commands_that_help(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("session_spent@ben=1x")
    await rollout.push(await rollout.sign_in("ana", "ben", credential="session"))
    await rollout.run()
    page = rollout.folder / "report.html"

    ended = await rollout.command("report", "--html", "report.html")

    assert (ended.code, ended.out) == (0, "report.html: Finished, but 1 of 2 users is left to a person.\n")
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = text_of(page)
    assert "session_spent need a new sign-in Cause. The Session had been used already" in text
    assert "too little for charts" in text or "Enrolments against the quota" in text
    assert "and the ledger" not in text, "there are figures of everybody"
    assert not re.findall(r"https?:", page.read_text("utf-8"))
    assert not {"ana", "ben"} & set(re.findall(r"\w+", text))
    commands = COMMAND.findall(page.read_text("utf-8"))
    assert f"mfa-worker -c {rollout.config} export --state needs_session &gt; needs_session.jsonl" in commands


async def test_the_commands_on_the_page_run_as_they_are(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("session_spent@ana=1x")
    await rollout.push([*await rollout.sign_in("ana", credential="session"), "broken"])
    await rollout.run()
    await rollout.command("report", "--html", "report.html")

    for line in COMMAND.findall((rollout.folder / "report.html").read_text("utf-8")):
        arguments = line.split(" &gt; ")[0].split()[1:]
        ended = await rollout.command(*arguments, config=False)
        if " &gt; " in line:
            (rollout.folder / line.split(" &gt; ")[1]).write_text(ended.out)
        # what was exported lacks its new credential, so it is malformed as it is, and the run has nothing to do
        assert ended.code in (0, 1), ended.err


async def test_usernames_are_named_only_where_that_is_asked(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("session_spent~u=1")
    names = ["u<b>1", "u&2", "u\u202e3", "u\N{ARABIC LETTER AIN}"]
    await rollout.push(await rollout.sign_in(*names, credential="session"))
    await rollout.run()

    await rollout.command("report", "--html", "named.html", "--usernames")
    await rollout.command("report", "--html", "nameless.html")

    page = (rollout.folder / "named.html").read_text("utf-8")
    assert all(each in page for each in ("u&lt;b&gt;1", "u&amp;2", "u\\u202e3", "u\N{ARABIC LETTER AIN}"))
    assert "u<b>1" not in page
    nameless = (rollout.folder / "nameless.html").read_text("utf-8")
    assert not [each for each in ("u&lt;b", "u&amp;2", "u\\u202e3", names[3]) if each in nameless]


async def test_why_somebody_was_dismissed_may_name_a_user_so_it_is_left_out_too(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana"))
    await rollout.run()
    (rollout.folder / "gone.txt").write_text("zoe\n")
    await rollout.command("dismiss", "gone.txt", "--why", "zoe")

    await rollout.command("report", "--html", "report.html")

    assert "dismissed" in (page := text_of(rollout.folder / "report.html"))
    assert "zoe" not in page


async def test_a_ledger_in_which_nobody_is_yet_has_a_page_too(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana"))

    ended = await rollout.command("report", "--html", "report.html")

    assert ended.out == "report.html: Not begun: 1 request waits, and nobody was called yet.\n"


async def test_without_a_ledger_there_is_no_page(rollout: Rollout) -> None:
    ended = await rollout.command("report", "--html", "report.html")

    assert ended.code == 2
    assert "there is no ledger" in ended.err
    assert not (rollout.folder / "report.html").exists()
    assert not rollout.ledger.exists()


async def test_a_page_is_made_while_a_worker_runs(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in(*(f"u{n}" for n in range(200))))
    running = rollout.start("run", "--follow")
    await rollout.until_in("delivered", 1)

    ended = await rollout.command("report", "--html", "report.html")

    assert ended.code == 0, ended.err
    running.signal(signal.SIGTERM)
    assert (await running.ended()).code in (0, 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "mfa-worker report --html report.html"),
        (("--html", "-"), "not to standard output"),
        (("--html", "."), "a folder"),
        (("--html", "nowhere/report.html"), "there is no folder"),
        (("--html", "mfa-worker.toml"), "the settings file"),
        (("--html", "rollout.db"), "ledger.path"),
        (("--html", "rollout.db-wal"), "belongs to"),
        (("--html", "enrolments.jsonl"), "channel.path"),
        (("--html", "enrolments.jsonl.mark"), "belongs to"),
        (("--html", "identity.txt"), "no report page"),
        (("--html", "other.html"), "no report page"),
        (("--html", "link.html"), "a symbolic link"),
        (("--html", "pipe"), "a pipe"),
        (("--html", "x" * 300), "File name too long"),
    ],
)
async def test_no_other_file_is_written_over(rollout: Rollout, arguments: tuple[str, ...], said: str) -> None:
    await rollout.push([])
    (rollout.folder / "other.html").write_text("<!doctype html><title>mine</title>")
    (rollout.folder / "link.html").symlink_to("other.html")
    os.mkfifo(rollout.folder / "pipe")
    before = {
        each.name: each.read_bytes() for each in rollout.folder.iterdir() if each.suffix in (".html", ".txt", ".toml")
    }

    ended = await rollout.command("report", *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "→" in ended.err
    assert {name: (rollout.folder / name).read_bytes() for name in before} == before


async def test_an_older_page_is_replaced_and_becomes_private(rollout: Rollout) -> None:
    await rollout.push([])
    page = rollout.folder / "report.html"
    page.write_text("")
    page.chmod(0o644)
    for _ in range(2):
        assert (await rollout.command("report", "--html", str(page))).code == 0
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert "</html>" in page.read_text("utf-8")
        page.chmod(0o644)


async def test_on_a_full_disk_an_older_page_stays_as_it_was(rollout: Rollout) -> None:
    await rollout.push([])
    with small_disk(rollout.folder / "disk", 48) as disk:
        assert (await rollout.command("report", "--html", "disk/report.html")).code == 0
        before = (disk / "report.html").read_bytes()
        (disk / "filler").write_bytes(b"x" * 24_000)

        ended = await rollout.command("report", "--html", "disk/report.html")

        assert ended.code == 75
        assert "No space left on device" in ended.err
        assert {each.name for each in disk.iterdir()} == {"report.html", "filler"}
        assert (disk / "report.html").read_bytes() == before


async def test_a_setting_given_as_a_flag_is_in_the_commands_too(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana"))

    await rollout.command("report", "--html", "report.html", "--set", "otp.issuer=It's us & them")

    commands = COMMAND.findall((rollout.folder / "report.html").read_text("utf-8"))
    assert shlex.split(html.unescape(commands[0])) == [
        *("mfa-worker", "-c", str(rollout.config), "--set", "otp.issuer=It's us & them", "run"),
    ]
