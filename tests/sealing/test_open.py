"""Opening sealed records: the newest of each user, whatever stands around them in whatever files."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import resource
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.core.errors import ExitCode, UsageError
from worker.core.model import Sealed
from worker.core.record import is_line, record_line
from worker.sealing.age import AgeSealer, keygen, write_identity
from worker.sealing.open import as_lines, open_files, open_sources

TEXT, RECIPIENT = keygen("now")
SEALER = AgeSealer([RECIPIENT])


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "identity.txt"
    write_identity(path, TEXT)
    return path


def record(username: str = "ana", generation: int = 1, **fields: Any) -> dict[str, Any]:
    return {"username": username, "generation": generation, "secret_code": f"SECRET{generation}"} | fields


def age_file(inner: dict[str, Any], sealer: AgeSealer = SEALER) -> bytes:
    return sealer.seal(json.dumps(inner).encode())


def delivered(username: str = "ana", generation: int = 1, sealer: AgeSealer = SEALER, **fields: Any) -> bytes:
    """The line of the file channel, with its end."""
    blob = age_file(record(username, generation, **fields), sealer)
    return record_line(username, Sealed(generation, "attempt", "2025-01-31T12:00:00.000Z", blob)) + b"\n"


class Opened:
    """What came out, and how it ended."""

    def __init__(self, folder: Path, identity: Path, *contents: bytes) -> None:
        names = []
        for number, content in enumerate(contents):
            path = folder / f"{number}.jsonl"
            path.write_bytes(content)
            names.append(str(path))
        out = io.StringIO()
        self.code = open_files(names, [identity], out)
        self.records = [json.loads(text) for text in out.getvalue().splitlines()]


# --- the newest of each -----------------------------------------------------------------------------------------------


def test_a_record_comes_out_as_it_was_sealed(tmp_path: Path, identity: Path) -> None:
    opened = Opened(tmp_path, identity, delivered(attributes={"city": "Köln😀"}))
    assert opened.records == [record(attributes={"city": "Köln😀"})]
    assert opened.code is ExitCode.DONE


def test_the_highest_generation_wins_wherever_it_stands(tmp_path: Path, identity: Path) -> None:
    first = delivered("ana", 2) + delivered("ben", 5) + delivered("ana", 1)
    second = delivered("ben", 4) + delivered("ana", 3)
    opened = Opened(tmp_path, identity, first, second, age_file(record("ben", 6)), age_file(record("cem", 1)))
    assert opened.records == [record("ana", 3), record("ben", 6), record("cem", 1)]
    assert opened.code is ExitCode.DONE


def test_generations_are_numbers(tmp_path: Path, identity: Path) -> None:
    assert Opened(tmp_path, identity, delivered("ana", 9) + delivered("ana", 10)).records == [record("ana", 10)]


def test_users_come_in_the_order_in_which_they_were_first_delivered(tmp_path: Path, identity: Path) -> None:
    names = [f"user {number * 7919 % 100}" for number in range(100)]
    data = b"".join(delivered(name, generation) for generation in (1, 2) for name in names[:: 3 - 2 * generation])
    assert [found["username"] for found in Opened(tmp_path, identity, data).records] == names


def test_the_same_record_twice_comes_out_once(tmp_path: Path, identity: Path) -> None:
    twice = delivered()
    assert Opened(tmp_path, identity, twice + twice, twice).records == [record()]


def test_blank_lines_and_a_last_line_without_its_end_are_fine(tmp_path: Path, identity: Path) -> None:
    opened = Opened(tmp_path, identity, b"\n\r\n" + delivered("ana") + b"  \n" + delivered("ben").rstrip(), b"")
    assert [found["username"] for found in opened.records] == ["ana", "ben"]
    assert opened.code is ExitCode.DONE


def test_output_is_one_line_of_ascii_a_user_whatever_the_name(tmp_path: Path, identity: Path) -> None:
    path = tmp_path / "secrets.jsonl"
    path.write_bytes(delivered("a\nb\x1b[31m\u202e😀"))
    out = io.StringIO()
    open_files([str(path)], [identity], out)
    assert out.getvalue().isascii()
    assert out.getvalue().rstrip("\n").isprintable()


def test_standard_input_is_read_like_a_file(identity: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (delivered("ana", 1) + delivered("ana", 2), age_file(record("ana", 2))):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        out = io.StringIO()
        assert open_files(["-"], [identity], out) is ExitCode.DONE
        assert json.loads(out.getvalue()) == record("ana", 2)


def test_there_may_be_more_age_files_than_may_be_open_at_once(tmp_path: Path, identity: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    contents = [age_file(record(f"user {number}")) for number in range(60)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 20, before[1]))
    try:
        opened = Opened(tmp_path, identity, *contents)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(opened.records) == 60


def test_only_the_newest_are_opened(tmp_path: Path, identity: Path) -> None:
    """A million old records of one user cost one decryption, and one that is sealed to a lost identity no failure."""
    lost = AgeSealer([keygen("now")[1]])
    opened = Opened(tmp_path, identity, delivered("ana", 1, lost) + delivered("ana", 2))
    assert (opened.records, opened.code) == ([record("ana", 2)], ExitCode.DONE)


# --- what cannot be opened --------------------------------------------------------------------------------------------


def test_another_identity_opens_nothing_and_says_how_many(
    tmp_path: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = AgeSealer([keygen("now")[1]])
    opened = Opened(tmp_path, identity, delivered("ana", 1, other) + delivered("ben"), age_file(record("cem"), other))
    assert (opened.records, opened.code) == ([record("ben")], ExitCode.SOME_LEFT_OUT)
    assert capsys.readouterr().err.startswith("2 not opened")


def test_torn_lines_are_counted_and_hurt_nobody(
    tmp_path: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = [delivered("torn", 1)[:cut] + b"\n" for cut in (1, 50, -20)]
    opened = Opened(tmp_path, identity, delivered("ana") + b"".join(torn) + delivered("ben"))
    assert [found["username"] for found in opened.records] == ["ana", "ben"]
    assert opened.code is ExitCode.SOME_LEFT_OUT
    assert capsys.readouterr().err.startswith("3 not opened")


@pytest.mark.parametrize("altered", [{"username": "eve"}, {"generation": 9}])
def test_an_outer_line_that_was_altered_is_refused(tmp_path: Path, identity: Path, altered: dict[str, Any]) -> None:
    outer = json.loads(delivered()) | altered
    opened = Opened(tmp_path, identity, json.dumps(outer).encode() + b"\n" + delivered("ben"))
    assert (opened.records, opened.code) == ([record("ben")], ExitCode.SOME_LEFT_OUT)


def test_a_sealed_blob_that_was_altered_is_refused(tmp_path: Path, identity: Path) -> None:
    outer = json.loads(delivered())
    blob = bytearray(base64.b64decode(outer["sealed"]))
    blob[-1] ^= 1
    outer["sealed"] = base64.b64encode(blob).decode()
    opened = Opened(tmp_path, identity, json.dumps(outer).encode())
    assert (opened.records, opened.code) == ([], ExitCode.SOME_LEFT_OUT)


HOSTILE = [
    b"[]",
    b"null",
    b"\xff\xfe\x00",
    b"\0",
    b"{}",
    b'{"username": "ana", "generation": 1e999, "sealed": ""}',
    b'{"username": "ana", "generation": NaN, "sealed": ""}',
    b'{"username": "ana", "generation": "x", "sealed": ""}',
    b'{"username": "ana", "generation": ' + b"9" * 5000 + b', "sealed": ""}',
    b'{"username": {"a": []}, "generation": 1}',
    b'{"username": "ana", "generation": 1, "sealed": 5}',
    b'{"username": "ana", "generation": 1, "sealed": "\xc3\xa9"}',
    b'{"username": "ana", "generation": 1, "sealed": "****"}',
    b"[" * 100_000,
    b'{"username": ' * 50_000,
]


@pytest.mark.parametrize("noise", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_stands_in_a_line_only_that_line_is_lost(tmp_path: Path, identity: Path, noise: bytes) -> None:
    opened = Opened(tmp_path, identity, delivered("ben") + noise + b"\n" + delivered("cem"))
    assert [found["username"] for found in opened.records] == ["ben", "cem"]
    assert opened.code is ExitCode.SOME_LEFT_OUT


@pytest.mark.parametrize(
    "inner",
    [
        b"",
        b"[]",
        b"null",
        b"no json",
        b"{}",
        b'{"username": "ana"}',
        b'{"username": ["ana"], "generation": 1}',
        b'{"username": "ana", "generation": 1e999}',
        b'{"username": "ana", "generation": "1"}',
        b'{"username": "ana", "generation": null}',
        b"[" * 100_000,
    ],
    ids=range(11),
)
def test_anybody_can_seal_nonsense_to_a_recipient_and_it_is_not_believed(
    tmp_path: Path, identity: Path, inner: bytes
) -> None:
    blob = SEALER.seal(inner)
    outer = record_line("eve", Sealed(1, "attempt", "now", blob)) + b"\n"
    opened = Opened(tmp_path, identity, blob, outer + delivered("ana", 1))
    assert (opened.records, opened.code) == ([record("ana", 1)], ExitCode.SOME_LEFT_OUT)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=80) | st.sampled_from(HOSTILE), max_size=5))
def test_any_bytes_at_all_end_in_an_exit_code(tmp_path: Path, identity: Path, parts: list[bytes]) -> None:
    with suppress(UsageError):  # such as the first bytes of a zip archive
        assert Opened(tmp_path, identity, b"\n".join(parts)).records == []


def test_a_file_that_is_missing_is_a_usage_error(tmp_path: Path, identity: Path) -> None:
    for name in (str(tmp_path / "missing"), str(tmp_path)):
        with pytest.raises(UsageError, match="cannot read"):
            open_files([name], [identity], io.StringIO())


# --- sources on AWS ---------------------------------------------------------------------------------------------------


def test_files_are_sources_too_and_ask_nothing_of_aws(tmp_path: Path, identity: Path) -> None:
    path = tmp_path / "secrets.jsonl"
    path.write_bytes(delivered("ana", 1) + delivered("ana", 2))
    out = io.StringIO()
    assert open_sources([str(path), str(path)], [identity], as_lines(out)) is ExitCode.DONE
    assert json.loads(out.getvalue()) == record("ana", 2)


@pytest.mark.parametrize(("names", "into"), [(["sqs:https://queue"], None), (["secrets.jsonl"], Path("file"))])
def test_a_queue_and_a_file_for_it_belong_together(identity: Path, names: list[str], into: Path | None) -> None:
    with pytest.raises(UsageError, match="belong together"):
        open_sources(names, [identity], as_lines(io.StringIO()), into=into)


def test_an_identity_that_is_missing_shows_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="identity"):
        open_sources(["sqs:https://queue"], [tmp_path / "missing"], as_lines(io.StringIO()), into=tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_line_can_name_its_user_by_a_hash_and_is_held_against_it(tmp_path: Path, identity: Path) -> None:
    def hashed(digest: str, generation: int) -> bytes:
        sealed = base64.b64encode(age_file(record("ana", 2))).decode()
        return json.dumps({"username_sha256": digest, "generation": generation, "sealed": sealed}).encode() + b"\n"

    ana = hashlib.sha256(b"ana").hexdigest()
    opened = Opened(tmp_path, identity, delivered("ana", 1) + hashed(ana, 2))
    assert (opened.records, opened.code) == ([record("ana", 2)], ExitCode.DONE)
    for wrong in (hashed(ana, 3), hashed("0" * 64, 2), hashed("ana", 2), hashed(ana.upper(), 2)):
        opened = Opened(tmp_path, identity, wrong)
        assert (opened.records, opened.code) == ([], ExitCode.SOME_LEFT_OUT)


def test_a_line_of_the_file_channel_is_known_as_one_and_a_request_is_not() -> None:
    ours = delivered().decode().rstrip()
    assert is_line(ours)
    assert not any(
        map(is_line, (ours + "\n", "", "{}", "[]", '{"username": "ana", "session": "x"}', "\ud800", ours[1:]))
    )


# --- older records ----------------------------------------------------------------------------------------------------

OTHERS = AgeSealer([keygen("now")[1]])


def line(username: str, generation: int, blob: bytes) -> bytes:
    return record_line(username, Sealed(generation, "attempt", "2025-01-31T12:00:00.000Z", blob)) + b"\n"


def damaged(blob: bytes) -> bytes:
    return blob[:-1] + bytes([blob[-1] ^ 1])


NO_RECORDS = {
    "nothing": line("ana", 9, b""),
    "no base64": b'{"username": "ana", "generation": 9, "sealed": "junk"}\n',
    "noise": line("ana", 9, b"\x00\xff" * 200),
    "only the first bytes": line("ana", 9, b"age-encryption.org/v1\n"),
    "half a header": line("ana", 9, age_file(record("ana", 9))[:80]),
    "another user's": line("ana", 9, age_file(record("eve", 9))),
    "another generation": line("ana", 9, age_file(record("ana", 1))),
    "no record": line("ana", 9, SEALER.seal(b"hello")),
    "no secret": line("ana", 9, SEALER.seal(b'{"username": "ana", "generation": 9}')),
    "no sealed": b'{"username": "ana", "generation": 9}\n',
    "a number": b'{"username": "ana", "generation": 9, "sealed": 5}\n',
}


@pytest.mark.parametrize("junk", NO_RECORDS.values(), ids=NO_RECORDS)
@pytest.mark.parametrize("first", [True, False])
def test_what_the_worker_cannot_have_made_hides_no_record_however_high_its_generation(
    tmp_path: Path, identity: Path, junk: bytes, first: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    good = delivered("ana", 1) + delivered("ben") + delivered("ana", 2)
    opened = Opened(tmp_path, identity, junk + good if first else good + junk)

    assert sorted(found["generation"] for found in opened.records if found["username"] == "ana") == [2]
    assert len(opened.records) == 2
    assert opened.code is ExitCode.SOME_LEFT_OUT
    assert f"0.jsonl:{1 if first else 4}, ana" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("newest", "why"),
    [
        (line("ana", 9, age_file(record("ana", 9), OTHERS)), "sealed to another identity"),
        (line("ana", 9, damaged(age_file(record("ana", 9)))), "damaged"),
        (line("ana", 9, age_file(record("ana", 9))[:-10]), "damaged"),
        (delivered("ana", 9)[:-20] + b"\n", "the line is torn"),
    ],
    ids=range(4),
)
def test_a_record_that_may_be_the_newest_and_does_not_open_withholds_the_older_ones(
    tmp_path: Path, identity: Path, newest: bytes, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Opened(tmp_path, identity, delivered("ana", 2) + delivered("ben"), newest, delivered("ana", 3))

    assert opened.records == [record("ben")]
    assert opened.code is ExitCode.SOME_LEFT_OUT
    assert f"1.jsonl:1, ana, generation 9: {why}" in capsys.readouterr().err


def test_junk_over_a_damaged_record_does_not_bring_a_stale_one_to_light(tmp_path: Path, identity: Path) -> None:
    junk = NO_RECORDS["noise"]
    unopened = line("ana", 5, age_file(record("ana", 5), OTHERS))
    assert Opened(tmp_path, identity, delivered("ana", 4) + unopened + junk).records == []
    assert Opened(tmp_path, identity, junk + unopened + delivered("ana", 4)).records == []
    assert Opened(tmp_path, identity, junk + unopened + delivered("ana", 6)).records == [record("ana", 6)]


def test_a_torn_line_that_was_delivered_again_costs_nobody_a_secret(tmp_path: Path, identity: Path) -> None:
    whole = delivered("ana", 3)
    opened = Opened(tmp_path, identity, delivered("ana", 2) + whole[:-30] + b"\n" + whole)
    assert opened.records == [record("ana", 3)]


def test_a_damaged_copy_beside_a_good_one_costs_nobody_a_secret(tmp_path: Path, identity: Path) -> None:
    bad = line("ana", 3, damaged(age_file(record("ana", 3))))
    assert Opened(tmp_path, identity, bad + delivered("ana", 3) + delivered("ana", 2)).records == [record("ana", 3)]


def test_many_junk_lines_of_one_user_take_one_pass_more(tmp_path: Path, identity: Path) -> None:
    junk = b"".join(line("ana", 100 + number, SEALER.seal(b"hello")) for number in range(500))
    assert Opened(tmp_path, identity, junk + delivered("ana", 7)).records == [record("ana", 7)]


# --- other forms ------------------------------------------------------------------------------------------------------


def armored(blob: bytes, end: bytes = b"\n") -> bytes:
    text = base64.b64encode(blob)
    body = end.join(text[at : at + 64] for at in range(0, len(text), 64))
    return end.join([b"-----BEGIN AGE ENCRYPTED FILE-----", body, b"-----END AGE ENCRYPTED FILE-----", b""])


def wrapped(blob: bytes) -> bytes:
    return base64.encodebytes(blob)


ANA, BEN = age_file(record("ana", 3)), age_file(record("ben", 1))
FORMS = {
    "armored": armored(ANA),
    "armored, CRLF": armored(ANA, b"\r\n"),
    "armored, after a byte order mark": b"\xef\xbb\xbf" + armored(ANA),
    "armored, after blank lines": b"\n\n" + armored(ANA) + b"\n",
    "base64 on one line": base64.b64encode(ANA),
    "base64 on several lines": wrapped(ANA),
    "base64 of an armored file": base64.b64encode(armored(ANA)),
    "a line with an armored file": json.dumps(
        {"username": "ana", "generation": 3, "sealed": armored(ANA).decode()}
    ).encode(),
    "a line with an armored file in base64": line("ana", 3, armored(ANA)),
    "a line after a byte order mark": b"\xef\xbb\xbf" + line("ana", 3, ANA),
    "a line with CRLF": line("ana", 3, ANA).replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
def test_age_files_are_read_in_every_form(tmp_path: Path, identity: Path, data: bytes) -> None:
    opened = Opened(tmp_path, identity, data)
    assert (opened.records, opened.code) == ([record("ana", 3)], ExitCode.DONE)


def test_forms_may_be_mixed_in_one_file(tmp_path: Path, identity: Path) -> None:
    parts = [
        *(delivered("ana", 1), armored(BEN), base64.b64encode(ANA) + b"\n"),
        *(
            wrapped(age_file(record("cem"))),
            armored(age_file(record("dea"))),
            base64.b64encode(age_file(record("eli"))),
        ),
    ]
    opened = Opened(tmp_path, identity, b"".join(parts))
    assert {found["username"]: found["generation"] for found in opened.records} == {
        "ana": 3,
        "ben": 1,
        "cem": 1,
        "dea": 1,
        "eli": 1,
    }
    assert opened.code is ExitCode.DONE


def test_an_armored_file_without_its_end_is_named_and_hurts_nobody(
    tmp_path: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Opened(tmp_path, identity, delivered("ben") + armored(ANA)[:-60])
    assert (opened.records, opened.code) == ([record("ben")], ExitCode.SOME_LEFT_OUT)
    assert "0.jsonl:2: neither a record nor an age file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(delivered()), "gunzip"),
        (bz2.compress(delivered()), "bunzip2"),
        (lzma.compress(delivered()), "unxz"),
        (b"\x28\xb5\x2f\xfd\n\n", "unzstd"),
        (b"PK\x03\x04", "unpack"),
        (b"SQLite format 3\0", "one JSON object a line"),
        (delivered().decode().encode("utf-16"), "iconv -f UTF-16"),
        (TEXT.split()[-1].encode(), "with -i"),
        (TEXT.encode(), "with -i"),
    ],
    ids=range(9),
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, identity: Path, data: bytes, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Opened(tmp_path, identity, delivered("ben"), data)
    assert said in caught.value.hint


def test_a_line_without_end_needs_no_memory(tmp_path: Path, identity: Path) -> None:
    path = tmp_path / "huge.jsonl"
    path.write_bytes(delivered("ana") + b"{" * 3_000_000 + b"\n" + delivered("ben"))
    tracemalloc.start()
    out = io.StringIO()
    code = open_files([str(path)], [identity], out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert code is ExitCode.SOME_LEFT_OUT
    assert len(out.getvalue().splitlines()) == 2
    assert peak < 6_000_000


def test_the_first_twenty_are_named_safely_and_the_rest_counted(
    tmp_path: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = b"".join(delivered(f"user{number}\x1b[31m\u202e", 1, OTHERS) for number in range(50))
    Opened(tmp_path, identity, data)
    said = capsys.readouterr().err
    assert said.startswith("50 not opened:\n")
    assert "and 30 more" in said
    assert "user19\\x1b[31m\\u202e, generation 1: sealed to another identity" in said
    assert "user20" not in said
    assert all(each.isprintable() for each in said.splitlines())
