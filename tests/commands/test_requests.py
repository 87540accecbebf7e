"""What a request may say, and what becomes of it on the whole way from a line of JSON to an opened record."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import aiohttp

from tests.support.rollout import Request, Rollout
from tests.support.totp import code_at

FROM_HELL = (
    "../../etc/passwd",
    "/etc/passwd",
    "a/b\\c",
    "..",
    "%2e%2e%2f%00",
    "100%",
    "\x1b[31mred\x1b]0;title\x07",
    "two\nlines\r\n",
    "tab\tand\x00nul",
    "\u202eright to left\u2066",
    "🦄 with spaces ",
    "Ünïcödé-日本語",
    "'; DROP TABLE users; --",
    "-i",
    "*",
    "<script>",
    "é" * 128,
    "x" * 128,
)


async def test_usernames_from_hell_arrive_exactly_and_are_escaped_everywhere(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("echo=50%")
    requests = await rollout.sign_in(*FROM_HELL)
    ended = await rollout.run("--input", rollout.file(requests), env={"MFA_WORKER_LOG__LEVEL": "debug"})
    exported = await rollout.command("export", "--state", "failed")
    failed = [json.loads(line)["username"] for line in exported.out.splitlines()]
    assert 0 < len(failed) < len(FROM_HELL)
    await rollout.fake_cognito.set_faults()
    again = await rollout.run("--input", rollout.file(await rollout.sign_in(*failed)))
    opened = await rollout.command("open", "-i", str(rollout.identity))

    assert (ended.code, again.code, opened.code) == (1, 0, 0)
    records = [json.loads(line) for line in opened.out.splitlines()]
    assert sorted(record["username"] for record in records) == sorted(FROM_HELL)
    for record in records:
        account = unquote(urlsplit(record["otpauth_uri"]).path.removeprefix("/Example:"))
        assert account == record["username"]
    for said in (ended.err, again.err, exported.out, opened.out, rollout.channel.read_text()):
        assert all(char.isprintable() for line in said.split("\n") for char in line)
    assert not (await rollout.audit()).stale
    assert {path.parent for path in rollout.folder.parent.rglob("*") if "passwd" in path.name} == set()


async def test_names_that_cannot_be_are_malformed(rollout: Rollout) -> None:
    (ana,) = await rollout.sign_in("ana")
    broken: list[Request | str] = [
        {**ana, "username": ""},
        {**ana, "username": "x" * 129},
        {**ana, "username": None},
        {**ana, "username": 7},
        '{"username": "\\ud800", "session": "' + "s" * 40 + '"}',
        json.dumps({"username": "ana", "session": "short"}),
        json.dumps({"username": "ana", "session": "s" * 8193}),
        json.dumps({"username": "ana", "session": "s" * 40, "access_token": "t" * 40}),
        json.dumps({"username": "ana", "session": "s" * 40, "sesion": "x"}),
        json.dumps({"username": "ana", "session": "s" * 40, "attributes": {"note": "x" * 17_000}}),
        "[]",
        "\x00",
    ]

    pushed = await rollout.command("push", rollout.file([*broken, "", "   "]))

    assert pushed.code == 1
    assert pushed.out == f"accepted 0, duplicate 0, malformed {len(broken)}\n"
    assert "did you mean session?" in pushed.err
    assert (await rollout.status())["malformed"] == len(broken)


async def test_attributes_travel_sealed_and_one_of_them_can_name_the_account(rollout: Rollout) -> None:
    rollout.configure(otp={"issuer": "My Shop & Co €", "account": "email"})
    ana, ben = await rollout.sign_in("ana", "ben")
    attributes = {"email": "ana+mfa@example.com", "address": "Straße 1\n12345 Ort", "locale": "de"}

    ended = await rollout.run("--input", rollout.file([{**ana, "attributes": attributes}, ben]))

    records = rollout.opened()
    assert records["ana"]["attributes"] == attributes
    assert ended.code == 1
    assert "line 2 (ben): has no attribute email, which otp.account names" in ended.err
    assert records.keys() == {"ana"}
    assert "example.com" not in rollout.channel.read_text()
    assert rollout.ledger.read_bytes().count(b"ana+mfa@example.com") == 0
    uri = urlsplit(records["ana"]["otpauth_uri"])
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert uri.path == "/My%20Shop%20%26%20Co%20%E2%82%AC:ana%2Bmfa%40example.com"
    assert parse_qs(uri.query) == {
        "secret": [records["ana"]["secret_code"]],
        "issuer": ["My Shop & Co €"],
        "algorithm": ["SHA1"],
        "digits": ["6"],
        "period": ["30"],
    }
    assert "+" not in uri.query


async def test_a_delivered_record_says_what_the_contract_says(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana", credential="session")))
    await rollout.run("--input", rollout.file(await rollout.sign_in("ben")))

    records = rollout.opened()
    common = {
        "username",
        "generation",
        "attempt_id",
        "secret_code",
        "otpauth_uri",
        "associated_at",
        "request_id",
        "attributes",
    }
    assert records["ben"].keys() == common
    assert records["ana"].keys() == common | {"session", "session_expires_at"}
    truth = (await rollout.fake_cognito.truth())["ana"].secrets[-1]
    assert records["ana"]["request_id"] == truth.request_id
    for line in rollout.channel.read_text().splitlines():
        outer = json.loads(line)
        assert outer.keys() == {"username", "generation", "attempt_id", "associated_at", "sealed"}
        inner = records[outer["username"]]
        assert {key: outer[key] for key in outer if key != "sealed"} == {
            key: inner[key] for key in outer if key != "sealed"
        }
    assert datetime.fromisoformat(records["ana"]["associated_at"]).tzinfo == UTC
    assert rollout.channel.stat().st_mode & 0o777 == 0o600


async def test_a_record_holds_all_that_verifying_needs(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana", credential="session")))
    record = rollout.opened()["ana"]
    lives = datetime.fromisoformat(record["session_expires_at"]) - datetime.fromisoformat(record["associated_at"])
    secret = parse_qs(urlsplit(record["otpauth_uri"]).query)["secret"][0]
    target = {"X-Amz-Target": "AWSCognitoIdentityProviderService.VerifySoftwareToken"}
    body = {"Session": record["session"], "UserCode": code_at(secret, time.time())}

    async with (
        aiohttp.ClientSession() as http,
        http.post(rollout.fake_cognito.url, json=body, headers=target) as answer,
    ):
        assert answer.status == 200

    assert lives == timedelta(seconds=180)
    assert (await rollout.fake_cognito.truth())["ana"].verified == 1


async def test_somebody_elses_token_fails_without_a_call(rollout: Rollout) -> None:
    (eve,) = await rollout.sign_in("eve")

    ended = await rollout.run("--input", rollout.file([{**eve, "username": "ana"}]))

    assert ended.code == 1
    assert await rollout.users("failed") == {"ana": "credential_mismatch"}
    assert (await rollout.fake_cognito.stats()).wire_requests == 0


async def test_a_token_of_another_pool_fails_without_a_call(rollout: Rollout) -> None:
    rollout.configure(cognito={"user_pool_id": "us-east-1_another"})

    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana")))

    assert ended.code == 1
    assert await rollout.users("failed") == {"ana": "credential_mismatch"}
    assert (await rollout.fake_cognito.stats()).wire_requests == 0


async def test_expired_credentials_are_settled_without_a_call(rollout: Rollout) -> None:
    requests = [
        *await rollout.sign_in("ana", credential="session", validity=0.001),
        *await rollout.sign_in("ben", validity=0),
    ]
    old = datetime.now(UTC) - timedelta(seconds=181)
    (cleo,) = await rollout.sign_in("cleo", credential="session")
    del cleo["expires_at"]

    await rollout.push([*requests, {**cleo, "issued_at": old.isoformat()}])
    assert (await rollout.status())["past_session_expiry"] == 3
    ended = await rollout.run()

    assert ended.code == 1
    assert await rollout.users("needs_session") == {
        "ana": "session_expired",
        "ben": "token_expired",
        "cleo": "session_expired",
    }
    assert (await rollout.fake_cognito.stats()).wire_requests == 0
    assert (await rollout.status())["past_session_expiry"] == 0


async def test_a_session_without_times_lives_from_the_moment_it_was_pushed(rollout: Rollout) -> None:
    rollout.configure(cognito={"session_validity": 1.5}, channel={"min_validity": 0})
    (ana,) = await rollout.sign_in("ana", credential="session")
    del ana["expires_at"]
    pushed_at = datetime.now(UTC)
    await rollout.push([ana])

    while datetime.now(UTC) - pushed_at < timedelta(seconds=2.5):
        await rollout.status()
    await rollout.run()

    assert await rollout.users("needs_session") == {"ana": "session_expired"}


async def test_several_requests_of_a_user_are_tried_by_deadline_until_one_succeeds(rollout: Rollout) -> None:
    spent, later, good, too_late = (await rollout.sign_in(*["ana"] * 4, credential="session"))[:4]
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    requests = [
        {**request, "expires_at": (deadline + timedelta(seconds=seconds)).isoformat()}
        for seconds, request in ((2, good), (0, spent), (1, later), (3, too_late))
    ]
    await rollout.fake_cognito.set_faults("session_spent@ana=2x")

    await rollout.push(requests)
    ended = await rollout.run()

    assert ended.code == 0
    assert await rollout.states() == {"delivered": 1}
    status = await rollout.status()
    assert (status["duplicates"], status["backlog"], status["reasons"]) == (1, 0, {})
    assert (await rollout.fake_cognito.stats()).wire_requests == 3


async def test_an_id_that_reached_an_outcome_is_never_worked_on_again(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("session_spent@ana=1x")
    first, second = await rollout.sign_in("ana", "ana", credential="session")
    await rollout.run("--input", rollout.file([{**first, "id": "order-1"}]))

    ended = await rollout.run("--input", rollout.file([{**second, "id": "order-1"}]))

    assert ended.code == 1
    assert await rollout.users("needs_session") == {"ana": "session_spent"}
    assert (await rollout.status())["duplicates"] == 1
    assert (await rollout.fake_cognito.stats()).wire_requests == 1


async def test_a_replacement_that_issued_nothing_leaves_the_user_as_before(rollout: Rollout) -> None:
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben")))
    await rollout.fake_cognito.set_faults("token_revoked@ana=1x", "hang_acted@ben=1x", "token_revoked@ben=1x")
    again = [{**request, "replace": True} for request in await rollout.sign_in("ana", "ben")]

    ended = await rollout.run("--input", rollout.file(again))

    assert ended.code == 1
    assert await rollout.users("delivered") == {"ana": None}
    assert await rollout.users("needs_session") == {"ben": "reply_lost"}
    assert not (await rollout.audit()).stale


async def test_a_session_that_dies_before_its_delivery_makes_the_secret_void(rollout: Rollout) -> None:
    rollout.configure(channel={"min_validity": 179.9999})  # a tenth of a millisecond less than a Session lives

    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana", credential="session")))

    assert ended.code == 1
    assert await rollout.users("needs_session") == {"ana": "verify_window_lost"}
    assert not rollout.channel.exists()
