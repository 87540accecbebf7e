"""What the searches of the embedded queue are given and find."""

from __future__ import annotations

from typing import NamedTuple

MAY_BE_LEASED = (
    "(m.visible_at <= :now OR m.visible_at > :latest) AND m.holder IS NOT :holder AND m.username NOT IN "
    "(SELECT username FROM main.messages WHERE holder IS NOT NULL "
    "AND (holder = :holder OR visible_at > :now AND visible_at <= :latest))"
)
"""That the message ``m`` is visible, and no message of its user is leased. SQLite lists the leased ones once for a
query, by the index ``held``; they are few. Its parameters are ``Viewer.names``."""


class Found(NamedTuple):
    """A message that may be leased."""

    id: int
    username: str
    body: bytes
    deadline: float
    others: int
    """Whether its user has other messages (0 or 1)."""


class Viewer(NamedTuple):
    """Who looks, and when (UTC seconds of this host): hidden messages are left out, and the viewer's own."""

    holder: str
    now: float
    latest: float
    """A message that is hidden beyond this moment was hidden by a wrong clock, and counts as visible."""
    wave: bool
    """Whether only the messages of some users count (``wave``)."""

    def names(self) -> dict[str, object]:
        """As the parameters of a query."""
        return {"holder": self.holder, "now": self.now, "latest": self.latest}
