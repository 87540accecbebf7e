"""Limits the secrets that exist and are not delivered: calls wait while the channel does not take what they bring.

A secret is *undelivered* from its call on until the channel confirmed it, whether this worker issued it or found it
sealed. Never more of them than one second of work: no call leaves while so many are undelivered (backpressure).

A Session's secret is void when its Session dies before it could be delivered, and then the user must sign in again. So
while deliveries *fail*, no call for a Session leaves: a secret in hand, which is tried again and again, shows when the
channel is back. Where there is none in hand, one call at a time leaves as a *probe*, at growing intervals. A channel
that is slow is not down: calls for Sessions leave as long as a delivery takes less time than a Session leaves for it.

A channel that *refuses*, as a person has to act (a permission, a key, the credentials), is not waited for like one that
is down: once all secrets in hand were refused so for ``REFUSED_PATIENCE``, and nobody's got through, the run ends. They
stay sealed in the ledger. While others get through, the run goes on.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

from worker.core.errors import ChannelUnavailable, ExitCode, WorkerError
from worker.core.model import CredentialKind
from worker.core.ports import Clock
from worker.core.resilience.backoff import Backoff, Outage

SECONDS_UNDELIVERED = 1.0
"""Seconds of work that may be undelivered: what is lost at most where a channel goes away without an error, and enough
for the quota where a delivery takes less. Channels take 5 to 100 ms (``docs/measured.md``)."""
LATE = 0.5
"""Seconds after which a delivery is late: from then on calls under way count like secrets, so that together they stay
within the bound. Before, they do not: a call may take longer than a delivery, and must not cost a part of the quota."""
PROBES = Backoff(first=5.0, longest=60.0)
"""The pauses between two calls that probe a channel that fails. A probe may cost a user a new sign-in; a channel that
is back and not noticed costs everybody's. A minute is a third of the time that a Session lives by default."""
REFUSED_PATIENCE = 10.0
"""Seconds for which a channel may refuse every secret in hand: new permissions take a few seconds until they hold
everywhere (IAM user guide, "Changes that I make are not always immediately visible"); more is left to a person. With
the pauses between the tries (``core.pipeline.DELIVERY_BACKOFF``) the run ends 13 to 20 s after the first refusal."""
SLOW_HALF_LIFE = 60.0
"""Seconds in which the memory of a slow delivery halves, so that a channel that was too slow is tried again."""

MOST_REMEMBERED = 2.0
"""The longest delivery that is remembered, as a multiple of the window that a Session leaves: so a channel that was too
slow is tried again after one half-life, however slow it was."""

REFUSED_IN_A_ROW = 10
"""Distinct users whose records the channel refuses for good, one after the other and nobody's taken between, after
which it is taken to refuse everybody's. Each of the others costs its user a secret, so they stay sealed."""

DIES_SOON = frozenset({CredentialKind.SESSION, CredentialKind.PASSWORD})
"""Credentials whose secret is void unless it is delivered in minutes; a password may bring a Session, a ticket not."""


class _Undelivered:
    """One secret that is not delivered yet."""

    __slots__ = ("failed", "refused", "since", "trying_since")

    def __init__(self, since: float) -> None:
        self.since = since
        """When it was issued, or found (monotonic seconds)."""
        self.trying_since: float | None = None
        """When the delivery began that is under way (monotonic seconds)."""
        self.failed = False
        """Whether a delivery of it failed before."""
        self.refused = False
        """Whether the last one failed so that a person has to act."""


class Deliveries:
    """What one worker has in hand, and whether the channel takes it.

    ``rate``: users/s; ``window``: seconds from the call in which the secret of a Session must be delivered;
    ``patience``: seconds for which deliveries may fail before the run ends.
    """

    def __init__(self, clock: Clock, *, rate: float, window: float, patience: float) -> None:
        self._clock = clock
        self.held_up_until = -math.inf
        """When a call that had to wait here went on, the last time (monotonic seconds)."""
        self._most = max(1, int(rate * SECONDS_UNDELIVERED))
        self._window = window
        self._outage = Outage(patience, clock.monotonic, stop_for_person=False)
        self._secrets: dict[str, _Undelivered] = {}
        """By username, the oldest first."""
        self._calls: set[str] = set()
        """The users for whom a call is under way, which may bring one more."""
        self._refusing_since: float | None = None
        """Since when the channel has only refused, so that a person has to act (monotonic seconds)."""
        self._failing = ""
        """Why the channel fails, in words; empty where it does not."""
        self._probes = 0
        self._next_probe = 0.0
        self._slowest, self._slowest_seen_at = 0.0, clock.monotonic()
        self._refused: set[str] = set()
        """Users whose records were refused for good since the last delivery."""
        self._changed = asyncio.Event()

    # --- asked before a call ------------------------------------------------------------------------------------------

    @property
    def waiting_for(self) -> str | None:
        """What keeps calls from leaving, in words; ``None`` where nothing does."""
        if self._failing:
            return f"the channel: {self._failing}"
        return None if self._has_room() else "the channel to take the secrets that are sealed"

    def admits(self, kind: CredentialKind) -> bool:
        """Whether a call may leave now with that kind of credential."""
        if not self._has_room():
            return False
        if kind not in DIES_SOON:
            return True
        if self._failing:
            return not (self._secrets or self._calls) and self._clock.monotonic() >= self._next_probe
        return self._takes() < self._window

    async def wait(self, seconds: float) -> None:
        """Wait until a call may be admitted that was not, at most so many seconds."""
        until_probe = self._next_probe - self._clock.monotonic()
        if self._failing and until_probe > 0:
            seconds = min(seconds, until_probe)
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, SLOW_HALF_LIFE / 2)):  # what is only remembered fades unasked
                await self._changed.wait()
        self.held_up_until = self._clock.monotonic()

    def _has_room(self) -> bool:
        late = bool(self._failing)
        for oldest in self._secrets.values():
            late = late or self._clock.monotonic() - oldest.since > LATE
            break
        return len(self._secrets) + (len(self._calls) if late else 0) < self._most

    def _takes(self) -> float:
        """Seconds that a delivery takes now."""
        now = self._clock.monotonic()
        remembered: float = self._slowest * 2.0 ** ((self._slowest_seen_at - now) / SLOW_HALF_LIFE)
        for oldest in self._secrets.values():
            return max(remembered, now - (now if oldest.trying_since is None else oldest.trying_since))
        return remembered

    # --- told of calls ------------------------------------------------------------------------------------------------

    def call_leaves(self, username: str, kind: CredentialKind) -> None:
        """A call leaves that may bring a secret."""
        if self._failing and kind is CredentialKind.SESSION:
            self._probes += 1
            self._next_probe = self._clock.monotonic() + PROBES.pause(self._probes)
        self._calls.add(username)

    def call_ends(self, username: str, *, issued: bool) -> None:
        """It is answered, or given up; ``issued``: it brought a secret, which is in hand until it ``ends``."""
        if username in self._calls:
            self._calls.remove(username)
            if issued:
                self._secrets[username] = _Undelivered(self._clock.monotonic())
            else:
                self._changed.set()

    # --- told of deliveries -------------------------------------------------------------------------------------------

    def begins(self, username: str) -> None:
        """A delivery of this user's secret begins, the first one or another."""
        now = self._clock.monotonic()
        self._secrets.setdefault(username, _Undelivered(now)).trying_since = now

    def failed(self, username: str, error: BaseException) -> None:
        """It failed. Raises the error where deliveries have been failing for longer than patience, or were all refused.

        A secret whose delivery had failed before others succeeded says nothing about the channel.
        """
        secret = self._secrets[username]
        secret.trying_since = None
        if not secret.failed or self._failing:
            secret.failed, self._failing = True, str(error)
            self._outage.failed(error)
            self._outage.check()
        self._note_refusal(secret, error)

    def _note_refusal(self, secret: _Undelivered, error: BaseException) -> None:
        now = self._clock.monotonic()
        secret.refused = isinstance(error, WorkerError) and error.exit_code is ExitCode.PERSON_MUST_ACT
        if not secret.refused:
            self._refusing_since = None
            return
        if self._refusing_since is None:
            self._refusing_since = now
        everybody = all(each.refused for each in self._secrets.values())
        if everybody and now - self._refusing_since >= REFUSED_PATIENCE:
            raise error

    def refused(self, username: str, code: str) -> None:
        """The channel refuses this user's record for good.

        Raises ``ChannelUnavailable`` where it does so for one user after the other: then the records are not to blame,
        and a person must act.
        """
        self._refused.add(username)
        if len(self._refused) >= REFUSED_IN_A_ROW:
            error = ChannelUnavailable(
                f"the channel refuses one record after the other: {code}",
                "mend what that code names, and run again: what is sealed is delivered then, without a call",
            )
            error.exit_code = ExitCode.PERSON_MUST_ACT
            raise error

    def delivered(self, username: str) -> None:
        """The channel confirmed it."""
        now, began = self._clock.monotonic(), self._secrets[username].trying_since
        slowest = max(self._takes(), now - (now if began is None else began))
        # Bounded: a delivery during which this process was stopped for an hour says no more than one that was too slow.
        self._slowest, self._slowest_seen_at = min(slowest, MOST_REMEMBERED * self._window), now
        self._outage.recovered()
        self._refused.clear()
        self._failing, self._probes, self._refusing_since = "", 0, None
        self.ends(username)

    def ends(self, username: str) -> None:
        """The secret is no longer in hand: delivered, void, or given back. A second call does nothing."""
        if self._secrets.pop(username, None) is not None:
            self._changed.set()
