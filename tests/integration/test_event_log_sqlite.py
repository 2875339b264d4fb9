"""The log on SQLite: the contract, its own transactions, several processes."""

import asyncio
import subprocess
import sys
from contextlib import suppress
from uuid import UUID

import aiosqlite
import pytest

from mainstay.clock import FrozenClock
from mainstay.errors import ConfigurationError, InvalidInputError, OptimisticLockError, PoolClosedError
from mainstay.events.log import StreamAppend
from mainstay.events.stream import StreamId
from mainstay.storage.sqlite.events import SQLiteEventLog
from mainstay.testing.contracts.events import EventLogContract, FeedContract
from mainstay.testing.contracts.events.base import exact, given, ids, new, several, stream


class OnSQLite:
    side_by_side = False

    def pass_time(self, log):
        self.clock.advance(0.25)


class TestSQLiteEventLog(OnSQLite, EventLogContract):
    @pytest.fixture
    async def log(self, tmp_path):
        self.clock = FrozenClock()
        async with SQLiteEventLog(tmp_path / "events.sqlite", clock=self.clock) as log:
            yield log


class TestPassingSQLiteEventLog(OnSQLite, FeedContract):
    @pytest.fixture
    async def log(self):
        self.clock = FrozenClock()
        async with SQLiteEventLog(":memory:", clock=self.clock) as log:
            yield log


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.sqlite"


@pytest.fixture
async def log(path):
    async with SQLiteEventLog(path) as opened:
        yield opened


@pytest.fixture
async def mine(path, log):
    """A connection of the user's own, with a table of theirs."""
    await log.open()
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        await connection.execute("create table if not exists total (n integer)")
        yield connection


async def appended(log, name, events=1, expected=None, conn=None):
    one = StreamAppend(name, tuple(several(events)), *([expected] if expected else []))
    (answer,) = await log.append([one], conn=conn)
    return answer


# -- transactions ------------------------------------------------------------------------------------------------------


async def test_tables_of_the_users_own_change_with_the_events(log, mine):
    async with log.transaction() as tx:
        await appended(log, stream(), conn=tx)
        await tx.connection.execute("insert into total values (1)")
    with suppress(OptimisticLockError):
        async with log.transaction() as tx:
            await tx.connection.execute("insert into total values (2)")
            await appended(log, stream(), 1, exact(5), tx)
            pytest.fail("the append was to be refused")

    assert await mine.execute_fetchall("select n from total") == [(1,)]


async def test_a_connection_of_the_users_own_takes_events(log, mine):
    name = stream()
    mine.row_factory = lambda _cursor, row: {"row": row}
    await mine.execute("begin immediate")
    await mine.execute("insert into total values (1)")
    await appended(log, name, 2, exact(0), mine)
    assert len(await log.read_stream(name, conn=mine)) == 2
    assert await log.read_stream(name) == []
    await mine.commit()
    assert len(await log.read_stream(name)) == 2

    await mine.execute("begin immediate")
    await log.tombstone(name, reason="a test", actor="ada", conn=mine)
    await mine.rollback()
    assert len(await log.read_stream(name)) == 2


async def test_a_refused_import_leaves_the_callers_transaction_as_it_was(log, mine):
    name = stream()
    async with log.transaction() as tx:
        await appended(log, name, conn=tx)
        with pytest.raises(InvalidInputError):
            await log.import_events(
                given([*((name, new()) for _ in range(2_500)), (name, new(payload=b"[]"))]), conn=tx
            )
        assert (await appended(log, name, 1, exact(1), tx)).version == 2

    assert len(await log.read_stream(name)) == 2


async def test_only_an_open_transaction_on_the_same_file_is_taken(log, mine, tmp_path):
    async with log.transaction() as ended:
        pass
    async with (
        SQLiteEventLog(tmp_path / "other.sqlite") as other,
        other.transaction() as foreign,
        aiosqlite.connect(":memory:", isolation_level=None) as elsewhere,
    ):
        await elsewhere.execute("begin")
        for conn in (ended, foreign, mine, elsewhere, "a connection", 5, ended.connection):
            with pytest.raises(ConfigurationError, match="conn"):
                await appended(log, stream(), conn=conn)
            with pytest.raises(ConfigurationError, match="conn"):
                await log.read_stream(stream(), conn=conn)
        await elsewhere.rollback()

    assert (await log.horizon()).position == 0


async def test_who_is_canceled_while_waiting_leaves_the_way_free(log):
    name = stream()
    async with log.transaction() as tx:
        await appended(log, name, conn=tx)
        waiting = [asyncio.create_task(appended(log, name)) for _ in range(4)]
        await log.horizon()
        for each in waiting[::2]:
            each.cancel()
    done = await asyncio.gather(*waiting, return_exceptions=True)

    assert [isinstance(each, asyncio.CancelledError) for each in done] == [True, False, True, False]
    assert (await log.stream_state(name)).version == 3


async def test_a_task_canceled_at_any_step_leaves_a_whole_append_or_none(log):
    """Cancel after 0, 1, 2, ... turns of the loop, until an append gets through."""
    turns, never = 0, asyncio.Event()
    while True:
        name = stream()
        task = asyncio.create_task(appended(log, name, 3))
        for _ in range(turns):
            await asyncio.wait([asyncio.create_task(asyncio.wait_for(never.wait(), 0.0005))])
        if not task.cancel():
            break
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(await log.read_stream(name)) in {0, 3}
        turns += 1

    assert turns > 0
    assert (await task).version == 3


# -- opening and closing -----------------------------------------------------------------------------------------------


async def test_a_log_can_be_closed_twice_and_unopened(path):
    log = SQLiteEventLog(path)
    await log.close()
    await log.close()
    assert not path.exists()

    with pytest.raises(PoolClosedError, match="closed"):
        await log.horizon()
    with pytest.raises(PoolClosedError, match="closed"):
        await appended(log, stream())


async def test_a_log_that_is_closed_beside_its_users_ends_them_cleanly(log):
    name = stream()

    async def use():
        try:
            while True:
                await appended(log, name)
                await log.read_stream(name, limit=1)
        except PoolClosedError:
            return True

    users = [asyncio.create_task(use()) for _ in range(3)]
    await log.wait_beyond(5, timeout=60)
    await log.close()

    assert await asyncio.gather(*users) == [True, True, True]


async def test_a_log_in_memory_is_its_own_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with SQLiteEventLog(":memory:") as one, SQLiteEventLog(":memory:") as other:
        await appended(one, stream())
        assert (await other.horizon()).position == 0
        assert len(list(tmp_path.iterdir())) == 2

    assert list(tmp_path.iterdir()) == []


async def test_what_was_committed_is_there_when_the_file_is_opened_again(path):
    name = stream()
    async with SQLiteEventLog(path) as log:
        await appended(log, name, 3)
        before, epoch = await log.read_stream(name), (await log.horizon()).epoch
    async with SQLiteEventLog(str(path)) as log:
        assert await log.read_stream(name) == before
        assert (await log.horizon()).epoch == epoch
        assert (await appended(log, name, 1, exact(3))).position == 4


async def test_many_who_open_a_new_file_at_once_all_find_one_log(path):
    logs = [SQLiteEventLog(path) for _ in range(8)]
    try:
        horizons = await asyncio.gather(*(log.horizon() for log in logs))
        await asyncio.gather(*(appended(log, StreamId("Order", "1")) for log in logs))
        assert len({horizon.epoch for horizon in horizons}) == 1
        assert (await logs[0].stream_state(StreamId("Order", "1"))).version == 8
    finally:
        for log in logs:
            await log.close()


# -- several processes -------------------------------------------------------------------------------------------------


def writer(path, name, count):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.event_writer", str(path), name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_processes_that_append_to_one_stream_win_each_version_once(path, log):
    processes = [writer(path, "1", 30) for _ in range(3)]
    seen, position = [], 0
    try:
        while len(seen) < 90:
            assert await log.wait_beyond(position, timeout=120) > position
            page = await log.read_feed(after=position, limit=7)
            seen, position = [*seen, *page.events], page.position
        said = [each.communicate(timeout=120)[0].split() for each in processes]
    finally:
        for each in processes:
            each.kill()
            each.wait()
            each.stdout.close()

    assert [lines[0] for lines in said] == ["ready"] * 3
    assert [each.version for each in seen] == list(range(1, 91))
    assert sorted(UUID(line) for lines in said for line in lines[1:]) == sorted(ids(seen))


async def test_a_process_that_is_killed_leaves_all_that_it_was_told_was_done(path):
    said = []
    for _ in range(3):
        process = writer(path, "1", 100_000)
        try:
            assert process.stdout.readline() == "ready\n"
            said += [UUID(process.stdout.readline().strip()) for _ in range(10)]
        finally:
            process.kill()
            rest = process.communicate()[0].split("\n")
        said += [UUID(line) for line in rest[:-1]]

    async with SQLiteEventLog(path) as log:
        found = await log.read_stream(StreamId("Shared", "1"), limit=1_000_000)
        assert (await appended(log, StreamId("Shared", "1"), 1, exact(len(found)))).version == len(found) + 1
    kept = ids(found)
    assert [each for each in kept if each in set(said)] == said
    assert len(kept) - len(said) <= 3  # one per process may have been committed and not said
    assert [each.version for each in found] == list(range(1, len(found) + 1))


async def test_who_waits_sees_what_another_connection_appends(path, log):
    async with SQLiteEventLog(path) as other:
        waiting = asyncio.create_task(log.wait_beyond(0, timeout=60))
        await appended(other, stream())
        assert await waiting == 1
