"""The proof of a rehearsal: what the worker recorded and delivered, compared with what the fake Cognito knows.

Every delivered secret is opened; of each user only the newest secret is valid. Whoever is active must be able to sign
in with a code of the opened secret.
"""

from __future__ import annotations

import io
import json
from collections.abc import Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from worker.adapters import channels
from worker.app.stores import Stores, open_stores
from worker.core.causes import why
from worker.core.model import ENROLLED, Counts, State
from worker.rehearsal.fake_cognito.client import FakeCognito, Stats
from worker.rehearsal.fake_cognito.operations import Category
from worker.rehearsal.scenario import Scenario
from worker.rehearsal.signing_in import sign_in_with_codes
from worker.sealing.open import open_files
from worker.settings import Settings


@dataclass(slots=True)
class Proof:
    """What the rehearsal found; these fields are what ``rehearse --json`` prints."""

    users: int
    """Users who were pushed."""
    states: dict[str, int] = field(default_factory=dict)
    """How many users are in each of the ledger's states."""
    reasons: dict[str, int] = field(default_factory=dict)
    """How many there are for each of its reasons."""
    signed_in_again: int = 0
    """How many users were pushed again because they were left; a user may count several times."""
    unaccounted: int = 0
    """Users who are neither in the ledger nor waiting on the queue."""
    stale: int = 0
    """Delivered users whose newest record is not the newest secret of the fake Cognito."""
    called_at_once: int = 0
    """Users for whom two calls overlapped, or two sign-ins."""
    stopped: bool = False
    """The run ended before everybody had an outcome."""
    wire_requests: int = 0
    """Requests that the fake Cognito saw, without sign-ins and looks."""
    refused: int = 0
    """How many of these requests were over the quota."""
    secrets_issued: int = 0
    """Secrets that the fake Cognito issued."""
    largest_second: int = 0
    """The most requests within any one second."""
    quota_used: float | None = None
    """The part of the quota that was used; ``None`` if it cannot be computed."""
    seconds: float = 0.0
    """How long the rehearsal took."""
    calls_a_user: float | None = None
    """Requests for each user who was delivered; ``None`` where nobody was."""
    users_per_second: float | None = None
    """Users who were delivered for each second from the first of these requests to the last."""
    sign_ins: int = 0
    """Sign-in requests that the fake Cognito saw, answers to challenges too."""
    sign_ins_refused: int = 0
    """How many of them were over their quota."""
    looks: int = 0
    """How often it was asked whether a user has TOTP."""
    not_active: int | None = None
    """Users who are accounted for and not active; ``None`` where nobody was to be."""
    signed_in_with_code: int | None = None
    """Active users who signed in with a code of the opened record at the end; ``None`` where that was not asked for."""
    cannot_sign_in: int | None = None
    """Active users who could not."""
    verified_unseen: int = 0
    """Users whose secret the fake Cognito verified, and whom the ledger has neither as active nor as delivered."""

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        broken = self.unaccounted or self.stale or self.called_at_once or self.cannot_sign_in or self.verified_unseen
        return not broken


async def prove(
    proof: Proof, scenario: Scenario, settings: Settings, fake_cognito: FakeCognito, identity: Path
) -> None:
    """Compare, and sign the active users in."""
    stats = await fake_cognito.stats()
    _measure(proof, stats)
    async with open_stores(settings) as stores:
        counts: Counts = await stores.counts()
        active = await _users_in(stores, State.ACTIVE)
        enrolled = active | await _users_in(stores, State.DELIVERED)
        waiting = (await stores.queue.backlog()).waiting
    proof.states = {state.value: number for state, number in counts.states.items()}
    proof.reasons = {reason: number for reason, number in sorted(counts.reasons.items()) if number}
    proof.unaccounted = max(0, proof.users - counts.accepted - waiting)
    delivered = channels.kind_of(settings.channel).source(settings.channel)
    newest = _delivered_secrets(Path(delivered), identity)
    await _compare(proof, fake_cognito, enrolled, newest)
    if done := sum(counts.states.get(state, 0) for state in ENROLLED):
        proof.calls_a_user = stats.wire_requests / done
        took = (stats.last_arrival or 0.0) - (stats.first_arrival or 0.0)
        proof.users_per_second = done / took if took > 0 else None
    if settings.activation.mode != "none":
        proof.not_active = counts.accepted - len(active)
    if settings.activation.mode == "prefer" or (settings.activation.mode == "verify" and scenario.mfa == "required"):
        # Everybody is asked for a code then. Faults and quotas are the worker's trial, not the users'.
        await fake_cognito.configure(faults=(), quota=None, sign_in_quota=None, latency=0.0)
        able = await sign_in_with_codes(fake_cognito, {name: newest.get(name, "") for name in active})
        proof.signed_in_with_code, proof.cannot_sign_in = len(able), len(active - able)


async def _users_in(stores: Stores, state: State) -> set[str]:
    return {user.username async for page in stores.ledger.listed(state) for user in page}


async def _compare(proof: Proof, fake_cognito: FakeCognito, enrolled: Set[str], newest: dict[str, str]) -> None:
    issued = 0
    async for truth in fake_cognito.truth_lines():
        if truth.username in enrolled:
            issued += 1
            proof.stale += newest.get(truth.username) != truth.secrets[-1].secret_code
        else:
            proof.verified_unseen += truth.verified is not None
    proof.stale += len(enrolled) - issued  # these users have a delivered secret that was never issued


def _measure(proof: Proof, stats: Stats) -> None:
    proof.called_at_once = len(stats.overlapping.keys() | stats.sign_ins_overlapping.keys())
    proof.wire_requests = stats.wire_requests
    proof.refused = stats.refused
    proof.secrets_issued = stats.issued
    proof.largest_second = stats.largest_window
    proof.quota_used = stats.utilisation
    sign_ins = [stats.categories[each] for each in (Category.SIGN_INS, Category.ANSWERS)]
    proof.sign_ins = sum(each.wire_requests for each in sign_ins)
    proof.sign_ins_refused = sum(each.refused for each in sign_ins)
    proof.looks = stats.looked


def _delivered_secrets(channel: Path, identity: Path) -> dict[str, str]:
    """Open the channel's file; return each user's newest secret."""
    if not channel.exists():
        return {}
    opened = io.StringIO()
    open_files([str(channel)], [identity], opened)
    opened.seek(0)
    return {record["username"]: record["secret_code"] for record in map(json.loads, opened)}


def show(proof: Proof, out: TextIO, *, as_json: bool) -> None:
    """Print the proof."""
    if as_json:
        out.write(json.dumps({**asdict(proof), "holds": proof.holds}) + "\n")
        return
    out.writelines(f"{name:<19} {text}\n" for name, text in _rows(proof))
    out.write(f"{_verdict(proof)}, in {proof.seconds:.1f} s\n")


def _rows(proof: Proof) -> list[tuple[str, str]]:
    states = ", ".join(f"{number:,} {state}" for state, number in sorted(proof.states.items()) if number)
    used = f"{proof.quota_used:.1%} of the quota used, " if proof.quota_used is not None else ""
    rows = [
        ("users", f"{proof.users:,}: {states}"),
        *(("", f"{number:,} {reason}: {why('', reason).cause}") for reason, number in proof.reasons.items()),
        ("signed in again", f"{proof.signed_in_again:,}"),
        (
            "requests",
            f"{proof.wire_requests:,}: {used}{proof.refused:,} refused, {proof.largest_second:,} in the busiest second",
        ),
    ]
    if proof.calls_a_user is not None and proof.users_per_second is not None:
        rows.append(("pace", f"{proof.calls_a_user:.2f} calls a user, {proof.users_per_second:.1f} users/s"))
    if proof.sign_ins:
        looks = f", and {proof.looks:,} looks" if proof.looks else ""
        rows.append(("sign-in requests", f"{proof.sign_ins:,}: {proof.sign_ins_refused:,} refused{looks}"))
    rows += [
        ("secrets issued", f"{proof.secrets_issued:,}"),
        ("unaccounted for", f"{proof.unaccounted:,}"),
        ("stale secrets", f"{proof.stale:,}"),
        ("overlapping calls", f"{proof.called_at_once:,}"),
    ]
    if proof.not_active is not None:
        rows += [("not active", f"{proof.not_active:,}"), ("verified, not known", f"{proof.verified_unseen:,}")]
    if proof.signed_in_with_code is not None:
        with_code = f"{proof.signed_in_with_code:,} of the active, with a code from the opened record"
        rows += [("can sign in", with_code), ("cannot sign in", f"{proof.cannot_sign_in:,}")]
    return rows


def _verdict(proof: Proof) -> str:
    if not proof.holds:
        return "A PROMISE WAS BROKEN"
    return "stopped, with every promise held so far" if proof.stopped else "every promise held"
