"""Appending on condition: nothing may have happened that would have changed the decision."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio

import pytest

from mainstay.errors import AppendConditionError, OptimisticLockError
from mainstay.events.log import Condition, EventLog, FeedFilter, Query, QueryItem, StreamAppend
from mainstay.events.stream import StreamId
from mainstay.testing.contracts.events.base import PATIENCE, EventLogSuite, exact, new, rolled_back, stream


def asked(types: str = "", tags: str = "") -> QueryItem:
    """One item of a query, its parts separated by spaces."""
    return QueryItem(frozenset(types.split()), frozenset(tags.split()))


#: A query, and whether it fits an event `Taken` with the tags seat:1 and show:1.
QUERIES = [
    (Query(), True),
    (Query((asked("Taken"),)), True),
    (Query((asked(tags="seat:1"),)), True),
    (Query((asked("Taken", "seat:1 show:1"),)), True),
    (Query((asked("Freed Taken", "show:1"),)), True),
    (Query((asked("Freed"), asked(tags="seat:2"), asked("Taken", "seat:1"))), True),
    (Query((asked(),)), True),
    (Query((asked("Freed"),)), False),
    (Query((asked("Freed", "seat:1"),)), False),
    (Query((asked("Taken", "seat:1 seat:2"),)), False),
    (Query((asked("Freed", "seat:1"), asked("Taken", "seat:2"))), False),
]


class ConditionContract(EventLogSuite):
    """Appending on condition."""

    async def taken(self, log: EventLog, *tags: str, condition: Condition | None = None) -> int:
        """Append a `Taken` to a stream of its own; its position."""
        append = StreamAppend(stream("Seat"), (new("Taken", *tags),))
        (answer,) = await log.append([append], condition=condition)
        assert answer.position is not None
        return answer.position

    @pytest.mark.parametrize(("query", "fits"), QUERIES)
    async def test_an_append_fails_if_an_event_fits_its_condition(
        self, log: EventLog, query: Query, *, fits: bool
    ) -> None:
        await self.taken(log, "seat:1", "show:1")
        after = (await log.horizon()).position
        position = await self.taken(log, "seat:1", "show:1")
        before = await self.feed(log)

        if fits:
            with pytest.raises(AppendConditionError) as caught:
                await self.taken(log, condition=Condition(query, after))
            assert caught.value.position == position
            assert await self.feed(log) == before
        else:
            assert await self.taken(log, condition=Condition(query, after)) > position

    async def test_what_happened_up_to_its_position_does_not_count(self, log: EventLog) -> None:
        await self.taken(log, "seat:1")
        position = await self.taken(log, "seat:1")
        query = Query((asked(tags="seat:1"),))

        with pytest.raises(AppendConditionError):
            await self.taken(log, "seat:1", condition=Condition(query, position - 1))
        assert await self.taken(log, "seat:1", condition=Condition(query, position)) > position
        with pytest.raises(AppendConditionError):
            await self.taken(log, "seat:1", condition=Condition(query, position))

    async def test_a_condition_forbids_guards_and_nothing_too(self, log: EventLog) -> None:
        await self.taken(log)
        for appends in ([], [StreamAppend(stream(), ())]):
            with pytest.raises(AppendConditionError):
                await log.append(appends, condition=Condition(Query(), 0))
            await log.append(appends, condition=Condition(Query(), (await log.horizon()).position))

    async def test_an_expectation_is_looked_at_first(self, log: EventLog) -> None:
        await self.taken(log)
        with pytest.raises(OptimisticLockError):
            await log.append([StreamAppend(stream(), (new(),), exact(1))], condition=Condition(Query(), 0))

    async def test_a_condition_is_of_one_tenant_or_of_all(self, log: EventLog) -> None:
        for tenant in ("a", "b"):
            await self.appended(log, StreamId("Seat", "1", tenant), [new("Taken", "seat:1")])
        (of_a, of_b) = await self.feed(log)
        query = Query((asked("Taken", "seat:1"),))

        for after, whose in ((of_a.position, None), (of_a.position, "b"), (0, "a")):
            with pytest.raises(AppendConditionError) as caught:
                await self.taken(log, condition=Condition(query, after, whose))
            assert caught.value.position == (of_b.position if after else of_a.position)
        await self.taken(log, condition=Condition(query, of_a.position, "a"))
        await self.taken(log, condition=Condition(query, 0, "c"))

    async def test_the_events_of_a_tombstone_have_no_tags(self, log: EventLog) -> None:
        name = stream()
        await self.appended(log, name, [new("Taken", "seat:1")])
        await log.tombstone(name, reason="a test", actor="ada")

        await self.taken(log, condition=Condition(Query((asked(tags="seat:1"),)), 0))
        with pytest.raises(AppendConditionError):
            await self.taken(log, condition=Condition(Query((asked("Taken"),)), 0))

    async def test_a_transaction_meets_what_it_appended_itself(self, log: EventLog) -> None:
        async with rolled_back(log) as tx:
            await self.appended(log, stream(), [new("Taken", "seat:1")], conn=tx)
            with pytest.raises(AppendConditionError):
                await log.append(
                    [StreamAppend(stream(), (new(),))],
                    condition=Condition(Query((asked(tags="seat:1"),)), 0),
                    conn=tx,
                )

    @pytest.mark.parametrize("ends", [True, False])
    async def test_a_condition_waits_for_what_an_open_transaction_has_appended(
        self, log: EventLog, *, ends: bool
    ) -> None:
        condition = Condition(Query((asked("Taken", "seat:1"),)), 0)
        if ends:
            async with log.transaction() as tx:
                await self.appended(log, stream(), [new("Taken", "seat:1")], conn=tx)
                task = asyncio.create_task(self.taken(log, "seat:1", condition=condition))
                await self.let_others(log)
                assert not task.done()
            with pytest.raises(AppendConditionError):
                async with asyncio.timeout(PATIENCE):
                    await task
            return
        async with rolled_back(log) as tx:
            await self.appended(log, stream(), [new("Taken", "seat:1")], conn=tx)
            task = asyncio.create_task(self.taken(log, "seat:1", condition=condition))
            await self.let_others(log)
            assert not task.done()
        async with asyncio.timeout(PATIENCE):
            assert await task > 0

    async def test_of_many_who_want_the_same_seat_one_gets_it(self, log: EventLog) -> None:
        query = Query((asked("Taken", "seat:1"),))

        async def want() -> bool:
            after = (await log.horizon()).position
            if await self.feed(log, wanted=FeedFilter(query=query)):
                return False
            await self.let_others(log)
            try:
                await self.taken(log, "seat:1", condition=Condition(query, after))
            except AppendConditionError:
                return False
            return True

        async with asyncio.timeout(PATIENCE):
            taken = await asyncio.gather(*(want() for _ in range(16)))

        assert sum(taken) == 1
        assert len(await self.feed(log)) == 1

    async def test_conditions_that_cross_do_not_both_hold(self, log: EventLog) -> None:
        async def want(mine: str, other: str, after: int) -> bool:
            try:
                await self.taken(log, mine, condition=Condition(Query((asked(tags=other),)), after))
            except AppendConditionError:
                return False
            return True

        for turn in range(10):
            after = (await log.horizon()).position
            left, right = f"left:{turn}", f"right:{turn}"
            async with asyncio.timeout(PATIENCE):
                held = await asyncio.gather(want(left, right, after), want(right, left, after))
            assert sum(held) == 1

    async def test_who_appends_without_a_condition_is_seen_by_those_who_have_one(self, log: EventLog) -> None:
        query = Query((asked(tags="seat:1"),))
        held: dict[int, int] = {}

        async def ask() -> None:
            for _ in range(8):
                after = (await log.horizon()).position
                await self.let_others(log)
                try:
                    position = await self.taken(log, "seat:2", condition=Condition(query, after))
                except AppendConditionError:
                    continue
                held[position] = after

        async def disturb() -> None:
            for _ in range(4):
                async with log.transaction() as tx:
                    await self.appended(log, stream(), [new("Taken", "seat:1")], conn=tx)
                    await self.let_others(log)

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(ask() for _ in range(4)), *(disturb() for _ in range(4)))
        disturbing = [each.position for each in await self.feed(log) if "seat:1" in each.event.tags]

        assert len(disturbing) == 16
        assert not [(p, after) for p, after in held.items() if any(after < other < p for other in disturbing)]
