"""What each command ends with when AWS, or the chain of its credentials, says no: never a traceback, never a 70."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.emulators import CREDENTIALS, Emulator
from tests.support.processes import Ended, Process
from tests.support.wire import answer, listening
from worker.sealing.age import keygen

COMMANDS = ("run", "status", "init", "push", "check")
KEYS = {name: text for name, text in CREDENTIALS.items() if name != "AWS_REGION"}


def settings(folder: Path, **endpoints: str) -> Path:
    _, recipient = keygen("2026-01-01T00:00:00Z")
    named = "".join(f'{service}_endpoint_url = "{url}"\n' for service, url in endpoints.items())
    path = folder / "mfa-worker.toml"
    path.write_text(
        f'[cognito]\nuser_pool_id = "eu-central-1_Example"\n[otp]\nissuer = "Example"\n'
        f'[queue]\nkind = "sqs"\nurl = "https://sqs.eu-central-1.amazonaws.com/123456789012/requests"\n'
        f'[ledger]\nkind = "dynamodb"\ntable = "ledger"\n[channel]\nkind = "s3"\nbucket = "secrets"\n'
        f'[seal]\nrecipients = ["{recipient}"]\n[aws]\nregion = "eu-central-1"\n{named}',
        "utf-8",
    )
    path.chmod(0o600)
    return path


async def ended(folder: Path, command: str, env: dict[str, str]) -> Ended:
    (folder / "requests.jsonl").write_text('{"username": "ana", "access_token": "eyJ-no-token"}\n', "utf-8")
    more = [str(folder / "requests.jsonl")] if command == "push" else []
    home = {"HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", "MFA_WORKER_CONFIG": "mfa-worker.toml"}
    return await Process.start(folder, command, command, *more, env={**home, **env}).ended()


def is_no_bug(found: Ended) -> None:
    assert "Traceback" not in found.err + found.out
    assert found.code != 70


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("profile", "cure"),
    [
        ("credential_process = /nowhere/helper\n", "credential_process"),
        (
            "sso_start_url = https://x.example\nsso_region = eu-west-1\nsso_account_id = 1\nsso_role_name = r\n",
            "aws sso",
        ),
        ("role_arn = arn:aws:iam::1:role/r\nweb_identity_token_file = /nowhere\n", "mount the web identity token"),
    ],
    ids=["process", "sso", "token"],
)
async def test_credentials_that_cannot_be_got(tmp_path: Path, command: str, profile: str, cure: str) -> None:
    settings(tmp_path)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(f"[default]\n{profile}", "utf-8")
    found = await ended(tmp_path, command, {})
    is_no_bug(found)
    assert found.code == (2 if command == "check" else 3)
    assert cure in found.err + found.out


def said(code: str, status: str, message: str = "") -> bytes:
    return answer(json.dumps({"__type": f"com.amazon#{code}", "message": message}).encode(), status)


@pytest.mark.parametrize("command", ["run", "status", "init", "push"])
@pytest.mark.parametrize(
    ("does", "code", "cure"),
    [
        (said("InvalidSignatureException", "400 .", "Signature expired: now is then"), 3, "clock"),
        (said("OptInRequired", "403 ."), 3, "account"),
        (said("AccessDeniedException", "400 ."), 3, "config/iam"),
        (said("RequestThrottled", "400 ."), 75, "wait"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", 75, "proxy"),
        (answer(b"[]"), 75, "run again"),
    ],
    ids=["clock", "account", "permission", "throttled", "page", "list"],
)
async def test_a_service_that_says_no(tmp_path: Path, command: str, does: bytes, code: int, cure: str) -> None:
    async with listening() as wire:
        wire.does = does
        settings(tmp_path, sqs=wire.url, dynamodb=wire.url, s3=wire.url, sts=wire.url)
        found = await ended(tmp_path, command, KEYS)
    is_no_bug(found)
    assert found.code == code, found.err
    assert cure in found.err


async def test_a_variable_that_leads_requests_elsewhere_is_refused(tmp_path: Path) -> None:
    settings(tmp_path)
    found = await ended(tmp_path, "run", {**KEYS, "AWS_ENDPOINT_URL": "http://collector.example"})
    assert found.code == 2
    assert "collector.example" in found.err


async def test_the_keys_of_tls_are_not_written_to_a_file(tmp_path: Path) -> None:
    settings(tmp_path)
    found = await ended(tmp_path, "run", {**KEYS, "SSLKEYLOGFILE": str(tmp_path / "keys")})
    assert found.code == 2
    assert "unset SSLKEYLOGFILE" in found.err
    assert not (tmp_path / "keys").exists()


async def test_init_makes_no_queue_that_the_settings_do_not_name(tmp_path: Path, moto: Emulator) -> None:
    path = settings(tmp_path, **dict.fromkeys(("sqs", "dynamodb", "s3", "sts"), moto.url))
    text = path.read_text("utf-8")
    for url, words in (
        ("https://sqs.eu-central-1.amazonaws.com/999999999999/requests", "of the account 999999999999"),
        ("https://sqs.eu-west-3.amazonaws.com/123456789012/requests", "set aws.region to eu-west-3"),
    ):
        path.write_text(text.replace("https://sqs.eu-central-1.amazonaws.com/123456789012/requests", url), "utf-8")
        found = await ended(tmp_path, "init", KEYS)
        assert found.code == 2, found.err
        assert words in found.err
        assert "created" not in found.out


async def test_init_says_why_the_bucket_cannot_be_used(tmp_path: Path, moto: Emulator) -> None:
    refusal = b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>"
    async with listening() as wire:
        wire.does = answer(refusal, "403 .", "Content-Type: application/xml")
        settings(tmp_path, s3=wire.url, **dict.fromkeys(("sqs", "dynamodb", "sts"), moto.url))
        found = await ended(tmp_path, "init", KEYS)
    assert found.code == 3, found.err
    assert "clock" in found.err
