"""What a signal does to a command that does not handle it by itself, as ``run`` does once it has begun.

SIGTERM, and SIGHUP of a terminal that is closed, end it as Ctrl-C does: with a word of what was done, and exit code 4.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn

from worker.core.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_AFTERWARDS: Mapping[str, str] = {
    "run": "nobody was begun; run the same command again",
    "push": "whatever was put on the queue stays there; push the same again: what is there already is a duplicate",
    "status": "nothing was changed",
    "show": "nothing was changed",
    "export": "nothing was changed, and the list is not whole: export it again",
    "check": "nothing was changed",
    "report": "no page was written; write it again",
    "open": "nothing was written; open it again",
    "rehearse": "begin it again; with fewer --users it is shorter",
}
"""What became of a command that was interrupted, and what to do next."""


def end_by_signals_as_by_ctrl_c() -> None:
    """From now on these signals raise what Ctrl-C raises; one that is ignored, as under ``nohup``, stays so.

    Ctrl-C has a handler too, since asyncio replaces Python's own by one which lets a read that waits go on waiting.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def ignore_signals() -> None:
    """The command is at its end: a further signal must not take the place of its exit code."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def interrupted(arguments: Sequence[str]) -> Interrupted:
    """Return what to tell; ``arguments``: those of the command line."""
    command = next((each for each in arguments if each in _AFTERWARDS), "")
    return Interrupted(
        f"{command or 'the command'} was interrupted", _AFTERWARDS.get(command, "run the same command again")
    )
