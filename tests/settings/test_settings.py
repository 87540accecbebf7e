"""Which source wins, what is filled in, and that every mistake is named: with its place, its cure, not its value."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.core.errors import ExitCode, UsageError
from worker.settings import Settings, explain, load
from worker.settings.sections import CognitoSettings, RateSettings, every_setting
from worker.settings.sources import fields
from worker.settings.stores import LedgerSettings, QueueSettings

POOL = "eu-central-1_AbCdEfGhI"
NEEDED = [f"cognito.user_pool_id={POOL}"]
KEY = "age1z2dqkl2qy7g35y3yktgrufvp6t9589wfz8c8a7uv896z8m9sfafqj5prpw"
EXAMPLE = Path(__file__).parents[2] / "config" / "mfa-worker.toml"


def complaint(*overrides: str, config: Path | None = None, **environ: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(config, [*NEEDED, *overrides], environ)
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_the_pool_is_all_that_is_needed() -> None:
    settings = load(None, NEEDED, {})
    assert settings.cognito.region == "eu-central-1"
    assert settings.otp.issuer == POOL
    assert settings.rate.requests_per_second == 20
    assert settings.cognito.session_validity == 180
    assert settings.seal.recipients == ()


def test_flags_win_over_the_environment_and_the_environment_over_the_file(config: Path) -> None:
    config.write_text('[rate]\nrequests_per_second = 1\n[run]\npoll = "1s"\ngrace = 1\n[log]\nlevel = "error"')
    environ = {"MFA_WORKER_RATE__REQUESTS_PER_SECOND": "2", "MFA_WORKER_RUN__POLL": "2s"}
    settings = load(config, [*NEEDED, "rate.requests_per_second=3"], environ)
    found = [settings.rate.requests_per_second, settings.run.poll, settings.run.grace]
    assert (found, settings.log.level) == ([3, 2, 1], "error")
    assert load(None, [*NEEDED, "run.poll=1", "run.poll=2"], {}).run.poll == 2


def test_the_environment_may_name_the_file_and_a_flag_another(config: Path, tmp_path: Path) -> None:
    config.write_text("[run]\npoll = 7")
    other = tmp_path / "other.toml"
    other.write_text("[run]\npoll = 8")
    assert load(None, NEEDED, {"MFA_WORKER_CONFIG": str(config)}).run.poll == 7
    assert load(other, NEEDED, {"MFA_WORKER_CONFIG": str(config)}).run.poll == 8


def test_the_environment_of_the_process_is_not_read_behind_the_callers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFA_WORKER_RUN__POLL", "9")
    assert load(None, NEEDED, {}).run.poll == 0.5
    assert Settings(cognito=CognitoSettings(user_pool_id=POOL)).run.poll == 0.5


def test_a_value_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "issuer").write_text("Example\n")
    assert load(None, NEEDED, {"MFA_WORKER_OTP__ISSUER_FILE": str(tmp_path / "issuer")}).otp.issuer == "Example"


def test_a_value_in_a_file_that_cannot_be_read_is_an_error_that_does_not_repeat_the_path(tmp_path: Path) -> None:
    text = complaint(MFA_WORKER_OTP__ISSUER_FILE="/nowhere/hunter2")
    assert "MFA_WORKER_OTP__ISSUER_FILE names a file that cannot be read: No such file" in text
    assert "hunter2" not in text
    (tmp_path / "binary").write_bytes(b"\xff")
    assert "not text in UTF-8" in complaint(MFA_WORKER_OTP__ISSUER_FILE=str(tmp_path / "binary"))


def test_a_value_given_directly_and_by_file_is_an_error() -> None:
    text = complaint(MFA_WORKER_OTP__ISSUER="A", MFA_WORKER_OTP__ISSUER_FILE="/dev/null")
    assert "otp.issuer is given twice, also as MFA_WORKER_OTP__ISSUER_FILE" in text


def test_lists_are_json_outside_of_the_file(config: Path) -> None:
    config.write_text(f'[seal]\nrecipients = ["{KEY}", "{KEY}"]')
    assert load(config, NEEDED, {}).seal.recipients == (KEY,)
    assert load(None, [*NEEDED, f'seal.recipients=["{KEY}"]'], {}).seal.recipients == (KEY,)
    assert load(None, NEEDED, {"MFA_WORKER_SEAL__RECIPIENTS": f'["{KEY}"]'}).seal.recipients == (KEY,)
    assert "(from --set seal.recipients): should be a list" in complaint(f"seal.recipients={KEY}")


@pytest.mark.parametrize("text", [KEY[:-1], KEY[:9] + KEY[9:].upper(), "ssh-ed25519 AAAA", "age1" + "b" * 58, ""])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    said = complaint(f'seal.recipients=["{KEY}", "{text}"]')
    assert "entry 2 is " in said
    assert not text or text not in said


def test_a_private_key_among_the_recipients_is_refused_and_not_repeated() -> None:
    text = complaint('seal.recipients=["AGE-SECRET-KEY-1QQQQQQ"]')
    assert "entry 1 is a private key" in text
    assert "QQQ" not in text


DURATIONS = {"90": 90, "1.5": 1.5, "500ms": 0.5, "90s": 90, " 3 m ": 180, "1h": 3600, "0.5h": 1800, "1d": 86400}


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_durations_are_seconds_or_have_a_unit(text: str, seconds: float) -> None:
    assert load(None, [*NEEDED, f"channel.patience={text}"], {}).channel.patience == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1 s s", "nan", "inf", "1e3", "٣s", "3 weeks", '"3m"'])
def test_anything_else_is_no_duration(text: str) -> None:
    assert "(from --set channel.patience): should be a duration" in complaint(f"channel.patience={text}")


def test_durations_that_make_no_sense_are_refused(config: Path) -> None:
    config.write_text("[run]\npoll = 0\ngrace = -1\nwatchdog = inf\n[cognito]\nsession_validity = '16m'")
    text = complaint(config=config)
    assert "run.poll (from " in text
    assert "should be greater than 0" in text
    assert "should be greater than or equal to 0" in text
    assert "should be a finite number" in text
    assert "cognito.session_validity" in text


@pytest.mark.parametrize(("rate", "users"), [(1, 16), (20, 40), (25.4, 51), (1_000, 256)])
def test_concurrency_follows_the_rate_where_it_is_not_set(rate: float, users: int) -> None:
    assert load(None, [*NEEDED, f"rate.requests_per_second={rate}"], {}).run.concurrency == users
    assert load(None, [*NEEDED, f"rate.requests_per_second={rate}", "run.concurrency=3"], {}).run.concurrency == 3


def test_where_users_are_signed_in_first_more_of_them_are_under_way() -> None:
    flags = [*NEEDED, "rate.requests_per_second=25", "sign_in.flow=custom_auth", "sign_in.client_id=abc"]
    assert load(None, flags, {}).run.concurrency == 100


@pytest.mark.parametrize(("mode", "users"), [("none", 24.0), ("verify", 12.0), ("prefer", 8.0)])
def test_a_user_costs_one_to_three_calls(mode: str, users: float) -> None:
    flags = [*NEEDED, "rate.requests_per_second=48", "rate.share=1/2", f"activation.mode={mode}"]
    assert load(None, flags, {}).users_per_second == users


def test_queue_and_ledger_are_one_file_where_it_is_not_set() -> None:
    assert load(None, [*NEEDED, "queue.path=q.db"], {}).ledger.path == Path.cwd() / "q.db"
    settings = load(None, [*NEEDED, "queue.path=q.db", "ledger.path=l.db"], {})
    assert (settings.queue.path, settings.ledger.path) == (Path.cwd() / "q.db", Path.cwd() / "l.db")


def test_sections_made_by_hand_are_completed_as_well() -> None:
    cognito, rate, queue = (
        CognitoSettings(user_pool_id=POOL),
        RateSettings(requests_per_second=50),
        QueueSettings(path=Path("q")),
    )
    settings = Settings(cognito=cognito, rate=rate, queue=queue)
    assert (settings.run.concurrency, settings.ledger.path, settings.otp.issuer) == (100, Path("q"), POOL)


@pytest.mark.parametrize(("section", "key"), [("run", "poll"), ("cognito", "region"), ("seal", "recipients")])
def test_settings_do_not_change(section: str, key: str) -> None:
    settings = load(None, NEEDED, {})
    for owner, name in ((settings, section), (getattr(settings, section), key)):
        with pytest.raises(ValidationError):
            setattr(owner, name, None)


def test_a_lease_outlasts_three_calls() -> None:
    text = complaint("ledger.lease=29", MFA_WORKER_COGNITO__CALL_TIMEOUT="10")
    assert "ledger.lease (from --set ledger.lease): should be at least 30 s" in text
    with pytest.raises(ValidationError):
        Settings(cognito=CognitoSettings(user_pool_id=POOL), ledger=LedgerSettings(lease=29.0))


SQS = "https://sqs.eu-central-1.amazonaws.com/123456789012"


@pytest.mark.parametrize(
    "other",
    [
        f"{SQS}/requests",
        f"{SQS}/requests/",
        "https://sqs-fips.eu-central-1.amazonaws.com/123456789012/requests",
        "https://vpce-1.sqs.eu-central-1.vpce.amazonaws.com/123456789012/requests",
        "https://EU-CENTRAL-1.queue.amazonaws.com/123456789012/requests",
        "https://sqs.eu-central-1.amazonaws.com//123456789012//requests?x=1",
        "https://sqs.eu-central-1.amazonaws.com/123456789012/request%73",
        "http://localhost:4566/queue/requests",
    ],
)
@pytest.mark.parametrize("key", ["queue.dead_letter_url", "channel.url"])
def test_one_queue_is_not_two(key: str, other: str) -> None:
    text = complaint(
        "queue.kind=sqs", f"queue.url={SQS}/requests", "channel.kind=sqs", f"channel.url={SQS}/c", f"{key}={other}"
    )
    assert f"{key} (from --set {key}): names the same queue as queue.url" in text


def test_the_dead_letters_are_not_the_channel_and_other_queues_are_other_queues() -> None:
    both = "queue.kind=sqs", f"queue.url={SQS}/a", "channel.kind=sqs"
    text = complaint(*both, f"queue.dead_letter_url={SQS}/b", f"channel.url={SQS}/b")
    assert "channel.url (from --set channel.url): names the same queue as queue.dead_letter_url" in text
    others = f"queue.dead_letter_url={SQS[:-1]}3/a", f"channel.url={SQS}/A"
    settings = load(None, [*NEEDED, *both, *others], {})
    assert settings.queue.dead_letter_url == f"{SQS[:-1]}3/a"
    assert load(None, [*NEEDED, f"queue.url={SQS}/a", f"queue.dead_letter_url={SQS}/a"], {}), "the queue is a file"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("arn:aws:sqs:eu-central-1:123456789012:requests", "is an ARN, and should be the URL"),
        ("requests", "should be the URL of a queue"),
        ("https://sqs.eu-central-1.amazonaws.com/", "should be the URL of a queue"),
        (f"{SQS}/requests.fifo", "names a FIFO queue"),
        (f"{SQS}/requests.fifo/", "names a FIFO queue"),
    ],
)
@pytest.mark.parametrize("key", ["queue.url", "queue.dead_letter_url", "channel.url"])
def test_a_queue_is_named_by_its_url_and_is_no_fifo_queue(key: str, url: str, said: str) -> None:
    assert f"{key} (from --set {key}): {said}" in complaint(f"{key}={url}")


def test_a_slash_at_the_end_of_a_queues_url_is_left_out() -> None:
    assert load(None, [*NEEDED, f"queue.url={SQS}/a/"], {}).queue.url == f"{SQS}/a"


def test_a_session_outlives_the_validity_that_its_secret_needs() -> None:
    """Else no call for a Session would ever leave, and all of them would expire without a word."""
    text = complaint("channel.min_validity=30", MFA_WORKER_COGNITO__SESSION_VALIDITY="30")
    assert "channel.min_validity (from --set channel.min_validity): should be shorter than 30 s" in text
    assert "cognito.session_validity" in text


@pytest.mark.parametrize("url", ["https://idp.example", "https://idp.example:8443/", "http://127.0.0.1:4566"])
@pytest.mark.parametrize(
    "more", [[], ["cognito.endpoint_url=http://[::1]:1"], ["cognito.endpoint_url=http://localhost"]]
)
def test_an_endpoint_is_https_or_on_loopback(url: str, more: list[str]) -> None:
    settings = load(None, [*NEEDED, f"cognito.endpoint_url={url}", *more], {})
    assert settings.cognito.endpoint_url == (more[0].partition("=")[2] if more else url.rstrip("/"))


@pytest.mark.parametrize(
    "url",
    [
        *("http://idp.example", "http://10.0.0.1", "http://127.0.0.1.example", "ftp://localhost", "idp.example"),
        *("https://", "https://hunter2@idp.example", "https://idp.example/?k=hunter2", "https://a:b", "http://[::1"),
    ],
)
def test_any_other_endpoint_is_refused_and_not_repeated(url: str) -> None:
    text = complaint(MFA_WORKER_COGNITO__ENDPOINT_URL=url)
    assert "cognito.endpoint_url (from MFA_WORKER_COGNITO__ENDPOINT_URL): should" in text
    assert "hunter2" not in text


def test_an_adapter_needs_its_address() -> None:
    text = complaint("queue.kind=sqs", "ledger.kind=dynamodb")
    assert "queue.url (from the default): is required where kind is sqs" in text
    assert "ledger.table (from the default): is required where kind is dynamodb" in text
    assert "channel.bucket (from the default): is required where kind is s3" in complaint("channel.kind=s3")
    assert "channel.url (from the default): is required where kind is sqs" in complaint("channel.kind=sqs")


@pytest.mark.parametrize("text", ["1/4", "25%", "0.25"])
def test_a_share_of_the_rate_is_a_part_of_the_whole(text: str) -> None:
    settings = load(None, [*NEEDED, "rate.requests_per_second=20", f"rate.share={text}"], {})
    assert settings.rate.effective == 5.0
    assert settings.run.concurrency == 16


@pytest.mark.parametrize("text", ["0", "5/4", "1/0", "a/b", "", "-1/4", "nan"])
def test_a_share_that_is_no_part_is_refused(text: str) -> None:
    assert "rate.share" in complaint(f"rate.share={text}")


def test_aws_is_where_cognito_is_unless_it_is_said() -> None:
    assert load(None, NEEDED, {}).aws.region == load(None, NEEDED, {}).cognito.region
    assert load(None, [*NEEDED, "aws.region=eu-west-9"], {}).aws.region == "eu-west-9"


@pytest.mark.parametrize(
    ("overrides", "environ", "text"),
    [
        (["cognito.regoin=x"], {}, "--set cognito.regoin): is no setting; did you mean cognito.region?"),
        (["run.session_handoff=1"], {}, "is no setting; did you mean cognito.session_handoff?"),
        (
            ["cognito.requests_per_second=1"],
            {},
            "is no setting; did you mean rate.requests_per_second or sign_in.requests_per_second?",
        ),
        (["ledgr.path=x"], {}, "is no setting; did you mean ledger.path?"),
        (["polling=1"], {}, "(from --set polling): is no setting;"),
        (["rate=1"], {}, "is a section; give its keys one by one, such as rate.requests_per_second"),
        (["rate"], {}, "--set number 2 has no =; write --set section.key=value"),
        ([], {"MFA_WORKER_RATE__REQUEST_PER_SECOND": "1"}, "did you mean MFA_WORKER_RATE__REQUESTS_PER_SECOND?"),
        ([], {"MFA_WORKER_RATTE__REQUESTS_PER_SECOND": "1"}, "did you mean MFA_WORKER_RATE__REQUESTS_PER_SECOND?"),
        ([], {"MFA_WORKER_RUN_POLL": "1"}, "did you mean MFA_WORKER_RUN__POLL?"),
        ([], {"MFA_WORKER_CONFGI": "x"}, "did you mean MFA_WORKER_CONFIG?"),
        ([], {"MFA_WORKER_RATE": "{}"}, "is a section; give its keys one by one"),
        ([], {"MFA_WORKER_OTP__ISSUR_FILE": "/dev/null"}, "did you mean MFA_WORKER_OTP__ISSUER?"),
    ],
)
def test_an_unknown_key_is_refused_by_source_and_with_the_nearest_right_one(
    overrides: list[str], environ: dict[str, str], text: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        load(None, [*NEEDED, *overrides], environ)


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("user_pool_id = 'x'", "user_pool_id (from FILE): is no setting; did you mean cognito.user_pool_id?"),
        ("rate = 20", "rate (from FILE): is a section"),
        ("[rat]\nrequests_per_second = 1", "did you mean rate.requests_per_second?"),
        ("[nothing]", "nothing (from FILE): is no setting"),
        ("[run.poll]\nseconds = 1", "run.poll (from FILE): should be a duration"),
        ("[[rate]]\nx = 1", "rate (from FILE): is a section"),
        ('["\\u001B[2J"]\nx = 1', r"\x1b[2J.x (from FILE): is no setting"),
        ("[rate", "the settings file FILE is not TOML"),
    ],
)
def test_mistakes_in_the_file_are_named_too(config: Path, toml: str, text: str) -> None:
    config.write_text(toml)
    assert text.replace("FILE", str(config)) in complaint(config=config)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, config: Path) -> None:
    assert "cannot be read: No such file or directory" in complaint(config=tmp_path / "none.toml")
    assert "cannot be read: Is a directory" in complaint(config=tmp_path)
    config.write_bytes(b"\xff")
    assert "not text in UTF-8: look at line 1" in complaint(config=config)


def test_all_mistakes_are_listed_at_once() -> None:
    text = complaint("rate.requests_per_second=-1", "log.level=loud", "run.polll=1", MFA_WORKER_RETRY__ATTEMPTS="many")
    assert text.startswith("4 settings are wrong:\n")
    assert "(from --set rate.requests_per_second): should be greater than 0. It is: requests/s" in text
    assert "log.level (from --set log.level): should be 'debug', 'info', 'warning' or 'error'" in text
    assert "retry.attempts (from MFA_WORKER_RETRY__ATTEMPTS): should be a valid integer" in text
    with pytest.raises(UsageError, match=r"cognito.user_pool_id is required: .* --set cognito.user_pool_id="):
        load(None, [], {})


def test_variables_that_kubernetes_makes_of_a_service_are_no_mistakes() -> None:
    names = ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR")
    assert load(None, NEEDED, {f"MFA_WORKER_{name}": "x" for name in names})


@given(st.sampled_from([key for key, _ in fields(every_setting())]), st.text(min_size=8))
def test_no_complaint_repeats_a_value(key: str, value: str) -> None:
    try:
        load(None, [*NEEDED, f"{key}=hunter2{value}"], {})
    except UsageError as error:
        assert "hunter2" not in str(error) + error.hint  # noqa: PT017 - most values are right for some keys


def test_config_show_gives_every_key_with_value_source_and_help(config: Path) -> None:
    config.write_text("[run]\npoll = 0.25")
    rows = {row.key: row for row in explain(config, NEEDED, {"MFA_WORKER_OTP__ISSUER": "Zoë"})}
    assert len(rows) == sum(len(section) for section in tomllib.loads(uncommented()).values())
    shown = {key: (row.value, row.source) for key, row in rows.items()}
    assert shown["run.poll"] == ('"0.25s"', str(config))
    assert shown["otp.issuer"] == (r'"Zo\u00eb"', "MFA_WORKER_OTP__ISSUER")
    assert shown["cognito.region"] == ('"eu-central-1"', "default")
    assert [shown[key][0] for key in ("cognito.session_handoff", "run.concurrency", "ledger.table")] == [
        "false",
        "40",
        "",
    ]
    assert all(row.help for row in rows.values())


def test_config_show_masks_credentials_in_addresses() -> None:
    rows = {row.key: row.value for row in explain(None, [*NEEDED, "queue.url=https://me:hunter2@sqs.example/q"], {})}
    assert rows["queue.url"] == '"https://***@sqs.example/q"'


def uncommented() -> str:
    """The example with every default spelt out."""
    return re.sub(r"^# (\w+ = )", r"\1", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)


def test_the_example_names_every_setting_with_its_default(tmp_path: Path) -> None:
    example, path = tmp_path / EXAMPLE.name, tmp_path / "all.toml"
    example.write_bytes(EXAMPLE.read_bytes())
    path.write_text(uncommented())
    shown, spelt = (explain(each, [], {}) for each in (example, path))
    assert {row.key for row in spelt if row.source != str(path)} == set()
    examples = {row.key for row in shown if not row.value}
    values = [{row.key: row.value for row in rows if row.key not in examples} for rows in (shown, spelt)]
    assert values[0] == values[1]


def test_of_very_many_mistakes_twenty_are_named_and_the_rest_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("".join(f"key_{number} = 1\n" for number in range(5_000)))

    with pytest.raises(UsageError) as caught:
        load(path, [], {})

    first, *named, rest = str(caught.value).splitlines()
    assert "settings are wrong" in first
    assert len(named) == 20
    assert rest.strip().startswith("and 4,9")
