"""Times: all that RFC 3339 allows, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.requests.times import epoch, is_plain, plain


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2025-01-31T12:00:00Z", 1_738_324_800.0),
        ("2025-01-31t12:00:00z", 1_738_324_800.0),
        ("2025-01-31 12:00:00Z", 1_738_324_800.0),
        ("2025-01-31T12:00:00-00:00", 1_738_324_800.0),
        ("2025-01-31T13:30:00+01:30", 1_738_324_800.0),
        ("2025-01-31T12:00:00.5Z", 1_738_324_800.5),
        ("2025-01-31T12:00:00.12345678901Z", 1_738_324_800.123456),
        (f"2025-01-31T12:00:00.25{'0' * 5_000}Z", 1_738_324_800.25),
        ("2016-12-31T23:59:60Z", 1_483_228_800.0),
        ("2016-12-31T23:59:60.5z", 1_483_228_800.5),
        ("1990-12-31T15:59:60-08:00", 662_688_000.0),
        ("2017-01-01T05:29:60+05:30", 1_483_228_800.0),
        ("2015-06-30T23:59:60Z", 1_435_708_800.0),
        ("0001-01-01T00:00:00Z", -62_135_596_800.0),
        ("0001-01-01T00:00:00+23:59", -62_135_596_800.0),
        ("0000-02-29T00:00:00Z", -62_135_596_800.0),
        ("9999-12-31T23:59:59-23:59", 253_402_300_799.0),
        ("9999-12-31T23:59:60Z", 253_402_300_799.0),
    ],
)
def test_a_time_of_rfc_3339_is_read(text: str, at: float) -> None:
    assert epoch(text) == at
    assert epoch(plain(at)) == at
    assert is_plain(plain(at)), "workers of earlier versions read it"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2025-01-31",
        "2025-01-31T12:00:00",
        "2025-01-31T12:00Z",
        "2025-01-31T24:00:00Z",
        "2025-01-31T12:60:00Z",
        "2025-01-31T12:00:61Z",
        "2025-01-31T12:00:60Z",
        "2016-12-30T23:59:60Z",
        "2016-12-31T23:59:60+01:00",
        "2025-02-29T12:00:00Z",
        "0000-02-30T00:00:00Z",
        "2025-01-31T12:00:00.Z",
        "2025-01-31T12:00:00,5Z",
        "2025-01-31T12:00:00+24:00",
        "2025-01-31T12:00:00+01:60",
        "2025-01-31T12:00:00+0100",
        "2025-01-31T12:00:00 Z",
        "20250131T120000Z",
        "2025-W05-5T12:00:00Z",
        "\u0662025-01-31T12:00:00Z",
        "2025-01-31T12:00:00Z\n",
        1_738_324_800,
        True,
    ],
)
def test_anything_else_is_no_time(text: object) -> None:
    with pytest.raises(ValueError, match=r"no time|no leap second|out of range|must be in range"):
        epoch(text)


@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001 - the zone is drawn beside it
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_what_python_writes_is_read(moment: datetime, minutes: int) -> None:
    moment = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert epoch(moment.isoformat()) == moment.timestamp()


@given(st.floats(-6e10, 2.5e11))
def test_what_is_written_is_read(at: float) -> None:
    assert abs(epoch(plain(at)) - at) <= 1e-6 + abs(at) * 1e-15
    assert datetime.fromisoformat(plain(at)).tzinfo == UTC


@given(st.text("0123456789-:.TZtz+ 6", max_size=40))
def test_any_text_is_a_time_or_none(text: str) -> None:
    try:
        at = epoch(text)
    except ValueError:
        return
    assert -62_135_596_800 <= at <= 253_402_300_800
