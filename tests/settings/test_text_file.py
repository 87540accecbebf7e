"""Settings files as editors and other tools write them: what can be read is read, and the rest is called what it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Thread

import pytest

from worker.core.errors import UsageError
from worker.settings import load

TOML = '[cognito]\nuser_pool_id = "eu-central-1_AbCdEfGhI"\n[otp]\nissuer = "Bücher"\n'


def read(path: Path) -> str:
    return load(path, [], {}).otp.issuer


def complaint(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load(path, [], {})
    return str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


@pytest.mark.parametrize(
    "data",
    [
        TOML.encode(),
        b"\xef\xbb\xbf" + TOML.encode(),
        TOML.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + TOML.replace("\n", "\r\n").encode(),
        TOML.replace(" = ", "\t=\t").encode(),
        TOML.rstrip().encode(),
    ],
    ids=["as it is", "byte order mark", "CRLF", "both", "tabs", "no last newline"],
)
def test_what_an_editor_adds_changes_nothing(path: Path, data: bytes) -> None:
    path.write_bytes(data)

    assert read(path) == "Bücher"


def test_a_file_may_be_a_pipe(path: Path) -> None:
    os.mkfifo(path)
    writer = Thread(target=path.write_text, args=(TOML, "utf-8"))
    writer.start()

    assert read(path) == "Bücher"
    writer.join()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (TOML.encode("utf-16"), "is UTF-16, not UTF-8"),
        (b"\xfe\xff" + TOML.encode("utf-16-be"), "is UTF-16, not UTF-8"),
        (TOML.encode("utf-16-le"), "is UTF-16, not UTF-8"),
        (TOML.encode("latin-1"), "is not text in UTF-8: look at line 4"),
        (TOML.encode() + b"\0", "line 5 holds a zero byte"),
        (json.dumps({"cognito": {"region": "x"}}).encode(), "is not TOML, it looks like JSON"),
        (b"cognito:\n  region: eu-central-1\n", "is not TOML, it looks like YAML"),
        (b"---\n- cognito\n", "is not TOML, it looks like YAML"),
        (b'[otp]\nissuer = "a"\nissuer = "b"\n', "at line 3"),
        (b"[otp]\nissuer = Example\n", "is not TOML: Invalid value (at line 2"),
        (b"a = " + b"[" * 100_000, "Lists or tables are nested too deeply"),
        (b"a = " + b"9" * 5_000, "A number has too many digits"),
        (b"\n[otp]\n" + b"a." * 50 + b"b = 1\n\n", "A key has more than 50 parts (at line 3)"),
        (b"a." * 50 + b"b = 1\n", "A key has more than 50 parts (at line 1)"),
        (b"#" * (1 << 20) + b"\n", "is too large"),
        (b"", "cognito.user_pool_id is required"),
        (b"# all commented out\n", "cognito.user_pool_id is required"),
    ],
    ids=range(17),
)
def test_what_is_something_else_is_called_what_it_is(path: Path, data: bytes, said: str) -> None:
    path.write_bytes(data)

    assert said in complaint(path)


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    assert "Is a directory" in complaint(tmp_path)


def test_a_value_in_a_file_of_its_own_is_read_in_the_same_way(tmp_path: Path) -> None:
    value = tmp_path / "issuer"
    value.write_bytes(b"\xef\xbb\xbfB\xc3\xbccher\r\n")
    pool = {"MFA_WORKER_COGNITO__USER_POOL_ID": "eu-central-1_AbCdEfGhI"}
    environ = pool | {"MFA_WORKER_OTP__ISSUER_FILE": str(value)}

    assert load(None, [], environ).otp.issuer == "Bücher"
    value.write_text("Bücher", "utf-16")
    with pytest.raises(UsageError, match="UTF-16"):
        load(None, [], environ)
