"""The connections of transactional handlers: handed from one to the next, each handler in its own transaction."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel
from psycopg.rows import dict_row

from mainstay import CommandStatus
from mainstay.commands.store import CommandFilter, Outcome, Received, Verb
from mainstay.errors import InvalidOperationError, PoolExhaustedError, StaleLeaseError
from mainstay.storage.postgres import transactions
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.support.servers import open_pool
from tests.support.waiting import eventually

DOMAIN = "orders"
COUNT = 12
PATIENCE = 30.0


class Counted(psycopg.AsyncConnection[Any]):
    """Counts round trips."""

    trips = 0

    async def wait(self, *args: Any, **options: Any) -> Any:
        Counted.trips += 1
        return await super().wait(*args, **options)


@contextmanager
def counted() -> Iterator[list[int]]:
    """The round trips of the block, once it has ended."""
    found: list[int] = []
    before = Counted.trips
    yield found
    found.append(Counted.trips - before)


async def prepared(pool: Any) -> PostgresCommandStore:
    async with pool.connection() as conn:
        await conn.execute("create table effect (number int, xid bigint, at timestamptz, level text)")
    store = PostgresCommandStore(pool)
    await store.ensure_queue(DOMAIN)
    return store


async def received(store: PostgresCommandStore, count: int = COUNT) -> list[Received]:
    async with store.pool.connection() as conn:
        await conn.execute(
            "select commandbus.send((select jsonb_agg(jsonb_build_object("
            "'domain', 'orders', 'command_type', 'Do', 'command_id', gen_random_uuid(), 'data', '{}'::jsonb))"
            " from generate_series(1, %s)))",
            [count],
        )
    return await store.receive(DOMAIN, limit=count, lease_seconds=600, worker="w1")


async def handle(store: PostgresCommandStore, one: Received, number: int) -> None:
    """A handler that writes one row: one round trip of its own."""
    async with store.transaction() as conn:
        await conn.execute(
            "insert into effect"
            " values (%s, pg_current_xact_id()::text::bigint, now(), current_setting('transaction_isolation'))",
            [number],
        )
        await store.commit(conn, DOMAIN, Outcome(one.lease, Verb.COMPLETE))


async def effects(store: PostgresCommandStore, column: str = "number") -> list[Any]:
    async with store.pool.connection() as conn:
        rows = await (await conn.execute(f"select {column} from effect order by number".encode())).fetchall()
    return [row[0] for row in rows]


async def completed(store: PostgresCommandStore) -> int:
    return len(await store.query(CommandFilter(status=CommandStatus.COMPLETED), limit=1000, offset=0))


@pytest.fixture
async def narrow(dsn) -> AsyncIterator[PostgresCommandStore]:
    """One connection for all handlers."""
    async with open_pool(dsn, max_size=1, connection_class=Counted) as pool:
        yield await prepared(pool)


async def test_handlers_that_wait_for_a_connection_cost_two_round_trips_each(narrow: PostgresCommandStore) -> None:
    held = await received(narrow)

    with counted() as alone:
        await handle(narrow, held[0], 0)
    with counted() as together:
        await asyncio.gather(*(handle(narrow, one, n) for n, one in enumerate(held[1:], 1)))

    assert alone == [4]
    assert together == [2 * (COUNT - 1) + 2], "BEGIN of the first and COMMIT of the last are their own"
    assert await effects(narrow) == list(range(COUNT))
    assert await completed(narrow) == COUNT


async def test_each_has_a_transaction_of_its_own(narrow: PostgresCommandStore) -> None:
    held = await received(narrow)

    await asyncio.gather(*(handle(narrow, one, n) for n, one in enumerate(held)))

    assert len(set(await effects(narrow, "xid"))) == COUNT
    assert await effects(narrow, "at") == sorted(set(await effects(narrow, "at")))


async def test_what_one_makes_of_rows_is_not_the_next_one_s(narrow: PostgresCommandStore) -> None:
    kinds: list[type] = []

    async def look(one: Received) -> None:
        async with narrow.transaction() as conn:
            cursor = await conn.execute("select 1 as one")
            kinds.append(type(await cursor.fetchone()))
            conn.row_factory, conn.cursor_factory = dict_row, psycopg.AsyncRawCursor
            await narrow.commit(conn, DOMAIN, Outcome(one.lease, Verb.COMPLETE))

    await asyncio.gather(*map(look, await received(narrow)))

    assert kinds == [tuple] * COUNT
    async with narrow.pool.connection() as conn:
        assert conn.row_factory is not dict_row


async def test_a_cursor_that_is_left_half_read_keeps_nobody_waiting_for_ever(
    narrow: PostgresCommandStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "_PATIENCE", 0.05)
    first, second, *_ = await received(narrow)

    left: list[Any] = []

    async def leave(*, complete: bool) -> None:
        async with narrow.transaction() as conn:
            await conn.execute("insert into effect (number) values (1)")
            left.append(conn.cursor().stream("select generate_series(1, 1000)"))
            await anext(left[-1])
            if complete:
                await narrow.commit(conn, DOMAIN, Outcome(first.lease, Verb.COMPLETE))

    for complete in (True, False):
        with pytest.raises(InvalidOperationError, match="left a statement under way"):
            await leave(complete=complete)
    await handle(narrow, second, 3)

    assert await effects(narrow) == [3]
    for each in left:
        with suppress(psycopg.Error):
            await each.aclose()


@pytest.mark.parametrize("is_kept", [False, True], ids=["forgotten", "kept"])
async def test_a_block_that_is_left_open_is_no_silent_loss(narrow: PostgresCommandStore, *, is_kept: bool) -> None:
    first, second, *_ = await received(narrow)
    blocks: list[Any] = []

    async def leave(*, complete: bool) -> None:
        async with narrow.transaction() as conn:
            block = conn.transaction()
            await block.__aenter__()
            await conn.execute("insert into effect (number) values (1)")
            if is_kept:
                blocks.append(block)
            del block
            if complete:
                await narrow.commit(conn, DOMAIN, Outcome(first.lease, Verb.COMPLETE))

    for complete in (True, False):
        with pytest.raises(InvalidOperationError, match="not left it"):
            await leave(complete=complete)
    await handle(narrow, second, 3)

    assert await effects(narrow) == [3]
    for block in blocks:
        await block.__aexit__(None, None, None)


async def test_one_that_fails_takes_nobody_with_it(narrow: PostgresCommandStore) -> None:
    held = await received(narrow)
    held[2] = Received(held[2].command, held[2].lease._replace(lease_no=17), 1, 3)

    async def fails(one: Received) -> None:
        async with narrow.transaction() as conn:
            await conn.execute("insert into effect (number) values (-1)")
            raise KeyError(one)

    async def breaks(one: Received) -> None:
        async with narrow.transaction() as conn:
            with pytest.raises(psycopg.errors.DivisionByZero):
                await conn.execute("select 1 / 0")
            await narrow.commit(conn, DOMAIN, Outcome(one.lease, Verb.COMPLETE))

    runs = [fails(held[0]), breaks(held[1]), *(handle(narrow, one, n) for n, one in enumerate(held[2:], 2))]
    ends = await asyncio.gather(*runs, return_exceptions=True)

    assert [type(end) for end in ends[:4]] == [KeyError, InvalidOperationError, StaleLeaseError, type(None)]
    assert set(ends[3:]) == {None}
    assert await effects(narrow) == list(range(3, COUNT))
    assert await completed(narrow) == COUNT - 3


async def test_a_handler_cannot_commit_what_is_not_completed(narrow: PostgresCommandStore) -> None:
    async def commits(one: Received) -> None:
        async with narrow.transaction() as conn:
            await conn.execute("insert into effect (number) values (-1)")
            await conn.commit()

    runs = [run for one in await received(narrow) for run in (handle(narrow, one, 1), commits(one))]
    ends = await asyncio.gather(*runs, return_exceptions=True)

    assert {type(end) for end in ends[1::2]} == {psycopg.ProgrammingError}
    assert await effects(narrow) == [1] * COUNT


async def test_a_pool_that_is_enlarged_lets_more_handlers_run(dsn) -> None:
    together = asyncio.Barrier(8)
    async with open_pool(dsn, max_size=4) as pool:
        store = await prepared(pool)

        async def meet() -> None:
            async with store.transaction(), asyncio.timeout(PATIENCE):
                await together.wait()

        await pool.resize(1, 10)
        await asyncio.gather(*(meet() for _ in range(8)))


async def test_who_goes_on_after_a_failed_statement_is_told_of_savepoints(narrow: PostgresCommandStore) -> None:
    (one,) = await received(narrow, 1)

    async def goes_on() -> None:
        async with narrow.transaction() as conn:
            await conn.execute("insert into effect (number) values (-1)")
            with suppress(psycopg.errors.DivisionByZero):
                await conn.execute("select 1/0")
            await narrow.commit(conn, DOMAIN, Outcome(one.lease, Verb.COMPLETE))

    with pytest.raises(InvalidOperationError, match=r"a statement failed .*conn\.transaction"):
        await goes_on()
    assert await effects(narrow) == []


async def test_a_connection_that_is_lost_fails_one_handler(narrow: PostgresCommandStore, pool) -> None:
    async def lost() -> None:
        async with narrow.transaction() as conn, pool.connection() as other:
            await other.execute("select pg_terminate_backend(%s, 30000)", [conn.info.backend_pid])
            await conn.execute("select 1")

    held = await received(narrow)
    handlers = [handle(narrow, one, n) for n, one in enumerate(held)]
    ends = await asyncio.gather(*handlers[:6], lost(), *handlers[6:], return_exceptions=True)

    assert isinstance(ends.pop(6), psycopg.OperationalError)
    assert set(ends) == {None}
    assert await completed(narrow) == COUNT


async def test_who_waits_for_the_pool_gets_his_turn(narrow: PostgresCommandStore) -> None:
    order: list[str] = []

    async def handler(one: Received) -> None:
        await handle(narrow, one, 1)
        order.append("handler")

    async def other() -> None:
        async with narrow.pool.connection():
            order.append("other")

    held = await received(narrow)
    await asyncio.gather(*map(handler, held[:1]), other(), *map(handler, held[1:]))

    assert order.index("other") <= 1


async def test_a_handler_that_is_cancelled_while_it_waits_leaves_the_connection_to_others(
    narrow: PostgresCommandStore,
) -> None:
    held = await received(narrow)
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with narrow.transaction() as conn:
            begun.set()
            await go.wait()
            await narrow.commit(conn, DOMAIN, Outcome(held[0].lease, Verb.COMPLETE))

    first = asyncio.create_task(slow())
    await begun.wait()
    waiting = [asyncio.create_task(handle(narrow, one, n)) for n, one in enumerate(held)]
    await asyncio.create_task(narrow.ensure_queue(DOMAIN))  # behind them all: by now they wait
    waiting[0].cancel()
    waiting[1].cancel()
    go.set()
    # The third is canceled when the connection is its already, and it has not noticed.
    first.add_done_callback(lambda _: waiting[2].cancel())
    ends = await asyncio.gather(first, *waiting, return_exceptions=True)

    assert [type(end) for end in ends[1:3]] == [asyncio.CancelledError] * 2
    assert set(ends[4:]) == {None}
    assert await effects(narrow) == list(range(2 if ends[3] is None else 3, COUNT))


async def test_who_waits_too_long_is_told(dsn) -> None:
    async with open_pool(dsn, max_size=1) as pool:
        store = await prepared(pool)
        pool.timeout = 0.5
        async with store.transaction():
            with pytest.raises(PoolExhaustedError, match="max_size"):
                async with store.transaction():
                    pass
        async with store.transaction() as conn:
            assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS


async def test_a_pool_that_resets_its_connections_resets_each(dsn) -> None:
    async def reset(conn: psycopg.AsyncConnection[Any]) -> None:
        resets.append(conn)

    async def enough() -> bool:
        return len(resets) >= COUNT

    resets: list[Any] = []
    async with open_pool(dsn, max_size=1, reset=reset) as pool:
        store = await prepared(pool)
        held = await received(store)
        resets.clear()

        await asyncio.gather(*(handle(store, one, n) for n, one in enumerate(held)))
        await eventually(enough, timeout=PATIENCE)


async def test_a_connection_that_begins_in_a_way_of_its_own_begins_so_each_time(dsn) -> None:
    async def configure(conn: psycopg.AsyncConnection[Any]) -> None:
        await conn.set_isolation_level(IsolationLevel.REPEATABLE_READ)

    async with open_pool(dsn, max_size=1, configure=configure) as pool:
        store = await prepared(pool)
        await asyncio.gather(*(handle(store, one, n) for n, one in enumerate(await received(store))))

        assert set(await effects(store, "level")) == {"repeatable read"}


async def test_a_connection_goes_back_to_the_pool_now_and_then(
    narrow: PostgresCommandStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "RUN", -1.0)
    held = await received(narrow)

    with counted() as trips:
        await asyncio.gather(*(handle(narrow, one, n) for n, one in enumerate(held)))

    assert trips == [4 * COUNT]


async def test_an_unknown_connection_completes_nothing(narrow: PostgresCommandStore, pool) -> None:
    (one,) = await received(narrow, 1)
    async with pool.connection() as conn, conn.transaction():
        with pytest.raises(InvalidOperationError):
            await narrow.commit(conn, DOMAIN, Outcome(one.lease, Verb.COMPLETE))

    assert await completed(narrow) == 0
