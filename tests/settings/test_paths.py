"""Which file a path among the settings means: the same one, wherever a command is run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.core.errors import UsageError
from worker.settings import Settings, explain, load

NEEDED = ["cognito.user_pool_id=eu-central-1_AbCdEfGhI"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of the settings file."""
    (folder := tmp_path / "home").mkdir()
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another folder, in which the commands are run."""
    (folder := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(folder)
    return folder


def written(home: Path, text: str = "") -> Path:
    path = home / "settings.toml"
    path.write_text(text)
    return path


def paths(settings: Settings) -> list[Path]:
    return [settings.queue.path, settings.ledger.path, settings.channel.path]  # type: ignore[attr-defined]


def test_a_relative_path_in_the_settings_file_is_relative_to_that_file(home: Path, elsewhere: Path) -> None:
    text = '[queue]\npath = "q.db"\n[ledger]\npath = "../l.db"\n[channel]\npath = "sub/c.jsonl"\n'
    config = written(home, text)

    for name in (config, Path(os.path.relpath(config))):
        assert paths(load(name, NEEDED, {})) == [home / "q.db", home.parent / "l.db", home / "sub" / "c.jsonl"]
    assert load(None, NEEDED, {"MFA_WORKER_CONFIG": str(config)}).queue.path == home / "q.db"
    assert not list(elsewhere.iterdir())


def test_files_for_which_no_path_is_given_lie_beside_the_settings_file(home: Path, elsewhere: Path) -> None:
    ledger = home / "mfa-worker.db"
    assert paths(load(written(home), NEEDED, {})) == [ledger, ledger, home / "enrolments.jsonl"]

    here = elsewhere / "mfa-worker.db"
    assert paths(load(None, NEEDED, {})) == [here, here, elsewhere / "enrolments.jsonl"]


def test_a_variable_names_the_folder_of_those_files_as_the_image_does(home: Path, elsewhere: Path) -> None:
    state = elsewhere / "state"
    given = '[channel]\npath = "mine.jsonl"\n'

    for text in (str(state), "state"):
        settings = load(written(home, given), NEEDED, {"MFA_WORKER_STATE": text})
        assert paths(settings) == [state / "mfa-worker.db", state / "mfa-worker.db", home / "mine.jsonl"]
    assert load(written(home), NEEDED, {"MFA_WORKER_STATE": ""}).queue.path == home / "mfa-worker.db"


def test_a_path_in_a_variable_or_a_flag_is_relative_to_the_working_directory(home: Path, elsewhere: Path) -> None:
    config = written(home, '[queue]\npath = "q.db"\n')
    (elsewhere / "name").write_text("from-a-file.db\n")

    assert load(config, [*NEEDED, "queue.path=x.db"], {}).queue.path == elsewhere / "x.db"
    assert load(config, NEEDED, {"MFA_WORKER_QUEUE__PATH": "x.db"}).queue.path == elsewhere / "x.db"
    assert load(config, NEEDED, {"MFA_WORKER_LEDGER__PATH_FILE": "name"}).ledger.path == elsewhere / "from-a-file.db"


def test_the_folder_of_a_settings_file_is_the_real_one(home: Path, elsewhere: Path) -> None:
    link = elsewhere / "link.toml"
    link.symlink_to(written(home))
    folder = elsewhere / "folder"
    folder.symlink_to(home, target_is_directory=True)

    for name in (link, folder / "settings.toml"):
        assert load(name, NEEDED, {}).queue.path == home / "mfa-worker.db"


def test_parent_folders_are_resolved_and_the_last_part_is_kept(home: Path, elsewhere: Path) -> None:
    (elsewhere / "folder").symlink_to(home, target_is_directory=True)
    (home / "link.db").symlink_to(home / "target.db")

    assert load(None, [*NEEDED, "queue.path=folder/x/../link.db"], {}).queue.path == home / "link.db"


def test_settings_from_a_pipe_have_no_folder_of_their_own(elsewhere: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b'[queue]\npath = "q.db"\n')
    os.close(writing)

    assert load(Path(f"/dev/fd/{reading}"), NEEDED, {}).queue.path == elsewhere / "q.db"
    os.close(reading)


@pytest.mark.parametrize("name", ["", "..", "folder/.."])
@pytest.mark.parametrize("key", ["queue.path", "ledger.path", "channel.path"])
def test_what_cannot_be_a_file_is_refused(name: str, key: str, elsewhere: Path) -> None:
    with pytest.raises(UsageError, match=f"{key} .*should name a file"):
        load(None, [*NEEDED, f"{key}={name}"], {})


def test_a_name_with_a_nul_is_refused(home: Path) -> None:
    with pytest.raises(UsageError, match=r"queue\.path .*should name a file"):
        load(written(home, '[queue]\npath = "a\\u0000b"\n'), NEEDED, {})


def test_a_name_that_is_not_utf_8_is_a_name(elsewhere: Path) -> None:
    name = os.fsdecode(b"\xff.db")

    assert load(None, [*NEEDED, f"queue.path={name}"], {}).queue.path == elsewhere / name


def test_the_paths_are_shown_as_they_are_in_effect(home: Path, elsewhere: Path) -> None:
    shown = {row.key: (row.value, row.source) for row in explain(written(home), NEEDED, {})}

    assert shown["ledger.path"] == (f'"{home}/mfa-worker.db"', "default")
    assert shown["channel.path"] == (f'"{home}/enrolments.jsonl"', "default")


def test_a_file_that_earlier_versions_meant_is_remembered(home: Path, elsewhere: Path) -> None:
    """They took relative paths from the working directory: its ledger must not be passed over without a word."""
    (elsewhere / "mfa-worker.db").touch()
    (elsewhere / "old.jsonl").touch()
    config = written(home, '[channel]\npath = "old.jsonl"\n')

    earlier = {"queue.path": elsewhere / "mfa-worker.db", "channel.path": elsewhere / "old.jsonl"}
    assert load(config, NEEDED, {}).moved == earlier
    assert load(config, [*NEEDED, "queue.path=mfa-worker.db"], {}).moved.keys() == {"channel.path"}
    (home / "mfa-worker.db").touch()
    assert load(config, NEEDED, {}).moved.keys() == {"channel.path"}


def test_it_is_said_that_no_settings_file_was_read(home: Path) -> None:
    with pytest.raises(UsageError, match="user_pool_id is required") as missing:
        load(None, [], {})
    assert "no settings file was read: name one with --config FILE or MFA_WORKER_CONFIG" in missing.value.hint
    assert "mfa-worker init" in missing.value.hint


def test_a_settings_file_in_this_folder_is_not_read_unseen_but_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "mfa-worker.toml").touch()
    with pytest.raises(UsageError) as missing:
        load(None, [], {})
    assert f"export MFA_WORKER_CONFIG={home / 'mfa-worker.toml'}" in missing.value.hint


def test_where_one_was_read_that_is_not_said(home: Path) -> None:
    with pytest.raises(UsageError) as missing:
        load(written(home), [], {})
    assert "no settings file was read" not in missing.value.hint
    assert load(None, NEEDED, {}).file is None
    assert load(written(home), NEEDED, {}).file == home / "settings.toml"
