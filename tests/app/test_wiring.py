"""What a worker is built with: signing in and activation only where the settings ask for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker.app.stores import Purpose, open_stores
from worker.app.wiring import open_worker, sign_in_config, worker_config
from worker.core.clock import SystemClock
from worker.core.config import ActivationMode
from worker.core.stats import RunStats
from worker.engine import assembly
from worker.engine.assembly import Ports
from worker.engine.shutdown import Shutdown
from worker.pacing.pacer import SharedPacer
from worker.sealing import age
from worker.settings import Settings, load

VARIABLE = "MFA_WORKER_SIGN_IN__CLIENT_SECRET"


def settings(folder: Path, *more: str, secret: str = "") -> Settings:
    given = [
        "cognito.user_pool_id=eu-central-1_AbCdEfGhI",
        f"queue.path={folder / 'rollout.db'}",
        f"channel.path={folder / 'enrolments.jsonl'}",
        f"seal.recipients={json.dumps([age.keygen('today')[1]])}",
        "cognito.session_validity=5m",
    ]
    return load(None, [*given, *more], {VARIABLE: secret})


async def ports(given: Settings, monkeypatch: pytest.MonkeyPatch) -> Ports:
    """What the worker is put together from."""
    kept: list[Ports] = []
    assemble = assembly.assemble

    def keep(built: Ports, *arguments: object, **more: object) -> object:
        kept.append(built)
        return assemble(built, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("worker.app.wiring.assemble", keep)
    async with (
        open_stores(given, Purpose.RUN) as stores,
        open_worker(given, stores, stores.queue, Shutdown(), RunStats(SystemClock())),
    ):
        assert kept[0].own_sealer is stores.own
    return kept[0]


async def test_without_them_nothing_of_both_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = await ports(settings(tmp_path), monkeypatch)
    assert (built.sign_ins, built.sign_in_pacer, built.own_sealer) == (None, None, None)
    assert sign_in_config(settings(tmp_path)) is None


@pytest.mark.parametrize("flow", ["custom_auth", "user_password", "admin_user_password"])
async def test_users_are_signed_in_at_a_pace_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: str
) -> None:
    more = (f"sign_in.flow={flow}", "sign_in.client_id=a1", "activation.mode=prefer", "sign_in.requests_per_second=7")
    built = await ports(given := settings(tmp_path, *more, secret="hunter2"), monkeypatch)
    assert id(built.sign_ins) == id(built.provider)
    assert isinstance(built.sign_in_pacer, SharedPacer)
    assert built.sign_in_pacer is not built.pacer
    assert built.own_sealer is not None
    config = sign_in_config(given)
    assert config is not None
    assert (config.flow, config.client_id, config.user_pool_id) == (flow, "a1", "eu-central-1_AbCdEfGhI")
    assert config.session_validity == 300
    assert config.client_secret is not None
    assert config.client_secret.reveal() == "hunter2"
    assert "hunter2" not in repr(config)


def test_the_worker_is_told_the_mode_and_warns_of_no_session_that_it_verifies_itself(tmp_path: Path) -> None:
    plain = worker_config(settings(tmp_path), "w")
    assert (plain.activation, plain.look_first, plain.warn_of_sessions) == (ActivationMode.NONE, True, True)
    for mode in ("verify", "prefer"):
        config = worker_config(settings(tmp_path, f"activation.mode={mode}", "sign_in.look_first=false"), "w")
        assert (config.activation, config.look_first, config.warn_of_sessions) == (ActivationMode(mode), False, False)
