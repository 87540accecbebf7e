"""Requests from a file or a pipe: lines as they come, no more than can be used, and nobody forgotten in between."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.adapters.queues.rigs import SqliteQueues
from tests.adapters.queues.test_every_queue import ids, lease
from tests.support.messages import PARSER, Pipe, body, pushed
from worker.adapters.queues.sqlite.queue import SqliteQueue
from worker.adapters.queues.stream import StreamQueue
from worker.core.clock import SystemClock
from worker.core.errors import QueueUnavailable, UsageError
from worker.core.outlook import Outlook
from worker.core.ports import Backlog, Lease, Producer, Pushed
from worker.requests.lines import MAX_MESSAGE, digest, shrink_pipe


@pytest.fixture
async def behind(sqlite_queues: SqliteQueues) -> AsyncIterator[SqliteQueue]:
    async with sqlite_queues.open() as queue:
        yield queue


def stream(source: Path, behind: SqliteQueue, inbox: Producer | None = None) -> StreamQueue:
    return StreamQueue(str(source), PARSER, SystemClock(), behind, inbox or behind)


def file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(data)
    return path


class BrokenInbox:
    """A queue behind that takes nothing for now."""

    def __init__(self, inbox: Producer) -> None:
        self._inbox = inbox
        self.unavailable = True

    def _check(self) -> None:
        if self.unavailable:
            raise QueueUnavailable("away")

    async def push(self, requests: Iterable[object]) -> Pushed:
        self._check()
        return await self._inbox.push(requests)  # type: ignore[arg-type]

    async def put_aside(self, reason: str, digest: str, number: int = 1, before: int = 0) -> None:
        self._check()
        await self._inbox.put_aside(reason, digest, number, before)


# --- lines ------------------------------------------------------------------------------------------------------------


async def test_blank_lines_carriage_returns_and_a_byte_order_mark_are_nothing(
    tmp_path: Path, behind: SqliteQueue
) -> None:
    lines = [b"\xef\xbb\xbf" + body(id="1"), b"", b" \t", body(id="2") + b"\r", b"\r"]
    queue = stream(file(tmp_path, b"\n".join(lines)), behind)
    assert ids(list(await queue.lease(9))) == ["1", "2"]
    assert await behind.counted() == (0, 0)


async def test_a_last_line_without_its_newline_is_a_line(tmp_path: Path, behind: SqliteQueue) -> None:
    queue = stream(file(tmp_path, body(id="1") + b"\n" + body(id="2")), behind)
    assert ids(list(await queue.lease(9))) == ["1", "2"]


async def test_a_line_longer_than_a_chunk_arrives_whole(tmp_path: Path, behind: SqliteQueue) -> None:
    long = body(id="1", session="s" * 2000, attributes={"a": "x" * 16_000}) + b" " * 100_000
    queue = stream(file(tmp_path, long + b"\n" + body(id="2")), behind)
    assert ids(list(await queue.lease(9))) == ["1", "2"]


async def test_an_overlong_line_is_put_aside_once_and_the_next_one_counts(
    sqlite_queues: SqliteQueues, tmp_path: Path, behind: SqliteQueue
) -> None:
    for ending in (b"\n" + body(id="1"), b""):
        queue = stream(file(tmp_path, b"x" * (3 * MAX_MESSAGE) + ending), behind)
        assert ids(list(await queue.lease(9))) == (["1"] if ending else [])
    [(reason, _, number)] = await sqlite_queues.put_aside()
    assert (reason, number) == ("is longer than 256 KiB", 1), "the same line, read again"


async def test_a_line_that_arrives_in_pieces_waits_for_its_end(pipe: Pipe, behind: SqliteQueue) -> None:
    queue = stream(pipe.path, behind)
    line = body(id="1") + b"\n"
    for piece in (line[:10], line[10:50]):
        pipe.write(piece)
        assert list(await queue.lease(1)) == []
    pipe.write(line[50:])
    assert ids(await lease(queue, 1)) == ["1"]


async def test_what_is_in_the_pipe_is_leased_together(pipe: Pipe, behind: SqliteQueue) -> None:
    queue = stream(pipe.path, behind)
    pipe.write(body(id="1") + b"\n")
    assert ids(list(await queue.lease(1))) == ["1"]
    pipe.write(body(id="2") + b"\n")
    pipe.write(body(id="3") + b"\n")
    assert ids(list(await queue.lease(9))) == ["2", "3"]


# --- the brake, and the queue behind ----------------------------------------------------------------------------------


async def test_a_pipe_takes_no_more_than_can_be_used(pipe: Pipe, behind: SqliteQueue) -> None:
    queue = stream(pipe.path, behind)
    line = body() + b"\n"
    taken = 0
    for used in range(50):
        while accepted := pipe.write(line):
            taken += accepted
        assert taken <= used * len(line) + 4_096 + 16_384
        [found] = await lease(queue, 1)
        await queue.acknowledge(found)


async def test_the_queue_behind_is_worked_on_while_the_stream_is_silent(pipe: Pipe, behind: SqliteQueue) -> None:
    queue = stream(pipe.path, behind)
    await behind.push(pushed(body("ana", "behind")))
    [found] = await lease(queue, 1)
    assert found.request.id == "behind"
    await queue.give_back(found, 0)
    [found] = await lease(queue, 1)
    await queue.acknowledge(found)
    assert (await behind.backlog()).waiting == 0


async def test_a_stream_that_may_still_speak_is_work_left(pipe: Pipe, behind: SqliteQueue) -> None:
    queue = stream(pipe.path, behind)
    assert list(await queue.lease(1)) == []
    assert await queue.backlog() == Backlog(1, 0)
    pipe.end()
    assert list(await queue.lease(1)) == []
    assert await queue.backlog() == Backlog(0, 0)


async def test_the_messages_of_stream_and_queue_behind_are_counted_together(
    tmp_path: Path, behind: SqliteQueue
) -> None:
    queue = stream(file(tmp_path, b"\n".join(body(id=str(n)) for n in range(3))), behind)
    await behind.push(pushed(body("ana", "behind", expires_in=-1)))
    assert await queue.backlog() == Backlog(2, 1)
    await queue.lease(2)
    assert (await queue.backlog()).waiting >= 4
    await lease(queue, 2)
    assert await queue.backlog() == Backlog(4, 1)


# --- nobody is forgotten ----------------------------------------------------------------------------------------------


async def test_what_a_pipe_handed_over_and_was_not_used_lands_on_the_queue_behind(
    pipe: Pipe, behind: SqliteQueue, sqlite_queues: SqliteQueues
) -> None:
    queue = stream(pipe.path, behind)
    pipe.write(b"".join(body(id=str(number)) + b"\n" for number in range(5)) + b"bad\n")
    done, given_back, *_held = await lease(queue, 4)
    await queue.acknowledge(done)
    await queue.give_back(given_back, 60)
    pipe.write(body(id="in the pipe") + b"\n" + b'{"torn')
    await queue.close()
    assert sorted(ids(list(await behind.lease(9)))) == ["1", "2", "3", "4", "in the pipe"]
    assert await sqlite_queues.put_aside() == [("is not JSON", digest(b"bad"), 1)]
    assert (await queue.backlog()).waiting == 6, "the stream had not ended"


async def test_a_file_keeps_its_lines_itself(tmp_path: Path, behind: SqliteQueue) -> None:
    path = file(tmp_path, b"\n".join(body(id=str(number)) for number in range(5)))
    queue = stream(path, behind)
    _, given_back, *_ = await lease(queue, 3)
    await queue.give_back(given_back, 60)
    await queue.close()
    assert (await behind.backlog()).waiting == 0


async def test_closing_tells_the_writer(pipe: Pipe, behind: SqliteQueue) -> None:
    queue = stream(pipe.path, behind)
    pipe.opened()
    await queue.close()
    with pytest.raises(BrokenPipeError):
        pipe.write(b"anything")


async def test_a_session_that_moves_to_the_queue_behind_ages_from_when_it_was_read(
    pipe: Pipe, behind: SqliteQueue
) -> None:
    queue = stream(pipe.path, behind)
    pipe.write(b'{"username": "ana", "session": "%s"}\n' % (b"s" * 40))
    [found] = await lease(queue, 1)
    await queue.close()
    await asyncio.sleep(0.01)
    [again] = await behind.lease(1)
    assert again.request.expires_at == pytest.approx(found.request.expires_at, abs=1e-5)
    assert again.request.id == found.request.id


async def test_a_queue_behind_that_is_away_costs_nobody(pipe: Pipe, behind: SqliteQueue) -> None:
    queue = stream(pipe.path, behind, inbox := BrokenInbox(behind))
    pipe.write(body(id="1") + b"\nbad\n" + body(id="2") + b"\n")
    with pytest.raises(QueueUnavailable):
        await queue.lease(9)
    assert (await queue.backlog()).waiting == 4
    inbox.unavailable = False
    await queue.close()
    assert sorted(ids(list(await behind.lease(9)))) == ["1", "2"]
    assert await behind.counted() == (0, 1)


async def test_closing_while_the_queue_behind_is_away_says_so(pipe: Pipe, behind: SqliteQueue) -> None:
    queue = stream(pipe.path, behind, BrokenInbox(behind))
    pipe.write(body(id="1") + b"\n")
    await lease(queue, 1)
    with pytest.raises(QueueUnavailable):
        await queue.close()


# --- sources ----------------------------------------------------------------------------------------------------------


async def test_a_source_that_holds_nothing_is_at_its_end(behind: SqliteQueue) -> None:
    queue = stream(Path(os.devnull), behind)
    assert list(await queue.lease(1)) == []
    assert await queue.backlog() == Backlog(0, 0)
    await queue.close()


async def test_a_named_pipe_is_waited_for_until_somebody_has_written_and_gone(
    tmp_path: Path, behind: SqliteQueue
) -> None:
    os.mkfifo(path := tmp_path / "nobody.fifo")
    queue = stream(path, behind)
    assert list(await queue.lease(1)) == []
    assert (await queue.backlog()).waiting == 1
    path.write_bytes(body(id="1"))
    assert ids(list(await queue.lease(9))) == ["1"]
    assert (await queue.backlog()).waiting == 1
    await queue.close()


@pytest.mark.parametrize("source", ["missing", "."])
def test_a_source_that_cannot_be_read_is_a_usage_error(source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read") as caught:
        StreamQueue(str(tmp_path / source), PARSER, SystemClock(), None, None)  # type: ignore[arg-type]
    assert caught.value.hint


async def test_a_source_that_breaks_ends_the_run_as_something_away(
    tmp_path: Path, behind: SqliteQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, most: int) -> bytes:
        raise OSError(5, "Input/output error")

    queue = stream(file(tmp_path, body()), behind)
    monkeypatch.setattr("worker.adapters.queues.stream.os.read", fail)
    with pytest.raises(QueueUnavailable, match="Input/output error"):
        await queue.lease(1)


async def test_a_sample_takes_the_lines_read_last_and_then_from_the_queue_behind(
    tmp_path: Path, behind: SqliteQueue
) -> None:
    await behind.push(pushed(body(id="behind")))
    queue = stream(file(tmp_path, b"".join(body(id=str(number)) + b"\n" for number in range(4))), behind)
    assert ids(list(await queue.lease(1))) == ["0"]
    assert ids(list(await queue.lease_elsewhere(2))) == ["3", "2"]
    assert ids(list(await queue.lease(2))) == ["1"]
    assert ids(list(await queue.lease_elsewhere(2))) == ["behind"]
    assert (await queue.backlog()).waiting == 5


async def test_a_line_that_dies_while_the_queue_behind_answers_is_settled_and_not_handed_out(
    tmp_path: Path, behind: SqliteQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = stream(file(tmp_path, body(id="short", expires_in=30) + b"\n"), behind)
    now, settled = time.time(), list[Lease]()

    async def answers_late(most: int, outlook: Outlook) -> Sequence[Lease]:
        settled.extend(await queue.lease_expired(1, now + 31))
        return ()

    monkeypatch.setattr(behind, "lease", answers_late)
    assert list(await queue.lease(1, Outlook(now, lead=60.0))) == []
    assert ids(settled) == ["short"]


async def test_thousands_of_lines_that_will_hardly_make_it_are_read_without_looking_at_each_again(
    tmp_path: Path, behind: SqliteQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [body(id=str(number), expires_in=30) for number in range(1000)]
    queue = stream(file(tmp_path, b"\n".join(lines)), behind)
    looked_at = 0

    def deadline(lease: Lease) -> float:
        nonlocal looked_at
        looked_at += 1
        return lease.request.expires_at

    monkeypatch.setattr("worker.adapters.queues.stream._deadline", deadline)
    assert len(await queue.lease(1, Outlook(time.time(), lead=60.0))) == 1
    assert looked_at < 20 * len(lines)


# --- lines of a pipe stand nowhere else -------------------------------------------------------------------------------


async def test_late_lines_of_a_pipe_are_kept_on_the_queue_behind(pipe: Pipe, behind: SqliteQueue) -> None:
    queue = stream(pipe.path, behind)
    late = [body(id=str(number), expires_in=30) + b"\n" for number in range(300)]
    outlook = Outlook(time.time(), lead=60.0)
    for line in late:
        while not pipe.write(line):
            assert list(await queue.lease(1, outlook)), "who hardly makes it is called while nobody else waits"
    in_memory = (await queue.backlog()).waiting - (await behind.backlog()).waiting
    assert (await behind.backlog()).waiting >= 150
    assert in_memory < 150


async def test_a_pipe_is_not_read_on_where_the_queue_behind_has_enough_late_lines(
    pipe: Pipe, behind: SqliteQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.adapters.queues.stream._MOST_AHEAD", 100)
    queue = stream(pipe.path, behind)
    outlook, taken = Outlook(time.time(), lead=60.0), 0
    for number in range(1_000):
        if not pipe.write(body(id=str(number), expires_in=30) + b"\n"):
            await queue.lease_expired(1, 0.0)
            await queue.lease(0, outlook)
            await queue.lease(1, outlook)
            if not pipe.write(body(id=str(number), expires_in=30) + b"\n"):
                break
        taken += 1
    assert 100 <= taken <= 300


async def test_the_end_says_which_line_was_the_last_one_taken(pipe: Pipe, behind: SqliteQueue) -> None:
    queue = stream(pipe.path, behind)
    pipe.write(body(id="1") + b"\n\nbad\n" + body(id="2") + b"\n" + b'{"torn')
    [found] = await lease(queue, 1)
    await queue.acknowledge(found)
    with capture_logs() as told:
        await queue.close()
    [left] = [each for each in told if each["event"] == "pipe_left"]
    assert (left["lines"], left["on_queue"]) == (4, 1)
    assert "tail -n +5" in left["cure"]


async def test_lines_that_the_queue_behind_did_not_take_are_told_as_lost(pipe: Pipe, behind: SqliteQueue) -> None:
    queue = stream(pipe.path, behind, BrokenInbox(behind))
    pipe.write(b"\n" + body(id="1") + b"\n" + body(id="2") + b"\n")
    await lease(queue, 1)
    with capture_logs() as told, pytest.raises(QueueUnavailable):
        await queue.close()
    [lost] = [each for each in told if each["event"] == "lines_not_kept"]
    assert (lost["lines"], lost["first"]) == (2, 2)


async def test_what_a_pipe_contained_before_is_told_and_kept_and_then_it_is_small(behind: SqliteQueue) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    lines = b"".join(body(id=str(number)) + b"\n" for number in range(200))
    written = os.write(writing, lines)
    with capture_logs() as told:
        queue = stream(Path(f"/dev/fd/{reading}"), behind)
    assert [each["event"] for each in told] == ["pipe_not_small"]
    assert told[0]["bytes"] >= written
    [found] = await queue.lease(1)
    assert found.request.id == "0"
    assert shrink_pipe(reading) == 4_096
    assert (await behind.backlog()).waiting == 200 - lines[written:].count(b"\n")
    os.close(writing)
    os.close(reading)


async def test_ten_thousand_late_lines_of_a_file_are_quick(tmp_path: Path, behind: SqliteQueue) -> None:
    lines = [body(id=str(number), expires_in=30 + number % 7) for number in range(9_000)]
    queue = stream(file(tmp_path, b"\n".join(lines)), behind)
    outlook = Outlook(time.time(), lead=60.0)
    began = time.process_time()
    for _ in range(3_000):
        assert len(await queue.lease(1, outlook)) == 1
    assert time.process_time() - began < 3.0, "15 s where each lease sorted them all"


async def test_lines_in_time_come_by_deadline_and_late_ones_by_the_latest(tmp_path: Path, behind: SqliteQueue) -> None:
    seconds = {"a": 90, "b": 40, "c": 120, "d": 20, "e": 50, "dead": -5}
    lines = [body(id=name, expires_in=left) for name, left in seconds.items()]
    queue = stream(file(tmp_path, b"\n".join(lines)), behind)
    outlook = Outlook(time.time(), lead=60.0)
    assert ids(list(await queue.lease(2, outlook))) == ["a", "c"]
    assert ids(list(await queue.lease(2, outlook))) == ["e", "b"]
    assert ids(list(await queue.lease(2, outlook))) == ["d"]
    assert ids(list(await queue.lease_expired(9, time.time()))) == ["dead"]
