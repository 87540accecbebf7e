"""How large a record will be is known before the call, and never underestimated."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import usernames
from worker.core.model import CredentialKind, Issued, Request, Sealed, Secret
from worker.core.record import RecordFormat, record_line, seal_record
from worker.core.record_size import (
    LONGEST_REQUEST_ID,
    LONGEST_SECRET,
    LONGEST_SESSION,
    MOST_TO_ACTIVATE,
    RecordSize,
    most_in_line,
)
from worker.sealing import age
from worker.sealing.age import AgeSealer

RECIPIENTS = [age.keygen("today")[1] for _ in range(3)]
NOW = 1_738_324_800.25


@dataclass
class Taker:
    """A channel that takes so many bytes."""

    most: int

    def most_sealed(self, username: str) -> int:
        return self.most


class Glass:
    """A sealer that everybody can see through."""

    def seal(self, plaintext: bytes) -> bytes:
        return plaintext

    def sealed_size(self, plaintext: int) -> int:
        return plaintext


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.sampled_from(["\0" * 300, "😀" * 300])
requests = st.builds(
    Request,
    username=usernames.filter(lambda name: name.isprintable()) | st.sampled_from(["😀" * 128, "\0" * 128]),
    kind=st.sampled_from(CredentialKind),
    credential=st.integers(20, 8_192).map(lambda length: Secret("s" * length)),
    id=st.just("id"),
    expires_at=st.just(NOW + 100),
    attributes=st.dictionaries(texts, texts, max_size=4),
)
formats = st.builds(RecordFormat, issuer=texts.filter(bool), account=st.sampled_from(["username", "email"]))


def issued(request: Request, secret: int, session: int, request_id: int) -> Issued:
    brings = None if request.kind is CredentialKind.ACCESS_TOKEN else Secret("n" * session)
    return Issued(Secret("A" * secret), brings, "r" * request_id)


@given(
    requests,
    formats,
    st.integers(16, LONGEST_SECRET),
    st.integers(20, LONGEST_SESSION),
    st.integers(0, LONGEST_REQUEST_ID),
    st.integers(1, 3),
)
def test_no_record_is_larger_than_was_known_before_the_call(
    request: Request, form: RecordFormat, secret: int, session: int, request_id: int, recipients: int
) -> None:
    sealer = AgeSealer(RECIPIENTS[:recipients])
    sealed = seal_record(request, issued(request, secret, session, request_id), 10**13, NOW, form, sealer)
    assert RecordSize(form, sealer, [Taker(len(sealed.blob) - 1)]).is_too_large(request)


@pytest.mark.parametrize("session", [None, LONGEST_SESSION])
@pytest.mark.parametrize("text", ["x" * 30_000, "é" * 20_000, "\x01" * 10_000])
def test_the_bound_is_near_what_a_record_takes(text: str, session: int | None) -> None:
    kind = CredentialKind.SESSION if session else CredentialKind.ACCESS_TOKEN
    request = Request("ana", kind, Secret("s" * 40), "id", NOW + 100, {"address": text})
    sealer, form = AgeSealer(RECIPIENTS[:1]), RecordFormat("Example")
    sealed = seal_record(request, issued(request, 52, session or 20, 36), 10**13, NOW, form, sealer)
    assert not RecordSize(form, sealer, [Taker(len(sealed.blob) + 700)]).is_too_large(request)


@pytest.mark.parametrize("length", [20, 20_000])
@pytest.mark.parametrize("kind", CredentialKind)
def test_whoever_may_get_a_session_has_room_for_the_longest_and_a_request_fits_to_the_byte(
    kind: CredentialKind, length: int
) -> None:
    request = Request("ana", kind, Secret("s" * length), "id", NOW + 100)
    longest = issued(request, LONGEST_SECRET, max(LONGEST_SESSION, length), LONGEST_REQUEST_ID)
    sealer, form = Glass(), RecordFormat("Example")
    most = len(seal_record(request, longest, 10**18, NOW, form, sealer).blob)
    assert not RecordSize(form, sealer, [Taker(most)]).is_too_large(request)
    assert RecordSize(form, sealer, [Taker(most - 1)]).is_too_large(request)


@pytest.mark.parametrize(
    ("channel", "ledger", "activates", "fits"),
    [
        (0, 0, False, True),
        (-1, 0, False, False),
        (0, -1, False, False),
        (0, MOST_TO_ACTIVATE, True, True),
        (0, MOST_TO_ACTIVATE - 1, True, False),
        (-1, MOST_TO_ACTIVATE, True, False),
        (0, None, True, True),
        (None, MOST_TO_ACTIVATE, True, True),
        (None, MOST_TO_ACTIVATE - 1, True, False),
    ],
)
def test_a_ledger_that_must_also_hold_what_verifies_the_secret_needs_room_for_that_and_the_channel_does_not(
    channel: int | None, ledger: int | None, *, activates: bool, fits: bool
) -> None:
    sealer, form = Glass(), RecordFormat("Example")
    large = Request("ana", CredentialKind.ACCESS_TOKEN, Secret("s" * 40), "id", NOW, {"address": "x" * 5_000})
    small = Request("u", CredentialKind.ACCESS_TOKEN, Secret(""), "id", NOW)
    needs = len(seal_record(large, issued(large, 128, 0, 128), 10**18, NOW, form, sealer).blob)
    least = len(seal_record(small, issued(small, 52, 0, 36), 1, NOW, form, sealer).blob)

    def size(base: int) -> RecordSize:
        takers = [object() if more is None else Taker(base + more) for more in (channel, ledger)]
        return RecordSize(form, sealer, takers, activates=activates)

    assert size(needs).is_too_large(large) is not fits
    assert size(least).nothing_fits() is not fits


def test_the_smallest_limit_counts_and_whoever_has_none_takes_all() -> None:
    request = Request("ana", CredentialKind.ACCESS_TOKEN, Secret("s" * 40), "id", NOW, {"address": "x" * 5_000})
    sealer, form = AgeSealer(RECIPIENTS), RecordFormat("Example")
    assert not RecordSize(form, sealer, [object()]).is_too_large(request)
    assert not RecordSize(form, sealer, [Taker(20_000), object()]).is_too_large(request)
    assert RecordSize(form, sealer, [Taker(20_000), Taker(4_000)]).is_too_large(request)


def test_a_limit_that_takes_no_record_at_all_is_noticed() -> None:
    sealer, form = AgeSealer(RECIPIENTS), RecordFormat("Example")
    assert RecordSize(form, sealer, [Taker(600)]).nothing_fits()
    assert not RecordSize(form, sealer, [Taker(4_000)]).nothing_fits()


@given(usernames.filter(lambda name: name.isprintable()), st.integers(2_500, 70_000))
def test_a_line_with_the_most_bytes_that_it_may_hold_is_as_long_as_it_may_be(username: str, most: int) -> None:
    fits = most_in_line(username, most)
    sealed = Sealed(10**18, "a" * 36, "2025-01-31T12:00:00.000Z", b"x" * fits)
    assert most - 4 < len(record_line(username, sealed)) <= most


@pytest.mark.parametrize("recipients", [1, 3])
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_no_age_file_is_larger_than_its_sealer_says(recipients: int, size: int) -> None:
    sealer = AgeSealer(RECIPIENTS[:recipients])
    for _ in range(30 if size < 2 else 3):
        assert len(sealer.seal(b"x" * size)) <= sealer.sealed_size(size) <= size + 98 * recipients + 450
