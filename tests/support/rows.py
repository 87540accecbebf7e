"""Rows of the ledger: one to begin with, and any that could ever be."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from worker.core.history import MOST, and_then
from worker.core.model import Activation, CredentialKind, Enrolment, Event, Reason, Sealed, State, digest_of
from worker.core.settled import load

NASTY_NAMES = (
    "a\0b",
    "\0",
    "O'Hara",
    'quo"te',
    "';DROP TABLE users;--",
    "%_*?",
    "../../etc/passwd",
    "a\nb\r\x1b[31m",
    "\u202egnp.exe",
    "😀" * 64,
    "x" * 128,
    "é",
    "e\u0301",
    " ",
)
BLOB = b"age\0\xff"
"""What stands for a sealed record."""
_versions = itertools.count(1)


def version() -> str:
    """One that was never used before."""
    return f"worker:{next(_versions)}"


def row(username: str = "ana", state: State = State.IN_PROGRESS, **fields: Any) -> Enrolment:
    """A row of its own version."""
    return Enrolment(username, state, since=1.7e9, generation=1, version=version())._replace(**fields)


def sealed(generation: int = 1, *, blob: bytes = BLOB, **fields: Any) -> Sealed:
    """A sealed secret; without ``blob``: one that was delivered."""
    digest = digest_of(blob or BLOB)
    one = Sealed(generation, f"attempt-{generation}", "2025-01-31T12:00:00.000Z", blob, digest=digest)
    return one._replace(**fields)


def activation(blob: bytes = b"age\0\n\xff", **fields: Any) -> Activation:
    """What is left of an activation."""
    return Activation(blob, CredentialKind.SESSION, 1.7e9)._replace(**fields)


usernames = st.text(min_size=1, max_size=128) | st.sampled_from(NASTY_NAMES)
times = st.floats(0, 4e9).map(lambda seconds: round(seconds, 6))
generations = st.integers(0, 2**53)
ids = st.text(min_size=1, max_size=256)
_digests = st.just("") | st.binary(min_size=32, max_size=32).map(bytes.hex)
sealeds = st.builds(
    Sealed,
    generation=generations,
    attempt_id=st.uuids().map(str),
    associated_at=st.just("2025-01-31T12:00:00.000Z"),
    blob=st.binary(max_size=400),
    session_expires_at=st.none() | times,
    digest=_digests,
).map(lambda one: one._replace(digest=digest_of(one.blob)) if one.blob else one)
activations = st.builds(
    Activation,
    blob=st.binary(max_size=400),
    kind=st.sampled_from((CredentialKind.SESSION, CredentialKind.ACCESS_TOKEN)),
    expires_at=times,
    verified=st.booleans(),
    doubt=st.booleans(),
)
happened = st.tuples(
    times,
    st.sampled_from(["claimed", "answered", "sealed", "delivered", "given back", "concluded", "of a later version"]),
    st.just("") | st.text(max_size=120),
)


def histories(events: list[tuple[float, str, str]]) -> tuple[Event, ...]:
    """What a row tells after these."""
    told: tuple[Event, ...] = ()
    for event in events:
        told = and_then(told, *event)
    return told


enrolments = st.builds(
    Enrolment,
    username=usernames,
    state=st.sampled_from(State),
    since=times,
    generation=generations,
    version=st.builds(version),
    reason=st.none() | st.sampled_from(Reason),
    worker=st.none() | st.from_regex(r"[0-9a-z]{1,64}", fullmatch=True),
    lease_until=times,
    doubt=st.booleans(),
    crashes=st.integers(0, 3),
    before=st.none() | st.sampled_from(State),
    request_id=st.none() | ids,
    kind=st.none() | st.sampled_from(CredentialKind),
    sealed=st.none() | sealeds,
    settled=st.lists(ids, max_size=4, unique=True).map(load),
    detail=st.none() | st.just("ForbiddenException"),
    before_reason=st.none() | st.sampled_from(Reason),
    activation=st.none() | activations,
    events=st.lists(happened, max_size=MOST + 4).map(histories),
)
