"""Whether somebody can open what the worker seals: a trial is sealed, and opened again, before anybody is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from worker.adapters.checks.findings import Finding, advice, fails, not_checked, ok
from worker.core.errors import WorkerError
from worker.sealing.age import AgeOpener, AgeSealer

TRIAL = b'{"trial": true}'
"""What is sealed: nobody's secret."""


def look(recipients: Sequence[str], identities: Sequence[Path]) -> list[Finding]:
    """Seal to the recipients (``seal.recipients``), and open with these key files, if there are any."""
    try:
        AgeSealer(recipients).seal(TRIAL)
    except WorkerError as error:
        return [fails("seal", str(error), error.hint)]
    number = len(set(recipients))
    found = [ok("seal", f"{number} recipients")]
    if number < 2:
        found = [advice("seal", "one recipient", "a lost identity loses every secret: seal to two")]
    if number < len(recipients):
        found.append(
            advice("seal", "a recipient is named twice in seal.recipients", "name another one: two are better")
        )
    if not identities:
        said = "nobody tried to open what is sealed"
        return [*found, not_checked("seal", said, "mfa-worker check -i KEYFILE does, best where the identity is")]
    try:
        opener = AgeOpener(identities)
    except WorkerError as error:
        return [*found, fails("identity", str(error), error.hint)]
    return [*found, *_opened(recipients, opener)]


def _opened(recipients: Sequence[str], opener: AgeOpener) -> list[Finding]:
    """Try each recipient alone: who can open what is sealed to it can open what is sealed to all."""
    opened = [number for number, each in enumerate(recipients, 1) if _opens(AgeSealer([each]).seal(TRIAL), opener)]
    unused = [not_checked("identity", f"not used: {words}") for words in opener.unused]
    if not opened:
        cure = "put the public key of this identity there (age-keygen -y KEYFILE prints it), or name another key file"
        return [fails("seal", "what is sealed to seal.recipients does not open with this identity", cure), *unused]
    rest = [f"number {number}" for number in range(1, len(recipients) + 1) if number not in opened]
    found = [ok("seal", f"a record sealed to number {', '.join(map(str, opened))} of seal.recipients was opened again")]
    if rest:
        said = f"nobody tried to open what is sealed to {', '.join(rest)} of seal.recipients"
        found.append(not_checked("seal", said, "name their identities too, with -i"))
    return [*found, *unused]


def _opens(sealed: bytes, opener: AgeOpener) -> bool:
    try:
        return opener.open(sealed) == TRIAL
    except ValueError:
        return False
