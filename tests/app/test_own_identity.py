"""Which identity of its own a worker activates with: made where a rollout begins, and bound to its ledger."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.support.rows import activation, row, sealed
from worker.app.stores import Purpose, open_stores
from worker.core.errors import UsageError
from worker.core.model import Reason, State
from worker.sealing import age
from worker.sealing.own import read_own
from worker.settings import Settings, load
from worker.setup import checks

OPENS = age.keygen("today")[1]
"""The recipient that delivered secrets are sealed to."""


def settings(folder: Path, *more: str, mode: str = "verify") -> Settings:
    given = [
        "cognito.user_pool_id=eu-central-1_AbCdEfGhI",
        f"queue.path={folder / 'rollout.db'}",
        f"channel.path={folder / 'enrolments.jsonl'}",
        f"seal.recipients={json.dumps([OPENS])}",
        f"activation.mode={mode}",
    ]
    return load(None, [*given, *more], {})


def own_file(folder: Path) -> Path:
    return folder / "activation-identity.txt"


async def begin(given: Settings, **fields: object) -> str:
    """One run in which a user gets a row; the recipient of its own identity."""
    async with open_stores(given, Purpose.RUN) as stores:
        await stores.ledger.put(row(**fields), None)  # type: ignore[arg-type]
        return stores.own.recipient if stores.own else ""


async def refused(given: Settings) -> UsageError:
    with pytest.raises(UsageError) as caught:
        async with open_stores(given, Purpose.RUN):
            pass
    assert caught.value.hint
    return caught.value


async def test_it_is_made_beside_the_ledger_and_used_again(tmp_path: Path) -> None:
    first = await begin(settings(tmp_path))
    assert stat.S_IMODE(own_file(tmp_path).stat().st_mode) == 0o600
    assert read_own(own_file(tmp_path)).recipient == first
    async with open_stores(settings(tmp_path, mode="prefer"), Purpose.RUN) as stores:
        assert stores.own is not None
        assert stores.own.recipient == first


async def test_without_activation_and_for_other_commands_none_is_made_or_read(tmp_path: Path) -> None:
    assert not await begin(settings(tmp_path, mode="none"))
    for purpose in (Purpose.PUSH, Purpose.EXISTING):
        async with open_stores(settings(tmp_path), purpose) as stores:
            assert stores.own is None
    assert not own_file(tmp_path).exists()


async def test_none_is_made_beside_another_rollouts_ledger(tmp_path: Path) -> None:
    await begin(settings(tmp_path, mode="none"))
    another = await refused(settings(tmp_path, "cognito.user_pool_id=eu-central-1_Another"))
    assert "belongs to another rollout" in str(another)
    assert not own_file(tmp_path).exists()


async def test_a_rollout_that_began_without_activation_may_go_on_with_it(tmp_path: Path) -> None:
    await begin(settings(tmp_path, mode="none"))
    async with open_stores(settings(tmp_path), Purpose.RUN) as stores:
        await stores.ledger.put(row("ben"), None)
    own_file(tmp_path).unlink()
    assert "is gone" in str(await refused(settings(tmp_path))), "since it is stamped now"


async def test_one_that_is_gone_is_never_made_anew(tmp_path: Path) -> None:
    recipient = await begin(settings(tmp_path))
    kept = own_file(tmp_path).read_bytes()
    own_file(tmp_path).unlink()
    said = await refused(settings(tmp_path))
    assert recipient in str(said)
    assert "backup" in said.hint
    assert not own_file(tmp_path).exists()
    own_file(tmp_path).write_bytes(kept)
    own_file(tmp_path).chmod(0o600)
    async with open_stores(settings(tmp_path), Purpose.RUN) as stores:
        assert stores.own is not None


async def test_another_one_is_refused_with_both_recipients(tmp_path: Path) -> None:
    recipient = await begin(settings(tmp_path))
    text, other = age.keygen("today")
    age.write_identity(tmp_path / "other.txt", text)
    said = str(await refused(settings(tmp_path, f"activation.identity={tmp_path / 'other.txt'}")))
    assert recipient in said
    assert other in said


async def test_one_that_is_named_is_not_made(tmp_path: Path) -> None:
    named = tmp_path / "own.txt"
    said = await refused(settings(tmp_path, f"activation.identity={named}"))
    assert "does not exist" in str(said)
    assert f"mfa-worker keygen -o {named}" in said.hint
    assert not named.exists()
    assert not (tmp_path / "rollout.db").exists(), "nothing was begun"


async def test_it_must_not_open_what_is_delivered(tmp_path: Path) -> None:
    text, recipient = age.keygen("today")
    age.write_identity(own_file(tmp_path), text)
    said = str(await refused(settings(tmp_path, f"seal.recipients={json.dumps([OPENS, recipient])}")))
    assert "activation.identity and seal.recipients" in said


@pytest.mark.parametrize(
    ("state", "reason"), [(State.DELIVERED, Reason.ACTIVATION_PENDING), (State.SEALED, None), (State.IN_PROGRESS, None)]
)
async def test_nobody_who_is_being_activated_is_left_to_a_worker_that_does_not(
    tmp_path: Path, state: State, reason: Reason | None
) -> None:
    await begin(settings(tmp_path), state=state, reason=reason, sealed=sealed(), activation=activation())
    said = await refused(settings(tmp_path, mode="none"))
    assert "activation.mode is none" in str(said)
    assert "'ana'" in str(said)
    assert 'activation.mode = "verify"' in said.hint
    assert str(said) in [finding.said for finding in await checks.check(settings(tmp_path, mode="none"))]


async def test_whoever_is_left_to_a_person_holds_up_no_worker_that_does_not_activate(tmp_path: Path) -> None:
    fields = {"state": State.DELIVERED, "reason": Reason.VERIFY_TOKEN_EXPIRED, "activation": activation()}
    await begin(settings(tmp_path), **fields)
    async with open_stores(settings(tmp_path, mode="none"), Purpose.RUN) as stores:
        assert (await stores.ledger.counts()).left_to_a_person == 1
