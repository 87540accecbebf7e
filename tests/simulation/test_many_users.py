"""Ten thousand users are signed in, enrolled and verified, and nobody is lost to waiting."""

from __future__ import annotations

import pytest

from tests.simulation.many_users import run
from tests.support.worker_config import SESSION_VALIDITY

USERS = 10_000
LONGEST_WAIT = 5.0
"""Seconds: a few users are signed in ahead, and a sign-in takes up to 0.6 s. A Session lives for 180."""


@pytest.mark.timeout(300)
def test_no_session_ages_while_the_quota_is_used_up() -> None:
    report = run(USERS)
    assert report.outcomes == {"active": USERS}
    assert report.died == 0
    assert report.sign_ins == USERS
    assert report.longest_wait < LONGEST_WAIT < SESSION_VALIDITY
    assert report.longest_to_verify < LONGEST_WAIT
    assert report.used > 0.99
    assert report.most_unfinished < 64, "what is claimed at once does not grow with the number of users"
