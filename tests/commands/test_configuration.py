"""Settings from outside: file, environment and flags, what is said of wrong ones, and what is shown."""

from __future__ import annotations

import json

import pytest

from tests.support.rollout import Rollout

RATE = "rate.requests_per_second"


async def test_the_last_of_file_environment_and_flags_wins(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 5})
    variable = {"MFA_WORKER_RATE__REQUESTS_PER_SECOND": "6"}

    from_file = await rollout.command("config", "show", "--json")
    from_env = await rollout.command("config", "show", "--json", env=variable)
    from_flag = await rollout.command("config", "show", "--json", "--set", f"{RATE}=7", env=variable)

    assert _row(from_file.out, RATE)["value"] == "5.0"
    assert "mfa-worker.toml" in _row(from_file.out, RATE)["source"]
    assert _row(from_env.out, RATE) == {
        "key": RATE,
        "value": "6.0",
        "source": "MFA_WORKER_RATE__REQUESTS_PER_SECOND",
    }
    assert _row(from_flag.out, RATE)["value"] == "7.0"
    assert "--set" in _row(from_flag.out, RATE)["source"]


async def test_the_file_that_a_flag_names_wins_over_the_one_of_the_environment(rollout: Rollout) -> None:
    other = rollout.folder / "other.toml"
    other.write_text('[cognito]\nuser_pool_id = "us-east-1_other"\n')

    before = await rollout.command("--config", str(other), "config", "show", "--json")
    after = await rollout.command("config", "show", "--config", str(other), "--json")

    for ended in (before, after):
        assert _row(ended.out, "cognito.user_pool_id")["value"] == '"us-east-1_other"'
        assert _row(ended.out, "cognito.user_pool_id")["source"] == str(other)
    assert _row(before.out, RATE)["source"] == "default"


async def test_config_show_is_a_file_for_people_and_masks_what_is_secret(rollout: Rollout) -> None:
    rollout.configure(queue={"url": "https://name:pass1234word@sqs.eu-central-1.amazonaws.com/1/q"})

    ended = await rollout.command("config", "show")

    assert ended.code == 0
    assert "pass1234word" not in ended.out
    assert "***" in ended.out
    assert 'otp.issuer = "Example"  # ' in ended.out


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("MFA_WORKER_RATE__REQUEST_PER_SECOND", "MFA_WORKER_RATE__REQUESTS_PER_SECOND"),
        ("MFA_WORKER_CONFIGG", "MFA_WORKER_CONFIG"),
        ("MFA_WORKER_RATE", "MFA_WORKER_RATE__REQUESTS_PER_SECOND"),
    ],
)
async def test_an_unknown_variable_is_refused_with_the_nearest_name(
    rollout: Rollout, variable: str, nearest: str
) -> None:
    ended = await rollout.run(env={variable: "7"})

    assert (ended.code, ended.out) == (2, "")
    assert nearest in ended.err
    assert not rollout.ledger.exists()


async def test_an_unknown_key_or_flag_is_refused_with_the_nearest_name(rollout: Rollout) -> None:
    flag = await rollout.run("--set", "ledger.leese=60s")
    option = await rollout.run("--tolerat", "1%")
    rollout.configure(chanel={"path": "x"})
    key = await rollout.run()

    assert (flag.code, option.code, key.code) == (2, 2, 2)
    assert "ledger.lease" in flag.err
    assert "--tolerate" in option.err
    assert "channel" in key.err
    assert not rollout.ledger.exists()


async def test_all_mistakes_are_listed_at_once_and_no_value_is_repeated(rollout: Rollout) -> None:
    secret = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"
    rollout.configure(
        rate={"requests_per_second": -1},
        seal={"recipients": [secret]},
        cognito={"endpoint_url": "http://cognito.example"},
        ledger={"lease": "1s"},
    )

    ended = await rollout.run()

    assert ended.code == 2
    for key in (RATE, "seal.recipients", "cognito.endpoint_url"):
        assert key in ended.err
    assert secret not in ended.err
    assert "Traceback" not in ended.err


async def test_a_secret_and_a_list_can_come_from_files_and_variables(rollout: Rollout) -> None:
    path = rollout.folder / "recipients"
    path.write_text(json.dumps([rollout.recipient]) + "\n")
    rollout.configure(seal={"recipients": None})
    requests = rollout.file(await rollout.sign_in("ana"))

    ended = await rollout.run("--input", requests, env={"MFA_WORKER_SEAL__RECIPIENTS_FILE": str(path)})

    assert ended.code == 0
    assert rollout.opened().keys() == {"ana"}


async def test_the_endpoint_is_not_what_somebody_elses_variable_says(rollout: Rollout) -> None:
    elsewhere = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": "http://127.0.0.1:1",
    }

    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana")), env=elsewhere)

    assert ended.code == 0


async def test_a_settings_file_that_cannot_be_read_is_named(rollout: Rollout) -> None:
    rollout.config.write_text("[rate\n")

    broken = await rollout.command("status")
    missing = await rollout.command("status", "--config", "nowhere.toml")

    assert (broken.code, missing.code) == (2, 2)
    assert "mfa-worker.toml" in broken.err
    assert "nowhere.toml" in missing.err


def _row(lines: str, key: str) -> dict[str, str]:
    rows: dict[str, dict[str, str]] = {row["key"]: row for row in map(json.loads, lines.splitlines())}
    return rows[key]
