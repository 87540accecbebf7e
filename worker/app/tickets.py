"""What ``push`` does with the key of tickets: it makes one for each user, or looks whether those it is given are good.

Only who pushes has the key. A worker has none, and needs none.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import structlog

from worker.core.errors import DependencyUnavailable, Malformed, UsageError
from worker.core.forecast import a_user_costs
from worker.core.model import CredentialKind, Request
from worker.core.words import duration
from worker.requests.lines import Line
from worker.requests.message import Parser
from worker.requests.named_users import NamedUsers
from worker.requests.ticket import is_genuine, make_ticket
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.app.stores import Stores

log = structlog.get_logger()


class Tickets:
    """Reads the lines of a push. ``valid_for``: each line names a user, whose ticket lives for so many seconds.

    Without ``valid_for`` the lines are requests, and the tickets in them are judged. Raises ``UsageError`` where the
    settings have no sign-in for tickets.
    """

    def __init__(self, settings: Settings, key: bytes, valid_for: float | None) -> None:
        sign_in = settings.sign_in
        if sign_in.flow != "custom_auth" or not sign_in.client_id:
            raise UsageError(
                "tickets need sign_in.flow = custom_auth and sign_in.client_id; the flow is "
                f"{sign_in.flow}, and the client_id is {sign_in.client_id or 'not set'}",
                'set both: [sign_in] flow = "custom_auth", client_id = "the app client made for this rollout"',
            )
        self._make = partial(make_ticket, key, user_pool_id=settings.cognito.user_pool_id, client_id=sign_in.client_id)
        self._is_genuine = partial(
            is_genuine, key=key, user_pool_id=settings.cognito.user_pool_id, client_id=sign_in.client_id
        )
        self._settings = settings
        self._valid_for = valid_for
        self._users: NamedUsers | None = None
        self.not_after: int | None = None
        """Until when the tickets that are made here are valid (UTC seconds)."""

    def begin(self, now: float) -> None:
        """Make tickets that are valid from ``now`` on (UTC seconds, by Cognito's clock)."""
        if self._valid_for is not None:
            self.not_after = not_after = int(now + self._valid_for)
            self._users = NamedUsers(lambda username: self._make(username=username, not_after=not_after))

    def read(self, parser: Parser, line: Line, now: float) -> tuple[Request, bytes]:
        """Return the request of a line, and the message to push. Raises ``Malformed``."""
        request, body = parser.to_push(line.message() if self._users is None else self._users.message(line), now)
        if (
            self._users is None
            and request.kind is CredentialKind.TICKET
            and not self._is_genuine(request.credential.reveal(), username=request.username)
        ):
            raise Malformed("its ticket is not this user's in this app client, or was made with another key")
        return request, body

    def told(self) -> str:
        """Return until when the tickets live, for people; empty where none was made."""
        if self.not_after is None:
            return ""
        expire = datetime.fromtimestamp(self.not_after, UTC)
        return f"the tickets expire at {expire:%Y-%m-%d %H:%M:%S} UTC, in {duration(self._valid_for or 0.0)}"

    async def warn_if_too_short(self, stores: Stores, accepted: int) -> None:
        """Warn where what waits needs longer, at the present pace, than the tickets live that were made here."""
        if self.not_after is None or not accepted:
            return
        with suppress(DependencyUnavailable):  # the requests are on the queue; whoever counts says so
            waiting = max(accepted, (await stores.queue.backlog()).waiting)
            pace = await stores.ledger.read_pace()
            rate, calls = self._settings.rate.effective, self._settings.calls_per_user
            rate = rate if pace is None else min(rate, pace.rate)
            lives, needed = self.not_after - stores.clock.utc(), waiting * calls / rate
            if needed <= lives:
                return
            late = round(waiting - lives * rate / calls)
            users = a_user_costs(rate, calls) or ": as many users/s"
            log.warning(
                "tickets_too_short",
                cause=f"{waiting:,} users wait, and at {rate:g} calls/s{users} they need {duration(needed)}, but the "
                f"tickets expire in {duration(lives)}: about {late:,} users will not have had their turn",
                cure="push them again with a longer --valid-for (whoever is done is a duplicate), or raise "
                "rate.requests_per_second as far as the quota allows",
            )


class Progress:
    """Says now and then how far a push is: a million users take a minute or more."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._told_at = time.monotonic()

    def tell(self, **numbers: int) -> None:
        """Log the numbers, if it is time."""
        if time.monotonic() - self._told_at >= self._every:
            self._told_at = time.monotonic()
            log.info("pushing", **numbers)
