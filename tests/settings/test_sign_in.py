"""How signing in and activation are set: what belongs together, and a client secret that is never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from worker.core.errors import ExitCode, UsageError
from worker.settings import Settings, explain, load

NEEDED = ["cognito.user_pool_id=eu-central-1_AbCdEfGhI"]
FLOW = [*NEEDED, "sign_in.flow=custom_auth", "sign_in.client_id=exampleclient"]
VARIABLE = "MFA_WORKER_SIGN_IN__CLIENT_SECRET"
HIDDEN = "hunter2hunter2"


def complaint(*overrides: str, config: Path | None = None, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        load(config, [*NEEDED, *overrides], environ or {})
    assert caught.value.exit_code is ExitCode.USAGE
    assert HIDDEN not in str(caught.value) + caught.value.hint
    return str(caught.value)


def revealed(settings: Settings) -> str | None:
    secret = settings.sign_in.client_secret
    return secret.get_secret_value() if secret else None


def test_without_them_nobody_is_signed_in_or_activated() -> None:
    settings = load(None, NEEDED, {})
    assert (settings.sign_in.flow, settings.sign_in.client_id, settings.sign_in.client_secret) == ("none", None, None)
    assert (settings.sign_in.requests_per_second, settings.activation.mode) == (60, "none")


# --- what belongs together --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", ["custom_auth", "user_password", "admin_user_password"])
def test_every_flow_needs_an_app_client(flow: str) -> None:
    said = complaint(f"sign_in.flow={flow}")
    assert f"sign_in.client_id (from the default): is required where sign_in.flow is {flow}" in said
    assert load(None, [*NEEDED, f"sign_in.flow={flow}", "sign_in.client_id=a1"], {}).sign_in.client_id == "a1"


def test_a_client_secret_without_a_flow_is_refused_with_both_names() -> None:
    said = complaint(environ={VARIABLE: HIDDEN})
    assert f"sign_in.client_secret (from {VARIABLE}): has no use while sign_in.flow is none" in said


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("sign_in.flow=custom-auth", "should be 'none', 'custom_auth'"),
        ("sign_in.client_id=two words", "sign_in.client_id"),
        ("sign_in.client_id=", "sign_in.client_id"),
        ("sign_in.requests_per_second=0", "greater than 0"),
        ("activation.mode=active", "should be 'none', 'verify' or 'prefer'"),
        ("activation.identity=", "should name a file"),
        ("activation.identity=..", "should name a file"),
        ("signin.flow=custom_auth", "did you mean sign_in.flow?"),
        ("activation.recipient=x", "is no setting"),
        ("cognito.client_id=x", "did you mean sign_in.client_id?"),
    ],
)
def test_a_wrong_value_is_named(wrong: str, text: str) -> None:
    assert text in complaint(wrong)


DYNAMODB = ["ledger.kind=dynamodb", "ledger.table=t"]


@pytest.mark.parametrize("mode", ["verify", "prefer"])
def test_with_dynamodb_an_identity_must_be_named(mode: str, tmp_path: Path) -> None:
    said = complaint(f"activation.mode={mode}", *DYNAMODB)
    assert f"activation.identity (from the default): is required where activation.mode is {mode}" in said
    assert "ledger.kind is dynamodb" in said
    assert "keygen" in said
    named = [*NEEDED, f"activation.mode={mode}", *DYNAMODB, f"activation.identity={tmp_path / 'own.txt'}"]
    assert load(None, named, {}).activation.identity == tmp_path / "own.txt"
    assert load(None, [*NEEDED, *DYNAMODB], {}).activation.identity is None


def test_the_identity_lies_beside_the_embedded_ledger_unless_it_is_named(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('[ledger]\npath = "state/ledger.db"\n[activation]\nmode = "verify"')
    settings = load(config, NEEDED, {})
    assert settings.activation.identity == tmp_path / "state" / "activation-identity.txt"
    assert settings.makes_identity
    for more, environ in (
        ([f"queue.path={tmp_path}/state/all.db"], {}),
        ([], {"MFA_WORKER_STATE": str(tmp_path / "state")}),
    ):
        found = load(None, [*NEEDED, *more], environ)
        assert found.activation.identity == tmp_path / "state" / "activation-identity.txt"

    config.write_text('[activation]\nmode = "verify"\nidentity = "keys/own.txt"')
    settings = load(config, NEEDED, {})
    assert settings.activation.identity == tmp_path / "keys" / "own.txt", "relative to the file, as all paths"
    assert not settings.makes_identity


# --- the client secret ------------------------------------------------------------------------------------------------


def test_the_secret_comes_from_the_environment_or_a_file_and_an_empty_one_is_none(tmp_path: Path) -> None:
    (file := tmp_path / "secret").write_text(f"{HIDDEN}\n")
    file.chmod(0o600)
    assert revealed(load(None, FLOW, {VARIABLE: HIDDEN})) == HIDDEN
    assert revealed(load(None, FLOW, {f"{VARIABLE}_FILE": str(file)})) == HIDDEN
    assert revealed(load(None, FLOW, {VARIABLE: ""})) is None
    assert "is given twice" in complaint(environ={VARIABLE: HIDDEN, f"{VARIABLE}_FILE": str(file)})
    assert "cannot be read" in complaint(environ={f"{VARIABLE}_FILE": str(tmp_path / "missing")})


def test_nothing_that_is_printed_of_the_settings_shows_it() -> None:
    settings = load(None, FLOW, {VARIABLE: HIDDEN})
    printed = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
    rows = {row.key: row for row in explain(None, FLOW, {VARIABLE: HIDDEN})}
    printed.append(str(rows))
    assert HIDDEN not in "".join(printed)
    assert rows["sign_in.client_secret"].value == '"**********"'
    assert rows["sign_in.client_secret"].source == VARIABLE


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_it_is_noted_where_everybody_can_open_the_file_that_holds_it(tmp_path: Path, mode: int) -> None:
    (config := tmp_path / "settings.toml").write_text(f'[sign_in]\nclient_secret = "{HIDDEN}"')
    (file := tmp_path / "secret").write_text(HIDDEN)
    for each in (config, file):
        each.chmod(mode)
    for said, path in (
        (load(config, FLOW, {}).exposed, config),
        (load(None, FLOW, {f"{VARIABLE}_FILE": str(file)}).exposed, file),
    ):
        told, cure = said["sign_in.client_secret"]
        assert told.startswith(f"sign_in.client_secret stands in {path}, which every user of this host can read")
        assert HIDDEN not in told + cure
        assert cure.startswith(f"chmod 600 {path}")
        assert "defaultMode: 0440" in cure
    config.write_text('[sign_in]\nclient_secret = ""')
    assert not load(config, NEEDED, {}).exposed, "there is no secret in it"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o440])
def test_a_file_that_the_group_can_read_is_taken(tmp_path: Path, mode: int) -> None:
    (config := tmp_path / "settings.toml").write_text(f'[sign_in]\nclient_secret = "{HIDDEN}"')
    config.chmod(mode)
    if os.access(config, os.R_OK):
        assert revealed(load(config, FLOW, {})) == HIDDEN
        assert not load(config, FLOW, {}).exposed


def test_it_is_noted_that_a_variable_holds_it_and_how_a_file_would(tmp_path: Path) -> None:
    told, cure = load(None, FLOW, {VARIABLE: HIDDEN}).exposed["sign_in.client_secret"]
    assert told.startswith(f"sign_in.client_secret stands in the environment, as {VARIABLE}")
    assert f"{VARIABLE}_FILE" in cure
    assert HIDDEN not in told + cure
    (file := tmp_path / "secret").write_text(HIDDEN)
    file.chmod(0o600)
    assert not load(None, FLOW, {f"{VARIABLE}_FILE": str(file)}).exposed
