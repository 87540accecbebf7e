"""Many ask, one does: groups that grow with the load, and an answer for everybody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from worker.adapters.batching import Batcher, ThreadBatcher


class Work:
    """Doubles numbers, group by group, while ``open`` is set."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.threads: set[str] = set()
        self.begun = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def __call__(self, group: Sequence[int]) -> Sequence[int]:
        self.begun.set()
        self.open.wait(10)
        self.threads.add(threading.current_thread().name)
        self.groups.append(list(group))
        if -1 in group:
            raise LookupError("no such number")
        return [2 * number for number in group]


async def test_everybody_gets_the_result_of_their_own_item() -> None:
    grouped = ThreadBatcher(work := Work(), "doubling")
    assert await asyncio.gather(*(grouped.submit(number) for number in range(1000))) == [2 * n for n in range(1000)]
    assert [number for group in work.groups for number in group] == list(range(1000)), "in the order they came"
    await grouped.close()


async def test_what_comes_while_a_group_is_done_is_the_next_group() -> None:
    grouped = ThreadBatcher(work := Work(), "doubling")
    work.open.clear()
    first = grouped.submit(0)
    await asyncio.to_thread(work.begun.wait, 10)
    others = [grouped.submit(number) for number in range(1, 100)]
    work.open.set()
    await asyncio.gather(first, *others)
    assert work.groups == [[0], list(range(1, 100))]
    await grouped.close()


async def test_what_comes_while_a_group_is_prepared_joins_it() -> None:
    ready, preparing = threading.Event(), threading.Event()

    def prepare() -> None:
        preparing.set()
        ready.wait(10)

    grouped = ThreadBatcher(work := Work(), "doubling", prepare=prepare)
    first = grouped.submit(1)
    await asyncio.to_thread(preparing.wait, 10)
    second = grouped.submit(2)
    ready.set()
    assert [await first, await second] == [2, 4]
    assert work.groups == [[1, 2]]
    await grouped.close()


async def test_who_waits_while_preparing_fails_hears_of_it_and_the_next_does_not() -> None:
    errors = [LookupError("not now")]

    def prepare() -> None:
        if errors:
            raise errors.pop()

    grouped = ThreadBatcher(Work(), "doubling", prepare=prepare)
    with pytest.raises(LookupError):
        await grouped.submit(1)
    assert await grouped.submit(2) == 4
    await grouped.close()


async def test_no_group_is_larger_than_allowed() -> None:
    grouped = ThreadBatcher(work := Work(), "doubling", most=7)
    await asyncio.gather(*(grouped.submit(number) for number in range(30)))
    assert [len(group) for group in work.groups] == [7, 7, 7, 7, 2]
    await grouped.close()


async def test_the_work_is_done_in_one_thread_that_is_not_the_loops() -> None:
    grouped = ThreadBatcher(work := Work(), "doubling")
    for number in range(3):
        await grouped.submit(number)
    assert [name.startswith("doubling") for name in work.threads] == [True]
    await grouped.close()


async def test_an_exception_reaches_everybody_in_the_group_and_nobody_else() -> None:
    grouped = ThreadBatcher(Work(), "doubling")
    bad = await asyncio.gather(*(grouped.submit(number) for number in (1, -1, 2)), return_exceptions=True)
    assert [type(error) for error in bad] == [LookupError] * 3
    assert await grouped.submit(4) == 8
    await grouped.close()


async def test_who_stops_waiting_stops_nobody_else() -> None:
    grouped = ThreadBatcher(work := Work(), "doubling")
    work.open.clear()
    futures = [grouped.submit(number) for number in range(3)]
    await asyncio.to_thread(work.begun.wait, 10)
    futures[1].cancel()
    work.open.set()
    assert [await futures[0], await futures[2]] == [0, 4]
    assert work.groups == [[0, 1, 2]], "the work was done all the same"
    await grouped.close()


async def test_closing_waits_for_everything_that_was_asked_for() -> None:
    grouped = ThreadBatcher(Work(), "doubling", most=2)
    futures = [grouped.submit(number) for number in range(9)]
    await grouped.close()
    assert [future.result() for future in futures] == [2 * number for number in range(9)]


async def test_the_patient_wait_for_others_and_are_done_all_the_same() -> None:
    grouped = ThreadBatcher(work := Work(), "doubling")
    patient = grouped.submit(1, gather=0.05)
    await asyncio.sleep(0)
    assert await grouped.submit(2) == 4
    assert work.groups == [[1, 2]]
    assert await patient == 2
    assert await grouped.submit(3, gather=0.05) == 6
    await grouped.close()


async def test_the_batch_starts_as_soon_as_the_least_patient_of_the_waiting_wants() -> None:
    grouped = ThreadBatcher(work := Work(), "doubling")
    patient = grouped.submit(1, gather=60.0)
    less_patient = grouped.submit(2, gather=0.02)
    more_patient = grouped.submit(3, gather=60.0)
    await asyncio.wait_for(asyncio.gather(patient, less_patient, more_patient), 10)
    assert work.groups == [[1, 2, 3]]
    await grouped.close()


async def test_the_patient_who_come_while_a_group_is_done_are_in_the_next_group() -> None:
    grouped = ThreadBatcher(work := Work(), "doubling")
    work.open.clear()
    first = grouped.submit(0)
    await asyncio.to_thread(work.begun.wait, 10)
    patient = grouped.submit(1, gather=60.0)
    work.open.set()
    assert await asyncio.wait_for(patient, 10) == 2
    await first
    await grouped.close()


async def test_closing_hurries_the_patient() -> None:
    grouped = ThreadBatcher(Work(), "doubling")
    patient = grouped.submit(1, gather=0.05)
    await grouped.close()
    assert patient.result() == 2


async def test_asking_after_the_end_fails_at_once_instead_of_waiting_for_ever() -> None:
    grouped = ThreadBatcher(Work(), "doubling")
    await grouped.close()
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(grouped.submit(1), 1)
    await grouped.close()


async def test_a_work_that_gives_too_few_results_leaves_nobody_waiting() -> None:
    grouped: ThreadBatcher[int, int] = ThreadBatcher(lambda group: group[1:], "forgetful")
    with pytest.raises(ValueError, match="results"):
        await asyncio.wait_for(asyncio.gather(grouped.submit(1), grouped.submit(2)), 1)
    await grouped.close()


# --- requests instead of a thread -------------------------------------------------------------------------------------


class Service:
    """Doubles numbers once it is ``open``; refuses odd ones if it is ``picky``."""

    def __init__(self, *, picky: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.picky = picky

    async def __call__(self, batch: list[int]) -> Sequence[int | Exception]:
        self.batches.append(batch)
        await self.open.wait()
        if -1 in batch:
            raise LookupError("no such number")
        return [ValueError("odd") if self.picky and number % 2 else 2 * number for number in batch]


async def test_requests_leave_in_batches_of_no_more_than_allowed_and_so_many_at_once() -> None:
    batcher: Batcher[int, int] = Batcher(service := Service(), most=3, at_once=2)
    futures = [batcher.submit(number) for number in range(10)]
    await asyncio.sleep(0.01)
    assert service.batches == [[0, 1, 2], [3, 4, 5]]
    service.open.set()
    assert await asyncio.gather(*futures) == [2 * number for number in range(10)]
    assert service.batches == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


async def test_a_batch_is_no_larger_than_allowed_unless_it_is_one_item() -> None:
    service = Service()
    service.open.set()
    batcher: Batcher[int, int] = Batcher(service, most=10, at_once=1, size=lambda number: number, most_size=7)
    await asyncio.gather(*(batcher.submit(number) for number in (3, 3, 3, 9, 1)))
    assert service.batches == [[3, 3], [3], [9], [1]]


async def test_what_the_service_refuses_is_raised_for_that_item_alone() -> None:
    service = Service(picky=True)
    service.open.set()
    batcher: Batcher[int, int] = Batcher(service, most=10, at_once=1)
    answers = await asyncio.gather(*(batcher.submit(number) for number in (1, 2)), return_exceptions=True)
    assert [type(answers[0]), answers[1]] == [ValueError, 4]


async def test_a_request_that_fails_is_raised_for_everybody_in_it_and_nobody_else() -> None:
    service = Service()
    service.open.set()
    batcher: Batcher[int, int] = Batcher(service, most=2, at_once=2)
    answers = await asyncio.gather(*(batcher.submit(number) for number in (1, -1, 2)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [LookupError, LookupError, int]


async def test_without_gathering_an_item_leaves_at_once_and_with_it_when_the_batch_is_full_or_the_time_is_over() -> (
    None
):
    batcher: Batcher[int, int] = Batcher(service := Service(), most=3, at_once=9)
    batcher.submit(0, gather=None)
    for number in range(1, 6):
        batcher.submit(number, gather=0.01)
    await asyncio.sleep(0)
    assert service.batches == [[0], [1, 2, 3]]
    await asyncio.sleep(0.02)
    assert service.batches == [[0], [1, 2, 3], [4, 5]]
    service.open.set()
    await batcher.close()


async def test_flushing_waits_for_what_was_submitted_so_far_and_not_for_what_comes_later() -> None:
    batcher: Batcher[int, int] = Batcher(service := Service(), most=1, at_once=1)
    early = [batcher.submit(number, gather=9.0) for number in range(3)]
    flushed = asyncio.create_task(batcher.flush())
    await asyncio.sleep(0)
    late = batcher.submit(9, gather=9.0)
    service.open.set()
    await flushed
    assert [future.done() for future in early] == [True] * 3
    assert await late == 18


async def test_cancelling_gives_up_what_waits_and_what_is_under_way() -> None:
    batcher: Batcher[int, int] = Batcher(service := Service(), most=1, at_once=1)
    futures = [batcher.submit(number) for number in range(3)]
    await asyncio.sleep(0.01)
    batcher.cancel()
    await asyncio.wait_for(batcher.close(), 1)
    assert [future.cancelled() for future in futures] == [True] * 3
    assert service.batches == [[0]]
