"""The errors that end a command, each with its cause, its cure and its exit code.

::

    WorkerError
    ├── UsageError             2   settings or usage are wrong; nothing was touched
    ├── PersonMustAct          3   the pool, its protection or a permission stops everybody
    │   └── RowUnreadable          one user's row in the ledger; everybody else is enrolled first
    │       └── RowDamaged             it is not what was written
    ├── Interrupted            4   stopped with work left; run again to go on
    ├── MaxUsersReached        5   as many users as were asked for, with work left
    └── DependencyUnavailable 75   endpoint, queue, ledger, channel or disk: out of reach or full; run again later
        ├── EndpointUnavailable
        ├── QueueUnavailable
        ├── LedgerUnavailable
        ├── ChannelUnavailable
        └── NoProgress
    Malformed                      one message that cannot be a request; it is put aside and stops nothing
    RecordRefused                  one record that the channel or the ledger refuses for good; it stops nobody else

What becomes of one user is no error but a verdict (see ``model``).
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of ``run``. 0 and 1 are returned only when no user is unfinished and the queue is empty.

    70 and 75 are those of BSD's ``sysexits.h`` (EX_SOFTWARE, EX_TEMPFAIL).
    """

    DONE = 0
    SOME_LEFT_OUT = 1
    USAGE = 2
    PERSON_MUST_ACT = 3
    INTERRUPTED = 4
    MAX_USERS = 5
    BUG = 70
    DEPENDENCY_UNAVAILABLE = 75


class WorkerError(Exception):
    """Ends a command. ``str(error)`` is the cause in one sentence, ``hint`` what to do next."""

    exit_code = ExitCode.BUG

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(cause)
        self.hint = hint


class UsageError(WorkerError):
    """Wrong settings or usage, found before anything was changed."""

    exit_code = ExitCode.USAGE


class PersonMustAct(WorkerError):  # noqa: N818 - it names what follows, not what broke
    """Nobody can be enrolled until somebody changes the pool, its protection or a permission."""

    exit_code = ExitCode.PERSON_MUST_ACT


class RowUnreadable(PersonMustAct):
    """One user's row in the ledger is of a later version, or damaged. Nobody else has to wait for it."""

    def __init__(self, username: str, what: str, hint: str) -> None:
        super().__init__(f"the row of {username!r} in the ledger cannot be read: {what}", hint)
        self.username = username


class RowDamaged(RowUnreadable):
    """One user's row is not what was written: a disk, or whatever copied the ledger, has changed it.

    ``version``: that of the row, as it stands there.
    """

    def __init__(self, username: str, version: str = "") -> None:
        super().__init__(
            username,
            "it is not what was written, so the disk or a copy has damaged it",
            "look after the disk, and restore the newest backup of the ledger; without one, stop all workers and let "
            "this user sign in again: mfa-worker recover shows how",
        )
        self.version = version


class Interrupted(WorkerError):  # noqa: N818
    """A signal stopped the command with work left."""

    exit_code = ExitCode.INTERRUPTED


class MaxUsersReached(WorkerError):  # noqa: N818
    """``--max-users`` were worked on and others wait."""

    exit_code = ExitCode.MAX_USERS


class DependencyUnavailable(WorkerError):  # noqa: N818
    """Something the run depends on does not answer or is full; nothing is lost, run again."""

    exit_code = ExitCode.DEPENDENCY_UNAVAILABLE


class EndpointUnavailable(DependencyUnavailable):
    """Cognito's endpoint could not be reached for longer than patience lasts."""


class QueueUnavailable(DependencyUnavailable):
    """The queue cannot be read or written."""


class LedgerUnavailable(DependencyUnavailable):
    """The ledger cannot be read or written, or did not say whether it did."""


class ChannelUnavailable(DependencyUnavailable):
    """The delivery channel did not confirm."""


class NoProgress(DependencyUnavailable):
    """There was work, and for too long nothing moved."""


class Malformed(Exception):  # noqa: N818
    """A message that is no request. ``str(error)`` is the reason, and never repeats the message."""


class RecordRefused(Exception):  # noqa: N818
    """The channel, or the ledger, refuses this one record for good, and takes those of others.

    It is no outage: trying again does not help, and it is this user's own outcome. ``code`` is the service's, safe to
    log.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
