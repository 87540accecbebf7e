"""Requests from bare usernames: each line names a user, who gets the ticket that signs them in.

A line is a username, or a JSON object with a ``username`` and what else a request may say but a credential: attributes,
``replace``, ``id``, and what ``export`` adds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from worker.core.errors import Malformed
from worker.requests.lines import Line
from worker.requests.usernames import is_username, why_not

_HEADER = re.compile("(cognito:)?user_?name *[,;\t]", re.IGNORECASE)
"""How the first line of a table of users begins, such as one for Cognito's import."""
_TABLE = (
    "is part of a table, not a username alone; one username a line is needed "
    "(mlr --icsv --onidx cut -f username, or cognito:username)"
)
_JSON = re.compile(r'".*",?|\[.*|\],?')
"""A line of a JSON list of names."""


class NamedUsers:
    """Reads the lines of one file. ``ticket``: makes a user's ticket."""

    def __init__(self, ticket: Callable[[str], str]) -> None:
        self._ticket = ticket
        self._is_table = False

    def message(self, line: Line) -> bytes:
        """Return the request for the user whom a line names, as a message. Raises ``Malformed``.

        It may still be no well-formed request, where the line is an object.
        """
        raw = line.message()
        if raw.startswith(b"{") and b'"' in raw:
            return self._with_ticket(raw)
        name = raw.decode("utf-8", "replace").strip()
        self._is_table = self._is_table or (line.is_first and _HEADER.match(name) is not None)
        if self._is_table:
            raise Malformed(_TABLE)
        if _JSON.fullmatch(name):
            raise Malformed("is part of a JSON list, not a username alone; one username a line is needed (jq -r '.[]')")
        if "\t" in name:
            raise Malformed("holds a tab; one username a line is needed (tr '\\t' '\\n')")
        if why := _why_not(line, name):
            raise Malformed(why)
        return json.dumps({"username": name, "ticket": self._ticket(name)}).encode()

    def _with_ticket(self, raw: bytes) -> bytes:
        """The object with its user's ticket; as it is where it names nobody, since the parser then says why."""
        try:
            found = json.loads(raw)
            username = found["username"]
        except (ValueError, KeyError, RecursionError):
            return raw
        given = [key for key in ("session", "access_token", "ticket", "password") if found.get(key) is not None]
        if given:
            raise Malformed(f"has a {given[0]} already; push it without --usernames")
        if not isinstance(username, str) or not is_username(username):
            return raw
        if "ticket" in found:  # as null, which is its absence
            del found["ticket"]
            raw = json.dumps(found).encode()
        return raw[:-1] + f', "ticket": "{self._ticket(username)}"}}'.encode()


def _why_not(line: Line, name: str) -> str:
    return "" if is_username(name) and "\ufffd" not in name else why_not(line)
