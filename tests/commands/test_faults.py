"""Every fault of the fake Cognito's table, on the wire of a real process, ends in the state that the contract says."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.support.rollout import Request, Rollout, found_in
from worker.rehearsal.fake_cognito.faults import FAULTS

LOST = ("needs_session", "reply_lost")
DELIVERED = ("delivered", None)
EXHAUSTED = ("failed", "retries_exhausted")
INVALID = ("failed", "invalid_parameter")

Outcome = tuple[str, str | None]

ONCE: dict[str, Outcome | tuple[Outcome, Outcome]] = {
    # What meets one attempt; where it is a pair: on the Session path, and with an access token.
    "conflict": DELIVERED,
    "internal_error": DELIVERED,
    "internal_error_acted": (LOST, DELIVERED),
    "throttled": DELIVERED,
    "throttling": DELIVERED,
    "limit_exceeded": DELIVERED,
    "http_429": DELIVERED,
    "session_expired": (("needs_session", "session_expired"), ("needs_session", "token_expired")),
    "session_spent": (("needs_session", "session_spent"), ("needs_session", "token_revoked")),
    "session_invalid": (("needs_session", "session_invalid"), ("needs_session", "token_revoked")),
    "token_invalid": (("needs_session", "session_invalid"), ("needs_session", "token_revoked")),
    "token_expired": (("needs_session", "session_expired"), ("needs_session", "token_expired")),
    "token_revoked": (("needs_session", "session_invalid"), ("needs_session", "token_revoked")),
    "token_scope": (("needs_session", "session_invalid"), ("needs_session", "token_scope")),
    "invalid_parameter": INVALID,
    "echo": INVALID,
    "html_503": DELIVERED,
    "html_502_acted": (LOST, DELIVERED),
    "cut_before": DELIVERED,
    "cut_after": (LOST, DELIVERED),
    "reset_after": (LOST, DELIVERED),
    "cut_body": (LOST, DELIVERED),
    "truncated": (LOST, DELIVERED),
    "corrupt": (LOST, DELIVERED),
    "empty_200": (LOST, DELIVERED),
    "hang": DELIVERED,
    "hang_acted": (LOST, DELIVERED),
    "slow": (LOST, DELIVERED),
}
ELSEWHERE = {name for name, fault in FAULTS.items() if "AssociateSoftwareToken" not in fault.happens_in}
"""They happen in other operations only."""
POOL_WIDE = ("totp_off", "pool_gone", "client_gone", "waf", "waf_400", "not_enabled")

EVERY_TIME: dict[str, Outcome] = {
    "conflict": EXHAUSTED,
    "internal_error": EXHAUSTED,
    "session_expired": ("needs_session", "session_expired"),
    "echo": INVALID,
}


def test_every_fault_is_in_a_table() -> None:
    assert ONCE.keys() | set(POOL_WIDE) | ELSEWHERE == FAULTS.keys()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("credential", ["session", "token"])
async def test_a_fault_that_meets_one_attempt(rollout: Rollout, credential: str) -> None:
    rollout.configure(cognito={"call_timeout": 1.4, "patience": 170}, ledger={"lease": 4.2}, run={"concurrency": 60})
    await rollout.fake_cognito.set_faults(*(f"{fault}@{fault}=1x" for fault in ONCE))
    requests = await _requests(rollout, credential, ONCE)

    # Nobody is without a fault, so the pauses between probes may grow to half a minute.
    ended = await rollout.run("--input", rollout.file(requests), within=180)

    assert ended.code == 1
    assert await _outcomes(rollout) == {fault: _expected(ONCE[fault], credential) for fault in ONCE}
    audit = await rollout.audit()
    assert audit.stale == set()
    assert audit.twice == set()
    assert (await rollout.fake_cognito.stats()).most_in_flight_one_user == 1


async def test_a_fault_that_meets_every_attempt(rollout: Rollout) -> None:
    rollout.configure(retry={"attempts": 3})
    await rollout.fake_cognito.set_faults(*(f"{fault}@{fault}=100%" for fault in EVERY_TIME))
    requests = await _requests(rollout, "session", EVERY_TIME)

    ended = await rollout.run("--input", rollout.file(requests))

    assert ended.code == 1
    assert await _outcomes(rollout) == EVERY_TIME
    assert (await rollout.fake_cognito.stats()).faults == {
        "conflict": 3,
        "internal_error": 3,
        "session_expired": 1,
        "echo": 1,
    }


async def test_whoever_repaired_the_cause_signs_in_again_and_succeeds(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("session_expired@ana=1x", "echo@ben=1x")
    await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben", credential="session")))

    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben", credential="session")))

    assert ended.code == 0
    assert await rollout.states() == {"delivered": 2}


async def test_a_throttled_start_is_no_attempt(rollout: Rollout) -> None:
    rollout.configure(retry={"attempts": 1})
    await rollout.fake_cognito.set_faults("throttled=30x")

    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("ana", "ben", "cleo")))

    assert ended.code == 0


async def test_what_echoes_a_credential_is_told_nowhere(rollout: Rollout) -> None:
    rollout.configure(log={"level": "debug"})
    report = rollout.folder / "report.json"
    await rollout.fake_cognito.set_faults("echo=50%", "corrupt=10%", "truncated=10%")
    requests = await rollout.sign_in(*(f"user-{number}" for number in range(50)), credential="session")

    ended = await rollout.run("--input", rollout.file([*requests, "broken"]), "--report", str(report))

    assert ended.code == 1
    secrets = await rollout.known_secrets()
    assert len(secrets) > 50
    assert found_in(ended.err + ended.out + report.read_text(), secrets) == []


async def _requests(rollout: Rollout, credential: str, faults: Iterable[str]) -> list[Request]:
    return await rollout.sign_in(*faults, credential="session" if credential == "session" else "token")


def _expected(outcome: Outcome | tuple[Outcome, Outcome], credential: str) -> Outcome:
    if isinstance(outcome[0], tuple):
        pair = outcome[0], outcome[1]
        return pair[credential == "token"]
    return outcome


async def _outcomes(rollout: Rollout) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for state in await rollout.states():
        found |= {username: (state, reason) for username, reason in (await rollout.users(state)).items()}
    return found
