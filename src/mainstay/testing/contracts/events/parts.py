"""Parts of a transaction: what is done in one can be undone alone."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule

import asyncio
from contextlib import suppress

import pytest

from mainstay.errors import InvalidInputError, MainstayError, OptimisticLockError
from mainstay.events.log import EventLog
from mainstay.testing.contracts.events.base import EventLogSuite, OnPurposeError, no_stream, stream, versions


class PartContract(EventLogSuite):
    """`EventLog.part`."""

    async def test_a_part_of_nobodys_transaction_is_one_of_its_own(self, log: EventLog) -> None:
        kept, undone = stream(), stream()
        async with log.part() as part:
            await self.appended(log, kept, 1, conn=part.conn)
        with suppress(OnPurposeError):
            async with log.part() as part:
                await self.appended(log, undone, 1, conn=part.conn)
                raise OnPurposeError

        assert versions(await log.read_stream(kept)) == [1]
        assert await log.stream_state(undone) is None

    async def test_a_part_that_ends_well_is_committed_with_the_whole(self, log: EventLog) -> None:
        name = stream()
        async with log.transaction() as tx:
            async with log.part(tx) as part:
                await self.appended(log, name, 2, conn=part.conn)
            assert versions(await log.read_stream(name, conn=tx)) == [1, 2]
            assert await log.stream_state(name) is None

        assert versions(await log.read_stream(name)) == [1, 2]

    async def test_a_part_that_raises_is_undone_alone(self, log: EventLog) -> None:
        old, fresh = stream(), stream()
        async with log.transaction() as tx:
            await self.appended(log, old, 1, conn=tx)
            with suppress(OnPurposeError):
                async with log.part(tx) as part:
                    await self.appended(log, old, 1, conn=part.conn)
                    await self.appended(log, fresh, 1, conn=part.conn)
                    raise OnPurposeError
            await self.appended(log, old, 1, conn=tx)

        assert versions(await log.read_stream(old)) == [1, 2]
        assert await log.stream_state(fresh) is None

    async def test_a_part_with_a_refused_append_leaves_the_whole_usable(self, log: EventLog) -> None:
        name = stream()
        async with log.transaction() as tx:
            await self.appended(log, name, 1, conn=tx)
            with pytest.raises(OptimisticLockError):
                async with log.part(tx) as part:
                    await self.appended(log, name, 1, no_stream, part.conn)
            await self.appended(log, name, 1, conn=tx)

        assert versions(await log.read_stream(name)) == [1, 2]

    async def test_a_canceled_part_leaves_nothing(self, log: EventLog) -> None:
        name, appended = stream(), asyncio.Event()

        async def stand_still() -> None:
            async with log.transaction() as tx, log.part(tx) as part:
                await self.appended(log, name, 1, conn=part.conn)
                appended.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(stand_still())
        await appended.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert await log.stream_state(name) is None

    async def test_what_is_no_transaction_has_no_parts(self, log: EventLog) -> None:
        with pytest.raises((InvalidInputError, MainstayError), match="conn"):
            async with log.part(object()):
                pytest.fail("it had")
