"""A file that is not the one meant is found before anything is touched, whichever option or setting names it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.app.written_files import refuse_wrong_files
from worker.core.errors import UsageError
from worker.settings import Settings, load

NEEDED = ["cognito.user_pool_id=eu-central-1_AbCdEfGhI"]
SEALED = b'{"username": "ana", "generation": 1, "sealed": "YWdl"}\n'
REPORT = json.dumps({"states": {}, "verdict": "0 accepted."}).encode()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; whatever happens, nothing in it is changed."""
    (home := tmp_path / "home").mkdir()
    monkeypatch.chdir(home)
    return home


def settings(**paths: str) -> Settings:
    return load(None, [*NEEDED, *(f"{key}.path={path}" for key, path in paths.items())], {})


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What is in a folder: each file's inode and bytes."""
    return {
        str(path): (path.lstat().st_ino, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")
    }


def refusal(folder: Path, given: Settings, **more: object) -> UsageError:
    before = contents(folder)
    with pytest.raises(UsageError) as refused:
        refuse_wrong_files(given, **{"delivers": True, **more})  # type: ignore[arg-type]
    assert contents(folder) == before
    assert refused.value.hint
    return refused.value


def test_one_file_for_ledger_and_queue_is_what_is_meant(folder: Path) -> None:
    refuse_wrong_files(settings(), delivers=True, report=Path("report.json"), read={"--input": "-", "--only": None})
    refuse_wrong_files(settings(queue="q.db", ledger="l.db", channel="c.jsonl"), delivers=True)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ({"channel": "mfa-worker.db"}, ("ledger.path", "channel.path")),
        ({"channel": "./x/../mfa-worker.db"}, ("ledger.path", "channel.path")),
        ({"queue": "q.db", "channel": "q.db", "ledger": "l.db"}, ("queue.path", "channel.path")),
        ({"channel": "mfa-worker.db-wal"}, ("channel.path", "belongs to ledger.path")),
        ({"channel": "mfa-worker.db-shm"}, ("channel.path", "belongs to ledger.path")),
        ({"channel": "mfa-worker.db-journal"}, ("channel.path", "belongs to ledger.path")),
        ({"channel": "mfa-worker.db.workers"}, ("channel.path", "belongs to ledger.path")),
        ({"queue": "l.db-wal", "ledger": "l.db"}, ("queue.path", "belongs to ledger.path")),
        ({"ledger": "enrolments.jsonl.mark"}, ("ledger.path", "belongs to channel.path")),
    ],
)
def test_two_settings_that_name_one_file_are_refused_with_both_names(
    folder: Path, paths: dict[str, str], names: tuple[str, str]
) -> None:
    refused = str(refusal(folder, settings(**paths)))

    assert all(name in refused for name in names)
    assert "are the same file" in refused


def test_the_workers_own_identity_is_no_file_that_is_written(folder: Path) -> None:
    for path in ("mfa-worker.db", "mfa-worker.db-wal", "enrolments.jsonl", "enrolments.jsonl.mark"):
        given = load(None, [*NEEDED, "activation.mode=verify", f"activation.identity={path}"], {})
        assert "activation.identity" in str(refusal(folder, given))
    refuse_wrong_files(load(None, [*NEEDED, f"activation.identity={path}"], {}), delivers=True)  # it has no effect


@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_one_file_under_two_names_is_one_file(folder: Path, make: Callable[[str, str], None]) -> None:
    for one, other in (("mfa-worker.db", "c.jsonl"), ("l.db", "q.db")):
        Path(one).touch(0o600)
        make(one, other)

    assert "ledger.path and channel.path are the same" in str(refusal(folder, settings(channel="c.jsonl")))
    assert "queue.path and ledger.path are the same" in str(refusal(folder, settings(queue="q.db", ledger="l.db")))


def test_a_folder_that_is_a_link_makes_no_second_file(folder: Path) -> None:
    Path("real").mkdir()
    Path("link").symlink_to("real", target_is_directory=True)

    refused = refusal(folder, settings(ledger="real/x", queue="real/x", channel="link/x"))

    assert "are the same file" in str(refused)


@pytest.mark.parametrize("name", ["mfa-worker.db", "enrolments.jsonl", "mfa-worker.db-wal", "enrolments.jsonl.mark"])
@pytest.mark.parametrize("option", ["--report", "--input", "--only", "FILE"])
def test_an_option_that_names_a_file_of_the_rollout_is_refused(folder: Path, option: str, name: str) -> None:
    more = {"report": Path(name)} if option == "--report" else {"read": {option: name}}

    refused = str(refusal(folder, settings(), **more))

    assert option in refused
    assert "are the same file" in refused


def test_the_settings_file_is_none_to_write_to(folder: Path) -> None:
    config = folder / "settings.toml"
    config.write_text('[channel]\npath = "settings.toml"\n')
    Path("other.toml").write_text("")
    Path("link.toml").symlink_to("other.toml")

    assert "the settings file are the same file" in str(refusal(folder, load(config, NEEDED, {})))
    given = load(Path("link.toml"), [*NEEDED, "ledger.path=other.toml", "queue.path=other.toml"], {})
    assert "the settings file are the same file" in str(refusal(folder, given))
    given = load(Path("other.toml"), NEEDED, {})
    assert "the settings file are the same file" in str(refusal(folder, given, report=Path("other.toml")))


@pytest.mark.parametrize(
    "content", [b"notes\n", b"AGE-SECRET-KEY-1...\n", b"{}", b"[]", SEALED, b'{"states": {}}', b"\xff"]
)
def test_a_report_takes_the_place_of_nothing_but_a_report(folder: Path, content: bytes) -> None:
    Path("report.json").write_bytes(content)

    assert "is no report" in str(refusal(folder, settings(), report=Path("report.json")))


@pytest.mark.parametrize("content", [b"", REPORT])
def test_an_older_report_may_be_replaced(content: bytes) -> None:
    Path("report.json").write_bytes(content)

    refuse_wrong_files(settings(), report=Path("report.json"))


@pytest.mark.parametrize("name", ["/dev/null", "/dev/stdout", "nowhere/report.json", "x" * 300, ".", "link"])
def test_a_report_is_a_file_in_a_folder_that_exists(folder: Path, name: str) -> None:
    Path("link").symlink_to("dangling")

    refusal(folder, settings(), report=Path(name))


@pytest.mark.parametrize("name", ["/dev/null", "/dev/stdout", ".", "x" * 300, "file/below", "link", "pipe"])
@pytest.mark.parametrize("key", ["channel", "ledger", "queue"])
def test_what_can_be_no_file_of_ours_is_refused_with_the_setting(folder: Path, key: str, name: str) -> None:
    Path("file").touch()
    Path("link").symlink_to("dangling")
    os.mkfifo("pipe")

    assert f"{key}.path" in str(refusal(folder, settings(**{"queue": "q.db", "ledger": "l.db", key: name})))


@pytest.mark.parametrize(
    "content", [b"notes\n", b'{"username": "ana", "access_token": "x"}\n', b"SQLite format 3\0", b"[1]\n", b"\xff"]
)
def test_a_channel_is_not_appended_to_any_other_file(folder: Path, content: bytes) -> None:
    Path("enrolments.jsonl").write_bytes(content)

    assert "holds something else than sealed lines" in str(refusal(folder, settings()))
    refuse_wrong_files(settings(), delivers=False)


@pytest.mark.parametrize("content", [b"", SEALED, b'\n{"username": "ana", "gen', b'{"user', SEALED + b"torn"])
def test_a_channel_goes_on_in_its_own_file(content: bytes) -> None:
    Path("enrolments.jsonl").write_bytes(content)

    refuse_wrong_files(settings(), delivers=True)


def test_a_folder_of_locks_that_is_a_link_is_refused(folder: Path) -> None:
    Path("theirs").mkdir()
    Path("mfa-worker.db.workers").symlink_to("theirs", target_is_directory=True)

    assert "is a symbolic link" in str(refusal(folder, settings()))


def test_a_ledger_where_earlier_versions_had_it_is_not_passed_over(folder: Path, tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    config = elsewhere / "settings.toml"
    config.write_text("")
    Path("mfa-worker.db").touch(0o600)

    refused = refusal(folder, load(config, NEEDED, {}))

    assert f"queue.path is {elsewhere}/mfa-worker.db, which does not exist" in str(refused)
    assert f'write queue.path = "{folder}/mfa-worker.db"' in refused.hint
    refuse_wrong_files(load(config, [*NEEDED, "queue.path=mfa-worker.db"], {}))


@pytest.mark.parametrize(("descriptor", "name"), [(1, "standard output"), (2, "standard error")])
@pytest.mark.parametrize("file", ["mfa-worker.db", "enrolments.jsonl", "enrolments.jsonl.mark", "report.json"])
def test_what_a_command_says_is_not_sent_into_a_file_of_the_rollout(
    folder: Path, descriptor: int, name: str, file: str
) -> None:
    (folder / file).touch(0o600)
    kept, into = os.dup(descriptor), os.open(file, os.O_WRONLY | os.O_APPEND)
    os.dup2(into, descriptor)
    try:
        refused = refusal(folder, settings(), report=Path("report.json"))
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
        os.close(into)

    assert f"{name} goes into" in str(refused)


def test_a_name_that_is_too_long_only_with_what_sqlite_appends_is_refused(folder: Path) -> None:
    assert "too long" in str(refusal(folder, settings(ledger="x" * 253, queue="q.db")))
