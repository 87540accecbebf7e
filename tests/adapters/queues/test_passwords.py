"""Requests with a password have an id that nothing of the password is in, whichever way they come."""

from __future__ import annotations

import json
import time

import pytest

from tests.adapters.queues.rigs import Intake, SqliteQueues, SqsQueues
from tests.adapters.queues.test_every_queue import ids, lease, put_aside
from tests.support.messages import POOL, Pipe
from worker.adapters.queues.sqs.copies import copy_of, named
from worker.adapters.queues.stream import StreamQueue
from worker.core.clock import SystemClock
from worker.core.model import NEVER
from worker.core.ports import Deadlines
from worker.requests.message import Parser

PARSER = Parser(POOL, 180.0, flow="user_password")
PASSWORD = "correct horse"


def message(username: str = "ada", **keys: object) -> bytes:
    return json.dumps({"username": username, "password": PASSWORD, **keys}).encode()


@pytest.fixture(autouse=True)
def passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the queues under test read requests with passwords."""
    monkeypatch.setattr("tests.adapters.queues.rigs.PARSER", PARSER)


async def test_a_message_that_nobody_pushed_is_the_same_request_when_it_comes_again(intake: Intake) -> None:
    await intake.give([message()])
    (first,) = await lease(intake.queue, 1)
    assert first.request.expires_at == NEVER
    await intake.queue.give_back(first, 0)
    (again,) = await lease(intake.queue, 1)
    assert again.request == first.request
    await intake.queue.acknowledge(again)


async def test_two_messages_that_are_alike_are_two_requests(intake: Intake) -> None:
    await intake.give([message("ada"), message("bob")])
    one, other = await lease(intake.queue, 2)
    assert one.request.id != other.request.id


async def test_nothing_of_what_is_malformed_is_digested(intake: Intake) -> None:
    await intake.give([message(pasword="x"), b"ada,hunter2", message("bob", id="1")])
    assert ids(await lease(intake.queue, 1)) == ["1"]
    assert list(await intake.queue.lease(9)) == []
    assert {found for _, found, _ in await put_aside(intake, 2)} == {"withheld"}


async def test_a_line_of_a_pipe_keeps_its_id_on_the_queue_behind(sqlite_queues: SqliteQueues, pipe: Pipe) -> None:
    async with sqlite_queues.open() as behind:
        stream = StreamQueue(str(pipe.path), PARSER, SystemClock(), behind, behind)
        pipe.opened()
        pipe.write(message() + b"\n" + message("bob") + b"\n")
        (first,) = await stream.lease(1)
        await stream.close()
        moved = {each.request.username: each.request.id for each in await behind.lease(9)}
        assert moved.keys() == {"ada", "bob"}
        assert moved["ada"] == first.request.id != moved["bob"]


async def test_the_embedded_queue_knows_no_deadline_of_a_password(sqlite_queues: SqliteQueues) -> None:
    async with sqlite_queues.open() as queue:
        now = time.time()
        await queue.push([PARSER.to_push(message(str(number)), now) for number in range(3)])
        assert await queue.deadlines(now) == Deadlines([(NEVER, 3)])
        assert (await queue.backlog()).expired == 0


async def test_sqs_gives_the_same_request_again_after_a_worker_vanished(sqs_queues: SqsQueues) -> None:
    async with sqs_queues.client() as sqs:
        sent = await sqs.send_message(QueueUrl=sqs_queues.url, MessageBody=message().decode())
    async with sqs_queues.open() as queue:
        (found,) = await lease(queue, 1)
        assert found.request.id == sent["MessageId"]


@pytest.mark.parametrize(
    "body",
    [message().decode(), f"\ufeff {message().decode()}\n", message().decode().replace("password", "p\\u0061ssword")],
)
def test_a_copy_of_a_message_has_its_id(body: str) -> None:
    copied = copy_of({"MessageId": "m-1", "Body": body})["MessageBody"]
    assert PARSER.parse(copied.encode(), 0.0, origin="m-2") == PARSER.parse(body.encode(), 0.0, origin="m-1")
    assert copy_of({"MessageId": "m-2", "Body": copied})["MessageBody"] == copied


@pytest.mark.parametrize("body", ["", "nonsense", "[]", '{"password": null}', message(id="1").decode()])
def test_whatever_needs_no_id_is_copied_as_it_is(body: str) -> None:
    assert named(body, "m-1") == body
