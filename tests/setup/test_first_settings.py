"""The settings file and key pair that ``init`` writes: what is taken as an answer, and nothing by halves."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NoReturn

import pytest

from worker.core.errors import UsageError
from worker.sealing import age
from worker.sealing.identities import read_identities
from worker.settings import load
from worker.setup import first_settings as first
from worker.setup.first_settings import Answers

POOL = "eu-central-1_AbCdEfGhI"
PRIVATE, PUBLIC = (age.keygen("today")[0].splitlines()[-1], age.keygen("today")[1])
ANSWERS = Answers(POOL, "Example")

as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


@pytest.mark.parametrize(
    "text",
    [
        POOL,
        f"  {POOL}\n",
        f'"{POOL}"',
        f"arn:aws:cognito-idp:eu-central-1:123456789012:userpool/{POOL}",
        f"https://cognito-idp.eu-central-1.amazonaws.com/{POOL}",
    ],
)
def test_a_pool_is_known_by_its_id_or_by_what_ends_with_it(text: str) -> None:
    assert first.pool_id(text) == POOL


@pytest.mark.parametrize("pool", ["us-gov-west-1_Ab1", "cn-north-1_x", "local_2abc"])
def test_pools_of_every_partition_and_of_emulators_are_taken(pool: str) -> None:
    assert first.pool_id(pool) == pool


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no user pool's id"),
        ("my pool", "no user pool's id"),
        ("eu-central-1-AbCdEfGhI", "no user pool's id"),
        ("5l2k3j4h5g6f7d8s9a0q1w2e3r", "an app client"),
        ("eu-central-1:1f2e3d4c-5b6a-7980-1234-56789abcdef0", "an identity pool"),
        (
            "arn:aws:cognito-identity:eu-central-1:123456789012:identitypool/eu-central-1:1f2e3d4c-5b6a-7980-1234-56789abcdef0",
            "an identity pool",
        ),
        (f"arn:aws:cognito-idp:us-east-1:123456789012:userpool/{POOL}", "another Region"),
        (f"https://cognito-idp.us-east-1.amazonaws.com/{POOL}", "another Region"),
        ("arn:aws:sqs:eu-central-1:123456789012:queue", "no user pool's id"),
        (f"{POOL}\0", "no user pool's id"),
    ],
)
def test_what_is_no_pool_is_said_with_where_to_find_it_and_not_repeated(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        first.pool_id(text)
    assert "list-user-pools" in refused.value.hint
    assert not text or text not in f"{refused.value}{refused.value.hint}"


@pytest.mark.parametrize("issuer", ["", "  ", ":", "x" * 201, "ü" * 1_000, "\ud800"])
def test_an_issuer_that_nobody_could_see_or_no_code_could_hold_is_refused(issuer: str) -> None:
    with pytest.raises(UsageError) as refused:
        first.issuer(issuer)
    assert "such as Example" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PRIVATE, "a private key"),
        (PRIVATE.lower(), "a private key"),
        (f"see {PRIVATE}", "a private key"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKmZ ada@example.org", "an SSH key"),
        ("ssh-rsa AAAAB3NzaC1yc2E", "an SSH key"),
        ("age1yubikey1q2w3e4r5t6z7u8i9o0", "cut off or mistyped"),
        (PUBLIC[:-1], "cut off or mistyped"),
        (PUBLIC[:-1] + ("q" if PUBLIC[-1] != "q" else "p"), "a letter is wrong"),
        ("", "empty"),
        ("ada@example.org", "no public key"),
    ],
    ids=lambda each: "a key" if each[:4].lower() in ("age-", "age1", "see ") else None,
)
def test_what_is_no_recipient_is_said_and_never_repeated(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        first.recipient(text)
    told = f"{refused.value} {refused.value.hint}"
    assert refused.value.hint
    assert not text or text not in told
    assert PRIVATE not in told


def test_the_name_of_a_key_file_is_no_recipient(tmp_path: Path) -> None:
    key = tmp_path / "identity.key"
    key.write_text(PRIVATE)
    with pytest.raises(UsageError, match="names a file"):
        first.recipient(str(key))


def test_what_is_written_loads_and_its_key_opens_what_is_sealed_to_it(tmp_path: Path) -> None:
    settings_file, key = first.write(Answers(POOL, 'Bücher & "Söhne" \\ 😀 \x7f'), tmp_path / "new" / "folder")

    settings = load(settings_file, [], {})
    assert settings.cognito.user_pool_id == POOL
    assert settings.otp.issuer == 'Bücher & "Söhne" \\ 😀 \x7f'
    assert (settings_file.stat().st_mode & 0o777, key.stat().st_mode & 0o777) == (0o600, 0o600)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert len(read_identities([key]).usable) == 1
    assert age.AgeOpener([key]).open(age.AgeSealer(settings.seal.recipients).seal(b"secret")) == b"secret"
    assert PRIVATE[:15] not in settings_file.read_text().upper()


def test_every_default_that_its_comments_name_is_one(tmp_path: Path) -> None:
    (settings_file,) = first.write(Answers(POOL, "Example", (PUBLIC,)), tmp_path)
    as_written = load(settings_file, [], {})

    lines = settings_file.read_text().splitlines()
    uncommented = [re.sub(r"^# (\w+ = )", r"\1", line) for line in lines]
    settings_file.write_text("\n".join(uncommented))
    changed = load(settings_file, [], {})

    assert sum(line != other for line, other in zip(lines, uncommented, strict=True)) == 7
    assert changed.sign_in.client_id is not None
    assert changed.model_copy(update={"sign_in": as_written.sign_in}) == as_written


def test_with_a_recipient_no_key_is_made(tmp_path: Path) -> None:
    made = first.write(Answers(POOL, "Example", (PUBLIC,)), tmp_path)

    assert [path.name for path in made] == [first.SETTINGS]
    assert [each.name for each in tmp_path.iterdir()] == [first.SETTINGS]
    assert load(made[0], [], {}).seal.recipients == (PUBLIC,)


@pytest.mark.parametrize("name", [first.SETTINGS, first.KEY])
@pytest.mark.parametrize("kind", ["file", "dangling link", "folder"])
def test_nothing_is_written_over_anything_and_nothing_beside_it(tmp_path: Path, name: str, kind: str) -> None:
    there = tmp_path / name
    if kind == "file":
        there.write_text("mine")
    elif kind == "folder":
        there.mkdir()
    else:
        there.symlink_to("nowhere")

    with pytest.raises(UsageError, match="exists") as before:
        first.refuse_unfit(tmp_path, makes_key=True)
    with pytest.raises(UsageError, match="exists"):
        first.write(ANSWERS, tmp_path)

    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert "--folder DIR" in before.value.hint
    assert kind != "file" or there.read_text() == "mine"


def test_a_failure_in_the_middle_leaves_nothing_not_even_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Path) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(first, "sync_folder", failing)
    with pytest.raises(KeyboardInterrupt):
        first.write(ANSWERS, tmp_path / "new" / "folder")

    assert [each.name for each in tmp_path.iterdir()] == []


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="is no folder") as refused:
            first.refuse_unfit(folder, makes_key=True)
        assert "--folder DIR" in refused.value.hint


@as_root
def test_a_folder_of_somebody_else_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot write"):
        first.refuse_unfit(tmp_path, makes_key=True)


def test_a_shell_that_points_to_another_region_is_a_note(tmp_path: Path) -> None:
    said = "\n".join(first.notes(ANSWERS, {"AWS_REGION": "us-east-1"}))
    assert "us-east-1" in said
    assert list(first.notes(ANSWERS, {"AWS_DEFAULT_REGION": "eu-central-1"})) == []
    assert "spelt right" in "\n".join(first.notes(Answers("eucentral1_Ab", "Example"), {}))
