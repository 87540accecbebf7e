"""What a user is called outside the ledger: the same at every run of a rollout, and no way back without its key."""

from __future__ import annotations

import hmac

LENGTH = 16
"""Hexadecimal digits of a pseudonym: among a million users two have the same with a chance of 1 in 37 million."""


class Pseudonyms:
    """Made with a random key. A plain hash would be no pseudonym: whoever guesses a username could check the guess."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, username: str) -> str:
        """The user's pseudonym."""
        return hmac.new(self._key, username.encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:LENGTH]
