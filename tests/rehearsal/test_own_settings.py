"""A rehearsal with the operator's own settings: what is taken of them, and what never is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.age_keys import tagged_pq
from worker.core.errors import UsageError
from worker.rehearsal.own_settings import own_settings
from worker.rehearsal.scenario import Scenario, planned
from worker.sealing import age

OPTIONS = dict.fromkeys(("origin", "credential", "mfa", "session_validity"))


def settings_file(folder: Path, **sections: dict[str, object]) -> Path:
    tables: dict[str, dict[str, object]] = {"cognito": {"user_pool_id": "eu-central-1_AbCdEfGhI"}, **sections}
    file = folder / "own.toml"
    file.write_text(
        "".join(
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
            for name, keys in tables.items()
        )
    )
    return file


def scenario(file: Path, environ: dict[str, str] | None = None, **options: object) -> Scenario:
    given = {**OPTIONS, "faults": (), "overrides": (), **options}
    return planned(own=own_settings(file, environ or {}), **given)  # type: ignore[arg-type]


def test_what_the_job_is_like_is_taken(tmp_path: Path) -> None:
    _, recipient = age.keygen("today")
    file = settings_file(
        tmp_path,
        rate={"requests_per_second": 40, "share": "1/4"},
        cognito={"user_pool_id": "eu-central-1_AbCdEfGhI", "session_validity": "5m", "call_timeout": "7s"},
        sign_in={"flow": "admin_user_password", "client_id": "client"},
        activation={"mode": "verify"},
        seal={"recipients": [recipient]},
        otp={"issuer": 'The "Example"', "account": "email"},
        retry={"attempts": 3},
    )

    taken = scenario(file)

    assert (taken.rate, taken.session_validity, taken.origin, taken.activate) == (10, 300, "passwords", True)
    assert taken.recipients == (recipient,)
    assert set(taken.overrides) == {
        "cognito.call_timeout=7s",
        'otp.issuer=The "Example"',
        "otp.account=email",
        "retry.attempts=3",
    }


def test_post_quantum_recipients_cannot_stand_beside_the_rehearsals_own(tmp_path: Path) -> None:
    pool: dict[str, object] = {"user_pool_id": "eu-central-1_AbCdEfGhI"}
    taken = own_settings(settings_file(tmp_path, cognito=pool, seal={"recipients": [tagged_pq()]}), {})
    assert taken.recipients == ()
    assert "instead of post-quantum ones, recipients" in taken.words()


def test_options_win_and_tokens_are_what_requests_without_a_flow_bring(tmp_path: Path) -> None:
    file = settings_file(tmp_path, rate={"requests_per_second": 10})

    assert scenario(file).origin == "tokens"
    chosen = scenario(file, rate=3.0, origin="usernames", overrides=("otp.issuer=Other",))
    assert (chosen.rate, chosen.origin, chosen.overrides) == (3.0, "usernames", ("otp.issuer=Other",))
    assert scenario(file, session_validity="60s").origin == "sessions"


@pytest.mark.parametrize(
    "sections",
    [
        {"queue": {"kind": "sqs", "url": "https://sqs.eu-central-1.amazonaws.com/123456789012/mfa"}},
        {"ledger": {"kind": "dynamodb", "table": "mfa"}},
        {"channel": {"kind": "s3", "bucket": "mfa"}},
        {"queue": {"path": "/tmp/mine.db"}, "channel": {"path": "/tmp/mine.jsonl"}},
        {"cognito": {"user_pool_id": "eu-central-1_AbCdEfGhI", "endpoint_url": "https://proxy.example"}},
        {"aws": {"profile": "migration"}},
    ],
)
def test_where_anything_is_is_never_taken(tmp_path: Path, sections: dict[str, dict[str, object]]) -> None:
    assert scenario(settings_file(tmp_path, **sections)).overrides == ()


def test_variables_count_beside_the_file_and_what_is_wrong_is_refused(tmp_path: Path) -> None:
    file = settings_file(tmp_path)

    taken = scenario(file, {"MFA_WORKER_OTP__ISSUER": "From the environment"})
    assert taken.overrides == ("otp.issuer=From the environment",)
    with pytest.raises(UsageError, match=r"otp\.issuer"):
        scenario(file, {"MFA_WORKER_OTP__ISSUER": "x" * 201})
