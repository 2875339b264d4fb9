"""Many at once: each version is won once, and readers miss nothing, meet nothing twice and see the order kept."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: S311 - chance, not secrets
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from random import Random
from uuid import UUID

import pytest

from mainstay.errors import DuplicateEventError, OptimisticLockError, StorageError
from mainstay.events.log import EventLog, RecordedEvent, StreamAppend
from mainstay.events.stream import StreamId
from mainstay.testing.contracts.events.base import (
    PATIENCE,
    EventLogSuite,
    any_version,
    exact,
    ids,
    new,
    no_stream,
    positions,
    rolled_back,
    several,
    stream,
)

WRITERS = 32
ROUNDS = 4
SEEDS = (1, 2, 3)


class RacingContract(EventLogSuite):
    """Many writers and readers at once."""

    async def test_of_many_who_want_a_version_exactly_one_gets_it(self, log: EventLog) -> None:
        name, won = stream(), []
        refusals: list[tuple[StreamId, int]] = []

        async def want(version: int) -> UUID | None:
            events = several(2)
            try:
                answer = await self.appended(log, name, events, exact(version))
            except OptimisticLockError as error:
                refusals.append((error.stream, error.actual))
                return None
            assert (answer.version, answer.repeated) == (version + 2, False)
            return events[0].event_id

        for turn in range(ROUNDS):
            async with asyncio.timeout(PATIENCE):
                answers = await asyncio.gather(*(want(2 * turn) for _ in range(WRITERS)))
            won += [answer for answer in answers if answer]
            assert len(won) == turn + 1

        assert ids(await log.read_stream(name))[::2] == won
        losers = WRITERS - 1
        assert refusals == [(name, 2 * turn + 2) for turn in range(ROUNDS) for _ in range(losers)]

    async def test_many_who_say_the_same_say_it_once(self, log: EventLog) -> None:
        name, events = stream(), several(2)
        for expected in (no_stream, any_version):
            async with asyncio.timeout(PATIENCE):
                answers = await asyncio.gather(*(self.appended(log, name, events, expected) for _ in range(8)))

            assert {(answer.version, answer.position) for answer in answers} == {(2, answers[0].position)}
        assert len(await self.feed(log)) == 2

    async def test_many_who_expect_nothing_all_get_a_version(self, log: EventLog) -> None:
        name = stream()
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*(self.appended(log, name) for _ in range(WRITERS)))

        assert sorted(answer.version for answer in answers) == list(range(1, WRITERS + 1))
        in_order = sorted(answers, key=lambda answer: answer.version)
        assert [answer.position for answer in in_order] == positions(await log.read_stream(name))

    async def test_appends_over_the_same_streams_in_any_order_do_not_block_each_other(self, log: EventLog) -> None:
        names = [await self.written(log), await self.written(log), stream(), stream()]
        chance = Random(7)

        async def write() -> None:
            for _ in range(5):
                chosen = chance.sample(names, 3)
                await log.append([StreamAppend(name, (new(),)) for name in chosen])

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(write() for _ in range(6)))
        assert len(await self.feed(log)) == 2 + 6 * 5 * 3

    async def test_of_two_transactions_that_wait_for_each_other_one_is_told(self, log: EventLog) -> None:
        if not self.side_by_side:
            pytest.skip("another writer waits for an open transaction here")
        names, both = [await self.written(log), await self.written(log)], asyncio.Barrier(2)

        async def write(first: StreamId, second: StreamId) -> None:
            async with log.transaction() as tx:
                await self.appended(log, first, conn=tx)
                await both.wait()
                await self.appended(log, second, conn=tx)

        async with asyncio.timeout(PATIENCE):
            ends = await asyncio.gather(write(*names), write(*names[::-1]), return_exceptions=True)

        assert [type(end) for end in ends].count(type(None)) == 1
        assert [isinstance(end, StorageError) for end in ends].count(True) == 1
        assert [len(await log.read_stream(name)) for name in names] == [2, 2]

    async def test_a_guard_holds_while_others_append(self, log: EventLog) -> None:
        """Two streams, and a rule over both: only one may be written. Each append guards the other stream."""

        async def want(mine: StreamId, other: StreamId) -> bool:
            try:
                await log.append([StreamAppend(mine, (new(),), no_stream), StreamAppend(other, (), no_stream)])
            except OptimisticLockError:
                return False
            return True

        for _ in range(10):
            left, right = stream(), stream()
            async with asyncio.timeout(PATIENCE):
                held = await asyncio.gather(want(left, right), want(right, left))
            assert sum(held) == 1

    @pytest.mark.parametrize("seed", SEEDS)
    async def test_readers_miss_nothing_and_meet_nothing_twice(self, log: EventLog, seed: int) -> None:
        chance = Random(seed)
        names = sorted((stream(id=UUID(int=number + 1)) for number in range(6)), key=str)
        kept: set[UUID] = set()
        writing = True

        async def write(chance: Random) -> None:
            for _ in range(12):
                chosen = sorted(chance.sample(names, chance.randint(1, 3)), key=str)
                kind = chance.random()
                if kind < 0.4:
                    await self._append_once(log, chosen, chance, kept)
                else:
                    await self._append_in_steps(log, chosen, chance, kept, commits=kind < 0.8)

        async def read(chance: Random) -> list[RecordedEvent]:
            seen: list[RecordedEvent] = []
            places = [(0, 0)]
            while True:
                done = not writing
                position, count = places[-1]
                page = await log.read_feed(after=position, limit=chance.choice((1, 2, 5, 100)))
                assert page.events[: len(seen) - count] == seen[count : count + len(page.events)]
                seen += page.events[len(seen) - count :]
                places.append((page.position, count + len(page.events)))
                if done and not page.events and page.position == page.horizon:
                    return seen
                await self.let_others(log)
                if not done and chance.random() < 0.2:
                    places = places[: chance.randint(1, len(places))]

        async with asyncio.timeout(PATIENCE):
            readers = [asyncio.create_task(read(Random(chance.random()))) for _ in range(3)]
            await asyncio.gather(*(write(Random(chance.random())) for _ in range(8)))
            writing = False
            seen = await asyncio.gather(*readers)

        feed = await self.feed(log)
        assert set(ids(feed)) == kept
        assert len(feed) == len(kept)
        for one in seen:
            assert one == feed

    async def _append_once(self, log: EventLog, names: list[StreamId], chance: Random, kept: set[UUID]) -> None:
        appends = [StreamAppend(name, tuple(several(chance.randint(1, 3)))) for name in names]
        await log.append(appends)
        kept.update(each for append in appends for each in ids(append.events))

    async def _append_in_steps(
        self, log: EventLog, names: list[StreamId], chance: Random, kept: set[UUID], *, commits: bool
    ) -> None:
        """A transaction that appends, does something else, and appends again; sometimes it rolls back."""
        mine: list[UUID] = []
        async with log.transaction() if commits else rolled_back(log) as tx:
            for name in names:
                events = several(chance.randint(1, 3))
                await self.appended(log, name, events, conn=tx)
                mine += ids(events)
                await self._dawdle(log, chance)
        if commits:
            kept.update(mine)

    async def _dawdle(self, log: EventLog, chance: Random) -> None:
        for _ in range(chance.randint(0, 3)):
            await self.let_others(log)

    async def test_a_repetition_beside_others_is_recognized_or_refused(self, log: EventLog) -> None:
        """Who does not know whether an append was committed says it again, while others append to the same stream."""
        name, expected = stream(), {}

        async def insist(number: int) -> None:
            for turn in range(4):
                events = several(2)
                while True:
                    state = await log.stream_state(name)
                    version = state.version if state else 0
                    try:
                        first = await self.appended(log, name, events, exact(version))
                        break
                    except OptimisticLockError:
                        continue
                again = await self.appended(log, name, events, exact(version))
                assert (again.repeated, again.version, again.position) == (True, first.version, first.position)
                expected[number, turn] = ids(events)

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(insist(number) for number in range(4)))
        found = ids(await log.read_stream(name))

        assert len(found) == 4 * 4 * 2
        assert sorted(map(str, found)) == sorted(str(each) for pair in expected.values() for each in pair)
        with pytest.raises(DuplicateEventError):
            await self.appended(log, name, [new(event_id=found[-1]), new()], exact(len(found) - 1))
