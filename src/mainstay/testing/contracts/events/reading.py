"""Reading streams."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

from datetime import timedelta, timezone

from mainstay.events.log import PAGE, EventLog
from mainstay.events.stream import StreamId
from mainstay.testing.contracts.events.base import EventLogSuite, exact, stream, versions


class ReadingContract(EventLogSuite):
    """Reading streams, and what is known of one."""

    async def test_a_stream_that_was_never_written_is_empty(self, log: EventLog) -> None:
        name = stream()

        assert await log.read_stream(name) == []
        assert await log.read_streams([(name, 0)]) == {name: []}
        assert await log.stream_state(name) is None

    async def test_a_part_of_a_stream_is_read_by_versions(self, log: EventLog) -> None:
        name = await self.written(log, 9)
        await self.written(log, 9)

        assert versions(await log.read_stream(name)) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        assert versions(await log.read_stream(name, after_version=6)) == [7, 8, 9]
        assert versions(await log.read_stream(name, up_to_version=3)) == [1, 2, 3]
        assert versions(await log.read_stream(name, after_version=3, up_to_version=5)) == [4, 5]
        assert versions(await log.read_stream(name, after_version=3, limit=2)) == [4, 5]
        assert await log.read_stream(name, after_version=9) == []
        assert await log.read_stream(name, after_version=5, up_to_version=5) == []
        assert await log.read_stream(name, up_to_version=0) == []
        assert versions(await log.read_stream(name, up_to_version=2_147_483_647, limit=2_147_483_647))[-1] == 9

    async def test_backwards_the_latest_come_first(self, log: EventLog) -> None:
        name = await self.written(log, 9)

        assert versions(await log.read_stream(name, backwards=True)) == [9, 8, 7, 6, 5, 4, 3, 2, 1]
        assert versions(await log.read_stream(name, backwards=True, limit=2)) == [9, 8]
        assert versions(await log.read_stream(name, backwards=True, up_to_version=5, limit=2)) == [5, 4]
        assert versions(await log.read_stream(name, backwards=True, after_version=7)) == [9, 8]

    async def test_a_stream_is_read_as_it_was_at_a_time(self, log: EventLog) -> None:
        name = stream()
        for version in range(3):
            await self.appended(log, name, 2, exact(2 * version))
            self.pass_time(log)
        times = [each.recorded_at for each in await log.read_stream(name)]

        assert times == sorted(times)
        assert len(set(times)) == 3
        assert versions(await log.read_stream(name, up_to_time=times[2])) == [1, 2, 3, 4]
        assert versions(await log.read_stream(name, up_to_time=times[2] - timedelta(microseconds=1))) == [1, 2]
        assert await log.read_stream(name, up_to_time=times[0] - timedelta(microseconds=1)) == []
        elsewhere = times[4].astimezone(timezone(timedelta(hours=11)))
        assert versions(await log.read_stream(name, up_to_time=elsewhere, backwards=True, limit=1)) == [6]
        assert versions(await log.read_stream(name, up_to_time=times[2], up_to_version=3, after_version=1)) == [2, 3]

    async def test_a_long_stream_is_read_page_by_page(self, log: EventLog) -> None:
        name = await self.written(log, PAGE + 5)

        first = await log.read_stream(name)
        rest = await log.read_stream(name, after_version=first[-1].version)

        assert versions([*first, *rest]) == list(range(1, PAGE + 6))
        assert len(first) == PAGE

    async def test_several_streams_are_read_in_one_question(self, log: EventLog) -> None:
        long, short, other, none = (
            await self.written(log, PAGE + 5),
            await self.written(log, 2),
            await self.written(log, 3),
            stream(),
        )

        found = await log.read_streams([(short, 1), (none, 0), (long, 2), (other, 3)])

        assert {name: versions(events) for name, events in found.items()} == {
            short: [2],
            none: [],
            long: list(range(3, PAGE + 6)),
            other: [],
        }
        assert await log.read_streams([]) == {}
        assert found[short] == await log.read_stream(short, after_version=1)

    async def test_what_is_known_of_a_stream(self, log: EventLog) -> None:
        name = await self.written(log, 2)
        self.pass_time(log)
        await self.appended(log, name)
        state = await log.stream_state(name)

        assert state is not None
        assert (state.stream, state.version) == (name, 3)
        assert state.created_at == (await log.read_stream(name))[0].recorded_at
        assert (state.archived, state.tombstoned, state.reason, state.actor) == (False, False, None, None)

    async def test_the_same_name_under_two_tenants_is_two_streams(self, log: EventLog) -> None:
        names = [
            StreamId("Order", "1"),
            StreamId("Order", "1", "a"),
            StreamId("Order", "1", "b"),
            StreamId("Orders", "1"),
        ]
        for count, name in enumerate(names, 1):
            await self.appended(log, name, count, exact(0))

        for count, name in enumerate(names, 1):
            found = await log.read_stream(name)
            assert versions(found) == list(range(1, count + 1))
            assert {each.stream for each in found} == {name}
        assert {
            name: len(events) for name, events in (await log.read_streams([(each, 0) for each in names])).items()
        } == {name: count for count, name in enumerate(names, 1)}
