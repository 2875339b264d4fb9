"""Appending the same events again."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mainstay.errors import DuplicateEventError, OptimisticLockError
from mainstay.events.log import Condition, EventLog, NewEvent, Query, QueryItem, StreamAppend
from mainstay.events.stream import ExpectedVersion
from mainstay.testing.contracts.events.base import (
    EventLogSuite,
    any_version,
    exact,
    ids,
    new,
    no_stream,
    several,
    stream,
    stream_exists,
)


class RepeatingContract(EventLogSuite):
    """A repetition returns what the first append returned, and writes nothing."""

    @pytest.mark.parametrize(
        ("first", "again"),
        [
            (exact(2), exact(2)),
            (any_version, any_version),
            (stream_exists, stream_exists),
            (exact(2), any_version),
            (any_version, exact(2)),
        ],
    )
    async def test_an_append_that_is_repeated_writes_nothing(
        self, log: EventLog, first: ExpectedVersion, again: ExpectedVersion
    ) -> None:
        name, events = await self.written(log, 2), several(3)

        answer = await self.appended(log, name, events, first)
        before = await self.feed(log)
        repeated = await self.appended(log, name, events, again)

        assert answer.version == 5
        assert repeated == replace(answer, repeated=True)
        assert await self.feed(log) == before

    @pytest.mark.parametrize("expected", [no_stream, exact(0), any_version])
    async def test_the_beginning_of_a_stream_can_be_repeated(self, log: EventLog, expected: ExpectedVersion) -> None:
        name, events = stream(), several(2)
        answer = await self.appended(log, name, events, expected)

        assert await self.appended(log, name, events, expected) == replace(answer, repeated=True)

    async def test_with_an_exact_expectation_a_repetition_is_recognized_for_ever(self, log: EventLog) -> None:
        name, events = await self.written(log, 2), several(2)
        answer = await self.appended(log, name, events, exact(2))
        await self.appended(log, name, 5)

        assert await self.appended(log, name, events, exact(2)) == replace(answer, repeated=True)

    async def test_without_one_it_is_recognized_until_somebody_else_has_appended(self, log: EventLog) -> None:
        name, events = stream(), several(2)
        await self.appended(log, name, events)
        await self.appended(log, name, 2)
        answer = await self.appended(log, name, events)

        assert (answer.version, answer.repeated) == (6, False)

    async def test_what_a_repetition_carries_beside_the_ids_does_not_matter(self, log: EventLog) -> None:
        name, event = stream(), new()
        answer = await self.appended(log, name, [event])
        changed = replace(event, event_type="Other", payload=b'{"n":2}')

        assert await self.appended(log, name, [changed]) == replace(answer, repeated=True)
        assert [each.event.event_type for each in await log.read_stream(name)] == [event.event_type]

    @pytest.mark.parametrize("expected", [exact(1), any_version])
    async def test_an_append_of_which_a_part_is_there_is_refused(
        self, log: EventLog, expected: ExpectedVersion
    ) -> None:
        name = await self.written(log)
        one, two, three = several(3)
        await self.appended(log, name, [one, two], exact(1))
        before = await self.feed(log)

        parts: list[Sequence[NewEvent]] = [[one, three], [three, two], [two, one], [one, two, three]]
        for events in parts:
            with pytest.raises(DuplicateEventError) as caught:
                await self.appended(log, name, events, expected)
            assert caught.value.stream == name
            assert set(caught.value.event_ids) == {one.event_id, two.event_id} & set(ids(events))
        assert await self.feed(log) == before

    async def test_other_events_at_the_same_version_are_a_conflict(self, log: EventLog) -> None:
        name = await self.written(log)
        await self.appended(log, name, 2, exact(1))

        with pytest.raises(OptimisticLockError) as caught:
            await self.appended(log, name, 2, exact(1))
        assert caught.value.actual == 3

    async def test_the_same_id_in_another_stream_is_another_event(self, log: EventLog) -> None:
        events = several(2)
        answers = [await self.appended(log, stream(), events) for _ in range(2)]

        assert [(answer.version, answer.repeated) for answer in answers] == [(2, False), (2, False)]

    async def test_an_append_over_several_streams_is_repeated_as_a_whole(self, log: EventLog) -> None:
        guarded = await self.written(log, 2)
        appends = [
            StreamAppend(stream(), tuple(several(2)), no_stream),
            StreamAppend(guarded, (), exact(2)),
            StreamAppend(await self.written(log), (new(),), exact(1)),
        ]
        first = await log.append(appends)
        before = await self.feed(log)
        again = await log.append(appends)

        assert [answer.repeated for answer in again if answer.position is not None] == [True, True]
        assert [replace(answer, repeated=False) for answer in again] == first
        assert await self.feed(log) == before

    async def test_an_append_of_which_one_stream_is_repeated_is_refused(self, log: EventLog) -> None:
        known, fresh = StreamAppend(stream(), tuple(several(2)), no_stream), StreamAppend(stream(), (new(),), no_stream)
        await log.append([known])
        before = await self.feed(log)

        for appends in ([known, fresh], [fresh, known]):
            with pytest.raises(DuplicateEventError) as caught:
                await log.append(appends)
            assert caught.value.stream == known.stream
        assert await self.feed(log) == before
        assert await log.stream_state(fresh.stream) is None

    async def test_a_repetition_is_recognized_before_anything_else_is_looked_at(self, log: EventLog) -> None:
        guarded, name, events = await self.written(log), stream(), (new("Placed", "a"),)
        appends = [StreamAppend(guarded, (), exact(1)), StreamAppend(name, events, no_stream)]
        condition = Condition(Query((QueryItem(tags=frozenset({"a"})),)), (await log.horizon()).position)
        first = await log.append(appends, condition=condition)

        again = await log.append(appends, condition=condition)
        await self.appended(log, guarded)
        moved = await log.append(appends, condition=condition)
        await log.archive(name)
        archived = await log.append(appends, condition=condition)
        await log.tombstone(name, reason="a test", actor="ada")
        tombstoned = await log.append(appends, condition=condition)

        for answers in (again, moved, archived, tombstoned):
            assert answers[1] == replace(first[1], repeated=True)

    async def test_an_append_can_be_repeated_in_its_own_transaction(self, log: EventLog) -> None:
        name, events = stream(), several(2)
        async with log.transaction() as tx:
            first = await self.appended(log, name, events, no_stream, tx)
            again = await self.appended(log, name, events, no_stream, tx)

        assert again == replace(first, repeated=True)
        assert ids(await log.read_stream(name)) == ids(events)
