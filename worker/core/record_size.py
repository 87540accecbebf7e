"""How large the sealed record of a user can become, known before the call.

A record that the channel or the ledger will not take is refused before Cognito issues the secret in it. The bound is
exact but for what only Cognito's answer tells: the secret, its request id and the next Session.
"""

from __future__ import annotations

from collections.abc import Sequence

from worker.core.model import CredentialKind, Issued, Request, Sealed, Secret
from worker.core.ports import Limited, Sealer
from worker.core.record import RecordFormat, record_line, seal_record

LONGEST_SECRET = 128
"""Characters of a secret: Cognito's have 52, and its API reference names no limit. It stands twice in a record."""
LONGEST_REQUEST_ID = 128
"""Characters of Cognito's request id that are kept (``adapters.cognito.answers``); it is a UUID of 36."""
LONGEST_SESSION = 4_096
"""Characters of the Session in an answer (API reference, since October 2026), unless the request's was longer still."""
MOST_TO_ACTIVATE = 24_576
"""Bytes that the ledger may hold of a user beside the record where the worker activates: the secret and an access token
of a sign-in. Cognito names no limit for one; with many groups and claims they have some 4 KB, and whatever carries them
in an HTTP header takes 8 to 16 KB."""
_HIGHEST_GENERATION = 10**18
_ROUGHLY = 8_192
"""Bytes that no record needs for all that is neither text of the request nor a Session longer than ``LONGEST_SESSION``:
a first look, which costs nothing, admits whoever has little text."""
_MOST_A_CHARACTER = 18
"""Bytes that a character of the request can take in a record: 6 as JSON, and 12 percent-encoded as the account. The
issuer stands percent-encoded twice."""


class RecordSize:
    """Judges requests. ``takers``: the channel and the ledger, which comes last; no ``Limited`` takes any size.

    ``activates``: whether the ledger must also hold what verifies the secret.
    """

    def __init__(
        self, record_format: RecordFormat, sealer: Sealer, takers: Sequence[object], *, activates: bool = False
    ) -> None:
        self._format = record_format
        self._sealer = sealer
        beside = MOST_TO_ACTIVATE if activates else 0
        self._takers = [(taker, beside if taker is takers[-1] else 0) for taker in takers if isinstance(taker, Limited)]

    def is_too_large(self, request: Request) -> bool:
        """Whether the record would be larger than the channel or the ledger takes."""
        if not self._takers:
            return False
        most = min(taker.most_sealed(request.username) - beside for taker, beside in self._takers)
        return self._rough(request) > most and self._sealer.sealed_size(self._exact(request)) > most

    def nothing_fits(self) -> bool:
        """Whether even the smallest record is too large: one recipient more, or a limit that was meant for others."""
        small = Request("u", CredentialKind.ACCESS_TOKEN, Secret(""), "", 0.0)
        issued = Issued(Secret("A" * 52), None, "r" * 36)
        size = len(seal_record(small, issued, 1, 0.0, self._format, self._sealer).blob)
        return any(size > taker.most_sealed(small.username) - beside for taker, beside in self._takers)

    def _rough(self, request: Request) -> int:
        """Bytes of the sealed record, at most and then some."""
        text = len(request.username) + 2 * len(self._format.issuer)
        text += sum(len(name) + len(value) for name, value in request.attributes.items())
        return self._sealer.sealed_size(_ROUGHLY + _MOST_A_CHARACTER * text + len(request.credential.reveal()))

    def _exact(self, request: Request) -> int:
        """Bytes of the record before it is sealed, at most."""
        session = None
        if request.kind is not CredentialKind.ACCESS_TOKEN:  # a sign-in may bring a Session, too
            session = Secret("s" * max(LONGEST_SESSION, len(request.credential.reveal())))
        issued = Issued(Secret("A" * LONGEST_SECRET), session, "r" * LONGEST_REQUEST_ID)
        return len(seal_record(request, issued, _HIGHEST_GENERATION, 0.0, self._format, _Unsealed()).blob)


class _Unsealed:
    """Leaves a record as it is, to be measured."""

    def seal(self, plaintext: bytes) -> bytes:
        return plaintext

    def sealed_size(self, plaintext: int) -> int:
        return plaintext


def most_in_line(username: str, most: int) -> int:
    """The most bytes of a sealed record whose line (``record.record_line``) has at most ``most`` bytes."""
    empty = Sealed(_HIGHEST_GENERATION, "a" * 36, "2025-01-31T12:00:00.000Z", b"")
    return max(0, most - len(record_line(username, empty))) // 4 * 3
