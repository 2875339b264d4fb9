"""Projections that write to a database, given events in a test."""

import aiosqlite

from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.projections.declarative import DatabaseProjection
from mainstay.testing.projecting import project


class Planted(DomainEvent, aggregate_type="Bed", event_type="projecting.Planted"):
    seeds: int


class Seeds(DatabaseProjection):
    def __init__(self, mark):
        self.mark = mark

    @handles(Planted)
    async def planted(self, event, conn):
        await conn.execute(f"update seed set total = total + {self.mark}", [event.seeds])


async def total(conn):
    cursor = await conn.execute("select total from seed")
    (found,) = await cursor.fetchone()
    return found


async def test_a_projection_writes_in_the_transaction_of_the_test(pool):
    async with pool.connection() as conn:
        await conn.execute("create table seed as select 0 as total")
        await conn.commit()

        done = await project(Seeds("%s"), Planted(seeds=3), Planted(seeds=4), conn=conn)

        done.then_took(Planted, Planted)
        assert await total(conn) == 7
        await conn.rollback()
        assert await total(conn) == 0


async def test_what_the_database_refuses_is_a_failure(pool):
    async with pool.connection() as conn:
        done = await project(Seeds("%s"), Planted(seeds=3), conn=conn)
        await conn.rollback()

    done.then_failed(Exception, 'relation "seed" does not exist')


async def test_a_file_will_do(tmp_path):
    async with aiosqlite.connect(tmp_path / "seeds.sqlite") as conn:
        await conn.execute("create table seed as select 0 as total")

        (await project(Seeds("?"), Planted(seeds=3), conn=conn)).then_took(Planted)

        assert await total(conn) == 3
