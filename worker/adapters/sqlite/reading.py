"""Reads rows of a file that may be damaged: text that is no UTF-8 any more is still read, so that its row can be named.

Python's ``sqlite3`` gives up the whole answer for one such text, and does not say in which row it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

_NO_UTF8 = "Could not decode to UTF-8"
"""How the message of that error begins (Python's ``_sqlite/cursor.c``)."""


def is_no_utf8(error: BaseException) -> bool:
    """Whether the error means that a text in the file is damaged."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith(_NO_UTF8)


def fetched(connection: sqlite3.Connection, query: str, parameters: Mapping[str, str]) -> list[Any]:
    """The rows; in text that is no UTF-8, each wrong byte is a lone surrogate, as Python writes such names of files."""
    try:
        return connection.execute(query, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if not is_no_utf8(error):
            raise
    factory = connection.text_factory
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    try:
        return connection.execute(query, parameters).fetchall()
    finally:
        connection.text_factory = factory
