"""Only what the ledger knows is opened: whatever else somebody put beside it, and wherever."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyrage import x25519

from worker.core.age_format import ARMOR_BEGINS, ARMOR_ENDS
from worker.core.errors import ExitCode, UsageError
from worker.core.model import ENROLLED, Recorded, Sealed, State, digest_of
from worker.core.record import record_line, user_of
from worker.sealing.age import AgeSealer, keygen, write_identity
from worker.sealing.genuine import CURES, Refused
from worker.sealing.open import as_lines, open_sources

TEXT, RECIPIENT = keygen("now")
SEALER = AgeSealer([RECIPIENT])
LONG_AGO = 1.7e9


def made(username: str = "ana", generation: int = 1, **inner: Any) -> Sealed:
    record = {"username": username, "generation": generation, "secret_code": f"SECRET{generation}"} | inner
    blob = SEALER.seal(json.dumps(record).encode())
    return Sealed(generation, "attempt", "2025-01-31T12:00:00.000Z", blob, digest=digest_of(blob))


def line(secret: Sealed, of: str = "ana", **outer: Any) -> bytes:
    told = json.loads(record_line(of, secret)) | outer
    return json.dumps(told).encode() + b"\n"


def has(
    sealed: Sealed | None, username: str = "ana", state: str = "delivered", reason: str | None = None, **fields: Any
) -> Recorded:
    """What the ledger says of a user with this newest secret."""
    told = (None, "") if sealed is None else (sealed.generation, sealed.digest)
    return Recorded(username, state, reason, LONG_AGO, *told)._replace(**fields)


class FakeLedger:
    """A ledger that says this of its users."""

    name = "the test's"

    def __init__(self, *rows: Recorded, meanwhile: Callable[[], None] = lambda: None) -> None:
        self._rows = rows
        self._meanwhile = meanwhile
        self.is_checked = False

    def check(self) -> None:
        self.is_checked = True

    def read(self, take: Callable[[Sequence[Recorded]], None]) -> None:
        assert self.is_checked
        self._meanwhile()
        for row in self._rows:
            take([row])


class Opened:
    """What came out, what was said, and how it ended."""

    def __init__(
        self, folder: Path, ledger: FakeLedger, *contents: bytes, users: Sequence[bytes] | None = None
    ) -> None:
        names = []
        for number, content in enumerate(contents):
            path = folder / f"{number}.jsonl"
            path.write_bytes(content)
            names.append(str(path))
        identity = folder / "identity.txt"
        if not identity.exists():
            write_identity(identity, TEXT)
        out, told = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("sys.stderr", told)
            self.code = open_sources(names, [identity], as_lines(out), ledger=ledger, users=users)
        self.records = [json.loads(text) for text in out.getvalue().splitlines()]
        self.secrets = [(each["username"], each["secret_code"]) for each in self.records]
        self.said = told.getvalue()


GENUINE = made()
MINE = [("ana", "SECRET1")]


def test_what_the_ledger_knows_is_opened_once_however_often_it_is_there(tmp_path: Path) -> None:
    opened = Opened(tmp_path, FakeLedger(has(GENUINE)), line(GENUINE) * 2, line(GENUINE), GENUINE.blob)
    assert (opened.secrets, opened.code) == (MINE, ExitCode.DONE)
    assert opened.said == (
        "compared with the ledger the test's: 1 user, 1 with a digest, last changed 2023-11-14T22:13:20Z\n"
    )


@pytest.mark.parametrize("state", [State.DELIVERED, State.ACTIVE, State.SEALED])
def test_a_secret_that_is_in_the_channel_before_the_ledger_knows_of_it_is_genuine(tmp_path: Path, state: str) -> None:
    assert Opened(tmp_path, FakeLedger(has(GENUINE, state=state)), line(GENUINE)).secrets == MINE


BEGINS, ENDS = ARMOR_BEGINS.decode(), ARMOR_ENDS.decode()
FORGED = {
    "of a higher generation": (line(made(generation=2**53)), Refused.NEWER),
    "of the same generation": (line(made(secret_code="EVIL")), Refused.OTHER),
    "the real one under a higher generation": (line(GENUINE, generation=7), Refused.NEWER),
    "of a user that nobody knows": (line(made("eve"), "eve"), Refused.UNKNOWN),
    "the real one under another name": (line(GENUINE, "ben"), Refused.UNKNOWN),
    "an age file alone": (made(generation=9).blob, Refused.UNKNOWN),
    "a hash in place of a name": (
        line(GENUINE, username=None, username_sha256="ab" * 32).replace(b'"username": null, ', b""),
        Refused.UNKNOWN,
    ),
    "the real one armored": (
        line(GENUINE, sealed=f"{BEGINS}\n{base64.encodebytes(GENUINE.blob).decode()}{ENDS}\n"),
        Refused.OTHER,
    ),
    "the real one with a byte more": (line(GENUINE._replace(blob=GENUINE.blob + b"\0")), Refused.OTHER),
    "the real one with a byte less": (line(GENUINE._replace(blob=GENUINE.blob[:-1])), Refused.OTHER),
}  # fmt: skip


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("forged", FORGED)
def test_what_was_forged_is_named_and_never_hides_what_is_genuine(tmp_path: Path, forged: str, where: str) -> None:
    content, why = FORGED[forged]
    both = (content, line(GENUINE)) if where == "before" else (line(GENUINE), content)
    opened = Opened(tmp_path, FakeLedger(has(GENUINE)), *both)
    assert (opened.secrets, opened.code) == (MINE, ExitCode.SOME_LEFT_OUT)
    assert f"1 not opened, {why.value}:\n" in opened.said
    assert f"  → {CURES[why]}\n" in opened.said
    assert f"{0 if where == 'before' else 1}.jsonl" in opened.said
    assert "EVIL" not in opened.said
    assert "SECRET" not in opened.said


def test_a_record_under_the_name_of_another_user_of_the_ledger_is_refused(tmp_path: Path) -> None:
    bens = made("ben", secret_code="BENS")
    ledger = FakeLedger(has(GENUINE), has(bens, "ben"))
    opened = Opened(tmp_path, ledger, line(GENUINE) + line(GENUINE, "ben"))
    assert (opened.secrets, opened.code) == (MINE, ExitCode.SOME_LEFT_OUT)
    assert "0.jsonl:2, ben, generation 1" in opened.said


def test_what_the_ledger_knows_and_says_it_is_somebody_elses_inside_is_not_handed_out(tmp_path: Path) -> None:
    """The ledger cannot tell so; whoever could make it say so could do anything else too."""
    bens = made("ben")
    opened = Opened(tmp_path, FakeLedger(has(bens)), line(bens), bens.blob)
    assert (opened.secrets, opened.code) == ([], ExitCode.SOME_LEFT_OUT)


def test_an_older_record_of_somebody_whose_newest_is_there_is_only_counted(tmp_path: Path) -> None:
    newest = made(generation=2)
    opened = Opened(tmp_path, FakeLedger(has(newest)), line(GENUINE) + line(newest) + line(GENUINE))
    assert (opened.secrets, opened.code) == ([("ana", "SECRET2")], ExitCode.DONE)
    assert "2 older records of users whose newest was opened: left unopened" in opened.said


def test_an_older_record_whose_newest_was_taken_away_is_named(tmp_path: Path) -> None:
    opened = Opened(tmp_path, FakeLedger(has(made(generation=2))), line(GENUINE))
    assert (opened.secrets, opened.code) == ([], ExitCode.SOME_LEFT_OUT)
    assert Refused.OLDER.value in opened.said
    assert "0.jsonl:1, ana, generation 1" in opened.said


@pytest.mark.parametrize(
    "row",
    [
        has(GENUINE, state="needs_session", reason="reply_lost"),
        has(GENUINE, state="in_progress"),
        has(GENUINE, state="failed", reason="refused"),
        has(GENUINE, state="skipped", reason="dismissed"),
        has(None, state="in_progress"),
        has(GENUINE, state="of a later version"),
    ],
)
def test_a_dead_secret_is_not_handed_out(tmp_path: Path, row: Recorded) -> None:
    opened = Opened(tmp_path, FakeLedger(row), line(GENUINE))
    assert (opened.secrets, opened.code) == ([], ExitCode.SOME_LEFT_OUT)
    assert f"ana, generation 1: {row.state}{', ' + row.reason if row.reason else ''}" in opened.said


def test_what_the_ledger_has_no_digest_of_is_named(tmp_path: Path) -> None:
    opened = Opened(tmp_path, FakeLedger(has(GENUINE, digest="")), line(GENUINE))
    assert (opened.secrets, opened.code) == ([], ExitCode.SOME_LEFT_OUT)
    assert Refused.NO_DIGEST.value in opened.said
    assert "1 user, 0 with a digest" in opened.said


def test_whoever_was_delivered_and_has_no_record_here_is_named(tmp_path: Path) -> None:
    rows = [has(made(name), name) for name in (f"user {number:02}" for number in range(25))]
    rows += [has(made("new"), "new", since=4e9), has(made("dead"), "dead", "failed"), has(made("out"), "out", "sealed")]
    opened = Opened(tmp_path, FakeLedger(has(GENUINE), *rows), line(GENUINE))
    assert (opened.secrets, opened.code) == (MINE, ExitCode.SOME_LEFT_OUT)
    assert "no record here of 25 users whom the ledger has as delivered:\n  user 00\n" in opened.said
    assert "  user 19\n  and 5 more\n" in opened.said


def test_of_many_forged_records_some_are_named_and_all_are_counted(tmp_path: Path) -> None:
    forged = b"".join(line(made(generation=number)) for number in range(2, 1202, 40))
    opened = Opened(tmp_path, FakeLedger(has(GENUINE)), forged + line(GENUINE))
    assert opened.secrets == MINE
    assert "30 not opened, newer" in opened.said
    assert "  and 10 more\n" in opened.said
    assert opened.said.count("0.jsonl") == 20


def test_a_record_sealed_to_another_identity_is_named_and_no_older_one_takes_its_place(tmp_path: Path) -> None:
    blob = AgeSealer([str(x25519.Identity.generate().to_public())]).seal(b"{}")
    others = Sealed(2, "attempt", "", blob, digest=digest_of(blob))
    opened = Opened(tmp_path, FakeLedger(has(others)), line(GENUINE) + line(others))
    assert (opened.secrets, opened.code) == ([], ExitCode.SOME_LEFT_OUT)
    assert "0.jsonl:2, ana, generation 2: sealed to another identity" in opened.said


def test_what_is_no_record_is_named_as_ever(tmp_path: Path) -> None:
    torn = line(GENUINE)[:80]
    opened = Opened(tmp_path, FakeLedger(has(GENUINE)), line(GENUINE) + b"rubbish\n" + torn)
    assert (opened.secrets, opened.code) == (MINE, ExitCode.SOME_LEFT_OUT)
    assert "2 not opened:\n  0.jsonl:2: neither" in opened.said.replace(str(tmp_path) + "/", "")


@pytest.mark.parametrize("generation", [-1, 2**63, 10**30])
def test_a_generation_that_no_ledger_can_hold_hides_nobody(tmp_path: Path, generation: int) -> None:
    opened = Opened(tmp_path, FakeLedger(has(GENUINE)), line(GENUINE, generation=generation) + line(GENUINE))
    assert (opened.secrets, opened.code) == (MINE, ExitCode.SOME_LEFT_OUT)
    assert "1 not opened:\n" in opened.said


def test_only_those_who_are_named_are_compared(tmp_path: Path) -> None:

    other = made("ben")
    content = (line(GENUINE) + line(made("ben", 7), "ben") + line(made("eve"), "eve"), other.blob, made("cem").blob)
    opened = Opened(tmp_path, FakeLedger(has(GENUINE)), *content, users=[user_of("ana")])
    assert (opened.secrets, opened.code) == (MINE, ExitCode.DONE)


def test_a_file_that_changes_between_the_comparison_and_the_opening_gives_nothing_away(tmp_path: Path) -> None:
    def meanwhile() -> None:
        (tmp_path / "0.jsonl").write_bytes(line(made(secret_code="EVIL")))

    opened = Opened(tmp_path, FakeLedger(has(GENUINE), meanwhile=meanwhile), line(GENUINE))
    assert (opened.secrets, opened.code) == ([], ExitCode.SOME_LEFT_OUT)
    assert "changed since it was compared" in opened.said


def test_a_ledger_that_cannot_be_compared_with_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    class Wrong(FakeLedger):
        def check(self) -> None:
            raise UsageError("another rollout's")

    with pytest.raises(UsageError, match="another rollout"):
        Opened(tmp_path, Wrong(), b"")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_in_the_channel_only_the_valid_secret_comes_out(tmp_path: Path, data: st.DataObject) -> None:
    secrets = [made(generation=number) for number in (1, 2, 3)]
    valid = data.draw(st.sampled_from(secrets))
    state = data.draw(st.sampled_from([*State]))
    anything = st.tuples(st.sampled_from(secrets), st.sampled_from(["ana", "b"]), st.integers(0, 4))
    genuine = st.sampled_from(secrets).map(lambda secret: (secret, "ana", secret.generation))
    drawn = data.draw(st.lists(anything | genuine, max_size=8))
    lines = [line(secret, of, generation=number) for secret, of, number in drawn]
    content = b"".join(lines)
    opened = Opened(tmp_path, FakeLedger(has(valid, state=state.value)), content or b"\n")
    is_there = line(valid) in lines
    is_valid = state in {*ENROLLED, State.SEALED}
    assert opened.secrets == ([("ana", f"SECRET{valid.generation}")] if is_there and is_valid else [])
    if lines and not opened.secrets:
        assert opened.code is ExitCode.SOME_LEFT_OUT


def test_every_reason_says_what_to_do() -> None:
    assert set(CURES) == set(Refused)
