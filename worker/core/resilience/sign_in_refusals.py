"""Whose sign-in is refused before anybody got in: it may be the key or the pool, and not the user.

A wrong ticket or password is one user's own fault, and their outcome. But where the first ``FIRST_USERS`` are all
refused, most likely the tickets were made with another key than the one that the pool's trigger has, or the passwords
are another pool's: then a person must act, and nobody has an outcome. Until that is known, whoever is refused waits.
They get their outcome once somebody got in, or nobody else is left who could. A credential that was refused is not sent
again meanwhile. A user with an own token who gets a secret shows nothing, since nobody signed them in.

A user whom Cognito lets nobody sign in as for now ("Password attempts exceeded") waits too, each time for longer.

The memory is this process's own. If it is lost, these users are simply signed in again, since nothing was settled.
"""

from __future__ import annotations

from collections.abc import Callable

from worker.core.errors import PersonMustAct, WorkerError
from worker.core.model import CredentialKind, Reason, Request
from worker.core.resilience.refusals import QUIET, Concluded, Later, Refusals

FIRST_USERS = 10
"""Distinct users who are all refused, and nobody let in, before the run stops: a few wrong tickets are no wrong key."""
REFUSED_PAUSE = 1.0
"""Seconds until a user who waits is taken up again, which costs nothing: no request and no write."""
LOCKED_PAUSE = 2.0
"""Seconds until a user is signed in again who is locked out for the first time: a lockout begins with one second,
doubles with each further wrong password, and lasts 15 minutes at most (developer guide, "Lockout behavior for failed
sign-in attempts"). What is tried meanwhile does not make it longer (same source)."""
LONGEST_LOCKED_PAUSE = 60.0
"""The same at most: it doubles, so that many who are locked out cost few sign-ins."""
MOST_LOCKED = 1_000
"""Locked users of whom it is remembered how often; whoever is one more waits for the longest at once."""
_CURES = {
    CredentialKind.TICKET: (
        "is this the key the pool's trigger has? compare what push --ticket-key was given with the secret that the "
        "trigger reads, see that the tickets are for this pool and for sign_in.client_id, that the usernames are "
        "Cognito's own (no mail address or other alias), and that the end of the rollout in the trigger's settings is "
        "not over; then run again: nobody was settled"
    ),
    CredentialKind.PASSWORD: (
        "are these passwords those of this pool? check one by hand, and sign_in.client_id; then run again: nobody was "
        "settled"
    ),
}


class SignInRefusals:
    """One worker's memory. ``stop`` is called with the error that ends the run."""

    def __init__(self, refusals: Refusals, stop: Callable[[WorkerError], None]) -> None:
        self._refusals = refusals
        self._stop = stop
        self._is_anybody_in = False
        self._waiting: dict[str, tuple[str, str]] = {}
        """By the request's id: the user, and more about the refusal. Never more than some ten users."""
        self._locked: dict[str, float] = {}
        """How long (seconds) each of these users waited last."""

    def got_in(self) -> None:
        """Somebody was signed in, or got as far as only a right password leads."""
        self._is_anybody_in = True

    def locked(self, username: str) -> float:
        """The user is locked out. Returns the seconds until they may be signed in again."""
        if username not in self._locked and len(self._locked) >= MOST_LOCKED:
            return LONGEST_LOCKED_PAUSE
        pause = min(LONGEST_LOCKED_PAUSE, 2 * self._locked.get(username, LOCKED_PAUSE / 2))
        self._locked[username] = pause
        return pause

    def not_locked(self, username: str) -> None:
        """The user has an outcome."""
        self._locked.pop(username, None)

    def note(self, request: Request, detail: str | None) -> bool:
        """The sign-in was refused. Returns whether that is the user's outcome already."""
        if self._is_anybody_in:
            return True
        self._waiting[request.id] = request.username, detail or ""
        users = len({username for username, _ in self._waiting.values()})
        if users >= FIRST_USERS:
            self._stop(
                PersonMustAct(
                    f"the first {users} users were all refused when they were signed in, and nobody got in",
                    _CURES[request.kind],
                )
            )
        return False

    def next_step(self, request: Request) -> Concluded | Later | None:
        """What to do for a request in place of a sign-in; ``None``: its sign-in was not refused."""
        if request.id not in self._waiting:
            return None
        if not self._is_anybody_in and (self._refusals.others_gone_for < QUIET or self._is_over()):
            return Later(REFUSED_PAUSE)
        _, detail = self._waiting[request.id]
        return Concluded(Reason.SIGN_IN_REFUSED, detail)

    def _is_over(self) -> bool:
        return len({username for username, _ in self._waiting.values()}) >= FIRST_USERS

    def forget(self, request: Request) -> None:
        """The request has an outcome."""
        self._waiting.pop(request.id, None)
