"""Appending: to one stream and to several, what is expected, what is kept, transactions."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay.errors import OptimisticLockError
from mainstay.events.log import MOST_EVENTS, MOST_TAGS, EventLog, StreamAppend
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.testing.contracts.events.base import (
    PATIENCE,
    EventLogSuite,
    OnPurposeError,
    any_version,
    exact,
    ids,
    new,
    no_stream,
    plain,
    positions,
    rolled_back,
    several,
    stream,
    stream_exists,
    versions,
)

AWKWARD: list[dict[str, Any]] = [
    {},
    {"deep": [{"er": [1, [2, [3, {"x": None}]]]}]},
    {"text": "häß­lich \U0001f40d \t\n\\ \" ' ; -- $1 %s ? :a {}", "": "an empty key"},
    {"big": 2**53 + 1, "negative": -(2**63), "float": 0.1, "true": True},
    {"not an escape": "\\u0000"},
]

NAMES: list[StreamId] = [
    StreamId("Order", "a text, not a UUID"),
    StreamId("O'Order; --", '"%s" $1 ? \\'),
    StreamId("注文", "\U0001f40d" * 200),
    StreamId("Order", "a text", "tenant"),
    StreamId("Order", UUID(int=5), UUID(int=7)),
    StreamId("Order", str(UUID(int=6)).upper().replace("0", "A")),
]


class AppendingContract(EventLogSuite):
    """Appending."""

    # -- one stream ---------------------------------------------------------------------------------------------------
    async def test_events_are_kept_as_they_were_handed_over(self, log: EventLog) -> None:
        name = stream()
        bare = new()
        full = new(
            "OrderPlaced",
            *(f"tag:{number}" for number in range(MOST_TAGS)),
            payload={"total": "3.50"},
            occurred_at=datetime(2020, 2, 29, 1, 2, 3, 456_789, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
            event_version=2_147_483_647,
            correlation_id=uuid4(),
            causation_id=uuid4(),
            actor_id="ada",
            metadata={"from": "a test"},
        )

        await self.appended(log, name, [bare, full])
        found = await log.read_stream(name)

        assert [plain(each.event) for each in found] == [plain(bare), plain(full)]
        assert versions(found) == [1, 2]
        assert [each.stream for each in found] == [name, name]
        assert found == await self.feed(log)
        assert [each.tombstoned for each in found] == [False, False]
        assert all(each.recorded_at.utcoffset() == timedelta(0) for each in found)
        assert all(each.event.occurred_at.tzinfo is not None for each in found)

    async def test_documents_come_back_with_the_values_they_had(self, log: EventLog) -> None:
        name = stream()
        events = [new(payload=value, metadata=value) for value in AWKWARD]

        await self.appended(log, name, events)

        assert [plain(each.event) for each in await log.read_stream(name)] == [plain(event) for event in events]

    async def test_streams_may_have_awkward_names(self, log: EventLog) -> None:
        for name in NAMES:
            await self.appended(log, name)

        assert [each.stream for each in await self.feed(log)] == NAMES
        assert {state.stream for state in await self.known(log)} == set(NAMES)
        for name in NAMES:
            assert [each.stream for each in await log.read_stream(name)] == [name]

    async def test_an_append_says_where_its_events_came_to_stand(self, log: EventLog) -> None:
        name = stream()

        first = await self.appended(log, name, 2)
        second = await self.appended(log, name, 3)
        found = await log.read_stream(name)

        assert (first.stream, first.version, first.repeated) == (name, 2, False)
        assert (second.version, second.repeated) == (5, False)
        assert [first.position, second.position] == [found[1].position, found[4].position]

    async def test_positions_grow_with_every_append(self, log: EventLog) -> None:
        names = [stream(), stream(), stream()]
        for name in (*names, *reversed(names)):
            await self.appended(log, name, 2)
        feed = await self.feed(log)

        assert [each.stream for each in feed] == [name for name in (*names, *reversed(names)) for _ in range(2)]
        assert positions(feed)[0] > 0

    async def test_events_of_one_append_have_one_time(self, log: EventLog) -> None:
        before = await self.written(log, 2)
        self.pass_time(log)
        after = await self.written(log, 2)
        earlier, later = await log.read_stream(before), await log.read_stream(after)

        assert earlier[0].recorded_at == earlier[1].recorded_at < later[0].recorded_at == later[1].recorded_at

    async def test_the_largest_append_is_taken_whole(self, log: EventLog) -> None:
        name = stream()
        answer = await self.appended(log, name, MOST_EVENTS)

        assert answer.version == MOST_EVENTS
        assert len(await self.feed(log)) == MOST_EVENTS

    async def test_nothing_is_appended_by_appending_nothing(self, log: EventLog) -> None:
        assert await log.append([]) == []
        assert (await log.horizon()).position == 0

    # -- what is expected ---------------------------------------------------------------------------------------------
    @pytest.mark.parametrize("expected", [any_version, no_stream, exact(0)])
    async def test_a_stream_begins_if_that_is_allowed(self, log: EventLog, expected: ExpectedVersion) -> None:
        assert (await self.appended(log, stream(), 1, expected)).version == 1

    @pytest.mark.parametrize("expected", [stream_exists, exact(1), exact(2_147_483_647)])
    async def test_a_stream_does_not_begin_if_it_should_exist(self, log: EventLog, expected: ExpectedVersion) -> None:
        name = stream()
        with pytest.raises(OptimisticLockError) as caught:
            await self.appended(log, name, 1, expected)

        assert (caught.value.stream, caught.value.expected, caught.value.actual) == (name, expected, 0)
        assert await log.read_stream(name) == []
        assert await log.stream_state(name) is None

    @pytest.mark.parametrize("expected", [any_version, stream_exists, exact(2)])
    async def test_a_stream_goes_on_if_that_is_allowed(self, log: EventLog, expected: ExpectedVersion) -> None:
        name = await self.written(log, 2)

        assert (await self.appended(log, name, 1, expected)).version == 3

    @pytest.mark.parametrize("expected", [no_stream, exact(1), exact(3)])
    async def test_a_stream_does_not_go_on_at_another_version(self, log: EventLog, expected: ExpectedVersion) -> None:
        name = await self.written(log, 2)
        before = await self.feed(log)

        with pytest.raises(OptimisticLockError) as caught:
            await self.appended(log, name, 2, expected)

        assert (caught.value.stream, caught.value.expected, caught.value.actual) == (name, expected, 2)
        assert await self.feed(log) == before

    # -- several streams ----------------------------------------------------------------------------------------------
    async def test_an_append_over_several_streams_keeps_their_order(self, log: EventLog) -> None:
        old = await self.written(log)
        first, guarded, unwritten = stream(), await self.written(log, 3), stream()
        events = [several(2), several(1)]

        answers = await log.append(
            [
                StreamAppend(first, tuple(events[0]), no_stream),
                StreamAppend(guarded, (), exact(3)),
                StreamAppend(old, tuple(events[1]), exact(1)),
                StreamAppend(unwritten, (), no_stream),
            ]
        )
        written = (await self.feed(log))[4:]

        assert ids(written) == ids([*events[0], *events[1]])
        assert [answer.stream for answer in answers] == [first, guarded, old, unwritten]
        assert [answer.version for answer in answers] == [2, 3, 2, 0]
        assert [answer.position for answer in answers] == [written[1].position, None, written[2].position, None]
        assert not any(answer.repeated for answer in answers)
        assert await log.stream_state(unwritten) is None

    async def test_an_append_over_several_streams_is_there_whole_or_not_at_all(self, log: EventLog) -> None:
        fine, moved, new_one = await self.written(log), await self.written(log, 2), stream()
        before = await self.feed(log)

        for refused in (
            StreamAppend(moved, (new(),), exact(1)),
            StreamAppend(moved, (), exact(1)),
            StreamAppend(moved, (), no_stream),
            StreamAppend(stream(), (), stream_exists),
        ):
            with pytest.raises(OptimisticLockError) as caught:
                await log.append([StreamAppend(fine, (new(),)), StreamAppend(new_one, (new(),)), refused])
            assert (caught.value.stream, caught.value.expected) == (refused.stream, refused.expected)

        assert await self.feed(log) == before
        assert await log.stream_state(new_one) is None

    async def test_of_several_refusals_the_first_in_order_is_named(self, log: EventLog) -> None:
        names = sorted([await self.written(log) for _ in range(4)], key=str)
        for order in (names, names[::-1]):
            with pytest.raises(OptimisticLockError) as caught:
                await log.append([StreamAppend(name, (new(),), exact(5)) for name in order])

            assert caught.value.stream == order[0]

    # -- transactions -------------------------------------------------------------------------------------------------
    async def test_a_transaction_sees_what_it_appended_and_others_do_not(self, log: EventLog) -> None:
        name = await self.written(log)
        async with log.transaction() as tx:
            answer = await self.appended(log, name, 2, exact(1), tx)
            inside = await log.read_stream(name, conn=tx)
            loaded = await log.read_streams([(name, 1)], conn=tx)
            state = await log.stream_state(name, conn=tx)
            outside = (await log.read_stream(name), await log.stream_state(name), await log.read_streams([(name, 0)]))

        assert answer.version == len(inside) == 3
        assert loaded == {name: inside[1:]}
        assert state is not None
        assert state.version == 3
        assert outside[0] == inside[:1]
        assert outside[1] is not None
        assert outside[1].version == 1
        assert outside[2] == {name: inside[:1]}
        assert await log.read_stream(name) == inside
        assert (await self.feed(log))[-1].position == answer.position

    async def test_what_a_transaction_rolls_back_never_was(self, log: EventLog) -> None:
        old, fresh, marked = await self.written(log), stream(), await self.written(log)
        before = await self.feed(log)
        async with rolled_back(log) as tx:
            await self.appended(log, old, 2, exact(1), tx)
            await self.appended(log, fresh, 2, no_stream, tx)
            await log.tombstone(marked, reason="a test", actor="ada", conn=tx)

        assert await self.feed(log) == before
        assert await log.stream_state(fresh) is None
        assert len(await log.read_stream(marked)) == 1
        assert (await self.appended(log, old, 1, exact(1))).version == 2
        assert (await self.appended(log, fresh, 1, no_stream)).version == 1

    async def test_an_error_in_a_transaction_leaves_nothing_of_it(self, log: EventLog) -> None:
        old, fresh = await self.written(log), stream()
        with suppress(OptimisticLockError):
            async with log.transaction() as tx:
                await self.appended(log, fresh, 2, no_stream, tx)
                await self.appended(log, old, 2, no_stream, tx)
                pytest.fail("the second append was to be refused")

        assert await log.stream_state(fresh) is None
        assert versions(await log.read_stream(old)) == [1]

    async def test_a_canceled_transaction_leaves_nothing(self, log: EventLog) -> None:
        name, appended, never = stream(), asyncio.Event(), asyncio.Event()

        async def stand_still() -> None:
            async with log.transaction() as tx:
                await self.appended(log, name, 1, conn=tx)
                appended.set()
                await never.wait()

        task = asyncio.create_task(stand_still())
        async with asyncio.timeout(PATIENCE):
            await appended.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert await log.stream_state(name) is None
        assert (await self.appended(log, name, 1, no_stream)).version == 1

    async def test_a_transaction_goes_on_with_what_it_appended(self, log: EventLog) -> None:
        name = stream()
        async with log.transaction() as tx:
            for version in range(3):
                await self.appended(log, name, 1, exact(version), tx)

        assert versions(await log.read_stream(name)) == [1, 2, 3]

    async def test_who_wants_the_stream_of_an_open_transaction_waits_for_its_end(self, log: EventLog) -> None:
        for ends in (True, False):
            name = stream()

            async def late(name: StreamId = name) -> int:
                return (await self.appended(log, name, 1, any_version)).version

            with pytest.raises(OnPurposeError) if not ends else nullcontext():
                async with log.transaction() as tx:
                    await self.appended(log, name, 1, conn=tx)
                    task = asyncio.create_task(late())
                    await self.let_others(log)
                    assert not task.done()
                    if not ends:
                        raise OnPurposeError
            async with asyncio.timeout(PATIENCE):
                assert await task == (2 if ends else 1)
