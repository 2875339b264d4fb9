"""A SQLAlchemy session in a transactional handler: its writes and the completion are one COMMIT."""

import pytest
from psycopg.rows import dict_row
from sqlalchemy import String, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mainstay import CommandStatus
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.scenarios.postgres import OnPostgres, ask, run
from tests.scenarios.world import DOMAIN, World, WorldSuite
from tests.support.servers import open_pool

S = CommandStatus


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    name: Mapped[str] = mapped_column(String, primary_key=True)
    amount: Mapped[int]


class TestSession(OnPostgres, WorldSuite):
    @pytest.fixture
    async def store(self, dsn):
        async with open_pool(dsn) as pool:
            await run(pool, "create table account (name text primary key, amount int not null)")
            yield PostgresCommandStore(pool)

    async def _handled(self, world: World, body) -> CommandStatus:
        """Handle one command with this body; where it stands then."""

        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command, ctx):
            await body(ctx)

        async with world.working():
            return (await world.settled(await world.send(max_attempts=1))).status

    async def _accounts(self, world: World) -> list[tuple[str, int]]:
        return await ask(world.store.pool, "select name, amount from account order by name")

    async def test_what_a_session_writes_commits_with_the_completion(self, world: World) -> None:
        async def body(ctx):
            async with ctx.session() as session:
                assert isinstance(session, AsyncSession)
                session.add(Account(name="ada", amount=1))
            await ctx.conn.execute("update account set amount = amount + 1")  # the same transaction sees it
            async with ctx.session() as session:
                account = (await session.execute(select(Account))).scalar_one()
                account.amount += 1

        assert await self._handled(world, body) is S.COMPLETED
        assert await self._accounts(world) == [("ada", 3)]
        ((by_row, by_audit),) = await ask(
            world.store.pool,
            "select (select xmin::text from account),"
            " (select xmin::text from commandbus.audit where event_type = 'COMPLETED')",
        )
        assert by_row == by_audit

    async def test_a_session_that_commits_commits_nothing_before_the_completion(self, world: World) -> None:
        async def body(ctx):
            async with ctx.session() as session:
                session.add(Account(name="ada", amount=1))
                await session.commit()
                assert await self._accounts(world) == []
                session.add(Account(name="bob", amount=2))
                await session.commit()
            raise KeyError

        assert await self._handled(world, body) is S.IN_TROUBLESHOOTING_QUEUE
        assert await self._accounts(world) == []

    async def test_a_session_that_rolls_back_takes_the_completion_with_it(self, world: World) -> None:
        async def body(ctx):
            await ctx.conn.execute("insert into account values ('ada', 1)")
            async with ctx.session() as session:
                session.add(Account(name="bob", amount=1))
                await session.flush()
                await session.rollback()

        assert await self._handled(world, body) is S.IN_TROUBLESHOOTING_QUEUE
        assert await self._accounts(world) == []
        (item,) = await world.tsq.list_troubleshooting(DOMAIN)
        assert item.last_error_code == "InvalidOperationError"
        assert "begin_nested" in (item.last_error_msg or "")

    async def test_a_part_of_a_session_can_be_rolled_back(self, world: World) -> None:
        async def body(ctx):
            async with ctx.session() as session:
                session.add(Account(name="ada", amount=1))
                await session.flush()
                part = await session.begin_nested()
                session.expunge_all()
                session.add(Account(name="ada", amount=2))
                with pytest.raises(IntegrityError):
                    await session.flush()
                await part.rollback()

        assert await self._handled(world, body) is S.COMPLETED
        assert await self._accounts(world) == [("ada", 1)]

    async def test_a_handler_that_swallows_an_error_of_the_database_does_not_complete(self, world: World) -> None:
        async def body(ctx):
            await ctx.conn.execute("insert into account values ('ada', 1)")
            try:
                async with ctx.session() as session:
                    session.add(Account(name="ada", amount=2))
            except IntegrityError:
                pass

        assert await self._handled(world, body) is S.IN_TROUBLESHOOTING_QUEUE
        assert await self._accounts(world) == []

    async def test_a_session_reads_rows_whatever_the_pool_is_set_to(self, dsn) -> None:
        async with open_pool(dsn, kwargs={"row_factory": dict_row}) as pool:
            store = PostgresCommandStore(pool)
            async with store.transaction() as conn:
                for _ in range(3):
                    async with store.session(conn) as session:
                        assert (await session.execute(select(1 + 1))).scalar_one() == 2
                assert len(conn._notice_handlers) == 0

    async def test_a_handler_that_is_not_transactional_has_no_session(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, ctx):
            async with ctx.session():
                pass

        async with world.working():
            done = await world.settled(await world.send(max_attempts=1))

        assert done.last_error_code == "InvalidOperationError"
