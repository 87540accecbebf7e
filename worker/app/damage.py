"""Looks for damage in the files on this host before anything is done with them: a disk may lie, and bits rot.

SQLite reads only what it needs, so a run could go on for hours beside a damaged row, and nobody would know of it.
"""

from __future__ import annotations

from worker.app.stores import Stores

AFTER_A_CLEAN_END = 2.0
"""Seconds for which the files are looked at when a run begins: enough for a million users."""
OTHERWISE = 20.0
"""The same where the last process was killed or lost its power; then every row is compared with its checksum, too:
about ten seconds for a million users."""


async def refuse_damaged(stores: Stores, seconds: float | None = None) -> bool:
    """Look at the files, and return whether all was looked at. Raises ``PersonMustAct`` for damage.

    ``seconds``: look at all of it for so long, and not for as long as a run does.
    """
    is_whole, was_left_open = True, False
    for file in stores.files:
        was_left_open |= file.was_left_open
        usual = OTHERWISE if file.was_left_open else AFTER_A_CLEAN_END
        is_whole &= await file.examine(seconds or usual)
    if seconds or was_left_open:
        is_whole &= await stores.ledger.examine(seconds or OTHERWISE)
    return is_whole
