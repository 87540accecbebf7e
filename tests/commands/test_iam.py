"""What pusher and worker really send to AWS, recorded on its way, is what their policies allow."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.setup.test_policies import IAM_ACTIONS, allowed
from tests.support.checking import POOL, aws_settings, initialized
from tests.support.emulators import Emulator
from worker.adapters.aws.session import Aws
from worker.app.recorded import RecordedSecrets
from worker.app.stores import open_channel, open_stores
from worker.core.model import Enrolment, Sealed, State
from worker.setup import checks
from worker.setup.policies import Role


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The operations that were called, as ``service:Operation``."""
    calls = set[str]()
    client_of = Aws.client

    async def recorded(aws: Aws, service: str) -> Any:
        client = await client_of(aws, service)

        def note(model: Any, **_: Any) -> None:
            calls.add(f"{service}:{model.name}")

        client.meta.events.register("before-call", note, unique_id="recorded")
        return client

    monkeypatch.setattr(Aws, "client", recorded)
    return calls


def actions(sent: set[str]) -> set[str]:
    return {action for call in sent for action in IAM_ACTIONS.get(call, (call,))}


async def test_what_is_sent_is_allowed(ministack: Emulator, aws_credentials: None, sent: set[str]) -> None:
    async with ministack.aws() as aws:
        key = (await (await aws.client("kms")).create_key())["KeyMetadata"]["KeyId"]
    settings = aws_settings(ministack, f"channel.kms_key_id={key}")
    sent.clear()
    await initialized(settings, ministack)
    assert actions(sent) <= allowed(Role.OPERATOR)

    sent.clear()
    body = json.dumps({"username": "ana", "session": "s" * 40}).encode()
    async with open_stores(settings) as stores:
        await stores.queue.push([(stores.parser.parse(body, time.time()), body)])
        await stores.queue.put_aside("is not JSON", "0" * 16)
        await stores.ledger.read("ana")
        await stores.queue.backlog()
    assert {"sqs:SendMessage", "dynamodb:UpdateItem"} <= actions(sent) <= allowed(Role.PUSHER)

    sent.clear()
    async with open_stores(settings) as stores, open_channel(settings) as channel:
        deadline = time.monotonic() + 20
        while not (leases := await stores.queue.lease(1)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        row = Enrolment("ana", State.IN_PROGRESS, time.time(), 1, "one")
        await stores.ledger.put(row, None)
        assert [found.username async for page in stores.ledger.listed(State.IN_PROGRESS) for found in page] == ["ana"]
        assert [found.username async for found in stores.ledger.unfinished()] == ["ana"]
        await channel.deliver("ana", Sealed(1, "attempt", "2025-01-01T00:00:00Z", b"sealed"))
        await stores.queue.acknowledge(leases[0])
        await stores.ledger.count(malformed=1)
        await stores.recount()
        await stores.queue.close()
    run = actions(sent)
    assert {"sqs:ReceiveMessage", "sqs:DeleteMessage", "s3:PutObject", "dynamodb:Scan", "dynamodb:Query"} <= run
    assert run <= allowed(Role.WORKER)

    sent.clear()
    await checks.check(settings)
    assert settings.cognito.user_pool_id == POOL
    assert actions(sent) <= allowed(Role.WORKER) | allowed(Role.OPERATOR)

    sent.clear()
    ledger = RecordedSecrets(settings, None)
    told: list[str] = []
    for each in (ledger, RecordedSecrets(settings, ["ana"])):
        await asyncio.to_thread(each.check)
        await asyncio.to_thread(each.read, lambda page: told.extend(row.username for row in page))
    assert told == ["ana", "ana"]
    assert {"dynamodb:Scan", "dynamodb:BatchGetItem"} <= actions(sent) <= allowed(Role.OPENER)
