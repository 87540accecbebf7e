"""Who is meant by --user and --since."""

from __future__ import annotations

import json

import pytest

from tests.handout.handed import ISSUED_AT, Desk, line_of
from worker.core.errors import UsageError
from worker.handout.chosen import day, since

NOW = 1_764_115_200.0
"""2025-11-26, midnight."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2025-11-26", NOW),
        ("2025-11-26T00:00Z", NOW),
        ("2025-11-26T00:00", NOW),
        ("2025-11-26 00:00:00", NOW),
        ("2025-11-26T01:00+01:00", NOW),
        ("2025-11-26T00:00:00.5Z", NOW + 0.5),
        ("24h", NOW - 86_400),
        ("24h ago", NOW - 86_400),
        ("90m", NOW - 5_400),
        ("7d", NOW - 7 * 86_400),
    ],
)
def test_since_is_a_time_a_date_or_how_long_ago(text: str, seconds: float) -> None:
    assert since(text, NOW) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "2025-13-01", "2025-02-30", "26.11.2025", "24", "1764115200", "-1h"])
def test_anything_else_is_refused_with_what_would_do(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        since(text, NOW)
    assert "24h" in raised.value.hint


@pytest.mark.parametrize("text", ["tomorrow", "31.12.2026", "2026-02-30", "2026-12-31T00:00Z"])
def test_until_is_a_date(text: str) -> None:
    with pytest.raises(UsageError, match="--until"):
        day(text)


def test_only_named_users_come_out_and_unknown_ones_are_named(desk: Desk) -> None:
    desk.delivered(line_of("ana"), line_of("ben"), line_of("cem"))

    assert desk.open("--user", "ben", "--user", "ana") == 0
    assert [json.loads(line)["username"] for line in desk.out.splitlines()] == ["ana", "ben"]
    assert desk.open("--user", "ben", "--user", "Ana", "--user", "-x") == 1
    assert [json.loads(line)["username"] for line in desk.out.splitlines()] == ["ben"]
    assert "  Ana\n  -x\n" in desk.err


def test_a_torn_line_of_somebody_else_is_nothing_to_a_named_user(desk: Desk) -> None:
    desk.delivered(line_of("ana"), line_of("ben", generation=2)[:80] + b"\n")

    assert desk.open("--user", "ana") == 0
    assert desk.open("--user", "ben") == 1


def test_since_goes_by_the_newest_secret_and_never_gives_an_older_one(desk: Desk) -> None:
    desk.delivered(
        line_of("ana", generation=2, at=ISSUED_AT - 86_400),  # the newest of ana is older than the time
        line_of("ana", generation=1, at=ISSUED_AT),
        line_of("ben", at=ISSUED_AT),
    )

    assert desk.open("--since", "2025-11-25T12:00Z") == 0
    assert [json.loads(line)["username"] for line in desk.out.splitlines()] == ["ben"]
    assert desk.open("--since", "2025-11-25T12:00Z", "--user", "ana") == 0
    assert desk.out == ""
    assert "older than --since: ana" in desk.err


def test_where_nobody_has_a_record_older_files_stay_as_they_were(desk: Desk) -> None:
    desk.delivered(line_of("ana"))
    (desk.folder / "all.csv").write_text("older")

    assert desk.open("--user", "nobody", "--csv", "all.csv", "--qr", "codes") == 1
    assert "no record was opened: codes and all.csv not written" in desk.err
    assert (desk.folder / "all.csv").read_text() == "older"
    assert desk.left() == {"all.csv"}
