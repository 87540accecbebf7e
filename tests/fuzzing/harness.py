"""What every parser of foreign bytes has to keep, whoever makes up the bytes: hypothesis, atheris, or the kept corpus.

A *target* feeds bytes to a parser. The parser may raise what it documents and nothing else; and where ``MARKER``, which
stands for a credential, is among the bytes, no words that come of them (errors, tracebacks, log lines) repeat it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from structlog.testing import capture_logs

MARKER = b"Pl4nt3d-Cr3d3nt1al+"
"""It looks like nothing that may be repeated: no code of Cognito's, no misspelt key, no challenge."""
CORPUS = Path(__file__).with_name("corpus")
"""A folder for each target, with a file for each input."""


def text_of(data: bytes) -> str:
    """The text in these bytes: with halves of characters, as JSON can make them, where it has some."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


Shape = Callable[[int], bytes]
"""Makes an input of about so many bytes."""


@dataclass(frozen=True)
class Target:
    """One parser."""

    parse: Callable[[bytes], object]
    """Feeds it. What it returns is words for people, if it is text: they repeat no credential."""
    seeds: tuple[bytes, ...]
    """Inputs that are right, or nearly so."""
    documented: tuple[type[Exception], ...] = ()
    """What may be raised."""
    repeats: Callable[[bytes], bool] = lambda _: False
    """Whether the words may repeat the marker in these bytes: it stands where a name stands."""
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    """Inputs that can be made longer and longer, and for which time and memory may grow no faster than they do."""


class RepeatedError(AssertionError):
    """Words for people repeat what may be a credential."""


def examine(target: Target, data: bytes) -> None:
    """Feed these bytes to the target. Raises whatever it must not raise, and ``RepeatedError``."""
    with capture_logs() as logged:
        try:
            found = target.parse(data)
            words = found if isinstance(found, str) else ""
        except target.documented as error:
            words = f"{error} {error!r} {getattr(error, 'hint', '')}" + "".join(traceback.format_exception(error))
    if MARKER in data and not target.repeats(data):
        for said in (words, str(logged)):
            if MARKER.decode() in said:
                raise RepeatedError(said[:2_000])
