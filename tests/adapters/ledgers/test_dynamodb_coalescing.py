"""What leaves alone, what leaves together, and that each gets its own answer whatever happens to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from worker.adapters.ledgers.dynamodb.coalescing import AT_ONCE, FEWEST, MOST, Coalescer
from worker.core.errors import LedgerUnavailable


class Service:
    """Answers a text with itself in capitals when it is let; ``bad`` is refused, ``bug`` is one."""

    def __init__(self) -> None:
        self.coalescer: Coalescer[str, str] = Coalescer(self.one, self.many)
        self.sent: list[list[str]] = []
        self.open = asyncio.Event()
        self.now: list[str] = []

    async def one(self, text: str) -> str:
        answers = await self.many([text])
        if isinstance(answers[0], LedgerUnavailable):
            raise answers[0]
        return answers[0]

    async def many(self, texts: Sequence[str]) -> Sequence[str | LedgerUnavailable]:
        self.sent.append(list(texts))
        users = [text.split()[0] for text in texts]
        assert not set(users) & set(self.now)
        assert len(set(users)) == len(users)
        self.now += users
        await self.open.wait()
        for user in users:
            self.now.remove(user)
        if "bug" in users:
            raise TypeError("a bug")
        return [
            LedgerUnavailable("away") if user == "bad" else text.upper()
            for user, text in zip(users, texts, strict=True)
        ]

    def ask(self, *texts: str) -> list[asyncio.Task[str]]:
        return [asyncio.create_task(self.coalescer.do(text, text.split()[0])) for text in texts]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_while_a_request_is_free_everybody_leaves_alone_and_at_once() -> None:
    service = Service()
    asked = service.ask(*(f"user{number}" for number in range(AT_ONCE)))
    await settle()
    assert service.sent == [[f"user{number}"] for number in range(AT_ONCE)]
    service.open.set()
    assert await asyncio.gather(*asked) == [f"USER{number}" for number in range(AT_ONCE)]


async def test_what_waits_for_a_request_leaves_together_and_no_more_than_allowed() -> None:
    service = Service()
    names = [f"user{number}" for number in range(AT_ONCE + MOST + FEWEST)]
    asked = service.ask(*names)
    await settle()
    service.open.set()
    assert await asyncio.gather(*asked) == [name.upper() for name in names]
    assert [len(group) for group in service.sent] == [1] * AT_ONCE + [MOST, FEWEST]


async def test_too_few_are_no_group() -> None:
    service = Service()
    asked = service.ask(*(f"user{number}" for number in range(AT_ONCE + FEWEST - 1)))
    await settle()
    service.open.set()
    await asyncio.gather(*asked)
    assert {len(group) for group in service.sent} == {1}


async def test_one_user_is_never_twice_on_the_wire_and_keeps_the_order() -> None:
    service = Service()
    asked = service.ask(*(f"ana {number}" for number in range(8)), *(f"user{number}" for number in range(30)))
    await settle()
    service.open.set()
    await asyncio.gather(*asked)
    anas = [text for group in service.sent for text in group if text.startswith("ana")]
    assert anas == [f"ana {number}" for number in range(8)]


async def test_one_that_fails_costs_its_group_nothing() -> None:
    service = Service()
    asked = service.ask(*(f"user{number}" for number in range(AT_ONCE)), "bad", *"abcde")
    await settle()
    service.open.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[AT_ONCE], LedgerUnavailable)
    assert answers[AT_ONCE + 1 :] == list("ABCDE")


async def test_a_bug_reaches_those_who_asked_and_the_others_go_on() -> None:
    service = Service()
    service.open.set()
    with pytest.raises(TypeError, match="a bug"):
        await service.coalescer.do("bug", "bug")
    assert await service.coalescer.do("ana", "ana") == "ANA"


async def test_whoever_no_longer_waits_before_leaving_does_not_leave() -> None:
    service = Service()
    asked = service.ask(*(f"user{number}" for number in range(AT_ONCE + 2)))
    await settle()
    asked[-1].cancel()
    await settle()
    service.open.set()
    await asyncio.wait(asked)
    assert [f"user{AT_ONCE + 1}"] not in service.sent


async def test_whoever_no_longer_waits_after_leaving_stops_nothing() -> None:
    service = Service()
    asked = service.ask("ana")
    await settle()
    asked[0].cancel()
    await settle()
    service.open.set()
    await service.coalescer.close()
    assert service.now == []


async def test_closing_waits_for_every_answer() -> None:
    service = Service()
    asked = service.ask(*(f"user{number}" for number in range(3 * AT_ONCE)))
    await settle()
    asyncio.get_running_loop().call_soon(service.open.set)
    await service.coalescer.close()
    assert sum(map(len, service.sent)) == 3 * AT_ONCE
    await asyncio.gather(*asked)
