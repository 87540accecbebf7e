"""The page about retention says what the code does: its numbers are the code's, and no place is forgotten."""

from __future__ import annotations

import json
import re
from pathlib import Path

from worker.adapters.aws.queue import DAY
from worker.adapters.channels.s3.resources import NONCURRENT_DAYS
from worker.adapters.channels.secretsmanager.channel import KEPT
from worker.adapters.channels.secretsmanager.ending import RECOVERY_DAYS
from worker.adapters.channels.sqs.resources import PROPERTIES
from worker.adapters.queues.sqs.fitness import RETENTION
from worker.setup.resources import DEAD_LETTER_RETENTION

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "retention.md").read_text("utf-8")


def days(place: str) -> int:
    """The number of days in the column that says how long that place keeps things."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {place}")]
    kept = row.split("|")[3]
    (number,) = re.findall(r"(\d+) days?", kept)
    return int(number)


def test_the_numbers_are_those_of_the_code() -> None:
    stack = json.loads((ROOT / "config" / "sign-in" / "cloudformation.json").read_text("utf-8"))

    assert days("the queue of requests") == RETENTION / DAY
    assert days("the dead-letter queue") == DEAD_LETTER_RETENTION / DAY
    assert days("deleted versions in it") == NONCURRENT_DAYS
    assert days("the channel's queue") == PROPERTIES["MessageRetentionPeriod"] / DAY
    assert days("the triggers' log") == int(stack["Parameters"]["LogDays"]["Default"])
    assert f"{KEPT} labelled versions" in PAGE
    assert f"restorable for {RECOVERY_DAYS} days" in PAGE


def test_every_pages_reader_finds_it() -> None:
    for page in ("operations.md", "security.md"):
        assert "(retention.md)" in (ROOT / "docs" / page).read_text("utf-8")
