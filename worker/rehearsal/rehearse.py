"""The command ``rehearse``: runs the unchanged worker against a fake Cognito, and then proves the result.

``script`` does what a migration script would do; here it is run beside the worker, and again for those users who are
left and whom another request may help. ``proof`` compares what came of it with what the fake Cognito knows.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TextIO

from worker.adapters.private_files import refuse_foreign_folder
from worker.app.run import RunOptions, run_async, run_worker
from worker.app.stores import open_stores
from worker.core.errors import ExitCode, UsageError
from worker.core.model import NOT_ACTIVATED, State
from worker.core.shell import quoted
from worker.rehearsal.fake_cognito.client import FakeCognito, start_fake_cognito
from worker.rehearsal.proof import Proof, prove, show
from worker.rehearsal.scenario import CHANNEL, Scenario
from worker.rehearsal.script import migration_script
from worker.sealing import age
from worker.settings import Settings

IDENTITY = "identity.txt"
"""The name of the file with the rehearsal's own identity."""


async def rehearse(scenario: Scenario, folder: Path, out: TextIO, *, as_json: bool) -> int:
    """Rehearse in ``folder`` and print the proof.

    Return 0 if every promise was kept, 1 if not, or the exit code of a run that was stopped.
    """
    text, recipient = age.keygen("rehearsal")
    identity = folder / IDENTITY
    age.write_identity(identity, text)
    started = time.monotonic()
    async with start_fake_cognito(scenario.fake_cognito()) as fake_cognito:
        settings = scenario.settings(fake_cognito, folder, recipient)
        proof = Proof(scenario.users)
        code = await _enrol_everybody(scenario, settings, fake_cognito, proof)
        await prove(proof, scenario, settings, fake_cognito, identity)
    proof.stopped = code not in (ExitCode.DONE, ExitCode.SOME_LEFT_OUT)
    proof.seconds = time.monotonic() - started
    show(proof, out, as_json=as_json)
    if proof.stopped:
        return code
    return ExitCode.DONE if proof.holds else ExitCode.SOME_LEFT_OUT


async def _enrol_everybody(scenario: Scenario, settings: Settings, fake_cognito: FakeCognito, proof: Proof) -> int:
    """Run the worker for all users, and again for those who are left; return the last run's exit code."""
    everybody: Iterable[str] = (f"user-{number}" for number in range(scenario.users))
    code = await _run(scenario, settings, fake_cognito, everybody)
    for _ in range(scenario.rounds):
        again = [name async for name in _left(scenario, settings)] if code == ExitCode.SOME_LEFT_OUT else []
        if not again:
            break
        proof.signed_in_again += len(again)
        code = await _run(scenario, settings, fake_cognito, again)
    return code


async def _left(scenario: Scenario, settings: Settings) -> AsyncIterator[str]:
    """Whoever needs a session, or was delivered and is not active.

    A script that signs users in itself gets no Session for the latter to enrol with, if they are verified in truth.
    """
    async with open_stores(settings) as stores:
        async for page in stores.ledger.listed(State.NEEDS_SESSION):
            for user in page:
                yield user.username
        if scenario.origin == "sessions":
            return
        async for page in stores.ledger.listed(State.DELIVERED):
            for user in page:
                if user.reason in NOT_ACTIVATED:
                    yield user.username


async def _run(scenario: Scenario, settings: Settings, fake_cognito: FakeCognito, usernames: Iterable[str]) -> int:
    all_pushed = asyncio.Event()
    async with migration_script(scenario, settings, fake_cognito, usernames, all_pushed):
        return await run_worker(settings, RunOptions(rehearses=True), until=all_pushed)


def _make_empty(keep: Path) -> None:
    """Make the folder. Raises ``UsageError`` where that cannot be, or where it holds an earlier rehearsal."""
    try:
        refuse_foreign_folder(keep, what="--keep", cure="name another folder with --keep DIR")
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {keep}: {error.strerror}", "name another folder with --keep DIR") from None
    if (keep / IDENTITY).exists():
        raise UsageError(f"{keep} holds an earlier rehearsal", "name another folder with --keep DIR, or remove it")


def rehearse_in(scenario: Scenario, keep: Path | None, out: TextIO, *, as_json: bool) -> int:
    """Rehearse in the folder ``keep``, or else in a temporary one; return the exit code."""
    if keep is not None:
        _make_empty(keep)
        code = run_async(rehearse(scenario, keep, out, as_json=as_json))
        if not as_json and (keep / CHANNEL).exists():
            identity, letters, sealed = (quoted(str(keep / name)) for name in (IDENTITY, "letters.pdf", CHANNEL))
            out.write(f"what people get: mfa-worker open -i {identity} --letters {letters} {sealed}\n")
        return code
    with tempfile.TemporaryDirectory(prefix="mfa-worker-rehearsal-") as folder:
        code = run_async(rehearse(scenario, Path(folder), out, as_json=as_json))
    if code != ExitCode.DONE and not as_json:
        out.write("what it wrote is gone; to look closer, rehearse again and keep it: --keep DIR\n")
    return code
