"""What ``check`` says of this host and of the rollout, and how it says it."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.terminal import Terminal
from worker.adapters.checks.files import file_system
from worker.adapters.checks.findings import Finding, Level, advice, fails, not_checked, ok
from worker.adapters.checks.seen import Seen
from worker.sealing import age
from worker.settings import Settings, load
from worker.setup import checks
from worker.setup.checks import delivered, host, rollout, sealing
from worker.setup.checks.show import show, summary

POOL = "eu-central-1_AbCdEfGhI"
LOCAL = "/dev/vda / ext4 rw 0 0\n"


def settings_in(folder: Path, *more: str) -> Settings:
    return load(
        None,
        [
            f"cognito.user_pool_id={POOL}",
            "otp.issuer=Example",
            f"queue.path={folder / 'rollout.db'}",
            f"channel.path={folder / 'out.jsonl'}",
            *more,
        ],
        {},
    )


def mounted(folder: Path, kind: str) -> Path:
    table = folder / "mounts"
    escaped = str(folder.resolve()).replace("\\", "\\134").replace(" ", "\\040")
    table.write_text(f"{LOCAL}none {escaped} {kind} rw 0 0\nnone /elsewhere tmpfs rw 0 0\nhalf a line\n", "utf-8")
    return table


def about(findings: list[Finding], name: str, level: Level) -> list[str]:
    return [finding.said for finding in findings if finding.about == name and finding.level is level]


# --- this host --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tmpfs", "overlay", "nfs4", "cifs", "9p", "fuse.sshfs"])
def test_a_ledger_that_does_not_last_or_cannot_lock_is_refused(tmp_path: Path, kind: str) -> None:
    findings = host.look(settings_in(tmp_path), mounted(tmp_path, kind))

    (said,) = about(findings, "ledger", Level.FAILS)
    assert f"is on {kind}:" in said


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "apfs"])
def test_a_ledger_on_a_local_disk_is_fine(tmp_path: Path, kind: str) -> None:
    findings = host.look(settings_in(tmp_path), mounted(tmp_path, kind))

    assert not [finding for finding in findings if finding.fails]
    assert f"on {kind}" in about(findings, "ledger", Level.OK)


def test_where_no_table_of_mounts_is_there_nothing_is_claimed(tmp_path: Path) -> None:
    findings = host.look(settings_in(tmp_path), tmp_path / "none")

    assert "is unknown" in about(findings, "ledger", Level.NOT_CHECKED)[0]


def test_the_deepest_mount_counts_and_may_have_a_space_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()

    assert file_system(folder, mounted(folder, "tmpfs")) == "tmpfs"
    assert file_system(tmp_path, folder / "mounts") == "ext4"


def test_a_queue_of_its_own_is_looked_at_like_the_ledger(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    settings = settings_in(tmp_path, f"ledger.path={tmp_path / 'disk' / 'ledger.db'}")
    table = mounted(tmp_path, "tmpfs")
    table.write_text(f"{table.read_text('utf-8')}/dev/vdb {tmp_path / 'disk'} ext4 rw 0 0\n", "utf-8")

    findings = host.look(settings, table)

    assert about(findings, "queue", Level.FAILS)
    assert not about(findings, "ledger", Level.FAILS)


def test_without_a_sqlite_file_no_disk_is_judged(tmp_path: Path) -> None:
    settings = settings_in(
        tmp_path, "queue.kind=sqs", "queue.url=https://q/1/q", "ledger.kind=dynamodb", "ledger.table=ttt"
    )

    findings = host.look(settings, mounted(tmp_path, "overlay"))

    assert not [finding for finding in findings if finding.fails]
    assert about(findings, "channel", Level.ADVICE)  # what is delivered into the container goes with it


def test_a_folder_that_is_missing_or_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").mkdir()
    settings = settings_in(tmp_path, f"ledger.path={tmp_path / 'nowhere' / 'ledger.db'}")

    findings = host.look(settings, mounted(tmp_path, "ext4"))

    assert "there is no folder" in about(findings, "ledger", Level.FAILS)[0]
    assert "is a folder" in about(findings, "channel", Level.FAILS)[0]


def test_a_queue_file_that_others_may_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "rollout.db").touch()
    (tmp_path / "rollout.db").chmod(0o644)

    findings = host.look(settings_in(tmp_path), mounted(tmp_path, "ext4"))

    assert "can be read by others (mode 0644)" in about(findings, "ledger", Level.ADVICE)[0]


@pytest.mark.parametrize("name", ["identity.key", "backup of key", ".hidden"])
def test_an_identity_beside_the_worker_is_shouted_about_and_never_shown(tmp_path: Path, name: str) -> None:
    text, _ = age.keygen("today")
    (tmp_path / name).write_text(f"some words first\r\n  {text}", "utf-8")
    out = io.StringIO()

    findings = host.look(settings_in(tmp_path), mounted(tmp_path, "ext4"))
    show(findings, out, as_json=False)

    (said,) = about(findings, "identity", Level.ADVICE)
    assert f"{name} HOLDS A SECRET KEY" in said
    assert "AGE-SECRET-KEY" not in out.getvalue()


def test_what_is_no_identity_is_none(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("the line of a key begins with AGE-SECRET-KEY-1\n", "utf-8")
    (tmp_path / "large").write_bytes(b"\0" * 70_000 + b"\nAGE-SECRET-KEY-1\n")
    (tmp_path / "AGE-SECRET-KEY-1").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")

    findings = host.look(settings_in(tmp_path), mounted(tmp_path, "ext4"))

    assert not about(findings, "identity", Level.ADVICE)


# --- the rollout ------------------------------------------------------------------------------------------------------


def at(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.about == name]
    return found


def test_how_many_sessions_can_be_saved_is_said(tmp_path: Path) -> None:
    found = at(rollout.look_at(settings_in(tmp_path), Seen(waiting=5, sessions=5)), "way")

    assert found.level is Level.ADVICE
    assert "at 20/s the oldest 3-minute session that can be saved is number 3,600" in found.said
    assert "session_handoff" in found.cure


@pytest.mark.parametrize(("sessions", "level"), [(3_600, Level.OK), (3_601, Level.ADVICE)])
def test_with_a_handoff_more_sessions_than_can_be_saved_are_told(tmp_path: Path, sessions: int, level: Level) -> None:
    settings = settings_in(tmp_path, "cognito.session_handoff=true")

    assert at(rollout.look_at(settings, Seen(waiting=sessions, sessions=sessions)), "way").level is level


@pytest.mark.parametrize(("sessions", "level"), [(0, Level.OK), (None, Level.NOT_CHECKED)])
def test_which_way_it_is_is_said_where_tokens_wait_or_nobody_knows(
    tmp_path: Path, sessions: int | None, level: Level
) -> None:
    found = at(rollout.look_at(settings_in(tmp_path), Seen(waiting=5, sessions=sessions)), "way")

    assert found.level is level
    assert "the user confirms, on a page of the application" in found.said


def test_the_rate_is_this_ledgers_share_of_what_is_configured(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "rate.share=1/4")

    assert "5 requests/s for all workers of this ledger together" in at(rollout.look(settings), "rate").said
    assert "7,200 wait: 24 min at 5/s" in at(rollout.look_at(settings, Seen(waiting=7_200, sessions=0)), "queue").said
    assert "2 wait: 1 s at 5/s" in at(rollout.look_at(settings, Seen(waiting=2, sessions=0)), "queue").said


def test_a_rate_above_the_quota_and_a_backlog_beyond_any_token_are_told(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "rate.requests_per_second=26")

    assert at(rollout.look(settings), "rate").level is Level.ADVICE
    waiting = Seen(waiting=26 * 86_400 + 26, sessions=0)
    assert "longer than any credential lives" in at(rollout.look_at(settings, waiting), "queue").said


def test_the_dead_are_counted(tmp_path: Path) -> None:
    findings = rollout.look_at(settings_in(tmp_path), Seen(waiting=10, expired=4, sessions=0))

    assert "4 of 10 credentials have died already" in about(findings, "queue", Level.ADVICE)


@pytest.mark.parametrize(
    ("users", "level", "said"),
    [
        (50_000, Level.OK, "$20,000 a month"),
        (50_001, Level.ADVICE, "500,000 secrets are the limit of a Region"),
        (500_000, Level.ADVICE, "$200,000 a month"),
        (500_001, Level.FAILS, "a Region takes 500,000 secrets"),
    ],
)
def test_what_secrets_manager_costs_is_said_with_its_limit(tmp_path: Path, users: int, level: Level, said: str) -> None:
    settings = settings_in(tmp_path, "channel.kind=secretsmanager")

    found = at(rollout.look_at(settings, Seen(waiting=users - 10, users=10, sessions=0)), "price")

    assert found.level is level
    assert said in found.said
    assert not [f for f in rollout.look_at(settings_in(tmp_path), Seen(waiting=users)) if f.about == "price"]


@pytest.mark.parametrize(("number", "level"), [(0, Level.FAILS), (1, Level.ADVICE), (2, Level.OK)])
def test_two_recipients_are_better_than_one(number: int, level: Level) -> None:
    recipients = [age.keygen("today")[1] for _ in range(number)]

    first, *unopened = sealing.look(recipients, ())

    assert first.level is level
    assert [finding.level for finding in unopened] == [Level.NOT_CHECKED] * (number > 0)


def test_one_recipient_named_twice_is_one() -> None:
    (_, recipient) = age.keygen("today")

    assert about(sealing.look([recipient, recipient], ()), "seal", Level.ADVICE)[0].startswith("one recipient:")


def identity(folder: Path, name: str) -> tuple[Path, str]:
    text, recipient = age.keygen("today")
    age.write_identity(folder / name, text)
    return folder / name, recipient


def test_a_trial_is_opened_again_with_each_identity_that_is_named(tmp_path: Path) -> None:
    (ours, first), (spare, second), (strange, _) = (identity(tmp_path, name) for name in ("a", "b", "c"))

    both = sealing.look([first, second], [ours, spare])
    one = sealing.look([first, second], [spare])
    none = sealing.look([first, second], [strange])

    assert [finding.level for finding in both] == [Level.OK, Level.OK, Level.OK]
    assert f"number 1 of seal.recipients (an age key, {first[:16]}" in both[1].said
    assert both[1].said.endswith(f"was opened again with {ours}")
    assert "number 2 of seal.recipients (" in one[1].said
    (left,) = about(one, "seal", Level.NOT_CHECKED)
    assert left.startswith(
        f"nobody tried to open what is sealed to number 1 of seal.recipients (an age key, {first[:16]}"
    )
    assert about(none, "seal", Level.FAILS)
    assert not about(none, "seal", Level.OK)[1:]


def test_an_identity_file_that_cannot_be_used_fails_with_its_cure(tmp_path: Path) -> None:
    (path, recipient) = identity(tmp_path, "a")
    path.chmod(0o644)

    (found,) = [each for each in sealing.look([recipient], [path]) if each.fails]

    assert f"chmod 600 {path}" in found.cure


@pytest.mark.parametrize(
    ("issuer", "level", "said"),
    [
        ("Example", Level.OK, "'Example'"),
        (" ", Level.ADVICE, "otp.issuer is not set"),
        (":", Level.ADVICE, "otp.issuer is not set"),
        (" : :", Level.ADVICE, "otp.issuer is not set"),
        ("", Level.ADVICE, "otp.issuer is not set"),
        ("My: Shop", Level.ADVICE, "'My Shop' in their app: colons are left out"),
    ],
)
def test_an_issuer_that_is_nothing_or_changed_is_told(tmp_path: Path, issuer: str, level: Level, said: str) -> None:
    found = at(rollout.look(settings_in(tmp_path, f"otp.issuer={issuer}")), "otp")

    assert found.level is level
    assert said in found.said


def test_a_pool_of_another_region_fails(tmp_path: Path) -> None:
    wrong = rollout.look(settings_in(tmp_path, "cognito.region=us-east-1"))
    emulated = rollout.look(
        settings_in(tmp_path, "cognito.region=us-east-1", "cognito.endpoint_url=http://127.0.0.1:1")
    )

    assert "is in another Region" in about(wrong, "pool", Level.FAILS)[0]
    assert about(emulated, "pool", Level.ADVICE)
    assert not about(rollout.look(settings_in(tmp_path)), "pool", Level.FAILS)


# --- what was delivered -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "level", "said"),
    [
        (None, Level.ADVICE, "is gone"),
        (0, Level.ADVICE, "has 0 lines, and the ledger says that 3 users are in it"),
        (2, Level.ADVICE, "has 2 lines"),
        (3, Level.OK, "at least as many lines"),
        (9, Level.OK, "at least as many lines"),
    ],
)
def test_a_channel_file_that_is_gone_or_cut_is_told(tmp_path: Path, lines: int | None, level: Level, said: str) -> None:
    if lines is not None:
        (tmp_path / "out.jsonl").write_bytes(b"{}\n" * lines)

    (found,) = delivered.look(settings_in(tmp_path), Seen(delivered=3))

    assert found.level is level
    assert said in found.said


@pytest.mark.parametrize(("number", "says"), [(0, []), (3, [Level.NOT_CHECKED]), (None, [Level.NOT_CHECKED])])
def test_nothing_is_claimed_of_a_channel_that_the_worker_may_not_read(
    tmp_path: Path, number: int | None, says: list[Level]
) -> None:
    settings = settings_in(tmp_path, "channel.kind=secretsmanager")

    assert [found.level for found in delivered.look(settings, Seen(delivered=number))] == says


# --- what was not looked at -------------------------------------------------------------------------------------------


def test_a_folder_that_is_too_large_or_closed_is_not_called_free_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_MOST_FILES", 3)
    for number in range(5):
        (tmp_path / f"file-{number}").touch()

    findings = host.look(settings_in(tmp_path), mounted(tmp_path, "ext4"))

    assert "all but 3 files" in about(findings, "identity", Level.NOT_CHECKED)[0]
    assert not about(findings, "identity", Level.OK)


def test_what_nobody_knows_of_one_queue_is_not_known_of_both() -> None:
    assert Seen(3, 1, None, 7) + Seen(4, 0, 2) == Seen(7, 1, None, 7)
    assert Seen(3, 1, 1, 7) + Seen(4, 0, 2) == Seen(7, 1, 3, 7)
    assert Seen(3) | Seen(None, 0, 2) == Seen(3, 0, 2)


# --- how it is said ---------------------------------------------------------------------------------------------------

FINDINGS = [
    ok("seal", "2 recipients"),
    advice("otp", "people will see a rather long sentence about their app " * 3, "name your service in otp.issuer"),
    fails("channel", "/tmp/\x1b[31mred\nnext cannot be written", "change its owner, or choose another place"),
]


def test_in_a_pipe_a_finding_is_a_line_and_its_cure_another() -> None:
    out = io.StringIO()

    show(FINDINGS, out, as_json=False)

    lines = out.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[0] == "OK      seal         2 recipients"
    assert lines[2] == "                     → name your service in otp.issuer"
    assert lines[5] == "1 thing to mend before a run; 1 piece of advice."
    assert "\x1b" not in out.getvalue()


def test_on_a_terminal_lines_are_wrapped_under_their_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()

    show(FINDINGS, out, as_json=False)

    lines = out.getvalue().splitlines()
    assert lines[0].startswith("\x1b[32mOK     \x1b[0m ")
    assert max(len(line.replace("\x1b[33m", "").replace("\x1b[0m", "")) for line in lines) <= 70 + 9
    assert all(line.startswith(("\x1b", " " * 21)) for line in lines[:-1])
    assert "\x1b[31mred" not in out.getvalue()


def test_colours_are_left_out_where_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()

    show(FINDINGS, out, as_json=False)

    assert "\x1b" not in out.getvalue()


def test_what_nobody_looked_at_has_a_word_of_its_own() -> None:
    people, scripts = io.StringIO(), io.StringIO()
    findings = [not_checked("aws", "not asked: no credentials", "give it a role")]

    show(findings, people, as_json=False)
    show(findings, scripts, as_json=True)

    assert people.getvalue().startswith("–       aws          not asked: no credentials\n")
    assert "→ give it a role" in people.getvalue()
    assert "OK" not in people.getvalue()
    assert json.loads(scripts.getvalue())["findings"][0]["level"] == "not_checked"
    assert json.loads(scripts.getvalue())["ok"] is True


def test_scripts_get_one_json_object() -> None:
    out = io.StringIO()

    show(FINDINGS, out, as_json=True)

    found: dict[str, Any] = json.loads(out.getvalue())
    assert found["ok"] is False
    assert [row["level"] for row in found["findings"]] == ["ok", "advice", "fails"]
    assert found["findings"][0].keys() == {"about", "level", "said", "cure"}


def test_the_last_line_says_whether_a_run_may_begin() -> None:
    assert summary([]) == "Nothing stands in the way of a run; no advice."
    assert summary(FINDINGS[:2]) == "Nothing stands in the way of a run; 1 piece of advice."
    assert summary([not_checked("aws", "not asked")]) == (
        "Nothing stands in the way of a run that was looked at; no advice; 1 thing not looked at (–)."
    )
    assert checks.show is show
