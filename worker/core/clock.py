"""The machine's clocks behind the ``Clock`` port, and a clock that shows the time of Cognito's endpoint.

A machine's clock may be wrong, and every deadline here is one that Cognito set. So deadlines, leases and generations
are read from ``EndpointClock``: each answer of Cognito says what time it is there (``Date``), to the second. In between
the monotonic clock goes on from there, so that nobody who sets the machine's clock during a run moves a deadline. Where
no answer has told the time, the machine's own clock counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from worker.core.errors import PersonMustAct
from worker.core.ports import Clock

MAX_SKEW = 60.0
"""Seconds by which our clock may differ from Cognito's. It is a third of the three minutes that a Session lives by
default ("AuthSessionValidity", Cognito API reference). A machine that is more than that off has no working time
service, and what others date (the queue's messages, a script's ``issued_at``) is as wrong as its clock."""

AGREEING_ANSWERS = 3
"""Answers in a row that must agree with each other, and not with the time we believe, before we believe them: a single
one may come from a machine whose own clock is wrong."""

DATE_PRECISION = 1.0
"""Seconds. A ``Date`` has whole seconds, and was written within the second that begins there (RFC 9110, 5.6.7)."""

_NO_SUSPEND: Final = getattr(time, "CLOCK_BOOTTIME", None)
"""The clock that also counts the time for which the machine was suspended (clock_gettime(2)); only Linux has it."""


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """See ``ports.Clock``.

        On Linux also counts while the machine is suspended, when ``time.monotonic`` stands still: a laptop that wakes
        up after an hour must not take its claims for fresh, which other workers have taken over.
        """
        return time.monotonic() if _NO_SUSPEND is None else time.clock_gettime(_NO_SUSPEND)

    def utc(self) -> float:
        """See ``ports.Clock``."""
        return time.time()


class EndpointClock:
    """``Clock`` that shows the endpoint's time, as far as its answers told it, and otherwise that of ``own``.

    It is never ahead of what the endpoint said by more than the answer's way took, and at most a second behind: where a
    deadline is near, Cognito decides, and not this clock.
    """

    def __init__(self, own: Clock) -> None:
        self._own = own
        self.monotonic: Callable[[], float] = own.monotonic
        """See ``ports.Clock``. It is read some thirty times for each user, so nothing stands between."""
        self._utc_at_zero: float | None = None
        """What ``utc`` is when ``monotonic`` is zero; ``None`` before the endpoint told its time."""
        self._contradictions = 0
        """Answers in a row that agree with each other and not with what we believe."""
        self._least = self._most = 0.0
        """The bounds within which ``_utc_at_zero`` would be by all of these answers."""

    def utc(self) -> float:
        """See ``ports.Clock``."""
        return self._own.utc() if self._utc_at_zero is None else self._own.monotonic() + self._utc_at_zero

    @property
    def skew(self) -> float | None:
        """Seconds by which the endpoint's clock is ahead of the machine's; ``None`` before it told its time.

        It also shows at once when somebody sets the machine's clock.
        """
        return None if self._utc_at_zero is None else self.utc() - self._own.utc()

    @property
    def is_doubted(self) -> bool:
        """Whether the last answer contradicts the time we believe."""
        return self._contradictions > 0

    def heard(self, date: float, took: float) -> None:
        """An answer of the endpoint came just now, dated ``date`` (UTC seconds), ``took`` seconds after the request.

        What we believe changes only where ``AGREEING_ANSWERS`` contradict it, and then once: the precision of a date
        is no reason to move a clock.
        """
        now = self._own.monotonic()
        least, most = date - now, date + DATE_PRECISION - now + took
        believed = self._own.utc() - now if self._utc_at_zero is None else self._utc_at_zero
        if least <= believed <= most:
            self._utc_at_zero, self._contradictions = believed, 0
            return
        together = max(least, self._least), min(most, self._most)
        if self._contradictions and together[0] <= together[1]:
            self._least, self._most = together
            self._contradictions += 1
        else:
            self._least, self._most, self._contradictions = least, most, 1
        if self._contradictions >= AGREEING_ANSWERS:
            self._utc_at_zero, self._contradictions = self._least, 0

    def wrong(self) -> PersonMustAct | None:
        """The error that ends a command on a machine whose clock is too wrong; ``None`` where it is not."""
        if self.skew is None or abs(self.skew) <= MAX_SKEW:
            return None
        off = f"{abs(self.skew):,.0f} s {'behind' if self.skew > 0 else 'ahead of'}"
        return PersonMustAct(
            f"this machine's clock is {off} Cognito's, so no deadline can be trusted",
            "set the clock (NTP), then run again: nothing is lost",
        )
