"""What an SQS queue decides without SQS: what it holds, when it is empty, how batches are cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.messages import until
from worker.adapters.aws.sqs import in_batches
from worker.adapters.batching import some_at_once
from worker.adapters.queues.sqs.background import Background
from worker.adapters.queues.sqs.emptiness import Emptiness
from worker.adapters.queues.sqs.inflight import LONGEST, InFlight, Key, Message
from worker.adapters.queues.sqs.look_ahead import LookAhead
from worker.core.errors import QueueUnavailable
from worker.core.model import CredentialKind, Request, Secret
from worker.core.outlook import Outlook

VISIBILITY = 60.0


def request(deadline: float = 100.0) -> Request:
    return Request("ana", CredentialKind.SESSION, Secret("s" * 40), "1", deadline)


def key(number: int = 1) -> Key:
    return f"id-{number}", "md5"


def in_flight(*deadlines: float, now: float = 0.0, memory: int = 10) -> InFlight:
    found = InFlight(VISIBILITY, memory)
    for number, deadline in enumerate(deadlines):
        found.add(key(number), f"handle-{number}", request(deadline), now)
    return found


def numbers(messages: list[Message]) -> list[str]:
    return [message.key[0] for message in messages]


# --- what is in hand --------------------------------------------------------------------------------------------------


def test_what_may_be_somebody_elses_by_now_is_not_handed_out() -> None:
    here = in_flight(1, 2)
    here.came(key(1), "newer", 30.0)
    assert numbers(here.take(9, 58.0)) == ["id-1"]
    assert (len(here), here.ahead) == (1, 0)


def test_any_message_ahead_may_be_taken_and_is_then_not_taken_again() -> None:
    seen = set()
    for _ in range(100):
        here = in_flight(*range(1, 10))
        taken = here.take_any(2, 0.0)
        seen.update(numbers(taken))
        assert (len(taken), here.ahead) == (2, 7)
        assert not {*numbers(taken)} & {*numbers(here.take(9, 0.0)), *numbers(here.take_any(9, 0.0))}
    assert len(seen) == 9


def test_a_message_is_renewed_after_a_third_of_its_visibility_whoever_has_it() -> None:
    here = in_flight(1, 2)
    here.take(1, 0.0)
    assert here.to_renew(10.0) == ([], [])
    renew, let_go = here.to_renew(20.0)
    assert (numbers(renew), let_go) == (["id-0", "id-1"], [])


def test_what_can_be_hidden_no_longer_is_let_go_unless_somebody_works_on_it() -> None:
    here = in_flight(1, 2)
    [worked_on] = here.take(1, 0.0)
    now = LONGEST - VISIBILITY + 1
    for message in here.messages():
        here.hidden(message, now - 1)
    renew, let_go = here.to_renew(now + 30)
    assert (renew, numbers(let_go)) == ([], ["id-1"])
    assert here.came(worked_on.key, "newer", now + 90), "it is still known to be in hand"
    assert numbers(here.to_renew(now + 120)[0]) == ["id-0"]


def test_what_nobody_asks_for_any_more_is_let_go_for_others_and_what_is_worked_on_is_kept() -> None:
    here = in_flight(1, 2)
    here.take(1, 0.0)
    renew, let_go = here.to_renew(20.0, is_wanted=False)
    assert (numbers(renew), numbers(let_go)) == (["id-0"], ["id-1"])


def test_a_message_that_is_dropped_twice_is_counted_once() -> None:
    here = in_flight(1)
    [message] = here.messages()
    assert (here.drop(message), here.drop(message)) == (True, False)
    assert (len(here), here.ahead, here.take(9, 0.0)) == (0, 0, [])


def test_an_older_lease_does_not_drop_the_newer_one_of_the_same_message() -> None:
    here = in_flight(1)
    [old] = here.take(1, 0.0)
    here.drop(old)
    here.add(old.key, "again", request(), 1.0)
    assert not here.drop(old)
    assert len(here.take(1, 1.0)) == 1


def test_only_so_many_acknowledged_messages_are_remembered() -> None:
    here = in_flight(1, 2, 3, memory=2)
    messages = here.messages()
    assert [here.acknowledge(message) for message in messages] == [True] * 3
    assert [here.is_acknowledged(message.key) for message in messages] == [False, True, True]
    assert not here.acknowledge(messages[2])


# --- who can still make it --------------------------------------------------------------------------------------------


def test_dead_messages_take_up_no_room_ahead() -> None:
    here = in_flight(1, 2, 50)
    here.bury(2.0)
    assert (here.ahead, here.dead, len(here)) == (1, 2, 3)
    assert len(here.take_dead(9, 0.0, 2.0)) == 0, "the same user has another one that lives"
    [alive] = here.take(9, 0.0, Outlook(2.0))
    here.acknowledge(alive)
    assert sorted(numbers(here.take_dead(9, 0.0, 2.0))) == ["id-0", "id-1"]
    assert (here.ahead, here.dead) == (0, 0)


def test_who_was_passed_over_is_in_time_again_once_claiming_is_faster() -> None:
    here = in_flight(10, 20, 90)
    assert numbers(here.take(1, 0.0, Outlook(0.0, lead=30.0))) == ["id-2"]
    assert numbers(here.take(1, 0.0, Outlook(0.0, lead=30.0))) == ["id-1"], "the latest of the late"
    assert numbers(here.take(1, 0.0, Outlook(0.0))) == ["id-0"]


def test_a_dead_message_that_nobody_asks_for_is_let_go_once() -> None:
    here = in_flight(1, 50)
    here.bury(2.0)
    [dead] = [message for message in here.messages() if message.is_dead]
    assert here.drop(dead)
    assert (here.ahead, here.dead, here.take_dead(9, 0.0, 2.0)) == (1, 0, [])


# --- what is empty ----------------------------------------------------------------------------------------------------


def looks(evidence: Emptiness, *times: float, waiting: int = 0) -> None:
    for now in times:
        if evidence.should_look(now):
            evidence.looked(now, waiting)


def test_it_is_empty_after_a_while_of_zeros_and_a_whole_poll() -> None:
    evidence = Emptiness(60.0)
    evidence.disturb(0.0)
    looks(evidence, *range(1, 61))
    evidence.polled(55.0)
    assert not evidence.is_certain()
    looks(evidence, 61)
    assert evidence.is_certain()


def test_it_is_not_empty_without_a_poll_that_began_after_the_last_event() -> None:
    evidence = Emptiness(60.0)
    evidence.disturb(3.0)
    evidence.polled(2.0)
    looks(evidence, *range(4, 100))
    assert not evidence.is_certain()
    evidence.polled(95.0)
    assert evidence.is_certain()


@pytest.mark.parametrize("event", ["a message", "a count"])
def test_anything_that_happens_makes_the_while_begin_anew(event: str) -> None:
    evidence = Emptiness(60.0)
    looks(evidence, *range(50))
    if event == "a message":
        evidence.disturb(50.0)
    else:
        looks(evidence, 50, waiting=1)
    evidence.polled(51.0)
    looks(evidence, *range(51, 110))
    assert not evidence.is_certain()
    looks(evidence, *range(110, 125))
    assert evidence.is_certain()


def test_a_look_during_which_something_happened_counts_for_nothing() -> None:
    evidence = Emptiness(0.0)
    evidence.disturb(5.0)
    evidence.looked(4.0, 0)
    evidence.polled(6.0)
    evidence.looked(7.0, 0)
    assert not evidence.is_certain()
    evidence.looked(7.5, 0)
    assert evidence.is_certain()


def test_it_is_known_for_how_long_a_queue_that_looks_empty_is_still_watched() -> None:
    evidence = Emptiness(60.0)
    assert evidence.watched_for(0.0) is None
    looks(evidence, *range(10, 21))
    assert evidence.watched_for(20.0) == 50.0
    evidence.disturb(21.0)
    assert evidence.watched_for(21.0) is None
    looks(evidence, *range(22, 100))
    assert evidence.watched_for(100.0) == 0.0  # a whole poll is missing
    evidence.polled(90.0)
    assert evidence.watched_for(100.0) is None


def test_looking_is_rare_however_often_it_is_asked() -> None:
    evidence, made = Emptiness(60.0), 0
    for half_second in range(240):
        if evidence.should_look(half_second / 2):
            evidence.looked(half_second / 2, 0)
            made += 1
    assert made <= 13


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batches_have_at_most_ten_entries_and_so_many_bytes() -> None:
    assert [len(batch) for batch in in_batches(range(23))] == [10, 10, 3]
    assert list(in_batches([3, 3, 3, 9, 1], lambda size: size, 7)) == [[3, 3], [3], [9], [1]]
    assert list(in_batches([])) == []


async def test_never_more_than_so_many_are_done_at_once_nor_taken_before() -> None:
    under_way = most = taken = 0
    done: list[int] = []

    async def do(number: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        assert taken - len(done) <= 3
        await asyncio.sleep(0)
        under_way -= 1
        done.append(number)

    def counted() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    await some_at_once(do, counted(), 3)
    assert (most, taken, under_way) == (3, 100, 0)


async def test_the_first_failure_ends_the_others() -> None:
    done = []

    async def do(number: int) -> None:
        if number == 1:
            raise QueueUnavailable("gone")
        await asyncio.sleep(60)
        done.append(number)

    with pytest.raises(QueueUnavailable):
        await some_at_once(do, range(9), 3)
    assert done == []


async def test_what_gathers_goes_by_tens_or_after_a_moment_and_its_failure_is_told_once() -> None:
    batches: list[list[int]] = []

    async def do(batch: list[int]) -> None:
        batches.append(batch)
        if 5 in batch:
            raise QueueUnavailable("gone")

    background = Background(do)
    for number in range(12):
        background.add(number)
    assert len(background) == 12
    with pytest.raises(QueueUnavailable):
        await background.flush()
    assert batches == [list(range(10)), [10, 11]]
    assert not background
    background.check()
    background.add(12)

    async def gone() -> bool:
        return not background

    await until(gone)
    assert batches[-1] == [12]


async def test_an_onlooker_who_goes_away_takes_no_batch_with_him() -> None:
    done: list[int] = []
    begun, may_go = asyncio.Event(), asyncio.Event()

    async def do(batch: list[int]) -> None:
        begun.set()
        await may_go.wait()
        done.extend(batch)

    background = Background(do)
    for number in range(5):
        background.add(number)
    onlooker = asyncio.create_task(background.flush())
    await begun.wait()
    assert len(background) == 5
    onlooker.cancel()
    await asyncio.wait([onlooker])
    may_go.set()
    await background.flush()
    assert done == [0, 1, 2, 3, 4]


def look_ahead_after(rate: float, seconds: float, most: int = 250) -> int:
    """Of a worker that used so many messages a second for so many seconds."""
    look_ahead = LookAhead(most, 10.0, least=10, now=0.0)
    for number in range(int(rate * seconds)):
        look_ahead.used(1, (number + 1) / rate)
    return look_ahead.messages(seconds)


def test_a_worker_receives_ahead_ten_seconds_of_what_it_uses_itself() -> None:
    assert look_ahead_after(25.0, 30.0) == 250
    assert 55 <= look_ahead_after(6.25, 30.0) <= 80, "one of four workers"


def test_a_worker_that_just_started_leaves_something_to_the_others() -> None:
    assert LookAhead(250, 10.0, least=10, now=0.0).messages(0.0) == 63


def test_a_worker_without_work_receives_one_batch_ahead() -> None:
    assert look_ahead_after(25.0, 30.0) > LookAhead(250, 10.0, least=10, now=0.0).messages(60.0) == 10
    assert LookAhead(1, 10.0, least=10, now=0.0).messages(60.0) == 1
