"""Plain functions as transactional handlers: a blocking connection in a thread, one COMMIT with the completion."""

import asyncio
import threading

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mainstay import CommandStatus
from mainstay.commands.store import CommandFilter
from mainstay.errors import InvalidOperationError
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.scenarios.plain import PlainScenarios
from tests.scenarios.postgres import OnPostgres, ask, run
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.servers import open_pool
from tests.support.waiting import eventually

S = CommandStatus
SLEEPING = """
    select count(*) from pg_stat_activity
    where datname = current_database() and query like 'select pg_sleep(600)%%' and state = 'active'
"""
HELD = """
    select count(*) from pg_locks join pg_database on pg_database.oid = database
    where locktype = 'advisory' and datname = current_database()
"""


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    name: Mapped[str] = mapped_column(String, primary_key=True)
    amount: Mapped[int]


class TestPlain(OnPostgres, PlainScenarios):
    pass


class TestPlainTransactions(OnPostgres, WorldSuite):
    @pytest.fixture
    async def store(self, dsn):
        async with open_pool(dsn, max_size=6) as pool:
            await run(pool, "create table account (name text primary key, amount int not null)")
            yield PostgresCommandStore(pool)

    async def _accounts(self, world: World) -> list[tuple[str, int]]:
        return await ask(world.store.pool, "select name, amount from account order by name")

    async def _handled(self, world: World, body, **options) -> CommandStatus:
        world.handles(DOMAIN, "Do", transactional=True, **options)(lambda command, ctx: body(ctx))
        world.handles(DOMAIN, "Next")(lambda command, ctx: None)
        return (await world.settled_after(await world.send(max_attempts=1))).status

    async def test_what_a_plain_handler_writes_and_sends_commits_with_its_completion(self, world: World) -> None:
        def body(ctx):
            assert isinstance(ctx.conn, psycopg.Connection)
            for n in range(8):  # enough to be prepared, had it been the loop's connection
                ctx.conn.execute("insert into account values (%s, %s)", (f"a{n}", n))
                ctx.send(DOMAIN, "Next", {"n": n})
            with ctx.conn.cursor(row_factory=dict_row) as cursor:
                assert cursor.execute("select count(*) from account").fetchone() == {"count": 8}

        assert await self._handled(world, body) is S.COMPLETED
        assert len(await self._accounts(world)) == 8
        ((transactions,),) = await ask(
            world.store.pool,
            "select count(distinct x) from (select xmin::text as x from account"
            " union all select xmin::text from commandbus.audit where event_type = 'COMPLETED' and details is null"
            " union all select a.xmin::text from commandbus.audit as a join commandbus.command as c using (subject_no)"
            " where a.event_type = 'SENT' and c.command_type = 'Next') as every",
        )
        assert transactions <= 1 + 8  # one of its own, and those of the completions of what it sent
        assert len(await world.store.query(CommandFilter(), limit=20, offset=0)) == 9

    async def test_what_a_plain_handler_wrote_goes_when_it_raises(self, world: World) -> None:
        def body(ctx):
            ctx.conn.execute("insert into account values ('ada', 1)")
            raise KeyError

        assert await self._handled(world, body) is S.IN_TROUBLESHOOTING_QUEUE
        assert await self._accounts(world) == []

    async def test_a_plain_handler_rolls_back_a_part_and_never_the_whole(self, world: World) -> None:
        def body(ctx):
            conn = ctx.conn
            conn.execute("insert into account values ('ada', 1)")
            with pytest.raises(psycopg.errors.UniqueViolation), conn.transaction():
                conn.execute("insert into account values ('ada', 2)")
            for forbidden in (conn.commit, conn.rollback, conn.close, conn.__enter__):
                with pytest.raises(InvalidOperationError, match="the worker"):
                    forbidden()
            with pytest.raises(InvalidOperationError):
                conn.autocommit = True

        assert await self._handled(world, body) is S.COMPLETED
        assert await self._accounts(world) == [("ada", 1)]

    async def test_a_plain_handler_has_a_sqlalchemy_session(self, world: World) -> None:
        def body(ctx):
            with ctx.session() as session:
                assert isinstance(session, Session)
                session.add(Account(name="ada", amount=1))
                session.commit()
            ctx.conn.execute("update account set amount = amount + 1")
            with ctx.session() as session:
                session.execute(select(Account)).scalar_one().amount += 1

        assert await self._handled(world, body) is S.COMPLETED
        assert await self._accounts(world) == [("ada", 3)]

    async def test_a_plain_session_that_rolls_back_takes_the_completion_with_it(self, world: World) -> None:
        def body(ctx):
            with ctx.session() as session:
                session.add(Account(name="ada", amount=1))
                session.flush()
                session.rollback()

        assert await self._handled(world, body) is S.IN_TROUBLESHOOTING_QUEUE
        assert await self._accounts(world) == []

    async def test_a_plain_handlers_transaction_ends_with_its_timeout_not_with_its_thread(self, world: World) -> None:
        may_end, raised = threading.Event(), list[BaseException]()

        @world.handles(DOMAIN, "Do", transactional=True, timeout=6.0)
        def do(command, ctx):
            ctx.conn.execute("insert into account values ('ada', 1)")
            ctx.conn.execute("select pg_advisory_xact_lock(1)")
            for statement in ("select pg_sleep(600)", "insert into account values ('bob', 1)"):
                try:
                    ctx.conn.execute(statement)
                except Exception as error:  # noqa: BLE001 - which one is asserted
                    raised.append(error)
            assert may_end.wait(PATIENCE)

        async def is_free():
            return await ask(world.store.pool, HELD) == [(0,)]

        async with world.working() as worker:
            await world.send(max_attempts=1)
            try:
                await eventually(lambda: len(raised) == 2, timeout=PATIENCE)
                await eventually(is_free, timeout=PATIENCE)  # while the thread is still there

                assert worker.stuck_count == 1
                assert await self._accounts(world) == []
            finally:
                may_end.set()

        assert isinstance(raised[0], psycopg.errors.QueryCanceled)
        assert isinstance(raised[1], InvalidOperationError)

    async def test_a_worker_that_stops_at_once_takes_the_connection_back_first(self, world: World) -> None:
        """The naive way rolls back and hands the connection on while the thread waits for its statement."""
        raised, has_ended = list[BaseException](), threading.Event()

        @world.handles(DOMAIN, "Do", transactional=True)
        def do(command, ctx):
            try:
                ctx.conn.execute("insert into account values ('ada', 1)")
                ctx.conn.execute("select pg_sleep(600)")
            except Exception as error:
                raised.append(error)
                with pytest.raises(InvalidOperationError):
                    ctx.conn.execute("insert into account values ('bob', 1)")
                raise
            finally:
                has_ended.set()

        async def is_sleeping():
            return await ask(world.store.pool, SLEEPING) == [(1,)]

        async with world.working() as worker:
            command_id = await world.send(max_attempts=1)
            await eventually(is_sleeping, timeout=PATIENCE)
            await worker.stop(timeout=0)
        assert await asyncio.to_thread(has_ended.wait, PATIENCE)

        assert [type(error) for error in raised] == [psycopg.errors.QueryCanceled]
        assert await self._accounts(world) == []
        assert await world.status(command_id) is S.PENDING  # given back
        assert world.store.pool.get_stats().get("connections_lost", 0) == 0
