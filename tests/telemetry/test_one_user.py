"""What is said of one user, in every state: never a control character, and commands that can be pasted."""

from __future__ import annotations

import io
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import NASTY_NAMES, activation, enrolments, row, sealed, usernames
from worker.core.history import and_then
from worker.core.model import Enrolment, Event, Reason, State
from worker.requests.usernames import usernames as named_in
from worker.telemetry.one_user import Known, as_json, lines, next_commands, unknown

NOW = 1.7e9
COMMAND = ["mfa-worker", "-c", "my settings.toml"]


def told(known: Known, **options: bool) -> str:
    return "\n".join(lines(known, COMMAND, **{"makes_tickets": False, **options}))


@given(usernames, enrolments, st.none() | st.integers(0, 2), st.booleans())
def test_any_row_can_be_shown_on_any_terminal(name: str, stands: Enrolment, waiting: int | None, dead: bool) -> None:
    stands = stands._replace(username=name)
    known = Known(name, NOW, stands, worker_is_dead=dead, waiting=waiting, place="s3://x", source="s3://x")
    for line in lines(known, COMMAND, makes_tickets=True, width=20):
        assert line.isprintable()
    assert len(as_json(known)["events"]) <= 10


@pytest.mark.parametrize("name", [name for name in NASTY_NAMES if "\0" not in name])
def test_a_command_names_the_user_to_the_shell_as_they_are(name: str) -> None:
    known = Known(name, NOW, row(name, State.NEEDS_SESSION, reason=Reason.TOKEN_EXPIRED))
    pushed, dismissed = next_commands(known, ["cat", "#"], makes_tickets=True)
    printed = subprocess.run(["bash", "-c", pushed.partition(" | ")[0]], capture_output=True, check=True).stdout
    assert list(named_in(io.BytesIO(printed))) == [name] or not name.strip()
    assert "dismiss" in dismissed


def test_a_claim_is_told_with_its_end() -> None:
    held = row(worker="w1", lease_until=NOW + 60)
    assert "worker w1 until 2023-11-14 22:14:20 UTC, and longer while it works" in told(Known("ana", NOW, held))
    assert "which is over" in told(Known("ana", NOW + 61, held))
    assert "which is dead" in told(Known("ana", NOW, held, worker_is_dead=True))
    assert "may still take effect" in told(Known("ana", NOW, row(lease_until=NOW + 5)))


def test_an_activation_is_told_with_what_is_left() -> None:
    pending = row(state=State.DELIVERED, reason=Reason.ACTIVATION_PENDING, sealed=sealed(), activation=activation())
    assert "under way: the secret is to be verified" in told(Known("ana", NOW, pending))


def test_where_the_secret_lies_is_told_and_how_it_is_opened() -> None:
    delivered = Known("ana", NOW, row(state=State.DELIVERED, sealed=sealed()), place="sqs:URL", source="sqs:URL")
    delivered.is_moved = True
    assert list(next_commands(delivered, ["mfa-worker"], makes_tickets=False)) == [
        "mfa-worker open sqs:URL --into FILE",
        "mfa-worker open --user ana -i KEYFILE --letters letter.pdf FILE",
        "printf '%s\\n' ana | mfa-worker redeliver -",
    ]
    assert "in the ledger, sealed; not delivered yet" in told(
        Known("ana", NOW, row(state=State.SEALED, sealed=sealed()))
    )


def test_the_events_are_a_timeline_in_utc() -> None:
    events: tuple[Event, ...] = ()
    for number, (what, detail) in enumerate((("claimed", ""), ("answered", "\x1b[31m"), ("answered", "\x1b[31m"))):
        events = and_then(events, NOW + number, what, detail)
    text = told(Known("ana", NOW, row(events=events)))
    assert text.endswith("  2023-11-14 22:13:20.000  claimed\n  2023-11-14 22:13:22.000  answered  \\x1b[31m (2 times)")


def test_whoever_is_unknown_may_be_known_by_another_name() -> None:
    asked = "\n".join(unknown(Known("+49 170", NOW, waiting=0), COMMAND, "pool"))
    assert """--filter 'phone_number = "+49 170"'""" in asked
    near = "\n".join(unknown(Known("Ana", NOW, similar="-ana"), COMMAND, "pool"))
    assert "did you mean '-ana'? mfa-worker -c 'my settings.toml' show -- -ana" in near
