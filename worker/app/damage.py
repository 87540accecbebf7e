"""Looks for damage in the files on this host before anything is done with them: a disk may lose or change them.

SQLite reads only what it needs, so a run could go on for hours beside a damaged row, and nobody would know of it.
"""

from __future__ import annotations

from worker.app.stores import Stores

AFTER_A_CLEAN_END = 2.0
"""Seconds for which the files are looked at when a run begins, and as many again for its rows: the files of a million
users, and the rows of some two hundred thousand."""
OTHERWISE = 20.0
"""The same where the last process was killed or lost its power: the rows of a million users take ten seconds or so."""


async def refuse_damaged(stores: Stores, seconds: float | None = None) -> bool:
    """Look at the files, and return whether all was looked at. Raises ``PersonMustAct`` for damage.

    ``seconds``: look at all of it for so long, and not for as long as a run does.
    """
    is_whole, was_left_open = True, False
    for file in stores.files:
        was_left_open |= file.was_left_open
        usual = OTHERWISE if file.was_left_open else AFTER_A_CLEAN_END
        is_whole &= await file.examine(seconds or usual)
    usual = OTHERWISE if was_left_open else AFTER_A_CLEAN_END
    return await stores.ledger.examine(seconds or usual) and is_whole
