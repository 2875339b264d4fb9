"""Scripts: prepared where the connection prepares, text where it does not, and never a statement that is gone."""

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from mainstay.commands.store import CommandFilter, Outcome, Received, Verb
from mainstay.errors import MainstayError, StaleLeaseError
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.prepared import PreparedScript, first_answer
from tests.support.proxy import Proxy
from tests.support.servers import open_pool
from tests.support.thorough import every

DOMAIN = "orders"
COUNT = 12
ANSWERING = "set local enable_seqscan = off;\nselect %(word)s || current_setting('enable_seqscan') || %(word)s"


async def names(conn: psycopg.AsyncConnection[Any]) -> list[str]:
    """What the server has prepared for us."""
    async with psycopg.AsyncClientCursor(conn) as cursor:
        await cursor.execute("select name from pg_prepared_statements order by 1")
        return [row[0] for row in await cursor.fetchall()]


async def prepared(pool: Any) -> PostgresCommandStore:
    async with pool.connection() as conn:
        await conn.execute("create table effect (number int)")
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


async def together(store: PostgresCommandStore, held: Sequence[Received], *says: str, result: bytes | None) -> None:
    """Handlers at once that say this, and complete."""

    async def handle(one: Received) -> None:
        async with store.transaction() as conn:
            await conn.execute("insert into effect (number) values (%s)", [1])
            for say in says:
                await conn.execute(say.encode())
            await store.commit(conn, DOMAIN, Outcome(one.lease, Verb.COMPLETE, result))

    await asyncio.gather(*(handle(one) for one in held))


async def results(store: PostgresCommandStore) -> list[Any]:
    """Of all commands that are completed, if each has its effect."""
    async with store.pool.connection() as conn:
        effects = await (await conn.execute("select count(*) from effect")).fetchone()
    found = await store.query(CommandFilter(), limit=1000, offset=0)
    completed = [one.result for one in found if one.status == "COMPLETED"]
    assert effects == (len(completed),)
    return completed


@pytest.mark.parametrize("threshold", [0, 5, None])
async def test_a_script_answers_alike_prepared_and_as_text(dsn, threshold) -> None:
    script = PreparedScript(ANSWERING)
    async with await psycopg.AsyncConnection.connect(dsn, prepare_threshold=threshold) as conn:
        for word in (b"it's", b"\\", b"100 %", None):
            found = first_answer(await script.run(conn, {"word": word}))
            assert found == (None if word is None else word + b"off" + word)
        assert len(await names(conn)) == (0 if threshold is None else 2)


async def test_what_follows_an_error_has_not_happened(dsn) -> None:
    script = PreparedScript("select 1 / %(by)s::int;\ncommit;\nbegin")
    for threshold in (0, None):
        async with await psycopg.AsyncConnection.connect(dsn, prepare_threshold=threshold) as conn:
            for _ in range(2):
                await conn.execute("create temporary table kept (n int)")
                with pytest.raises(psycopg.errors.DivisionByZero):
                    await script.run(conn, {"by": b"0"})
                assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
                await conn.rollback()
            await script.run(conn, {"by": b"1"})
            assert await (await conn.execute("select to_regclass('kept')")).fetchone() == (None,)


async def test_a_statement_that_cannot_be_prepared_is_not_taken_for_prepared(dsn) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        script = PreparedScript("commit;\nselect count(*) from late")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await script.run(conn, {})
        await conn.rollback()
        await conn.execute("create table late (n int)")
        assert first_answer(await script.run(conn, {})) == b"0"
        await conn.execute("drop table late")
        await conn.commit()


@pytest.mark.parametrize(
    "say",
    [
        "discard plans",
        "savepoint a; select 1; rollback to savepoint a",
        "create temporary table if not exists t (n int); alter table t add column if not exists m int",
    ],
)
async def test_what_a_handler_does_to_prepared_statements_costs_nobody_his_transaction(dsn, say) -> None:
    async with open_pool(dsn, max_size=1) as pool:
        store = await prepared(pool)
        await together(store, await received(store), *say.split("; "), result=b"1")
        assert await results(store) == [1] * COUNT


async def test_a_statement_is_gone_after_a_rollback(dsn) -> None:
    """The control: whoever keeps its name beside psycopg's own loses a transaction."""
    script = PreparedScript(ANSWERING)
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        await script.run(conn, {"word": b"a"})
        kept = (await names(conn))[0].encode()
        async with conn.transaction(force_rollback=True):
            await conn.execute("select 1")
        assert conn.pgconn.exec_prepared(kept, []).error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"26000"
        await conn.rollback()
        assert first_answer(await script.run(conn, {"word": b"a"})) == b"aoffa"


@pytest.mark.parametrize("most", [0, 5, 20])
async def test_a_handler_that_prepares_more_than_there_is_room_for_takes_none_of_ours(dsn, most) -> None:
    async def configure(conn: psycopg.AsyncConnection[Any]) -> None:
        conn.prepared_max, conn.prepare_threshold = most, 0

    async with open_pool(dsn, max_size=1, configure=configure) as pool:
        store = await prepared(pool)
        await together(store, await received(store), *(f"select {n}" for n in range(30)), result=b"1")
        await together(store, await received(store), *(f"select {n}" for n in range(17)), result=b"1")
        assert await results(store) == [1] * COUNT * 2
        async with pool.connection() as conn:
            assert len(await names(conn)) <= max(most, 1) + 1


@pytest.mark.parametrize("threshold", [5, None])
@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
async def test_a_result_is_kept_as_it_is_in_any_encoding(dsn, encoding, threshold) -> None:
    options = {"client_encoding": encoding, "prepare_threshold": threshold}
    async with open_pool(dsn, max_size=1, kwargs=options) as pool:
        store = await prepared(pool)
        await together(store, await received(store), result='{"it\'s": "é\\\\"}'.encode())
    async with open_pool(dsn) as pool:
        assert await results(PostgresCommandStore(pool)) == [{"it's": "é\\"}] * COUNT


@pytest.mark.parametrize("threshold", [5, None])
async def test_a_commit_that_is_refused_completes_nothing(dsn, threshold) -> None:
    async with open_pool(dsn, max_size=1, kwargs={"prepare_threshold": threshold}) as pool:
        store = await prepared(pool)
        async with pool.connection() as conn:
            await conn.execute("create table other (n int unique deferrable initially deferred)")
            await conn.execute("insert into other values (1)")
        held = await received(store)

        async def refused(one: Received) -> None:
            async with store.transaction() as conn:
                await conn.execute("insert into effect values (2)")
                await conn.execute("insert into other values (1)")
                await store.commit(conn, DOMAIN, Outcome(one.lease, Verb.COMPLETE))

        ends = await asyncio.gather(
            *map(refused, held[:3]), together(store, held[3:], result=b"1"), return_exceptions=True
        )

        assert all(isinstance(end, MainstayError) for end in ends[:3])
        assert ends[3] is None
        assert await results(store) == [1] * (COUNT - 3)


@pytest.mark.parametrize("threshold", every(2, [5, None]))
@pytest.mark.parametrize("where", ["set local enable_seqscan", "delete from pgmq", "select commandbus.complete_one"])
@pytest.mark.parametrize("order", ["cut_before", "cut_after"])
async def test_a_connection_cut_within_the_script_neither_loses_nor_doubles(dsn, where, order, threshold) -> None:
    with Proxy(dsn) as proxy:
        async with open_pool(proxy.dsn, max_size=1, kwargs={"prepare_threshold": threshold}) as pool:
            store = await prepared(pool)
            held = await received(store)
            await together(store, held[:4], result=b"1")
            # As text a script is one message, which begins with its first statement.
            cut = getattr(proxy, order)(where if threshold is not None else "set local enable_seqscan")

            ends = await asyncio.gather(
                *(together(store, [one], result=b"1") for one in held[4:]), return_exceptions=True
            )
            assert cut.happened.is_set()
            broken = [one for one, end in zip(held[4:], ends, strict=True) if end is not None]
            assert len(broken) == 1
            # What the worker does then: a retry, which counts only if the COMMIT had not happened.
            outcome = Outcome(broken[0].lease, Verb.RETRY, error_type="TRANSIENT", error_code="X", error_message="x")
            (verdict,) = await store.complete(DOMAIN, [outcome])
            is_done = order == "cut_after"
            assert verdict == ("REPEATED" if is_done else "APPLIED")
            assert len(await results(store)) == COUNT - 1 + is_done


async def test_a_lost_lease_ends_the_script_before_its_commit(dsn) -> None:
    async with open_pool(dsn, max_size=1) as pool:
        store = await prepared(pool)
        held = await received(store)
        stale = [Received(one.command, one.lease._replace(lease_no=17), 1, 3) for one in held[:4]]

        ends = await asyncio.gather(
            *(together(store, [one], result=b"1") for one in [*stale, *held[4:]]), return_exceptions=True
        )

        assert [type(end) for end in ends] == [StaleLeaseError] * 4 + [type(None)] * (COUNT - 4)
        assert len(await results(store)) == COUNT - 4


async def scans(conn: psycopg.AsyncConnection[Any]) -> int:
    """How often the queue was read from its beginning to its end."""
    query = "select seq_scan from pg_stat_user_tables where relname = 'q_orders__commands'"
    row = await (await conn.execute(query)).fetchone()
    assert row is not None
    return int(row[0])


async def flushed(conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("select pg_stat_force_next_flush()")
    await conn.commit()
    await conn.execute("select 1")
    await conn.commit()


async def test_a_message_is_found_by_its_index_though_its_queue_was_short_once(dsn) -> None:
    """A plan that is kept must be good for a long queue, too."""
    async with open_pool(dsn, max_size=1) as pool, await psycopg.AsyncConnection.connect(dsn, autocommit=True) as other:
        store = await prepared(pool)
        held = await received(store, 2 * COUNT)
        await other.execute("vacuum analyze pgmq.q_orders__commands")
        async with pool.connection() as conn:
            await flushed(conn)
        before = await scans(other)
        await together(store, held[:COUNT], result=b"1")
        async with pool.connection() as conn:
            await flushed(conn)
        assert await scans(other) == before

        async with pool.connection() as conn:
            for one in held[COUNT:]:  # the control
                await conn.execute("delete from pgmq.q_orders__commands where msg_id = %s", [one.lease.msg_id])
            await flushed(conn)
        assert await scans(other) > before
