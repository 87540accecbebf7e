"""The chain of AWS credentials, with what goes wrong on ordinary days: each ends with its cure, and repeats nothing."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import stat
import sys
from pathlib import Path

import pytest

from tests.support.emulators import REGION
from tests.support.wire import Wire, answer, listening
from worker.adapters.aws import credentials
from worker.adapters.aws.session import Aws, AwsTarget
from worker.core.errors import DependencyUnavailable, ExitCode, PersonMustAct, WorkerError
from worker.telemetry import logs

SECRET = "eyJ-a-helpers-secret"
ROLE = "role_arn = arn:aws:iam::123456789012:role/worker\n"
WITH_KEYS = f"{ROLE}source_profile = keys\n[profile keys]\naws_access_key_id = AKIA\naws_secret_access_key = x\n"


class Home:
    """A home with a configuration for AWS, and nothing in the environment."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch
        monkeypatch.setenv("HOME", str(folder))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
            monkeypatch.delenv(name, raising=False)
        self.set(AWS_EC2_METADATA_DISABLED="true")
        (folder / ".aws").mkdir()

    def set(self, **variables: str) -> None:
        for name, text in variables.items():
            self._monkeypatch.setenv(name, text)

    def config(self, text: str) -> None:
        (self.folder / ".aws" / "config").write_text(text, "utf-8")

    def profile(self, text: str) -> None:
        self.config(f"[profile work]\n{text}")

    def program(self, text: str) -> str:
        path = self.folder / "helper"
        path.write_text(f"#!{sys.executable}\n{text}", "utf-8")
        path.chmod(stat.S_IRWXU)
        return str(path)

    async def failure(self) -> WorkerError:
        """What the first client says."""
        async with Aws(AwsTarget(REGION, profile="work")) as aws:
            with pytest.raises(WorkerError) as raised:
                await aws.dynamodb()
        return raised.value


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws_credentials: None) -> Home:
    return Home(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("config", "cure"),
    [
        ("[profile other]\n", "aws configure list-profiles"),
        ("[profile work]\n", "give the process AWS credentials"),
        ("not a configuration", "what cannot be read"),
        ("[profile work]\naws_access_key_id = AKIA\n", "give both halves"),
        (f"[profile work]\n{ROLE}", "source_profile"),
        (f"[profile work]\n{ROLE}source_profile = gone\n", "source_profile"),
        (f"[profile work]\n{ROLE}source_profile = work\n", "source_profile"),
        (f"[profile work]\n{ROLE}credential_source = Nowhere\n", "credential_source"),
        ("[profile work]\nsso_session = none\nsso_account_id = 1\nsso_role_name = r\n", "sso_"),
        ("[profile work]\ncredential_process = /nowhere/at/all\n", "credential_process"),
        ("[profile work]\nweb_identity_token_file = /nowhere\n", "role_arn"),
        (f"[profile work]\n{ROLE}web_identity_token_file = /nowhere\n", "mount the web identity token"),
        (f"[profile work]\nmfa_serial = arn:aws:iam::1:mfa/me\n{WITH_KEYS}", "without mfa_serial"),
    ],
)
async def test_a_profile_that_does_not_work_says_what_to_correct(home: Home, config: str, cure: str) -> None:
    home.config(config)
    error = await home.failure()
    assert isinstance(error, PersonMustAct)
    assert cure in error.hint
    assert "no AWS client can be made" in str(error)


async def test_a_profile_of_the_environment_that_does_not_exist_is_named(home: Home) -> None:
    home.config("[profile other]\n")
    home.set(AWS_PROFILE="work")
    async with Aws(AwsTarget(REGION)) as aws:
        with pytest.raises(PersonMustAct) as raised:
            await aws.sqs()
    assert "AWS_PROFILE" in raised.value.hint


@pytest.mark.parametrize(
    "program",
    [
        "print('hello')",
        "print('[]')",
        "print('{}')",
        "print('{\"Version\": 2}')",
        'print(\'{"Version": 1, "AccessKeyId": "x"}\')',
        "import sys; sys.stdout.buffer.write(b'\\xff')",
        f"import sys; print('{SECRET}', file=sys.stderr); sys.exit(1)",
        "import sys; sys.stderr.buffer.write(b'\\xff'); sys.exit(1)",
    ],
)
async def test_a_helper_program_that_says_nonsense_is_named_and_not_repeated(
    home: Home, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("json")
    home.profile(f"credential_process = {home.program(program)}\n")
    error = await home.failure()
    assert isinstance(error, PersonMustAct)
    assert "credential_process" in error.hint
    assert SECRET not in f"{error} {error.hint} {capsys.readouterr()}"


async def test_a_helper_program_that_is_no_program_is_named(home: Home) -> None:
    home.profile(f"credential_process = {home.folder}\n")
    assert "credential_process" in (await home.failure()).hint


async def test_a_helper_program_that_hangs_is_not_waited_for_for_ever(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "PATIENCE", 0.5)
    home.profile(f"credential_process = {home.program('import time; time.sleep(3)')}\n")
    error = await home.failure()
    assert isinstance(error, PersonMustAct)
    assert "credential_process" in error.hint
    await asyncio.sleep(3)  # its pipes are read until it ends


async def test_a_helper_program_that_breaks_in_the_middle_of_a_run_is_the_credentials_failure(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("json")
    soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)).isoformat()
    found = json.dumps({"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": soon})
    times = home.folder / "times"
    home.profile(
        "credential_process = "
        + home.program(
            f"import sys\nfile = open('{times}', 'a+'); file.write('.'); file.seek(0)\n"
            f"if len(file.read()) > 2: print('{SECRET}', file=sys.stderr); sys.exit(1)\n"
            f"print('{found}')"
        )
    )
    async with Aws(AwsTarget(REGION, profile="work")) as aws:
        await aws.require_credentials()
        with pytest.raises(PersonMustAct) as raised:
            await aws.require_credentials()  # they live for less than ten minutes, so they are renewed each time
    assert "credential_process" in raised.value.hint
    assert SECRET not in f"{raised.value} {capsys.readouterr()}"


# --- SSO --------------------------------------------------------------------------------------------------------------

SSO = "sso_start_url = https://example.awsapps.com/start\nsso_region = eu-central-1\n"


async def test_a_login_that_was_never_made_says_how_to_sign_in(home: Home) -> None:
    home.profile(f"{SSO}sso_account_id = 1\nsso_role_name = r\n")
    assert "aws sso login --profile" in (await home.failure()).hint


async def test_a_login_of_a_session_that_was_never_made_says_it_too(home: Home) -> None:
    home.config(
        "[profile work]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n"
        f"[sso-session s]\n{SSO}sso_registration_scopes = sso:account:access\n"
    )
    error = await home.failure()
    assert isinstance(error, PersonMustAct)
    assert "aws sso login --profile" in error.hint


async def test_a_login_that_expired_says_how_to_sign_in(home: Home) -> None:
    home.profile(f"{SSO}sso_account_id = 1\nsso_role_name = r\n")
    kept = home.folder / ".aws" / "sso" / "cache"
    kept.mkdir(parents=True)
    name = hashlib.sha1(b"https://example.awsapps.com/start").hexdigest()
    (kept / f"{name}.json").write_text(
        json.dumps({"accessToken": SECRET, "expiresAt": "2020-01-01T00:00:00Z", "region": REGION}), "utf-8"
    )
    error = await home.failure()
    assert "aws sso login --profile" in error.hint
    assert SECRET not in f"{error} {error.hint}"


# --- STS, and the container ------------------------------------------------------------------------------------------


def sts_says(code: str, status: str = "403 Forbidden") -> bytes:
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>{SECRET}</Message></Error></ErrorResponse>"
    return answer(body.encode(), status, "Content-Type: text/xml")


def with_token(home: Home) -> str:
    return f"{ROLE}web_identity_token_file = {home.folder / 'token'}\n"


async def asked(home: Home, wire: Wire, profile: str) -> WorkerError:
    (home.folder / "token").write_text("a.web.token", "utf-8")
    home.profile(profile)
    home.set(AWS_ENDPOINT_URL_STS=wire.url)
    return await home.failure()


@pytest.mark.parametrize(
    ("code", "exit_code", "cure"),
    [
        ("AccessDenied", 3, "trust policy"),
        ("InvalidIdentityToken", 3, "web identity token"),
        ("ExpiredTokenException", 3, "web identity token"),
        ("RegionDisabledException", 3, "account"),
        ("Throttling", 75, "wait"),
    ],
)
@pytest.mark.parametrize("by_token", [False, True])
async def test_a_role_that_may_not_be_assumed_says_why(
    home: Home, code: str, exit_code: int, cure: str, by_token: bool
) -> None:
    async with listening() as wire:
        wire.does = sts_says(code, "400 Bad Request" if exit_code == 75 else "403 Forbidden")
        error = await asked(home, wire, with_token(home) if by_token else WITH_KEYS)
    assert int(error.exit_code) == exit_code
    assert cure in error.hint
    assert SECRET not in f"{error} {error.hint}"


async def test_an_sts_that_answers_with_a_page_is_waited_for(home: Home) -> None:
    async with listening() as wire:
        wire.does = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
        error = await asked(home, wire, WITH_KEYS)
    assert isinstance(error, DependencyUnavailable)
    assert error.exit_code is ExitCode.DEPENDENCY_UNAVAILABLE


async def test_no_redirect_of_sts_is_followed(home: Home) -> None:
    """The SDK's own transport would send the web identity's token on to whoever is named."""
    async with listening() as wire, listening() as elsewhere:
        wire.does = answer(b"", "307 Temporary Redirect", f"Location: {elsewhere.url}")
        error = await asked(home, wire, with_token(home))
    assert error.exit_code is ExitCode.PERSON_MUST_ACT
    assert not elsewhere.seen


async def test_a_container_that_refuses_credentials_is_named(home: Home) -> None:
    async with listening() as wire:
        wire.does = answer(b'{"message": "no"}', "403 Forbidden")
        home.set(AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{wire.url}/get")
        async with Aws(AwsTarget(REGION)) as aws:
            with pytest.raises(PersonMustAct) as raised:
                await aws.sqs()
    assert "AWS_CONTAINER_CREDENTIALS" in raised.value.hint


async def test_credentials_that_lack_a_part_are_named(home: Home) -> None:
    async with listening() as wire:
        wire.does = answer(b'{"AccessKeyId": "x"}')
        home.set(AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{wire.url}/get")
        async with Aws(AwsTarget(REGION)) as aws:
            with pytest.raises(PersonMustAct) as raised:
                await aws.sqs()
    assert "role, profile, container" in raised.value.hint
