"""What every queue does: nobody is forgotten or worked on twice at the same time, and bad messages stop nothing."""

from __future__ import annotations

import asyncio
import time

from tests.adapters.queues.rigs import Intake, Queues
from tests.support.messages import body, pushed, until
from tests.support.rows import NASTY_NAMES
from worker.adapters.queues.sqlite.queue import SqliteQueue
from worker.adapters.queues.sqs.queue import SqsQueue
from worker.core.model import CredentialKind, Secret
from worker.core.outlook import Outlook
from worker.core.ports import Backlog, Lease, Pushed, Queue
from worker.requests.lines import digest


async def lease(queue: Queue, number: int) -> list[Lease]:
    """So many messages, as they become visible."""
    leases: list[Lease] = []

    async def enough() -> bool:
        leases.extend(await queue.lease(number - len(leases)))
        return len(leases) >= number

    await until(enough)
    return leases


async def put_aside(intake: Intake, number: int) -> list[tuple[str, str, int]]:
    """What was put aside, once it is so many."""
    found: list[tuple[str, str, int]] = []

    async def all_are() -> bool:
        found[:] = await intake.put_aside()
        return sum(number for *_, number in found) >= number

    await until(all_are)
    return found


def ids(leases: list[Lease]) -> list[str]:
    return [lease.request.id for lease in leases]


# --- whatever requests come from --------------------------------------------------------------------------------------


async def test_a_request_arrives_as_it_was_sent(intake: Intake) -> None:
    await intake.give([body("ana", "1", expires_in=600, attributes={"email": "é@x"}, replace=True)])
    [found] = await lease(intake.queue, 1)
    request = found.request
    assert (request.username, request.id, request.kind) == ("ana", "1", CredentialKind.SESSION)
    assert request.credential == Secret("s" * 40)
    assert (request.attributes, request.replace) == ({"email": "é@x"}, True)
    assert 590 < request.expires_at - time.time() <= 600


async def test_any_username_arrives_unchanged(intake: Intake) -> None:
    await intake.give([body(name, str(number)) for number, name in enumerate(NASTY_NAMES)])
    assert {found.request.username for found in await lease(intake.queue, len(NASTY_NAMES))} == set(NASTY_NAMES)


async def test_no_more_are_leased_than_were_asked_for(intake: Intake) -> None:
    await intake.give([body(id=str(number)) for number in range(5)])
    sizes: list[int] = []

    async def all_came() -> bool:
        sizes.append(len(await intake.queue.lease(2)))
        return sum(sizes) == 5

    await until(all_came)
    assert max(sizes) <= 2
    assert list(await intake.queue.lease(2)) == []


async def test_messages_from_elsewhere_are_leases_like_the_others(intake: Intake) -> None:
    await intake.give([body(f"user-{number}", str(number)) for number in range(9)])
    leases = await lease(intake.queue, 1)

    async def another_came() -> bool:
        leases.extend(await intake.queue.lease_elsewhere(1))
        return len(leases) == 4

    await until(another_came)
    leases += await lease(intake.queue, 5)
    assert sorted(ids(leases)) == [str(number) for number in range(9)]
    assert list(await intake.queue.lease_elsewhere(3)) == []
    for found in leases:
        await intake.queue.acknowledge(found)
    assert (await intake.queue.backlog()).waiting == 0


async def test_a_leased_message_is_not_leased_again(intake: Intake) -> None:
    await intake.give([body(id="1"), body(id="2")])
    assert sorted(ids([*await lease(intake.queue, 1), *await lease(intake.queue, 1)])) == ["1", "2"]
    assert list(await intake.queue.lease(9)) == []


async def test_a_message_that_was_given_back_comes_again_at_once(intake: Intake) -> None:
    await intake.give([body(id="1")])
    for _ in range(3):
        [found] = await lease(intake.queue, 1)
        await intake.queue.give_back(found, 0)
    assert ids(await lease(intake.queue, 1)) == ["1"]


async def test_a_message_that_was_given_back_for_later_comes_later(intake: Intake) -> None:
    await intake.give([body(id="1")])
    [found] = await lease(intake.queue, 1)
    given_back = time.monotonic()
    await intake.queue.give_back(found, 0.3)
    await lease(intake.queue, 1)
    assert time.monotonic() - given_back > 0.29


async def test_whatever_waits_is_counted_also_while_it_is_leased(intake: Intake) -> None:
    await intake.give([body(id=str(number)) for number in range(3)])
    leases = [*await lease(intake.queue, 3), *await intake.queue.lease(1)]
    assert (await intake.queue.backlog()).waiting == 3
    await intake.queue.acknowledge(leases[0])
    await intake.queue.give_back(leases[1], 60)
    assert (await intake.queue.backlog()).waiting == 2


async def test_a_queue_whose_messages_are_all_acknowledged_is_empty(intake: Intake) -> None:
    await intake.give([body(id="1"), body(id="2")])
    for found in await lease(intake.queue, 2):
        await intake.queue.acknowledge(found)
    assert list(await intake.queue.lease(9)) == []
    assert await intake.queue.backlog() == Backlog(0, 0)


async def test_acknowledging_twice_is_acknowledging_once(intake: Intake) -> None:
    await intake.give([body(id="1"), body(id="2")])
    first, second = await lease(intake.queue, 2)
    assert list(await intake.queue.lease(9)) == []
    for _ in range(3):
        await intake.queue.acknowledge(first)
    assert (await intake.queue.backlog()).waiting == 1
    await intake.queue.give_back(second, 0)
    assert ids(await lease(intake.queue, 1)) == ["2"]


async def test_malformed_messages_are_put_aside_and_stop_nothing(intake: Intake) -> None:
    secret = "s3cret" * 10
    reasons = {b"no json " + secret.encode(): "is not JSON", b'{"session": "%s"}' % secret.encode(): "has no username"}
    if intake.takes_any_bytes:
        reasons[b"\xff"] = "is not UTF-8; if it is Latin-1: iconv -f LATIN1 -t UTF-8"
    bad = list(reasons)
    await intake.give([bad[0], body(id="1"), *bad[1:], body(id="2")])
    leases = await lease(intake.queue, 2)
    assert sorted(ids(leases)) == ["1", "2"]
    assert list(await intake.queue.lease(9)) == []
    aside = sorted((reason, digest(message), 1) for message, reason in reasons.items())
    assert sorted(await put_aside(intake, len(bad))) == aside

    async def only_the_others_wait() -> bool:
        return (await intake.queue.backlog()).waiting == 2

    await until(only_the_others_wait)


async def test_a_queue_without_dead_letters_says_so_whatever_was_put_aside(queues: Queues) -> None:
    async with queues.open() as queue:
        await queue.put_aside("is not JSON", "0123456789abcdef")
        assert isinstance(queue, SqliteQueue | SqsQueue)
        assert await queue.dead_letters(1) == 0


async def test_the_same_malformed_message_again_is_counted_again(intake: Intake) -> None:
    await intake.give([b"{}", b"{}", body(id="1")])
    await lease(intake.queue, 1)
    assert list(await intake.queue.lease(9)) == []
    assert await put_aside(intake, 2) == [("has no username", digest(b"{}"), 2)]


# --- several messages of one user -------------------------------------------------------------------------------------


async def of_ana(queue: Queue, number: int) -> list[Lease]:
    """So many messages of Ana: one of them is leased, the others are found, or leased too where nobody can search."""
    leases = await lease(queue, 1)

    async def enough() -> bool:
        leases.extend(await queue.lease_others("ana", number - len(leases)))
        if len(leases) < number:
            leases.extend(await queue.lease(1))
        return len(leases) >= number

    await until(enough)
    return leases


async def test_all_messages_of_a_user_are_found_and_nobody_elses(intake: Intake) -> None:
    await intake.give([body("ana", str(number)) for number in range(5)])
    leases = await of_ana(intake.queue, 5)
    assert sorted(ids(leases)) == ["0", "1", "2", "3", "4"]
    assert list(await intake.queue.lease_others("ana", 9)) == list(await intake.queue.lease_others("ben", 9)) == []
    assert list(await intake.queue.lease(9)) == []
    assert (await intake.queue.backlog()).waiting == 5
    for found in leases:
        await intake.queue.acknowledge(found)
    assert (await intake.queue.backlog()).waiting == 0


async def test_what_was_found_can_be_given_back_and_comes_again(intake: Intake) -> None:
    await intake.give([body("ana", str(number)) for number in range(3)])
    for found in await of_ana(intake.queue, 3):
        await intake.queue.give_back(found, 0)
    assert sorted(ids(await of_ana(intake.queue, 3))) == ["0", "1", "2"]


async def test_no_more_of_a_users_messages_are_found_than_were_asked_for(intake: Intake) -> None:
    await intake.give([body("ana", str(number)) for number in range(3)])
    leases = await of_ana(intake.queue, 2)
    assert len(leases) == 2
    assert list(await intake.queue.lease_others("ana", 0)) == []


async def test_what_one_worker_holds_of_a_user_another_does_not_find(queues: Queues) -> None:
    async with queues.open("one") as one, queues.open("two") as two:
        await one.push(pushed(body("ana", "1"), body("ana", "2")))
        await of_ana(one, 2)
        assert list(await two.lease_others("ana", 9)) == list(await two.lease(9)) == []


# --- who can still make it --------------------------------------------------------------------------------------------


async def give(intake: Intake, bodies: list[bytes]) -> None:
    """As a producer does who knows whose requests these are, and when they die."""
    if isinstance(intake.queue, SqliteQueue):
        await intake.queue.push(pushed(*bodies))
    else:
        await intake.give(bodies)


async def lease_as(queue: Queue, number: int, outlook: Outlook) -> list[Lease]:
    """Like ``lease``, with an outlook."""
    leases: list[Lease] = []

    async def enough() -> bool:
        leases.extend(await queue.lease(number - len(leases), outlook))
        return len(leases) >= number

    await until(enough)
    return leases


async def lease_expired(queue: Queue, number: int, now: float) -> list[Lease]:
    """So many dead messages, as they come; they are received by asking for live ones, too."""
    leases: list[Lease] = []

    async def enough() -> bool:
        assert list(await queue.lease(1, Outlook(now))) == []
        leases.extend(await queue.lease_expired(number - len(leases), now))
        return len(leases) >= number

    await until(enough)
    return leases


async def test_who_can_still_make_it_comes_first_and_who_hardly_can_when_nobody_else_is_left(intake: Intake) -> None:
    lives = {"dead": -5, "too late": 0.2, "late": 20, "later": 25, "first": 60, "second": 90}
    await give(intake, [body(name, expires_in=life) for name, life in lives.items()])
    now = time.time()

    async def all_are_known() -> bool:
        given = await intake.queue.lease(9, Outlook(now, lead=1e9))
        for found in given:
            await intake.queue.give_back(found, 0)
        return len(given) == 4

    await until(all_are_known)
    assert ids(await lease_as(intake.queue, 4, Outlook(now, lead=30.0))) == ["first", "second", "later", "late"]
    assert list(await intake.queue.lease(9, Outlook(now, lead=30.0))) == []


async def test_the_dead_come_apart_to_be_settled(intake: Intake) -> None:
    await give(intake, [body(str(number), expires_in=-5) for number in range(5)])
    dead = await lease_expired(intake.queue, 5, time.time())
    assert sorted(ids(dead)) == ["0", "1", "2", "3", "4"]
    assert list(await intake.queue.lease_expired(9, time.time())) == []
    for found in dead:
        await intake.queue.acknowledge(found)
    assert (await intake.queue.backlog()).waiting == 0


async def test_a_dead_request_of_somebody_with_one_that_lives_waits_for_that(intake: Intake) -> None:
    await give(intake, [body("ana", "dead", expires_in=-5), body("ana", "alive"), body("ben", "ben", expires_in=-5)])
    [alive] = await lease_as(intake.queue, 1, Outlook(time.time()))
    assert alive.request.id == "alive"
    [ben] = await lease_expired(intake.queue, 1, time.time())
    assert ben.request.id == "ben"
    assert list(await intake.queue.lease_expired(9, time.time())) == []
    await intake.queue.acknowledge(alive)
    assert ids(await lease_expired(intake.queue, 1, time.time())) == ["dead"]


async def test_who_dies_while_received_ahead_is_judged_again_when_handed_out(intake: Intake) -> None:
    await give(intake, [body(str(number), expires_in=30 + number) for number in range(3)])
    [_] = await lease_as(intake.queue, 1, Outlook(time.time()))
    later = time.time() + 31.5
    [found] = await lease_as(intake.queue, 1, Outlook(later - 1.0 - 0.4))
    assert found.request.id == "2"
    assert list(await intake.queue.lease(9, Outlook(later))) == []
    assert ids(await lease_expired(intake.queue, 1, later)) == ["1"]


async def test_deadlines_long_past_and_in_the_year_9999_are_deadlines(intake: Intake) -> None:
    await give(
        intake, [body("past", expires_at="1971-01-01T00:00:00Z"), body("future", expires_at="9999-12-31T23:59:59Z")]
    )
    [found] = await lease_as(intake.queue, 1, Outlook(time.time(), lead=60.0, spacing=10.0))
    assert found.request.id == "future"
    assert ids(await lease_expired(intake.queue, 1, time.time())) == ["past"]


# --- a queue that outlives its workers --------------------------------------------------------------------------------


async def test_any_number_of_requests_is_pushed_at_once(queues: Queues) -> None:
    requests = pushed(*(body(f"user {number}") for number in range(queues.many)))
    async with queues.open() as queue:
        assert await queue.push(requests) == Pushed(accepted=queues.many)
        assert await queue.push([]) == Pushed()
        assert (await queue.backlog()).waiting == queues.many


async def test_what_a_worker_holds_stays_hidden_for_as_long_as_it_lives(queues: Queues) -> None:
    async with queues.open("one") as one, queues.open("two") as two:
        await one.push(pushed(body(id="1")))
        held = await lease(one, 1)
        await queues.only_work(one)
        over = time.monotonic() + 1.6 * queues.visibility
        while time.monotonic() < over:
            assert list(await two.lease(1)) == []
            assert list(await one.lease(1)) == []
            await asyncio.sleep(queues.visibility / 10)
        await one.acknowledge(held[0])


async def test_what_a_worker_held_comes_again_some_time_after_it_vanished(queues: Queues) -> None:
    async with queues.open("one") as one, queues.open("two") as two:
        await one.push(pushed(body(id="1")))
        await lease(one, 1)
        await queues.vanish(one)
        assert list(await two.lease(1)) == []
        assert ids(await lease(two, 1)) == ["1"]


async def test_closing_gives_everything_back_at_once(queues: Queues) -> None:
    async with queues.open("two") as two:
        async with queues.open("one") as one:
            await one.push(pushed(body(id="1"), body(id="2"), body(id="3")))
            done, *_ = await lease(one, 3)
            await one.acknowledge(done)
        assert len(await lease(two, 2)) == 2


async def test_a_worker_that_lost_its_lease_takes_nothing_from_the_new_holder(queues: Queues) -> None:
    async with queues.open("one") as one, queues.open("two") as two, queues.open("three") as three:
        await one.push(pushed(body(id="1")))
        [late] = await lease(one, 1)
        await queues.vanish(one)
        await lease(two, 1)
        await one.give_back(late, 0)
        assert list(await three.lease(1)) == []


async def test_a_late_acknowledgement_never_deletes_a_newer_message(queues: Queues) -> None:
    async with queues.open("one") as one, queues.open("two") as two:
        await one.push(pushed(body("ana")))
        [late] = await lease(one, 1)
        await queues.vanish(one)
        [again] = await lease(two, 1)
        await two.acknowledge(again)
        await two.push(pushed(body("ben")))
        await one.acknowledge(late)
        assert [found.request.username for found in await lease(two, 1)] == ["ben"]


async def test_messages_outlive_everybody(queues: Queues) -> None:
    async with queues.open("one") as one:
        await one.push(pushed(body(id="1")))
    async with queues.open("two") as two:
        assert ids(await lease(two, 1)) == ["1"]
