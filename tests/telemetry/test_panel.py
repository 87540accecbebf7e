"""The panel as people see it: at 60, 80 and 120 columns, with few rows, without colours, without Unicode."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from worker.core.model import Counts, Reason, State
from worker.core.ports import Workers
from worker.telemetry.panel import Panel
from worker.telemetry.snapshot import Pace, Snapshot

NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC
COUNTS = Counts(
    {State.DELIVERED: 540, State.NEEDS_SESSION: 49, State.FAILED: 4, State.IN_PROGRESS: 12},
    {"session_expired": 40, "reply_lost": 9, "refused": 4},
    duplicates=3,
    codes={"refused": {"ResourceNotFoundException": 3, "ForbiddenException": 1}},
)
MIDDLE = Snapshot(
    now=NOW,
    counts=COUNTS,
    done=593,
    total=1_501,
    pace=Pace(24.9, 25.0, 25.0, 24.6),
    seconds_left=36.4,
    elapsed=24.0,
    workers=Workers(1, are_exact=True),
)
OUTAGE = replace(
    MIDDLE,
    seconds_left=None,
    is_trouble=True,
    waits=("the channel: /srv/secrets/enrolments.jsonl: No space left on device (since 08:00:00, 3 min)",),
)


def shown(snapshot: Snapshot, width: int, height: int = 24, *, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    console = Console(file=out, width=width, height=height, color_system=None)
    console.print(Panel(snapshot, UTC))
    return [line.rstrip() for line in raw.getvalue().decode(encoding).splitlines()]


AT_80 = """\
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸
593 of 1,501 users · 40 % · 36 s left · ends about 08:00

so far    540 delivered · 49 need a new sign-in · 4 failed · 12 in progress ·
          3 duplicates
rate      24.9 of 25 calls/s
why       40 session_expired: The Session died before the user's turn came.
           9 reply_lost: """


def test_at_80_columns_it_says_how_far_it_is_what_became_of_them_how_fast_and_why() -> None:
    lines = shown(MIDDLE, 80)
    assert "\n".join(lines).startswith(AT_80)
    assert any("4 refused (ResourceNotFoundException, ForbiddenException): " in line for line in lines)


def test_one_code_has_its_own_cause_as_in_status() -> None:
    counts = Counts(
        {State.FAILED: 6},
        {"credential_mismatch": 2, "refused": 4},
        codes={"credential_mismatch": {"user": 2}, "refused": {"ForbiddenException": 3}},
    )
    said = " ".join(" ".join(shown(replace(MIDDLE, counts=counts), 110)).split())
    assert "2 credential_mismatch: For this user, the access token is another user's" in said
    assert "4 refused (ForbiddenException): Cognito refused this user each time" in said  # one came without a code


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 300])
@pytest.mark.parametrize("snapshot", [MIDDLE, OUTAGE, replace(MIDDLE, stopping="x" * 200)])
def test_no_line_is_longer_than_the_terminal_or_than_people_read(snapshot: Snapshot, width: int) -> None:
    assert max(cell_len(line) for line in shown(snapshot, width, 60)) <= min(width, 110)


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_no_cause_is_ever_cut_off(width: int) -> None:
    words = "".join(line.removeprefix("waits for") for line in shown(OUTAGE, width, 60)).replace(" ", "")
    assert "thechannel:/srv/secrets/enrolments.jsonl:Nospaceleftondevice(since08:00:00,3min)" in words


def test_in_an_outage_no_end_is_promised() -> None:
    assert "ends" not in "".join(shown(OUTAGE, 80))


def test_few_rows_keep_what_matters_most() -> None:
    lines = shown(OUTAGE, 80, 6)
    assert len(lines) <= 5
    assert "593 of 1,501" in lines[1]
    assert any("No space left" in line for line in lines)
    assert len(shown(MIDDLE, 80, 2)) == 1
    assert "593 of 1,501" in shown(MIDDLE, 80, 2)[0]


@given(st.integers(1, 40), st.integers(8, 200), st.sampled_from([MIDDLE, OUTAGE]))
def test_it_always_fits(height: int, width: int, snapshot: Snapshot) -> None:
    lines = shown(snapshot, width, height)
    assert len(lines) <= max(1, height - 1)


def test_without_unicode_it_is_ascii() -> None:
    lines = shown(OUTAGE, 80, encoding="ascii")
    assert "593 of 1,501 users | 40 %" in lines[1]
    assert set(lines[0]) == {"-"}


def test_what_looks_like_a_secret_or_moves_the_cursor_is_not_shown() -> None:
    snapshot = replace(OUTAGE, waits=("the channel: \x1b[2Jdisk full", "AAAAAAAABBBBBBBB is away"))
    text = "\n".join(shown(snapshot, 80))
    assert "\x1b" not in text
    assert r"the channel: \x1b[2Jdisk full" in text
    assert "*** is away" in text


def test_in_the_last_picture_is_only_what_the_table_does_not_say() -> None:
    assert shown(replace(MIDDLE, done=1_501, has_ended=True, elapsed=61.0), 80) == [
        "━" * 80,
        "1,501 of 1,501 users · 100 % · ended after 61 s",
    ]


def test_all_users_are_a_hundred_per_cent_and_nothing_less_is() -> None:
    line = shown(replace(MIDDLE, done=999_999, total=1_000_000), 80)[1]
    assert "99.9 %" in line
    assert "about 1,501" in shown(replace(MIDDLE, is_about=True), 80)[1]


def test_the_end_of_a_long_run_is_on_a_day() -> None:
    assert "27.8 h left · ends about Sat 11:46" in shown(replace(MIDDLE, seconds_left=100_000.0), 80)[1]


def test_where_users_are_activated_the_panel_adds_up_and_says_what_a_user_costs() -> None:
    counts = Counts({State.DELIVERED: 9, State.ACTIVE: 20}, {Reason.ACTIVATION_PENDING: 4, Reason.VERIFY_REFUSED: 2})
    pace = Pace(20.0, 25.0, 12.5, 6.7, calls=3, sign_ins_per_second=7.0, throttled=40)
    text = " ".join(" ".join(shown(replace(MIDDLE, counts=counts, pace=pace), 80)).split())
    assert "3 delivered · 20 active · 4 being activated · 2 delivered, not activated" in text
    assert "20.0 of 25 calls/s · 6.7 users/s · 3 calls a user · 7.0 sign-ins/s" in text
    assert "slowed down to 12.5 calls/s, as Cognito throttles" in text


def test_sealed_secrets_are_news_only_while_something_is_away() -> None:
    counts = Counts({State.DELIVERED: 5, State.SEALED: 2, State.IN_PROGRESS: 3}, {})
    assert "5 delivered · 5 in progress" in "\n".join(shown(replace(MIDDLE, counts=counts), 80))
    away = "\n".join(shown(replace(OUTAGE, counts=counts), 80))
    assert "5 delivered · 2 sealed but not delivered · 3 in progress" in away


def test_before_the_first_look_and_where_there_is_nobody_it_says_so() -> None:
    assert shown(Snapshot(NOW, None, pace=Pace(0.0, 25.0)), 80)[0] == "Looking at the ledger…"
    assert "nobody yet" in "\n".join(shown(replace(MIDDLE, counts=Counts({}, {}), total=0, done=0), 80))


def test_of_a_pipe_it_shows_what_was_done() -> None:
    lines = shown(replace(MIDDLE, total=None, seconds_left=None), 80)
    assert lines[0] == "593 users done"
