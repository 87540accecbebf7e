"""Who is refused alone, while others get through, and what becomes of them.

A *refusal* is here an answer that sounds as if it concerned everybody: the app client is gone, WAF refuses
(``PoolFault``), too many requests again and again. (An answer that is surely one user's own, ``Refused``, is none.) But
it may be one user's own all the same: the client of that token alone is gone, a rule of WAF matches that request alone,
that user has a limit of their own. Only the answers to *others* can tell. They are judged by the order in which calls
were sent, not by the time: when WAF begins to refuse everybody, the last minute was full of successes, and yet nobody
is to blame. So a refusal counts against a user once a call for another user that was sent after theirs got a secret.

- Refusals after the last success are the *streak*. It concerns the pool until somebody gets through. The circuit
  breaker asks it whether enough users agree.
- A success that was sent later ends the streak: its users are refused alone, and *postponed*. If the breaker opened and
  a user from elsewhere in the queue was refused too, everybody was refused for a while: it counts against nobody.
- Whoever is postponed is tried again a few times, with growing pauses. All these tries together are limited to a small
  part of the calls. Then, or when nobody else is left to work on, they get an outcome of their own. Where they have
  another request, its credential may be better: it is called for, and then the tries go on where they had ended.

The memory is this process's own, and bounded. If it is lost, these users are simply called again.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.core.errors import PersonMustAct, WorkerError
from worker.core.model import PoolFault, Reason
from worker.core.ports import Clock

AGREEING_USERS = 3
"""Distinct users who are refused in a row before the pool is doubted, and users from elsewhere in the queue who must be
refused too before it is blamed: one or two may have troubles of their own."""
DOUBTED_USERS = 10
"""Distinct users who are refused in a row before the pool is doubted, where no user from elsewhere in the queue was
asked yet. With fewer, each small group of users with a fault in common would stop the others; with more, more calls
would be wasted on a pool that refuses all."""
AGREEING_ANSWERS = 6
"""Refusals in a row that suffice too, from however few users: near the end only one or two may be left."""
BY_CHANCE = 1e-7
"""Where a part of the users is refused anyway, the pool is blamed only for a row of refusals that would come about by
chance with no more than this probability: less than once in a rollout of a million users."""
MOST_BY_CHANCE = 0.5
"""The largest part of the users of whom chance is asked: where more are refused, the pool is to blame anyway. So no row
needs to be longer than 24, which take twelve seconds."""
PAUSES = (4.0, 8.0, 16.0, 16.0)
"""Seconds before each further try of a user who is postponed, 44 together: so a cause that passes by itself within less
than that costs nobody their enrolment."""
UNDECIDED_PAUSE = 1.0
"""Seconds until a user is tried again whose refusal may still concern the pool: the answer to that takes about as long.
"""
LONGEST_PAUSE = 2.0
"""Seconds after which a user who is postponed is looked at again at the latest: when all others are done meanwhile, the
last tries begin."""
ASK_OTHERS_FOR = 2.0
"""Seconds for which every second user is taken from elsewhere in the queue after somebody was refused for the first
time: those with the earliest deadlines may be refused one after the other, but the others must not wait for that."""
SHARE_OF_TRIES = 0.025
"""The part of all calls that further tries may take while they can be held back: a little less than the 3 % that all of
them may take, because a user who was refused is also called again before it is known whether others get through."""
SHARE_BESIDE_OTHERS = 0.01
"""The same while others are worked on: the others are promised 97 % of the quota, and lose some of it to the pace's
margin and to the moment in which it is not known who is refused. The rest is for when nobody else is left."""
FREE_TRIES = 2
"""Further tries that are allowed in any case: a rollout of a few dozen users has no calls to take a part of."""
LONGEST_POSTPONED = 60.0
"""Seconds after which a user who is postponed gets an outcome although not all tries were made: where many are
refused, the tries do not suffice for all of them."""
QUIET = 3.0
"""Seconds without work on anybody else after which those who are postponed count as the only ones left. More than the
two seconds after which a user whom another worker has claimed is looked at again."""
LAST_TRIES = 10.0
"""Seconds after the last other user within which those who are postponed are tried for the last time. They are promised
an outcome within 20 s; the rest is for the call and the writes."""
LATELY = 60.0
"""Seconds for which a success still counts: where nobody is left on the queue whose call could show whether the pool
serves, and to know whether most users are refused."""
REMEMBERED = 1_000
"""Users who are remembered at most, about 0.5 MB. Of more, the ones refused longest ago are forgotten, and called as if
for the first time when their message comes again."""
SAMPLE = 50
"""How many of the latest answers to users from elsewhere in the queue tell whether most users are refused: enough for a
majority to mean something, and few enough that a pool that begins to refuse shows soon."""


@dataclass(frozen=True, slots=True)
class Concluded:
    """The user gets this outcome, without another call."""

    reason: Reason
    code: str


@dataclass(frozen=True, slots=True)
class Later:
    """The user is not called for so many seconds."""

    seconds: float


@dataclass(slots=True)
class _User:
    """A user who was refused and has not got through since."""

    reason: Reason
    code: str
    cure: str
    number: int
    """Of the last call that was refused."""
    since: float
    """When the first refusal came (monotonic seconds)."""
    at: float
    """When the last one came."""
    alone: bool = False
    """Whether others got through after a refusal of this user."""
    tries: int = 0
    """Calls since the first refusal."""


@dataclass(slots=True)
class Streak:
    """Refusals since the last success, of users who were not refused alone before."""

    users: set[str] = field(default_factory=set)
    answers: int = 0
    from_elsewhere: int = 0
    """Answers to users from elsewhere in the queue."""
    doubted: bool = False
    """Whether the circuit breaker opened because of them."""
    since: float = 0.0
    """When the first one came (monotonic seconds)."""


class Refusals:
    """One worker's memory of who is refused. ``stop`` is called with the error that ends the run."""

    def __init__(self, clock: Clock, stop: Callable[[WorkerError], None]) -> None:
        self._clock = clock
        self._stop = stop
        self._users: OrderedDict[str, _User] = OrderedDict()
        """By username, the ones refused longest ago first."""
        self._concluded: OrderedDict[str, _User] = OrderedDict()
        """Those who got such an outcome, the longest ago first; ``at``: when."""
        self._requests = 0
        """Requests so far; each one's number is its place in their order."""
        self._sent = 0
        """How many of them were calls, and no sign-ins."""
        self._further = 0
        """How many calls were for a user who had been refused before."""
        self._served = 0
        """How many calls got through."""
        self._served_by: deque[tuple[float, int]] = deque()
        """How many had brought one by when (monotonic seconds), once a second, for the last minute."""
        self._last_served = 0
        """The highest number of a call that brought a secret."""
        self._newest_at = -math.inf
        """When somebody was last refused for the first time (monotonic seconds)."""
        self._other_users: set[str] = set()
        """Users who are worked on now and were not postponed before."""
        self._other_users_at = clock.monotonic()
        """When there was such a user last (monotonic seconds)."""
        self._elsewhere: set[str] = set()
        """Users from elsewhere in the queue who are worked on now."""
        self._sample: deque[bool] = deque(maxlen=SAMPLE)
        """Whether the latest users from elsewhere were refused."""
        self.streak = Streak()
        self.pool_is_doubted = False
        """Whether the circuit breaker is open because of refusals; it says so."""

    # --- told of calls ------------------------------------------------------------------------------------------------

    def sent(self, username: str, *, signs_in: bool = False) -> int:
        """A request leaves, a call or (``signs_in``) what goes before one; return its number."""
        self._requests += 1
        if signs_in:
            return self._requests
        self._sent += 1
        user = self._users.get(username)
        if user is not None and not user.alone:  # the others were counted when they were let through (``next_step``)
            self._further += 1
        return self._requests

    def served(self, username: str, number: int) -> None:
        """The call with that number got through: it brought a secret, or verified one."""
        self._served += 1
        now = self._clock.monotonic()
        if not self._served_by or now - self._served_by[-1][0] >= 1.0:
            self._served_by.append((now, self._served - 1))
            if now - self._served_by[0][0] > 2 * LATELY:
                self._served_by.popleft()
        self._users.pop(username, None)
        self._concluded.pop(username, None)
        if username in self._elsewhere:
            self._sample.append(False)
        if number > self._last_served:
            self._last_served = number
            self._judge_streak()

    def _judge_streak(self) -> None:
        """Somebody got through: whoever was called before and refused is refused alone, unless all were."""
        streak = self.streak
        if not streak.answers:
            return
        for username in list(streak.users):
            user = self._users.get(username)
            if user is not None and user.number > self._last_served:
                continue
            streak.users.discard(username)
            if user is not None and streak.doubted and streak.from_elsewhere:
                del self._users[username]
            elif user is not None:
                user.alone = True
        if not streak.users:
            self.streak = Streak()

    def refused(self, username: str, number: int, fault: PoolFault) -> None:
        """The call with that number was refused as if nobody could succeed."""
        user = self._remember(username, number, Reason.REFUSED, fault.code, fault.cure)
        if username in self._elsewhere:
            self._sample.append(True)
        if user.alone:
            return
        if self._last_served > number:  # the answer to a later call was faster
            user.alone = True
            return
        streak = self.streak
        if not streak.answers:
            streak.since = self._clock.monotonic()
        streak.users.add(username)
        streak.answers += 1
        streak.from_elsewhere += username in self._elsewhere

    def throttled_alone(self, username: str, number: int, code: str) -> None:
        """The user was throttled again although others got through: their limit is their own."""
        if username not in self._users:
            self._further += 1  # the call that showed it
        self._remember(username, number, Reason.THROTTLED_ALONE, code, "").alone = True

    def is_throttled_alone(self, username: str) -> bool:
        """Whether that is known of the user."""
        user = self._users.get(username)
        return user is not None and user.reason is Reason.THROTTLED_ALONE

    def _remember(self, username: str, number: int, reason: Reason, code: str, cure: str) -> _User:
        now = self._clock.monotonic()
        user = self._users.get(username)
        if user is None:
            user = self._concluded_lately(username)
            if user is None:
                user = _User(reason, code, cure, number, now, now)
                self._newest_at = now
            self._users[username] = user
            if len(self._users) > REMEMBERED:
                self._users.popitem(last=False)
        user.reason, user.code, user.cure, user.number, user.at = reason, code, cure, number, now
        return user

    def forget(self, username: str) -> None:
        """The user has an outcome."""
        self._users.pop(username, None)
        self.streak.users.discard(username)

    def _concluded_lately(self, username: str) -> _User | None:
        """The user, where they got such an outcome within the last minute: this is another request of theirs."""
        user = self._concluded.get(username)
        return None if user is None or self._clock.monotonic() - user.at > LATELY else user

    def got_through_since(self, number: int) -> bool:
        """Whether a call that was sent after that one brought a secret."""
        return self._last_served > number

    def is_left_alone(self, username: str) -> bool:
        """Whether nobody else is worked on who could get through, and others did so within the last minute."""
        return not (self._other_users - {username}) and self._served_lately() > 0

    def _served_lately(self) -> int:
        """How many got through within about the last minute."""
        while self._served_by and self._clock.monotonic() - self._served_by[0][0] > LATELY:
            self._served_by.popleft()
        return self._served - self._served_by[0][1] if self._served_by else 0

    # --- users from elsewhere in the queue ----------------------------------------------------------------------------

    def comes_from_elsewhere(self, username: str) -> None:
        """The user was leased from elsewhere in the queue, and can speak for the others."""
        self._elsewhere.add(username)

    def is_from_elsewhere(self, username: str) -> bool:
        """Whether the user was leased so."""
        return username in self._elsewhere

    @property
    def from_elsewhere(self) -> int:
        """How many users from elsewhere are worked on now."""
        return len(self._elsewhere)

    def ended(self, username: str) -> None:
        """The work on the user is over for now."""
        self._elsewhere.discard(username)
        if username in self._other_users:
            self._other_users.discard(username)
            self._other_users_at = self._clock.monotonic()

    @property
    def are_judged(self) -> bool:
        """Whether somebody was refused for the first time a moment ago, so that others have to be asked."""
        return self._clock.monotonic() - self._newest_at < ASK_OTHERS_FOR

    @property
    def others_gone_for(self) -> float:
        """Seconds since there was last somebody else to work on than those who are postponed; 0: there is somebody."""
        return 0.0 if self._other_users else self._clock.monotonic() - self._other_users_at

    # --- asked by the circuit breaker ---------------------------------------------------------------------------------

    @property
    def is_doubtful(self) -> bool:
        """Whether so many were refused in a row that calls for everybody should stop until one gets through.

        Where nobody got through yet, the first one suffices.
        """
        streak = self.streak
        if not self._served:
            return streak.answers > 0
        return len(streak.users) >= (AGREEING_USERS if streak.from_elsewhere else DOUBTED_USERS)

    def enough_agree(self, *, nobody_elsewhere: bool) -> bool:
        """Whether the pool is to blame for the streak.

        ``nobody_elsewhere``: the queue has no other users who could be asked.
        """
        streak = self.streak
        if nobody_elsewhere:
            return len(streak.users) >= AGREEING_USERS or streak.answers >= AGREEING_ANSWERS
        asked = streak.from_elsewhere >= AGREEING_USERS
        return asked and len(streak.users) >= max(2 * AGREEING_USERS, self._unlikely_by_chance())

    def _unlikely_by_chance(self) -> int:
        """How many refusals in a row are too many for chance, by the part of users who were refused alone lately."""
        alone = sum(user.alone for user in self._users.values())
        if not alone:
            return 0
        share = alone / (alone + self._served_lately() + 1)
        return math.ceil(math.log(BY_CHANCE) / math.log(min(MOST_BY_CHANCE, share)))

    def concern_users(self, fault: PoolFault) -> bool:
        """Whether a streak that nobody is left to refute concerns its users and not the pool.

        It does if the refusal may be one user's own, and most others got through within the last minute.
        """
        if not fault.may_be_own or len(self._users) > self._served_lately():
            return False
        for username in self.streak.users:
            if (user := self._users.get(username)) is not None:
                user.alone = True
        self.streak = Streak()
        return True

    # --- asked before a call ------------------------------------------------------------------------------------------

    def next_step(self, username: str, seconds_left: float) -> Concluded | Later | None:
        """What to do for the user whose turn it is; ``None``: what is done for everybody, a call.

        ``seconds_left``: for how long the credential can still be used.
        """
        now = self._clock.monotonic()
        user = self._users.get(username)
        if user is None:
            if self._concluded_lately(username) is None:
                self._other_users.add(username)
            return None
        if not user.alone:
            wait = user.at + UNDECIDED_PAUSE - now
            return Later(wait) if wait > 0 else None
        if self.pool_is_doubted:
            return Later(UNDECIDED_PAUSE)
        return self._next_step_alone(username, user, seconds_left, now)

    def _next_step_alone(self, username: str, user: _User, seconds_left: float, now: float) -> Concluded | Later | None:
        """The same for a user who is refused alone: another try, in its time, or an outcome."""
        others_gone_for = self.others_gone_for
        are_left_alone = others_gone_for >= QUIET
        pause = PAUSES[0] if are_left_alone else PAUSES[min(user.tries, len(PAUSES) - 1)]
        wait = user.at + pause - now
        share = SHARE_OF_TRIES if are_left_alone else SHARE_BESIDE_OTHERS
        may_try = self._further < max(FREE_TRIES, math.floor(share * self._sent))
        is_last = (
            user.tries >= len(PAUSES)
            or now - user.since >= LONGEST_POSTPONED
            or others_gone_for >= LAST_TRIES
            or (are_left_alone and not may_try)
            or max(wait, 0.0) >= seconds_left
        )
        if is_last:
            return self._conclude(username, user)
        if wait > 0 or not may_try:
            return Later(min(wait, LONGEST_PAUSE) if wait > 0 else LONGEST_PAUSE)
        user.tries += 1
        self._further += 1
        return None

    def _conclude(self, username: str, user: _User) -> Concluded | Later:
        """The outcome, unless most of this worker's users are refused: then the pool is to blame."""
        refused = [each for each in self._users.values() if each.alone and each.reason is Reason.REFUSED]
        served = self._served_lately()
        most_of_a_sample = 2 * sum(self._sample) >= len(self._sample)
        if len(refused) >= AGREEING_USERS and len(refused) > served and most_of_a_sample:
            codes = Counter((each.code, each.cure) for each in refused)
            (code, cure), _ = codes.most_common(1)[0]
            self._stop(PersonMustAct(f"Cognito refuses most users with {code}", cure))
            return Later(UNDECIDED_PAUSE)
        user.at = self._clock.monotonic()
        self._concluded[username] = user
        self._concluded.move_to_end(username)
        if len(self._concluded) > REMEMBERED:
            self._concluded.popitem(last=False)
        return Concluded(user.reason, user.code)
