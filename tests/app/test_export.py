"""What ``export`` writes for each user is the JSON that ``json.dumps`` would write, whatever the user is called."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import times, usernames
from worker.app.commands import _lines
from worker.core.model import Listed, Reason, State
from worker.core.record import rfc3339

users = st.builds(
    Listed,
    username=usernames,
    reason=st.none() | st.sampled_from(Reason).map(str),
    since=times,
    detail=st.none() | st.sampled_from(["ForbiddenException", 'a "code"\n']),
)


@given(st.lists(users, max_size=6))
def test_each_line_is_the_json_of_one_user(page: list[Listed]) -> None:
    """A page of DynamoDB may hold nobody."""
    expected = []
    for user in page:
        about = {"username": user.username, "state": "failed", "reason": user.reason, "since": rfc3339(user.since)}
        expected.append(json.dumps(about | ({"detail": user.detail} if user.detail is not None else {})) + "\n")
    assert list(_lines(State.FAILED, page)) == expected
