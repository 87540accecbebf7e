"""Whether somebody can open what the worker seals: a trial is sealed, and opened again, before anybody is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from worker.adapters.checks.findings import Finding, advice, fails, not_checked, ok
from worker.adapters.ledgers.found import RECIPIENTS
from worker.app import sealed_to
from worker.core.errors import UsageError, WorkerError
from worker.core.ports import Found
from worker.core.recipients import Kind, Recipient
from worker.core.text import shortened
from worker.sealing.age import AgeOpener, PluginTroubleError, opened_with
from worker.sealing.identities import Identity
from worker.sealing.in_children import CHILDREN, SealerInChildren
from worker.sealing.trial import TRIAL, opened_sealer, sealer_to, try_out
from worker.settings import Settings


def look(recipients: Sequence[str], identities: Sequence[Path], rate: float = 0.0) -> list[Finding]:
    """Seal to the recipients (``seal.recipients``), and open with these key files, if there are any.

    ``rate``: how many records are to be sealed a second, where that can be too many.
    """
    try:
        sealer = sealer_to(recipients)
        try:
            seconds = min(try_out(sealer).seconds for _ in range(2))
        finally:
            sealer.close()
    except WorkerError as error:
        return [fails("seal", str(error), error.hint)]
    known = sealer.recipients
    found = [ok("seal", f"{len(known)} recipients: {_listed(known)}")]
    if len(known) < 2:
        found = [advice("seal", f"one recipient: {_listed(known)}", "a lost identity loses every secret: seal to two")]
    if isinstance(sealer, SealerInChildren) and seconds * rate > CHILDREN / 2:
        found.append(
            advice(
                "seal",
                f"a plugin takes {seconds * 1000:.0f} ms to seal a record, and {rate:g} a second are to be sealed",
                "lower rate.requests_per_second, or name a key that needs no plugin at the worker (age1tag1…)",
            )
        )
    if not identities:
        said = "nobody tried to open what is sealed"
        return [*found, not_checked("seal", said, "mfa-worker check -i KEYFILE does, best where the identity is")]
    try:
        return [*found, *_opened(known, AgeOpener(identities))]
    except WorkerError as error:
        return [*found, fails("identity", str(error), error.hint)]


def of_the_ledger(settings: Settings, found: Found) -> list[Finding]:
    """Return the findings about the recipients that the ledger was begun with."""
    try:
        sealed_to.refuse_others(settings, found)
    except UsageError as refused:
        return [fails("seal", str(refused), refused.hint)]
    if not found.has_users or RECIPIENTS not in found.stamp:
        return []
    before = sealed_to.earlier(found)
    if not before:
        return [ok("seal", "this rollout has sealed to these recipients from its beginning")]
    return [advice("seal", "; ".join(shortened(before, 5)), "keep the earlier keys: only they open what is older")]


def _listed(recipients: Sequence[Recipient]) -> str:
    return "; ".join(shortened([f"{each.words}, {each.short}" for each in recipients], 10))


def _opened(recipients: Sequence[Recipient], opener: AgeOpener) -> list[Finding]:
    """Try each recipient alone: who can open what is sealed to it can open what is sealed to all."""
    found: list[Finding] = []
    left: list[str] = []
    for number, each in enumerate(recipients, 1):
        said = f"number {number} of seal.recipients ({each.words}, {each.short})"
        trial = _sealed_to(each)
        fitting = (identity for identity in opener.identities if _may_fit(identity, each))
        if by := next((identity.file for identity in fitting if _opens(trial, identity, found)), ""):
            found.append(ok("seal", f"a record sealed to {said} was opened again with {by}"))
        else:
            left.append(said)
    if len(left) == len(recipients):
        cure = "put the public key of this identity there (age-keygen -y KEYFILE prints it), or name another key file"
        found.append(fails("seal", "what is sealed to seal.recipients does not open with this identity", cure))
    elif left:
        said = f"nobody tried to open what is sealed to {', '.join(left)}"
        found.append(not_checked("seal", said, "name their identities too, with -i"))
    return [*found, *(not_checked("identity", f"not used: {words}") for words in opener.unused)]


def _sealed_to(recipient: Recipient) -> bytes:
    with opened_sealer([recipient.text]) as sealer:
        return sealer.seal(TRIAL)


def _may_fit(identity: Identity, recipient: Recipient) -> bool:
    """Whether it is worth a try: hardware may want to be touched for each."""
    if identity.plugin:
        return recipient.plugin == identity.plugin or recipient.kind in (Kind.TAG, Kind.TAG_PQ)
    return not recipient.plugin and identity.recipient in ("", recipient.text)


def _opens(trial: bytes, identity: Identity, found: list[Finding]) -> bool:
    try:
        return opened_with(trial, [identity]) == TRIAL
    except PluginTroubleError as trouble:
        cure = "put the hardware in, unlock it, and check again"
        found.append(fails("identity", f"{identity.file}: {trouble}", cure))
    except ValueError:
        pass
    return False
