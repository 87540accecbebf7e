"""What this run has done so far, counted in one place; the progress bar, log lines, table and report only show it."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from worker.core.histogram import CALL_SECONDS, USER_SECONDS, Histogram
from worker.core.model import NOT_ACTIVATED, Reason, State, Trouble
from worker.core.ports import Clock

RATE_SPAN = 10
"""Seconds that a current rate looks back: steady at some 20 requests/s, and a change shows within seconds."""
PAUSE = 2.0
"""Seconds without an event after which a rate begins anew: what was before an outage, and the outage itself, say
nothing about the rate after it."""
PAUSE_EVENTS = 4
"""The same in mean distances between two events, where those are far apart; the longer of the two counts."""


class ClaimedElsewhere(NamedTuple):
    """Users who are held by other workers, or by dead ones whose claims have not run out."""

    users: int
    workers: tuple[str, ...]
    """Their identities, at most a few."""
    until: float
    """When the last of these claims may be taken over (UTC seconds), unless its worker finishes the user before."""


class RunStats:
    """What this process did so far. No I/O, no locks: for one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        now = clock.monotonic()
        self._began = now
        self._sends = _Window(now)
        self._sign_ins = _Window(now)
        self._users = _Window(now)
        self.began_at = clock.utc()
        """When the run began, in UTC seconds."""
        self.last_progress = now
        """Monotonic seconds of the last thing that moved the run on."""
        self._last_outcome = now
        self._postponed: dict[str, float] = {}
        """When the work on each of them began, in monotonic seconds."""
        self.states: Counter[State] = Counter()
        """Users settled by this run, by outcome."""
        self.reasons: Counter[Reason] = Counter()
        self.outcomes: Counter[tuple[State, Reason | None]] = Counter()
        """The same users, by both."""
        self.attempts: Counter[tuple[str, str]] = Counter()
        """Answers to wire attempts, by operation (AWS's name) and answer (``answers.answer``)."""
        self.latency: dict[str, Histogram] = {}
        """Seconds that these answers took, by operation."""
        self.lease_to_outcome = Histogram(USER_SECONDS)
        """Seconds from the moment the work on a user began to the outcome, earlier tries included."""
        self._longest = 0.0
        self.allowed_per_second = 0.0
        """Requests/s that the shared pace allows all workers together at present, as far as this one knows."""
        self.configured_per_second = 0.0
        """Requests/s that it is never above."""
        self.in_flight = 0
        """Users who are worked on at this moment."""
        self.troubles: Counter[Trouble] = Counter()
        """Wire attempts that have to be made again, by why."""
        self.requests = 0
        """Wire attempts that count against the quota of enrolments: enrolling, verifying, preferring."""
        self.sign_ins = 0
        """Wire attempts of sign-ins, which have a quota of their own."""
        self.looks = 0
        """Wire attempts that asked whether a user who was signed in has TOTP already."""
        self.duplicates = 0
        self.returned = 0
        """Messages given back."""
        self.quota_lost = 0
        """Requests reserved from the shared rate that were not made although a user waited for one."""
        self.bugs = 0
        """Users the work on whom met a bug of ours."""
        self.waiting_for = ""
        """What the run waits for, in words; empty when it waits for nothing."""
        self.claimed_elsewhere: ClaimedElsewhere | None = None
        """The users whom only others hold, where nothing else is left to do."""
        self.to_expire = 0
        """Waiting requests that will expire before their turn, as last computed; 0 where nobody knows."""

    def settled(self, state: State, reason: Reason | None = None) -> None:
        """A user's outcome is durable."""
        self.states[state] += 1
        self.outcomes[state, reason] += 1
        if reason is not None:
            self.reasons[reason] += 1
        self._last_outcome = self.progressed()
        self._users.add(self._last_outcome)

    def duplicate(self, number: int = 1) -> None:
        """There was nothing to do for so many requests."""
        self.duplicates += number
        self.progressed()

    def given_back(self) -> None:
        """A message was given back, which moves nothing on."""
        self.returned += 1

    def postponed(self, username: str, *, now: bool, began: float = 0.0) -> float:
        """The user was refused, and is tried again later; or no longer.

        ``began``: when this try began (monotonic seconds). Returns when the first one did.
        """
        began = self._postponed.pop(username, began)
        if now:
            self._postponed[username] = began
        return began

    def answered(self, operation: str, answer: str, seconds: float) -> None:
        """A wire attempt of that operation (AWS's name) brought that answer, after so long."""
        self.attempts[operation, answer] += 1
        self.latency_of(operation).observe(seconds)

    def latency_of(self, operation: str) -> Histogram:
        """Seconds that answers of that operation took."""
        if (known := self.latency.get(operation)) is None:
            known = self.latency[operation] = Histogram(CALL_SECONDS)
        return known

    def finished_after(self, seconds: float) -> None:
        """A user whose message was leased has an outcome, so long after the work on them began."""
        self.lease_to_outcome.observe(seconds)
        self._longest = max(self._longest, seconds)

    def take_longest(self) -> float:
        """The longest of these since it was last taken."""
        longest, self._longest = self._longest, 0.0
        return longest

    def allows(self, rate: float) -> None:
        """From now on the shared pace is this rate, in requests/s."""
        self.allowed_per_second = rate

    def sent(self) -> None:
        """A wire attempt was made that counts against the quota of enrolments."""
        self.requests += 1
        self._sends.add(self.progressed())

    def sign_in_sent(self) -> None:
        """A wire attempt of a sign-in was made."""
        self.sign_ins += 1
        self._sign_ins.add(self.progressed())

    def looked(self) -> None:
        """Cognito was asked whether a user has TOTP already."""
        self.looks += 1
        self.progressed()

    def trouble(self, kind: Trouble) -> None:
        """A wire attempt has to be made again."""
        self.troubles[kind] += 1

    def progressed(self) -> float:
        """Something moved the run on; gives the moment, in monotonic seconds."""
        self.last_progress = self._clock.monotonic()
        return self.last_progress

    @property
    def tried_again_later(self) -> int:
        """Users who were refused or throttled, and are tried again later."""
        return len(self._postponed)

    @property
    def throttles(self) -> int:
        """Wire attempts that were over the quota."""
        return self.troubles[Trouble.THROTTLED]

    @property
    def done(self) -> int:
        """Users settled, whatever the outcome."""
        return self.states.total()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock.monotonic() - self._began

    @property
    def idle(self) -> float:
        """Seconds since something moved, for a watchdog."""
        return self._clock.monotonic() - self.last_progress

    @property
    def since_outcome(self) -> float:
        """Seconds since a user was settled, or since the run began."""
        return self._clock.monotonic() - self._last_outcome

    @property
    def requests_per_second(self) -> float:
        """Wire attempts/s over the last ``RATE_SPAN`` seconds."""
        return self._sends.per_second(self._clock.monotonic())

    @property
    def sign_ins_per_second(self) -> float:
        """Wire attempts of sign-ins/s over the last ``RATE_SPAN`` seconds."""
        return self._sign_ins.per_second(self._clock.monotonic())

    @property
    def not_activated(self) -> int:
        """Users of this run who were delivered, and whose activation is left to a person."""
        return sum(number for reason, number in self.reasons.items() if reason in NOT_ACTIVATED)

    @property
    def users_per_second(self) -> float:
        """Users settled/s over the last ``RATE_SPAN`` seconds."""
        return self._users.per_second(self._clock.monotonic())

    @property
    def users_seen_for(self) -> float:
        """Seconds over which ``users_per_second`` is taken."""
        return self._users.seen_for(self._clock.monotonic()) if self.done else 0.0


class _Window:
    """Events of the last ``RATE_SPAN`` seconds, in a ring of one count a second, but none before the last pause.

    So a rate is what it is from its first seconds on, and soon after an outage.
    """

    def __init__(self, now: float) -> None:
        self._counts = [0] * RATE_SPAN
        self._second = int(now)
        self._began = self._last = now
        """When the stretch began that is looked back at, and its last event (monotonic seconds)."""
        self._in_stretch = 0
        """Events since the stretch began, with the one with which it began."""

    def add(self, now: float) -> None:
        self._turn(int(now))
        if self._in_stretch == 0 or (self._in_stretch > 1 and now - self._last > self._pause()):
            self._counts = [0] * RATE_SPAN
            self._began, self._in_stretch = now, 0
        self._in_stretch += 1
        self._last = now
        self._counts[self._second % RATE_SPAN] += 1

    def per_second(self, now: float) -> float:
        self._turn(int(now))
        events, seen_for = sum(self._counts), self.seen_for(now)
        if 1.0 < seen_for == now - self._began and events > 1:  # between two events there is one distance
            events -= 1
        return events / max(1.0, seen_for)

    def seen_for(self, now: float) -> float:
        """Seconds that the rate looks back."""
        return min(RATE_SPAN - 1 + now % 1, now - self._began)

    def _pause(self) -> float:
        """Seconds without an event from which on it is a pause: at few a second, longer ones are nothing special."""
        return max(PAUSE, PAUSE_EVENTS * (self._last - self._began) / max(1, self._in_stretch - 1))

    def _turn(self, second: int) -> None:
        for passed in range(max(self._second + 1, second - RATE_SPAN + 1), second + 1):
            self._counts[passed % RATE_SPAN] = 0
        self._second = max(self._second, second)
