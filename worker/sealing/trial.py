"""The trial: a record that is nobody's is sealed to all recipients before the first call, and looked at from outside.

So a plugin that is missing or broken, and a file that not everybody could open, are found before a secret is issued.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from worker.core.age_format import LONGEST_HEADER, stanzas
from worker.core.errors import PersonMustAct, UsageError
from worker.core.recipients import Kind, Recipient, recipients
from worker.sealing.age import AgeSealer
from worker.sealing.in_children import SealerInChildren

TRIAL = b'{"trial": true}'
"""What is sealed: nobody's secret."""
_NAMES = {
    Kind.X25519: "X25519",
    Kind.SSH_ED25519: "ssh-ed25519",
    Kind.SSH_RSA: "ssh-rsa",
    Kind.TAG: "p256tag",
    Kind.TAG_PQ: "mlkem768p256tag",
}
"""The names of the stanzas for each kind of recipient (age specification)."""
_BESIDE = 512
"""Bytes of a header beside these stanzas, and those by which the next one may be longer: its random stanza."""
_GREASE = "-grease"
"""How the name of a stanza ends that is for nobody (age specification)."""
_LARGER = 1.25
"""The factor by which the stanzas of plugins may be larger later than those that were measured."""
_LARGER_BYTES = 512
"""Bytes that are added to that, for a plugin whose stanzas are small."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of the trial."""

    sealed: bytes
    seconds: float
    """How long it took."""


@contextmanager
def opened_sealer(texts: Sequence[str]) -> Iterator[AgeSealer | SealerInChildren]:
    """Yield a sealer to these recipients that has sealed the trial. Raises ``UsageError``."""
    sealer = sealer_to(texts)
    try:
        try_out(sealer)
        yield sealer
    finally:
        sealer.close()


def sealer_to(texts: Sequence[str]) -> AgeSealer | SealerInChildren:
    """Return what seals to these recipients: in this process, unless one of them needs a plugin. Raises
    ``UsageError``.
    """
    try:
        needs_plugin = any(each.plugin for each in recipients(texts))
    except ValueError:
        needs_plugin = False  # the sealer says why
    return SealerInChildren(texts) if needs_plugin else AgeSealer(texts)


def try_out(sealer: AgeSealer | SealerInChildren) -> Trial:
    """Seal the trial, and tell the sealer how large the stanzas of plugins are. Raises ``UsageError``."""
    started = time.perf_counter()
    try:
        sealed = sealer.seal(TRIAL)
    except PersonMustAct as error:  # nothing was touched yet
        raise UsageError(str(error), error.hint.partition(" Then run again")[0]) from None
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":  # what the library raises for a key of all zeros, for one
            raise
        raise UsageError(
            "age cannot seal to one of seal.recipients: it is no key that anybody can have",
            "leave out one after the other, until mfa-worker check is content",
        ) from None
    seconds = time.perf_counter() - started
    of_plugins = refuse_missing_stanzas(sealed, sealer.recipients)
    if isinstance(sealer, SealerInChildren):
        sealer.room = int(of_plugins * _LARGER) + _LARGER_BYTES
    return Trial(sealed, seconds)


def refuse_missing_stanzas(sealed: bytes, expected: Sequence[Recipient]) -> int:
    """Return the bytes of the plugins' stanzas. Raises ``UsageError`` where not every recipient has a stanza."""
    found = [(name, size) for name, size in stanzas(sealed) if not name.endswith(_GREASE)]
    native = Counter(_NAMES[each.kind] for each in expected if not each.plugin)
    missing = [*(native - Counter(name for name, _ in found)).elements()]
    if missing or len(found) < len(expected):
        what = ", ".join(missing) or "what a plugin should have made"
        raise UsageError(
            f"what was sealed as a trial can be opened by {len(found)} of {len(expected)} seal.recipients: {what} is "
            "not there",
            "a plugin is broken: bring it up to date, or take its key out of seal.recipients",
        )
    if (header := sum(size for _, size in stanzas(sealed))) > LONGEST_HEADER - _BESIDE:
        raise UsageError(
            f"what is sealed to so many seal.recipients begins with {header:,} bytes, and open reads at most "
            f"{LONGEST_HEADER:,}",
            "name fewer seal.recipients",
        )
    return sum(size for _, size in found) - sum(each.largest for each in expected)
