"""What every ledger does: one compare-and-set a row, nothing lost on the way, and a count that adds up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from enum import StrEnum
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.adapters.ledgers.rigs import STAMP, OpenLedger, WholeLedger
from tests.support.rows import NASTY_NAMES, activation, enrolments, row, sealed, version
from worker.adapters.ledgers.found import RECIPIENT, RECIPIENTS
from worker.adapters.ledgers.guarded import before_of, kind_of
from worker.core.errors import LedgerUnavailable, PersonMustAct, RowUnreadable, UsageError
from worker.core.model import (
    STATE_OF,
    UNFINISHED,
    CredentialKind,
    Enrolment,
    Listed,
    Lost,
    Reason,
    State,
    WriteResult,
    Written,
)
from worker.core.ports import Found
from worker.pacing.pace import Pace
from worker.sealing import age

quick = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

OTHER = STAMP | {"user pool": "us-east-1_Another"}
"""The stamp of another rollout."""


async def put_all(ledger: WholeLedger, rows: Sequence[Enrolment]) -> None:
    puts = await asyncio.gather(*(ledger.put(row, None) for row in rows))
    assert puts == [Written(each) for each in rows]


# --- put --------------------------------------------------------------------------------------------------------------


async def test_the_first_row_of_a_user_applies_and_is_read_back(ledger: WholeLedger) -> None:
    assert await ledger.read("ana") is None
    first = row()
    assert await ledger.put(first, None) == Written(first)
    assert await ledger.read("ana") == first


async def test_a_row_that_replaces_the_version_that_stands_applies(ledger: WholeLedger) -> None:
    await ledger.put(first := row(), None)
    second = row(state=State.SEALED, sealed=sealed())
    assert await ledger.put(second, first.version) == Written(second)
    assert await ledger.read("ana") == second


async def test_a_fresh_row_never_overwrites_one_that_stands(ledger: WholeLedger) -> None:
    await ledger.put(first := row(), None)
    assert await ledger.put(row(state=State.FAILED), None) == Lost(first)
    assert await ledger.read("ana") == first


async def test_a_row_that_replaces_an_older_version_is_lost_and_told_what_stands(ledger: WholeLedger) -> None:
    await ledger.put(first := row(), None)
    await ledger.put(second := row(), first.version)
    assert await ledger.put(row(), first.version) == Lost(second)
    assert await ledger.read("ana") == second


async def test_a_row_that_replaces_one_that_is_missing_is_lost_and_leaves_nothing(ledger: WholeLedger) -> None:
    assert await ledger.put(row(), version()) == Lost(None)
    assert await ledger.read("ana") is None


async def test_repeating_a_write_that_applied_is_recognised(ledger: WholeLedger) -> None:
    first, second = row(), row(state=State.FAILED, reason=Reason.INVALID_PARAMETER)
    for written, replaces in ((first, None), (second, first.version)):
        assert await ledger.put(written, replaces) == Written(written)
        assert await ledger.put(written, replaces) == Written(written, repeated=True)


async def test_repeating_a_write_that_was_overtaken_since_is_lost(ledger: WholeLedger) -> None:
    await ledger.put(first := row(), None)
    await ledger.put(second := row(), first.version)
    assert await ledger.put(first, None) == Lost(second)


async def test_of_two_writes_at_the_same_time_one_applies_and_the_other_learns_of_it(ledger: WholeLedger) -> None:
    await ledger.put(first := row(), None)
    rivals = [row(), row()]
    puts = await asyncio.gather(*(ledger.put(rival, first.version) for rival in rivals))
    assert Counter(type(put) for put in puts) == {Written: 1, Lost: 1}
    assert {put.row for put in puts} == {await ledger.read("ana")}


async def test_the_same_write_twice_at_the_same_time_applies_once(ledger: WholeLedger) -> None:
    first = row()
    puts = await asyncio.gather(ledger.put(first, None), ledger.put(first, None))
    assert set(puts) == {Written(first), Written(first, repeated=True)}


async def test_every_write_of_a_crowd_gets_its_own_answer(ledger: WholeLedger) -> None:
    standing = {name: row(name) for name in ("replaced", "stands", "mine")}
    await put_all(ledger, list(standing.values()))
    puts: dict[str, tuple[Enrolment, str | None, WriteResult]] = {
        "new": ((new := row("new")), None, Written(new)),
        "replaced": ((other := row("replaced")), standing["replaced"].version, Written(other)),
        "stands": (row("stands"), None, Lost(standing["stands"])),
        "mine": (standing["mine"], None, Written(standing["mine"], repeated=True)),
        "missing": (row("missing"), version(), Lost(None)),
    }
    answers = await asyncio.gather(*(ledger.put(written, replaces) for written, replaces, _ in puts.values()))
    assert dict(zip(puts, answers, strict=True)) == {name: expected for name, (_, _, expected) in puts.items()}
    assert await ledger.read("missing") is None


@quick
@given(st.lists(enrolments, min_size=1, max_size=5, unique_by=lambda row: row.username))
async def test_every_field_of_every_row_comes_back(ledger: WholeLedger, rows: list[Enrolment]) -> None:
    stand = [await ledger.read(row.username) for row in rows]
    puts = [ledger.put(new, old.version if old else None) for new, old in zip(rows, stand, strict=True)]
    assert await asyncio.gather(*puts) == [Written(row) for row in rows]
    assert [await ledger.read(row.username) for row in rows] == rows


async def test_names_that_look_alike_or_dangerous_are_users_of_their_own(ledger: WholeLedger) -> None:
    rows = [row(name) for name in ("Ana", "ana", "ana ", "ana\0", *NASTY_NAMES)]
    await put_all(ledger, rows)
    assert [await ledger.read(row.username) for row in rows] == rows
    assert {row async for row in ledger.unfinished()} == set(rows)


_steps = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=12)


@quick
@given(_steps)
async def test_any_sequence_of_writes_ends_as_compare_and_set_says(
    ledger: WholeLedger, steps: list[tuple[int, int, bool]]
) -> None:
    """Each step writes in place of nothing or of one of the last writes, or repeats one of them."""
    name = version()
    stands: Enrolment | None = None
    writes: list[tuple[Enrolment, str | None]] = []
    for which, of, repeat in steps:
        known = [None, *(write.version for write, _ in writes[-3:])]
        new, replaces = (
            writes[-1 - of] if repeat and of < len(writes) else (row(name), known[min(which, len(known) - 1)])
        )
        if stands is not None and stands.version == new.version:
            expected: WriteResult = Written(stands, repeated=True)
        elif (stands.version if stands else None) == replaces:
            expected, stands = Written(new), new
        else:
            expected = Lost(stands)
        assert await ledger.put(new, replaces) == expected
        writes.append((new, replaces))


# --- counting and listing ---------------------------------------------------------------------------------------------


async def listed(ledger: WholeLedger, state: State) -> list[Listed]:
    return [user async for page in ledger.listed(state) for user in page]


async def test_unfinished_is_whoever_is_in_progress_or_sealed_or_being_activated_and_nobody_else(
    ledger: WholeLedger,
) -> None:
    rows = [
        row(f"{state} {number}", state, worker=worker) for state in State for number, worker in enumerate((None, "w"))
    ]
    rows += [
        row(f"{reason}", State.DELIVERED, reason=reason, activation=activation())
        for reason in Reason
        if STATE_OF[reason] is State.DELIVERED
    ]
    await put_all(ledger, rows)
    found = [row async for row in ledger.unfinished()]
    assert sorted(found) == sorted(
        row for row in rows if row.state in UNFINISHED or row.reason is Reason.ACTIVATION_PENDING
    )


async def test_whoever_is_activated_leaves_the_unfinished_and_what_that_needed_is_gone(ledger: WholeLedger) -> None:
    needs = activation(verified=True, doubt=True)
    steps = [
        row(state=State.SEALED, sealed=sealed(), activation=needs),
        row(state=State.DELIVERED, reason=Reason.ACTIVATION_PENDING, sealed=sealed(), activation=needs),
    ]
    before = None
    for each in steps:
        await ledger.put(each, before)
        before = each.version
        assert [row async for row in ledger.unfinished()] == [each]
        assert (await ledger.counts()).unfinished == 1
    await ledger.put(active := row(state=State.ACTIVE, sealed=sealed(blob=b"")), before)
    assert [row async for row in ledger.unfinished()] == []
    assert await ledger.read("ana") == active
    assert (await ledger.recount()).unfinished == 0


async def test_the_reasons_of_those_delivered_are_counted_and_listed(ledger: WholeLedger) -> None:
    reasons = [None, None, Reason.VERIFY_REFUSED, Reason.VERIFY_UNKNOWN, Reason.ACTIVATION_PENDING]
    await put_all(ledger, [row(f"{n}", State.DELIVERED, reason=reason) for n, reason in enumerate(reasons)])
    counts = await ledger.counts()
    assert dict(counts.states) == {State.DELIVERED: 5}
    assert dict(counts.reasons) == {"verify_refused": 1, "verify_unknown": 1, "activation_pending": 1}
    assert (counts.left_to_a_person, counts.unfinished) == (2, 1)
    assert await ledger.recount() == counts
    listed_reasons = sorted((user.username, user.reason) for user in await listed(ledger, State.DELIVERED))
    assert listed_reasons == [(f"{n}", reason) for n, reason in enumerate(reasons)]


async def test_a_row_that_an_earlier_version_must_not_touch_is_one_that_it_cannot_read(ledger: WholeLedger) -> None:
    """It reads the two words as they are written, and knows none but plain states and kinds."""
    for guarded in (
        row(activation=activation(), kind=CredentialKind.SESSION),
        row(before=State.DELIVERED, before_reason=Reason.VERIFY_UNKNOWN),
    ):
        words = {kind_of(guarded), before_of(guarded)} - {None}
        assert words - {*CredentialKind, *State}
    plain = row(before=State.DELIVERED, kind=CredentialKind.ACCESS_TOKEN)
    assert (kind_of(plain), before_of(plain)) == ("access_token", "delivered")


async def test_a_user_who_is_finished_leaves_the_unfinished(ledger: WholeLedger) -> None:
    await ledger.put(first := row(), None)
    await ledger.put(row(state=State.DELIVERED), first.version)
    assert [row async for row in ledger.unfinished()] == []


async def test_listed_gives_everybody_in_a_state_once_however_many(ledger: WholeLedger, crowd: int) -> None:
    many = [row(f"user {number:04}", State.NEEDS_SESSION, reason=Reason.REPLY_LOST) for number in range(crowd)]
    await put_all(ledger, [*many, row("other", State.FAILED)])
    assert sorted(await listed(ledger, State.NEEDS_SESSION)) == [
        Listed(each.username, "reply_lost", each.since) for each in many
    ]
    assert await listed(ledger, State.ACTIVE) == []


async def test_listed_misses_no_name_between_two_pages(ledger: WholeLedger, crowd: int) -> None:
    names = [f"user\0{number}" if number % 2 else f"{chr(number)}😀'" for number in range(1, crowd // 2)]
    await put_all(ledger, many := [row(name, State.DELIVERED) for name in names])
    assert {user.username for user in await listed(ledger, State.DELIVERED)} == {row.username for row in many}


async def test_users_may_change_while_they_are_listed(ledger: WholeLedger, crowd: int) -> None:
    many = [row(f"user {number:04}", State.NEEDS_SESSION) for number in range(crowd // 2 + 10)]
    await put_all(ledger, many)
    seen = []
    async for page in ledger.listed(State.NEEDS_SESSION):
        for user in page:
            seen.append(user.username)
            if len(seen) % 10 == 0:
                stands = await ledger.read(user.username)
                assert stands is not None
                await ledger.put(row(user.username, State.FAILED), stands.version)
    assert sorted(seen) == [row.username for row in many]


async def test_the_census_counts_every_user_once_under_state_and_reason(ledger: WholeLedger) -> None:
    assert (await ledger.counts()).accepted == 0
    rows = [row(f"{state} {number}", state) for number, state in enumerate(State) for number in range(number + 1)]
    rows += [
        row(f"{reason}", State.NEEDS_SESSION, reason=reason) for reason in (Reason.REPLY_LOST, Reason.SESSION_SPENT)
    ]
    rows += [row("again", State.FAILED, reason=Reason.REPLY_LOST)]
    await put_all(ledger, rows)
    counts = await ledger.counts()
    assert counts.accepted == len(rows)
    assert dict(counts.states) == Counter(row.state for row in rows)
    assert dict(counts.reasons) == {"reply_lost": 2, "session_spent": 1}
    assert counts.unfinished == sum(row.state in UNFINISHED for row in rows)
    assert (counts.duplicates, counts.malformed) == (0, 0)


async def test_codes_are_counted_apart_and_leave_with_their_rows(ledger: WholeLedger) -> None:
    codes = ("ForbiddenException", "ForbiddenException", "ResourceNotFoundException")
    rows = [
        row(f"user-{number}", State.FAILED, reason=Reason.REFUSED, detail=code) for number, code in enumerate(codes)
    ]
    await put_all(ledger, [*rows, row("other", State.FAILED, reason=Reason.WORKER_CRASHED)])
    counts = await ledger.counts()
    assert counts.reasons == {"refused": 3, "worker_crashed": 1}
    assert counts.codes == {"refused": {"ForbiddenException": 2, "ResourceNotFoundException": 1}}
    assert (await ledger.recount()).codes == counts.codes

    await ledger.put(row("user-2", State.IN_PROGRESS), rows[2].version)
    assert (await ledger.counts()).codes == {"refused": {"ForbiddenException": 2}}
    assert {found.detail for found in await listed(ledger, State.FAILED)} == {"ForbiddenException", None}


async def test_duplicates_add_up(ledger: WholeLedger) -> None:
    await asyncio.gather(*(ledger.count(duplicates=number) for number in (1, 2, 3)))
    await ledger.count(duplicates=4)
    assert (await ledger.counts()).duplicates == 10


# --- the shared pace --------------------------------------------------------------------------------------------------


def later(stands: Pace | None) -> Pace:
    """One second more is given away."""
    assert stands is not None
    return replace(stands, reserved_until=stands.reserved_until + 1, version=stands.version + 1)


async def test_the_pace_is_kept_as_it_was_changed(ledger: WholeLedger) -> None:
    assert await ledger.read_pace() is None
    pace = Pace(12.5, 20.0, 3.25, version=1, length=0.25)
    change = Mock(return_value=pace)
    assert await ledger.change_pace(change) == pace
    change.assert_called_once_with(None)
    assert await ledger.read_pace() == pace
    assert await ledger.change_pace(later) == replace(pace, reserved_until=13.5, version=2)


async def test_the_pace_of_sign_ins_is_another_one(open_ledger: OpenLedger) -> None:
    calls, sign_ins = Pace(12.5, 20.0, 3.25, version=1), Pace(2.5, 60.0, 1.25, version=1)
    async with open_ledger("one") as one, open_ledger("two") as two:
        await one.change_pace(lambda _: calls)
        assert await one.sign_in_pace.read_pace() is None
        assert await one.sign_in_pace.change_pace(lambda _: sign_ins) == sign_ins
        assert await two.sign_in_pace.read_pace() == sign_ins
        await asyncio.gather(*(each.sign_in_pace.change_pace(later) for each in (one, two) for _ in range(3)))
        assert await one.sign_in_pace.read_pace() == replace(sign_ins, reserved_until=8.5, version=7)
        assert await two.read_pace() == calls


async def test_a_pace_that_needs_no_change_is_not_written(ledger: WholeLedger) -> None:
    assert await ledger.change_pace(lambda stands: stands) is None
    assert await ledger.read_pace() is None
    pace = await ledger.change_pace(lambda _: Pace(12.5, 20.0, 3.25, version=1))
    assert await ledger.change_pace(lambda stands: stands) == pace


@pytest.mark.parametrize("ahead", [0.0, 1e6])
async def test_no_change_of_the_pace_is_lost_whoever_else_changes_it(open_ledger: OpenLedger, ahead: float) -> None:
    async with open_ledger("one") as one, open_ledger("two") as two:
        start = float(round(one.shared_time())) + ahead if ahead else 0.0  # reserved ahead, or long run dry
        await one.change_pace(lambda _: Pace(start, 20.0, 3.25, version=1))
        made = await asyncio.gather(*(ledger.change_pace(later) for ledger in (one, two) for _ in range(5)))
        assert sorted(pace.reserved_until - start for pace in made if pace) == list(range(1, 11))
        assert await two.read_pace() == await one.read_pace() == Pace(start + 10, 20.0, 3.25, version=11)


async def test_a_cut_of_the_rate_is_not_overwritten_by_who_did_not_know_of_it(open_ledger: OpenLedger) -> None:
    def cut(stands: Pace | None) -> Pace:
        assert stands is not None
        return replace(stands, rate=10.0, changed_at=stands.changed_at + 1, version=stands.version + 1)

    async with open_ledger("one") as one, open_ledger("two") as two:
        start = float(round(one.shared_time())) + 1e6
        await one.change_pace(lambda _: Pace(start, 20.0, 3.25, version=1))
        await asyncio.gather(
            *(ledger.change_pace(later) for ledger in (one, two) for _ in range(5)), two.change_pace(cut)
        )
        assert await one.read_pace() == Pace(start + 10, 10.0, 4.25, version=12)


async def test_the_shared_clock_of_two_workers_is_one(open_ledger: OpenLedger) -> None:
    async with open_ledger("one") as one, open_ledger("two") as two:
        times = [one.shared_time(), two.shared_time(), one.shared_time()]
        assert times == sorted(times)


# --- several workers, one rollout -------------------------------------------------------------------------------------


async def test_what_another_worker_wrote_is_seen_at_once(open_ledger: OpenLedger) -> None:
    async with open_ledger("one") as one, open_ledger("two") as two:
        await one.put(first := row(), None)
        assert await two.read("ana") == first
        assert await two.put(second := row(state=State.SEALED), first.version) == Written(second)
        assert await one.put(row(), first.version) == Lost(second)
        assert [row async for row in one.unfinished()] == [second]
        assert (await one.recount()).states == {State.SEALED: 1}


async def test_workers_that_write_for_the_same_users_never_overwrite_each_other(open_ledger: OpenLedger) -> None:
    async with open_ledger("one") as one, open_ledger("two") as two:

        async def add(ledger: WholeLedger, times: int) -> None:
            for _ in range(times):
                while True:
                    stands = await ledger.read("ana")
                    new = row(generation=stands.generation + 1 if stands else 1)
                    if await ledger.put(new, stands.version if stands else None) == Written(new):
                        break

        await asyncio.gather(*(add(ledger, 10) for ledger in (one, two) for _ in range(2)))
        stands = await one.read("ana")
        assert stands is not None
        assert stands.generation == 40


async def test_everything_is_there_after_closing_and_opening_again(open_ledger: OpenLedger) -> None:
    async with open_ledger("one") as ledger:
        await ledger.put(first := row(state=State.SEALED, sealed=sealed()), None)
        await ledger.count(duplicates=1)
        await ledger.change_pace(lambda _: Pace(1.0, 2.0, 3.0, version=1))
    async with open_ledger("two", must_exist=True) as ledger:
        assert await ledger.read("ana") == first
        assert (await ledger.counts()).duplicates == 1
        assert await ledger.read_pace() == Pace(1.0, 2.0, 3.0, version=1)


async def test_a_ledger_of_another_rollout_is_refused_and_left_as_it_was(open_ledger: OpenLedger) -> None:
    async with open_ledger() as ledger:
        await ledger.put(row(), None)
    for name in STAMP:
        with pytest.raises(UsageError, match=f"belongs to another rollout: its {name} is"):
            async with open_ledger(stamp=STAMP | {name: "another"}):
                pass
    async with open_ledger() as ledger:
        assert (await ledger.counts()).accepted == 1


async def test_a_ledger_without_a_user_belongs_to_nobody(open_ledger: OpenLedger) -> None:
    async with open_ledger(stamp=OTHER) as ledger:
        await ledger.add_to_roster(["ana"])
    async with open_ledger() as ledger:
        assert await ledger.put(first := row(), None) == Written(first)
        assert (await ledger.look()).stamp == STAMP
    with pytest.raises(UsageError, match="its user pool is"):
        async with open_ledger(stamp=OTHER):
            pass


async def test_a_worker_with_other_settings_that_comes_second_is_refused_at_its_first_row(
    open_ledger: OpenLedger,
) -> None:
    async with open_ledger("one") as one, open_ledger("two", stamp=OTHER) as two:
        assert await one.put(first := row(), None) == Written(first)
        for username in ("ana", "ben"):
            with pytest.raises(UsageError, match="belongs to another rollout: its user pool is"):
                await two.put(row(username), None)
        assert await one.read("ben") is None
        assert (await one.look()).stamp == STAMP


async def test_of_workers_with_different_settings_that_begin_at_once_one_begins(open_ledger: OpenLedger) -> None:
    async with AsyncExitStack() as stack:
        stamps = [STAMP | {"user pool": f"us-east-1_{number}"} for number in range(4)]
        ledgers = [
            await stack.enter_async_context(open_ledger(f"worker{number}", stamp=stamp))
            for number, stamp in enumerate(stamps)
        ]
        rows = [[row(f"user-{number}-{each}") for each in range(3)] for number in range(4)]

        async def put(ledger: WholeLedger, first: Enrolment) -> WriteResult | str:
            while True:
                try:
                    return await ledger.put(first, None)
                except LedgerUnavailable:  # so many began at once; a worker tries again
                    await asyncio.sleep(0.01)
                except UsageError:
                    return "refused"

        answers = await asyncio.gather(
            *(put(ledger, each) for ledger, mine in zip(ledgers, rows, strict=True) for each in mine)
        )
        winner = stamps.index(dict((await ledgers[0].look()).stamp))
        of_each = [answers[3 * number : 3 * number + 3] for number in range(4)]
        assert of_each[winner] == [Written(each) for each in rows[winner]]
        assert all(each == ["refused"] * 3 for number, each in enumerate(of_each) if number != winner)
        assert (await ledgers[winner].recount()).accepted == 3


async def test_a_user_of_the_roster_may_be_the_first(open_ledger: OpenLedger) -> None:
    async with open_ledger() as ledger:
        await ledger.add_to_roster(["ana", "ben"])
        assert await ledger.put(first := row(), None) == Written(first)
        assert await ledger.roster_count() == 1
    async with open_ledger(must_exist=True) as ledger:
        assert await ledger.read("ana") == first


async def test_a_first_row_that_replaces_what_is_not_there_is_lost_and_begins_nothing(open_ledger: OpenLedger) -> None:
    async with open_ledger() as ledger:
        assert await ledger.put(row(), "a version that never was") == Lost(None)
        assert not (await ledger.look()).has_users
    async with open_ledger(stamp=OTHER) as ledger:
        assert isinstance(await ledger.put(row(), None), Written)


IDENTITIES = ({RECIPIENT: "age1one"}, {RECIPIENT: "age1other"})
"""The parts of the stamp of two workers that activate."""


@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun without activation"])
async def test_of_two_workers_that_activate_with_two_identities_at_once_one_is_refused(
    open_ledger: OpenLedger, *, begun: bool
) -> None:
    if begun:
        async with open_ledger("before") as before:
            await before.put(row("zoe"), None)
    async with (
        open_ledger("one", stamp=STAMP | IDENTITIES[0]) as one,
        open_ledger("two", stamp=STAMP | IDENTITIES[1]) as two,
    ):
        puts = await asyncio.gather(one.put(row("ana"), None), two.put(row("ben"), None), return_exceptions=True)
        refused = [each for each in puts if isinstance(each, UsageError)]
        assert len(refused) == 1
        assert "age1one" in str(refused[0])
        assert "age1other" in str(refused[0])
        assert "activation.identity" in refused[0].hint
    winner = IDENTITIES[isinstance(puts[0], UsageError)]
    with pytest.raises(UsageError, match="another activation identity"):
        async with open_ledger("late", stamp=STAMP | IDENTITIES[winner is IDENTITIES[0]]):
            pass
    async with open_ledger("same", stamp=STAMP | winner) as same, open_ledger("activates nobody") as other:
        assert await same.put(row("eve"), None)
        assert await other.put(row("cem"), None)


async def test_a_part_of_the_stamp_that_is_forgotten_may_be_another_one_next(open_ledger: OpenLedger) -> None:
    async with open_ledger("one", stamp=STAMP | IDENTITIES[0]) as one:
        await one.put(row("ana"), None)
    async with open_ledger("mends") as mends:
        await mends.forget(RECIPIENT)
        await mends.forget(RECIPIENT)
        assert (await mends.look()).stamp == STAMP
    async with open_ledger("two", stamp=STAMP | IDENTITIES[1]) as two:
        await two.put(row("ben"), None)
        assert (await two.look()).stamp == STAMP | IDENTITIES[1]


KEYS = [age.keygen("today")[1] for _ in range(2)]
SEALS_TO = ({RECIPIENTS: KEYS[0]}, {RECIPIENTS: "\n".join(sorted(KEYS))})
"""The parts of the stamp of two workers that seal to others."""


@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun by an earlier version"])
async def test_of_two_workers_that_seal_to_others_at_once_one_is_refused(
    open_ledger: OpenLedger, *, begun: bool
) -> None:
    if begun:
        async with open_ledger("before") as before:
            await before.put(row("zoe"), None)
    async with (
        open_ledger("one", stamp=STAMP | SEALS_TO[0]) as one,
        open_ledger("two", stamp=STAMP | SEALS_TO[1]) as two,
    ):
        puts = await asyncio.gather(one.put(row("ana"), None), two.put(row("ben"), None), return_exceptions=True)
        (refused,) = [each for each in puts if isinstance(each, UsageError)]
        assert KEYS[1][:16] in str(refused)
        assert "--accept-recipients" in refused.hint
        assert (await one.look()).stamp == STAMP | SEALS_TO[isinstance(puts[0], UsageError)]
    async with open_ledger("of an earlier version, or a command that does not seal") as other:
        assert await other.put(row("cem"), None)


async def test_a_part_of_the_stamp_is_changed_only_where_it_is_what_was_read(open_ledger: OpenLedger) -> None:
    first, second = (each[RECIPIENTS] for each in SEALS_TO)
    async with (
        open_ledger("one", stamp=STAMP | SEALS_TO[0]) as one,
        open_ledger("other", stamp=STAMP | SEALS_TO[0]) as other,
    ):
        assert not await one.restamp(RECIPIENTS, second, first), "nobody has a row, so there is no stamp"
        await one.put(row("ana"), None)
        changed = await asyncio.gather(
            one.restamp(RECIPIENTS, second, first), other.restamp(RECIPIENTS, "another", first)
        )
        assert sorted(changed) == [False, True]
        assert await one.restamp(RECIPIENTS, second, second if changed[0] else "another")
        assert (await one.look()).stamp == STAMP | SEALS_TO[1]
        assert await one.put(row("ben"), None)
    async with open_ledger("late", stamp=STAMP | SEALS_TO[1]) as late:
        assert await late.put(row("cem"), None)


async def test_looking_says_what_is_there_and_makes_nothing(open_ledger: OpenLedger) -> None:
    async with open_ledger() as ledger:
        assert await ledger.look() == Found(exists=True)
        await ledger.add_to_roster(["ana"])
        assert not (await ledger.look()).has_users
        await ledger.put(row("ben"), None)
        assert await ledger.look() == Found(exists=True, has_users=True, stamp=STAMP)


async def test_of_those_who_write_a_note_at_once_one_succeeds(open_ledger: OpenLedger) -> None:
    async with open_ledger("one") as one, open_ledger("two") as two:
        wrote = await asyncio.gather(one.note("a note", "one", None), two.note("a note", "two", None))
        assert sorted(wrote) == [False, True]
        first, second = ("one", "two") if wrote[0] else ("two", "one")
        assert (await two.look()).notes == {"a note": first}
        assert not await one.note("a note", None, second)
        assert await one.note("a note", "three", first)
        assert await two.note("a note", None, "three")
        assert (await one.look()).notes == {}


async def test_a_ledger_that_must_exist_is_not_begun(open_ledger: OpenLedger) -> None:
    for _ in range(2):
        with pytest.raises(UsageError, match="does not exist"):
            async with open_ledger(must_exist=True):
                pass


async def test_a_ledger_in_which_nobody_is_does_not_exist_either(open_ledger: OpenLedger) -> None:
    async with open_ledger() as ledger:
        await ledger.add_to_roster(["ana"])
        await ledger.count(malformed=1)
        await ledger.note("a note", "one", None)
    with pytest.raises(UsageError, match="no user's row, so no rollout has begun in it"):
        async with open_ledger(must_exist=True):
            pass


async def test_a_living_worker_is_never_gone(open_ledger: OpenLedger) -> None:
    async with open_ledger("one") as one, open_ledger("two") as two:
        assert [one.is_dead("one"), one.is_dead("two"), two.is_dead("one")] == [False] * 3


# --- rows of a later version ------------------------------------------------------------------------------------------


class Later(StrEnum):
    """What a later version may write."""

    REASON = "grown_too_old"
    STATE = "archived"


def of_a_later_version(**fields: Any) -> Enrolment:
    return row("eve", State.IN_PROGRESS)._replace(**{"reason": Later.REASON, **fields})


@pytest.mark.parametrize("fields", [{}, {"before": Later.STATE}, {"kind": Later.REASON}, {"state": Later.STATE}])
async def test_a_row_of_a_later_version_is_named_and_stops_nobody_else(
    ledger: WholeLedger, fields: dict[str, Any]
) -> None:
    await ledger.put(stands := of_a_later_version(**fields), None)
    with pytest.raises(RowUnreadable, match="'eve'") as caught:
        await ledger.read("eve")
    assert ("grown_too_old" in str(caught.value)) or ("archived" in str(caught.value))
    others = [row(name) for name in ("ana", "ben", "cem")]
    puts = [ledger.put(row("eve"), None), *(ledger.put(each, None) for each in others)]
    told = await asyncio.gather(*puts, return_exceptions=True)
    assert isinstance(told[0], RowUnreadable)
    assert told[1:] == [Written(each) for each in others]
    if stands.state is State.IN_PROGRESS:
        found = []
        with pytest.raises(RowUnreadable, match="'eve'"):  # noqa: PT012 - the last step of many raises
            async for each in ledger.unfinished():
                found.append(each)  # noqa: PERF401
        assert {each.username for each in found} == {"ana", "ben", "cem"}
    else:
        with pytest.raises(PersonMustAct, match="archived"):
            await ledger.recount()
