"""Somebody new types something, and learns what to type next: alone, misspelt, ``help``, and with wrong files."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.support.processes import Ended, Process
from worker.cli import cli, first
from worker.cli.group import MEANT, SECTIONS

POOL = "eu-central-1_AbCdEfGhI"


async def typed(folder: Path, *arguments: str, **more: object) -> Ended:
    return await Process.start(folder, "typed", *arguments, **more).ended()  # type: ignore[arg-type]


def settings_file(folder: Path, **sections: dict[str, str]) -> Path:
    tables = {"cognito": {"user_pool_id": POOL}, **sections}
    file = folder / "mfa-worker.toml"
    file.write_text(
        "".join(
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
            for name, keys in tables.items()
        )
    )
    return file


async def test_alone_in_an_empty_folder_it_names_the_two_ways_to_begin_and_is_no_result(tmp_path: Path) -> None:
    ended = await typed(tmp_path)

    assert (ended.code, ended.out) == (2, "")
    for part in ("mfa-worker rehearse", "mfa-worker init", "mfa-worker --help"):
        assert part in ended.err
    assert len(ended.err.splitlines()) <= 5


async def test_with_a_settings_file_that_nobody_named_it_names_it_and_what_comes_next(tmp_path: Path) -> None:
    settings_file(tmp_path)

    ended = await typed(tmp_path)

    assert "no rollout has begun" in ended.err
    for command in ("rehearse", "check", "push"):
        assert f"mfa-worker {command} -c mfa-worker.toml" in ended.err


@pytest.mark.parametrize("named", ["option", "variable"])
async def test_a_settings_file_that_is_named_by_the_environment_need_not_be_typed(tmp_path: Path, named: str) -> None:
    file = settings_file(tmp_path, queue={"path": "state/rollout.db"})
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "rollout.db").touch()

    arguments = ("-c", str(file)) if named == "option" else ()
    ended = await typed(tmp_path, *arguments, env={"MFA_WORKER_CONFIG": str(file)} if named == "variable" else {})

    assert "a rollout has begun" in ended.err
    assert str(tmp_path / "state" / "rollout.db") in ended.err
    assert ("mfa-worker status -c" in ended.err) is (named == "option")
    assert "go on where the last run ended" in ended.err


@pytest.mark.parametrize(
    ("sections", "environ", "said"),
    [
        ({"ledger": {"kind": "dynamodb", "table": "t"}}, {}, "the ledger is on AWS"),
        ({"queue": {"path": "a.db"}, "ledger": {"path": "there.db"}}, {}, "a rollout has begun"),
        ({"ledger": {"path": "there.db"}}, {"MFA_WORKER_LEDGER__PATH": "elsewhere.db"}, "no rollout has begun"),
        ({}, {"MFA_WORKER_STATE": "state"}, "a rollout has begun"),
        ({"ledger": {"path": 3}}, {}, "no rollout has begun"),
    ],
)
def test_it_finds_the_ledger_as_the_settings_do(
    sections: dict[str, dict[str, str]],
    environ: dict[str, str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state").mkdir()
    for name in ("there.db", "state/mfa-worker.db"):
        (tmp_path / name).touch()
    settings_file(tmp_path, **sections)

    assert said in "\n".join(first.next_steps(Path("mfa-worker.toml"), environ))


def test_sections_that_are_none_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "mfa-worker.toml"
    file.write_text("queue = 3\nledger = []\n")

    assert "no rollout has begun" in "\n".join(first.next_steps(file, {}))


def test_settings_in_the_environment_alone_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    said = "\n".join(first.next_steps(None, {"MFA_WORKER_COGNITO__USER_POOL_ID": POOL}))

    assert "in the environment" in said
    assert "mfa-worker check " in said


@pytest.mark.parametrize("content", [None, b"pool: yaml\n", b"\xff\xfe"])
async def test_a_settings_file_that_is_missing_or_none_is_said(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "my settings.toml").write_bytes(content)

    ended = await typed(tmp_path, "-c", "my settings.toml")

    assert (ended.code, ended.out) == (2, "")
    next_command = "mfa-worker init" if content is None else "mfa-worker check -c 'my settings.toml'"
    assert next_command in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("statsu",), "status"),
        (("rnu",), "run"),
        (("letters",), "open"),
        (("Resume",), "run"),
        (("version",), "--version"),
        (("run", "--inptu", "-"), "--input"),
        (("open", "--identiy", "x"), "--identity"),
        (("config", "shwo"), "show"),
        (("help", "statsu"), "status"),
    ],
)
async def test_who_mistypes_is_told_what_was_meant(tmp_path: Path, arguments: tuple[str, ...], meant: str) -> None:
    ended = await typed(tmp_path, *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert re.search(f"[Dd]id you mean.*'{meant}'", ended.err)


async def test_help_is_a_command_too(tmp_path: Path) -> None:
    whole, run, show = [
        (await typed(tmp_path, *arguments)).out
        for arguments in (("help",), ("help", "run"), ("help", "config", "show"))
    ]

    assert whole == (await typed(tmp_path, "--help")).out
    assert run == (await typed(tmp_path, "run", "-h")).out
    assert "Usage: mfa-worker config show" in show
    assert (await typed(tmp_path, "help", "run", "fast")).code == 2


async def test_the_version_is_one_line(tmp_path: Path) -> None:
    ended = await typed(tmp_path, "--version")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("mfa-worker, version ")
    assert ended.out.count("\n") == 1


def test_every_command_has_its_place_in_the_order_of_the_work_and_every_word_leads_to_one() -> None:
    listed = {name for commands in SECTIONS.values() for name in commands}

    assert cli.commands.keys() <= listed
    assert {meant for meant in MEANT.values() if not meant.startswith("-")} <= listed
    assert not MEANT.keys() & listed


async def test_it_answers_at_once_and_loads_nothing(tmp_path: Path) -> None:
    settings_file(tmp_path)
    probe = (
        "import sys; sys.argv = ['mfa-worker']\n"
        "import worker.cli\n"
        "try: worker.cli.main()\n"
        "except SystemExit: print({'pydantic', 'sqlite3', 'aiohttp', 'rich'} & set(sys.modules))"
    )

    ended = await typed(tmp_path, command=(sys.executable, "-c", probe))

    assert ended.out == "set()\n"


@pytest.mark.parametrize(
    ("arguments", "next_step"),
    [
        (("status",), "mfa-worker init"),
        (("run", "-c", "nowhere.toml"), "mfa-worker init --folder DIR"),
        (("rehearse", "-c", "nowhere.toml"), "mfa-worker init --folder DIR"),
        (("status", "-c", "mfa-worker.toml"), "mfa-worker push FILE"),
        (("export", "-c", "mfa-worker.toml"), "Such as needs_session"),
        (("dismiss", "users.txt", "-c", "mfa-worker.toml"), "Why they are not enrolled"),
        (("dismiss", "users.txt", "--why", "left", "-c", "mfa-worker.toml"), "Name a file that is there"),
        (("push", "nowhere.jsonl", "-c", "mfa-worker.toml"), "Name a file that is there"),
        (("run", "-c", "mfa-worker.toml", "--set", "channel.path=/proc/nowhere/out"), "keygen -o FILE"),
        (("rehearse", "--keep", "/proc/nowhere"), "--keep DIR"),
        (("rehearse", "--keep", "kept"), "--keep DIR"),
        (("run", "--set", "cognito.user_pool=x"), "did you mean cognito.user_pool_id?"),
    ],
)
async def test_what_is_missing_is_named_with_the_next_step(
    tmp_path: Path, arguments: tuple[str, ...], next_step: str
) -> None:
    if "mfa-worker.toml" in arguments:
        settings_file(tmp_path)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "identity.txt").touch()

    ended = await typed(tmp_path, *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert next_step in ended.err
    assert "Traceback" not in ended.err
