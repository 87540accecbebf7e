"""The command ``rehearse``: runs the unchanged worker against a fake Cognito, and then proves the result.

This file does what a migration script would do: it signs users in and pushes them, no faster than their credentials are
used. Users who need a session after the run are signed in and pushed again. At the end every delivered secret is opened
and compared with what the fake Cognito knows: of each user only the newest secret is valid.
"""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from pydantic import TypeAdapter, ValidationError

from worker.adapters import channels
from worker.app.run import RunOptions, run_async, run_worker
from worker.app.stores import Stores, open_stores
from worker.core.errors import ExitCode, UsageError
from worker.core.model import Counts, State
from worker.rehearsal.fake_cognito.client import Credential, FakeCognito, Stats, start_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.rehearsal.fake_cognito.faults import FaultError, FaultPlan
from worker.sealing import age
from worker.sealing.open import open_files
from worker.settings import Settings, load
from worker.settings.types import Seconds


@dataclass(frozen=True, slots=True)
class Scenario:
    """What to rehearse."""

    users: int = 200
    rate: float = 25.0
    """Requests/s that the worker may send."""
    quota: float | None = None
    """Requests/s that the fake Cognito accepts; ``None``: as many as the worker may send."""
    credential: str = "token"
    """Whether users get a ``token`` or a ``session``."""
    session_validity: float = 180.0
    """Seconds that a Session lives."""
    latency: float = 0.05
    """Seconds from a request to its answer."""
    faults: tuple[str, ...] = ()
    """Such as ``conflict=2%``; see ``fake_cognito.faults``."""
    rounds: int = 3
    """How many times users who need a session are signed in again."""
    seed: int = 0
    """The seed of the random numbers that choose the faults."""
    overrides: tuple[str, ...] = ()
    """Settings of the worker, as ``SECTION.KEY=VALUE``."""


@dataclass(slots=True)
class Proof:
    """What the rehearsal found; these fields are what ``rehearse --json`` prints."""

    users: int
    """Users who were signed in and pushed."""
    states: dict[str, int] = field(default_factory=dict)
    """How many users are in each of the ledger's states."""
    signed_in_again: int = 0
    """How many users were signed in again because they needed a session; a user may count several times."""
    unaccounted: int = 0
    """Users who are neither in the ledger nor waiting on the queue."""
    stale: int = 0
    """Delivered users whose newest record is not the newest secret of the fake Cognito."""
    called_at_once: int = 0
    """Users for whom two calls overlapped."""
    stopped: bool = False
    """The run ended before everybody had an outcome."""
    wire_requests: int = 0
    """Requests that the fake Cognito saw."""
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

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not (self.unaccounted or self.stale or self.called_at_once)


async def rehearse(scenario: Scenario, folder: Path, out: TextIO, *, as_json: bool) -> int:
    """Rehearse in ``folder`` and print the proof.

    Return 0 if every promise was kept, 1 if not, or the exit code of a run that was stopped.
    """
    text, recipient = age.keygen("rehearsal")
    identity = folder / "identity.txt"
    age.write_identity(identity, text)
    config = FakeCognitoConfig(
        quota=scenario.quota or scenario.rate,
        latency=scenario.latency,
        faults=scenario.faults,
        session_validity=scenario.session_validity,
        seed=scenario.seed,
    )
    started = time.monotonic()
    async with start_fake_cognito(config) as fake_cognito:
        settings = _settings(scenario, fake_cognito, folder, recipient)
        proof = Proof(scenario.users)
        code = await _enrol_everybody(scenario, settings, fake_cognito, proof)
        await _prove(proof, settings, fake_cognito, identity)
    proof.stopped = code not in (ExitCode.DONE, ExitCode.SOME_LEFT_OUT)
    proof.seconds = time.monotonic() - started
    _print(proof, out, as_json=as_json)
    if proof.stopped:
        return code
    return ExitCode.DONE if proof.holds else ExitCode.SOME_LEFT_OUT


def _settings(scenario: Scenario, fake_cognito: FakeCognito, folder: Path, recipient: str) -> Settings:
    """Return the worker's settings for this scenario."""
    chosen: dict[str, Any] = {
        "cognito.user_pool_id": fake_cognito.config.user_pool_id,
        "cognito.endpoint_url": fake_cognito.url,
        "cognito.session_validity": scenario.session_validity,
        "cognito.session_handoff": "true",
        "rate.requests_per_second": scenario.rate,
        "queue.path": folder / "rehearsal.db",
        "channel.path": folder / "enrolments.jsonl",
        "channel.min_validity": min(30.0, scenario.session_validity / 6),
        "seal.recipients": json.dumps([recipient]),
        "otp.issuer": "Rehearsal",
    }
    return load(None, [*(f"{key}={value}" for key, value in chosen.items()), *scenario.overrides], {})


async def _enrol_everybody(scenario: Scenario, settings: Settings, fake_cognito: FakeCognito, proof: Proof) -> int:
    """Run the worker for all users, and again for those who need a session; return the last run's exit code."""
    everybody: Iterable[str] = (f"user-{number}" for number in range(scenario.users))
    code = await _run(scenario, settings, fake_cognito, everybody)
    for _ in range(scenario.rounds):
        again = [row async for row in _needing_a_session(settings)] if code == ExitCode.SOME_LEFT_OUT else []
        if not again:
            break
        proof.signed_in_again += len(again)
        code = await _run(scenario, settings, fake_cognito, again)
    return code


async def _needing_a_session(settings: Settings) -> AsyncIterator[str]:
    async with open_stores(settings) as stores:
        async for page in stores.ledger.listed(State.NEEDS_SESSION):
            for user in page:
                yield user.username


async def _run(scenario: Scenario, settings: Settings, fake_cognito: FakeCognito, usernames: Iterable[str]) -> int:
    all_pushed = asyncio.Event()
    async with _migration_script(scenario, settings, fake_cognito, usernames, all_pushed):
        return await run_worker(settings, RunOptions(says_new=False), until=all_pushed)


@asynccontextmanager
async def _migration_script(
    scenario: Scenario,
    settings: Settings,
    fake_cognito: FakeCognito,
    usernames: Iterable[str],
    all_pushed: asyncio.Event,
) -> AsyncIterator[None]:
    """Sign users in and push them while the body runs, as a migration script would; set ``all_pushed`` at the end.

    Of Sessions at most as many wait at a time as the worker can use in a third of a Session's life.
    """
    most = max(1, int(scenario.rate * scenario.session_validity / 3)) if scenario.credential == "session" else 10**9

    async def feed() -> None:
        async with open_stores(settings) as stores:
            for batch in _batches(usernames, min(200, most)):
                while (await stores.queue.backlog()).waiting + len(batch) > most:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
                await _push(stores, await fake_cognito.sign_in(batch, credential=scenario.credential))  # type: ignore[arg-type]
        all_pushed.set()

    try:
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(feed())
            yield
            feeding.cancel()
    except ExceptionGroup as failed:  # of the run or the script: an error that names its cause is no bug
        raise failed.exceptions[0] from None


async def _push(stores: Stores, credentials: Sequence[Credential]) -> None:
    now = time.time()
    bodies = [json.dumps(credential.request()).encode() for credential in credentials]
    await stores.queue.push([(stores.parser.parse(body, now), body) for body in bodies])


def _batches(usernames: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(usernames)
    while batch := list(islice(rest, size)):
        yield batch


# --- the proof --------------------------------------------------------------------------------------------------------


async def _prove(proof: Proof, settings: Settings, fake_cognito: FakeCognito, identity: Path) -> None:
    async with open_stores(settings) as stores:
        counts: Counts = await stores.counts()
        enrolled = {user.username async for page in stores.ledger.listed(State.DELIVERED) for user in page}
        waiting = (await stores.queue.backlog()).waiting
    proof.states = {state.value: number for state, number in counts.states.items()}
    proof.unaccounted = max(0, proof.users - counts.accepted - waiting)
    delivered = channels.kind_of(settings.channel).source(settings.channel)
    newest = _delivered_secrets(Path(delivered), identity)
    issued = 0
    async for truth in fake_cognito.truth_lines():
        if truth.username in enrolled:
            issued += 1
            proof.stale += newest.get(truth.username) != truth.secrets[-1].secret_code
    proof.stale += len(enrolled) - issued  # these users have a delivered secret that was never issued
    _measure(proof, await fake_cognito.stats())


def _measure(proof: Proof, stats: Stats) -> None:
    proof.called_at_once = len(stats.overlapping)
    proof.wire_requests = stats.wire_requests
    proof.refused = stats.refused
    proof.secrets_issued = stats.issued
    proof.largest_second = stats.largest_window
    proof.quota_used = stats.utilisation


def _delivered_secrets(channel: Path, identity: Path) -> dict[str, str]:
    """Open the channel's file; return each user's newest secret."""
    if not channel.exists():
        return {}
    opened = io.StringIO()
    open_files([str(channel)], [identity], opened)
    opened.seek(0)
    return {record["username"]: record["secret_code"] for record in map(json.loads, opened)}


def _print(proof: Proof, out: TextIO, *, as_json: bool) -> None:
    if as_json:
        out.write(json.dumps({**asdict(proof), "holds": proof.holds}) + "\n")
        return
    states = ", ".join(f"{number:,} {state}" for state, number in sorted(proof.states.items()))
    used = f"{proof.quota_used:.1%} of the quota used, " if proof.quota_used is not None else ""
    out.write(
        f"users               {proof.users:,}: {states}\n"
        f"signed in again     {proof.signed_in_again:,}\n"
        f"requests            {proof.wire_requests:,}: {used}{proof.refused:,} refused, "
        f"{proof.largest_second:,} in the busiest second\n"
        f"secrets issued      {proof.secrets_issued:,}\n"
        f"unaccounted for     {proof.unaccounted:,}\n"
        f"stale secrets       {proof.stale:,}\n"
        f"overlapping calls   {proof.called_at_once:,}\n"
        f"{_verdict(proof)}, in {proof.seconds:.1f} s\n"
    )


def _verdict(proof: Proof) -> str:
    if not proof.holds:
        return "A PROMISE WAS BROKEN"
    return "stopped, with every promise held so far" if proof.stopped else "every promise held"


def planned(
    *,
    credential: str | None,
    session_validity: str | None,
    faults: Sequence[str],
    overrides: Sequence[str],
    **plain: Any,
) -> Scenario:
    """Return the scenario that the options of the command line describe. Raises ``UsageError``."""
    try:
        FaultPlan(faults)
        validity = TypeAdapter(Seconds).validate_python(session_validity or Scenario().session_validity)
    except FaultError as error:
        raise UsageError(str(error)) from None
    except ValidationError as error:
        raise UsageError(f"--session-validity {error.errors()[0]['msg']}", "such as 180s or 3m") from None
    return Scenario(
        credential=credential or ("session" if session_validity else "token"),
        session_validity=validity,
        faults=tuple(faults),
        overrides=tuple(overrides),
        **plain,
    )


def rehearse_in(scenario: Scenario, keep: Path | None, out: TextIO, *, as_json: bool) -> int:
    """Rehearse in the folder ``keep``, or else in a temporary one; return the exit code."""
    if keep is not None:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        return run_async(rehearse(scenario, keep, out, as_json=as_json))
    with tempfile.TemporaryDirectory(prefix="mfa-worker-rehearsal-") as folder:
        return run_async(rehearse(scenario, Path(folder), out, as_json=as_json))
