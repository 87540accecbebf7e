"""What people are told about the malformed lines of a file."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.messages import PARSER
from worker.core.errors import Malformed
from worker.core.text import SHOWN
from worker.requests.lines import Line, digest, read_lines
from worker.requests.refused import Aside, Refused, safe_reason, username_in

GOOD = json.dumps({"username": "ada", "session": "s" * 40})


def read(data: bytes | str) -> tuple[Refused, list[Aside]]:
    """The malformed lines of a file, and what was put aside."""
    refused, asides = Refused(), list[Aside]()
    for line in read_lines(io.BytesIO(data.encode() if isinstance(data, str) else data)):
        try:
            PARSER.parse(line.message(), 0.0)
        except Malformed as malformed:
            if aside := refused.add(line, str(malformed)):
                asides.append(aside)
    return refused, [*asides, *refused.owed()]


def test_each_line_is_told_with_number_user_and_reason() -> None:
    cleo = json.dumps({"username": "cleo", "session": "s" * 40, "colour": 1})
    refused, asides = read(f"{GOOD}\n\n{GOOD}\n{cleo}\n{{}}\n{GOOD}\n")
    assert list(refused.lines()) == ['line 4 (cleo): has the unknown key "colour"', "line 5: has no username"]
    assert asides == [
        Aside('has the unknown key "colour"', digest(cleo.encode()), 1, 0),
        Aside("has no username", digest(b"{}"), 1, 0),
    ]


def test_after_twenty_lines_it_says_how_many_more() -> None:
    refused, _ = read("\n".join(["{}"] * 1_000 + ['{"username": 7}'] * 5))
    lines = list(refused.lines())
    assert lines[:SHOWN] == [f"line {number}: has no username" for number in range(1, SHOWN + 1)]
    assert lines[SHOWN:] == [
        "and 985 more",
        "malformed: 1,000 × has no username",
        "malformed: 5 × username should be text of 1 to 128 characters",
    ]


def test_the_same_line_again_is_counted_and_the_same_file_again_is_not() -> None:
    """``number`` and ``before`` say how many there are in this file, whatever was put aside earlier."""
    for _ in range(2):
        _, asides = read("{}\n{}\n")
        assert [(aside.number, aside.before) for aside in asides] == [(1, 0), (1, 1)]


@pytest.mark.parametrize("indent", [2, "\t"])
@pytest.mark.parametrize(
    ("whole", "said"),
    [
        (
            [{"username": "ada"}] * 3,
            "is part of a JSON array over many lines; one object a line is needed (jq -c '.[]')",
        ),
        ({"users": [{"username": "ada"}]}, "is part of JSON over many lines; one object"),
        ({"username": "ada", "session": "s" * 40}, "is part of JSON over many lines; one object"),
    ],
)
def test_json_over_many_lines_is_told_once(whole: object, indent: int | str, said: str) -> None:
    text = json.dumps(whole, indent=indent)
    refused, asides = read(text)
    lines = text.count("\n") + 1
    assert refused.total == lines
    [told] = refused.lines()
    assert told.startswith(f"lines 1 to {lines}: {said}")
    assert sum(aside.number for aside in asides) == lines
    assert len(asides) == 2, "one at once, and the rest at the end"


def test_an_array_with_an_object_a_line_is_told_once() -> None:
    refused, _ = read('[{"username": "ada"},\n{"username": "ben"},\n{"username": "cleo"}]\n')
    assert refused.total == 3
    [told] = refused.lines()
    assert told.startswith("lines 1 to 3: is part of a JSON array")


@pytest.mark.parametrize(("separator", "how"), [(",", "--icsv"), (";", "--icsv --ifs ';'"), ("\t", "--itsv")])
def test_csv_is_told_once(separator: str, how: str) -> None:
    header = separator.join(["username", "access_token"])
    refused, _ = read("\n".join([header, *(f"user-{n}{separator}eyJh" for n in range(60_000))]))
    assert list(refused.lines()) == [
        f"lines 1 to 60001: is CSV, not JSON; one JSON object a line is needed (mlr -S {how} --ojsonl cat)"
    ]


def test_a_first_line_of_something_else_hides_no_mistake_of_a_request() -> None:
    refused, _ = read(f'[\n{GOOD}\n{{"username": "cleo", "sesion": "x"}}\nbroken\n')
    assert list(refused.lines()) == [
        "line 1: is part of a JSON array over many lines; one object a line is needed (jq -c '.[]')",
        'line 3 (cleo): has the unknown key "sesion"; did you mean session?',
        "line 4: is part of a JSON array over many lines; one object a line is needed (jq -c '.[]')",
    ]


def test_another_encoding_is_told_once_and_none_of_its_lines_is_a_request() -> None:
    refused, asides = read(f"\ufeff{GOOD}\n{GOOD}\n".encode("utf-16-be"))
    assert list(refused.lines()) == ["lines 1 to 2: is UTF-16, not UTF-8: convert the file (iconv -f UTF-16 -t UTF-8)"]
    assert [(aside.number, aside.before) for aside in asides] == [(1, 0), (1, 1)]


def test_a_last_line_that_was_cut_says_so() -> None:
    refused, _ = read(f'{GOOD}\n{{"username": "ben", "access_tok')
    assert list(refused.lines()) == [
        "line 2 (ben): is not JSON: it ends too early; the input ends in the middle of this line: was it cut off?"
    ]
    assert "cut off" not in str(list(read(f'{GOOD}\n{{"username": "ben", "access_tok\n')[0].lines()))


@pytest.mark.parametrize(
    ("raw", "username"),
    [
        (b'{"username": "ben", "sess', "ben"),
        (b'{ "username" : "b\\u00e9n"', "bén"),
        (b'{"session": "x", "username": "ben"}', "ben"),
        (b'{"username": "\\ud800"}', None),
        (b'{"username": ""}', None),
        (b'{"username": "' + b"x" * 129 + b'"}', None),
        (b'{"username": 7}', None),
        (b'["ben"]', None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_the_user_is_named_where_the_line_names_one_well(raw: bytes, username: str | None) -> None:
    assert username_in(raw) == username


@given(st.binary(max_size=300))
def test_any_line_can_be_told(raw: bytes) -> None:
    refused = Refused()
    refused.add(Line(1, raw), "is not JSON")
    [told] = refused.lines()
    assert told.isprintable()
    username_in(raw)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ('has the unknown key "AYABeSecret"', "has an unknown key"),
        ('has the unknown key "Sesion"; did you mean session?', "has an unknown key; did you mean session?"),
        ('has the unknown key "sesion"; did you mean session?', None),
        ("is not JSON", None),
    ],
)
def test_a_key_that_an_earlier_version_stored_is_not_shown(stored: str, shown: str | None) -> None:
    assert safe_reason(stored) == (shown or stored)


def test_bare_usernames_without_the_option_for_them_are_recognised() -> None:
    refused, _ = read("ada\n7f3c-zo\u00eb\ncleo\n")
    assert list(refused.lines()) == [
        "lines 1 to 3: is not JSON; are these usernames? mfa-worker push --usernames FILE --ticket-key KEYFILE"
    ]
