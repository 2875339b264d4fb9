"""Request and reply on PostgreSQL: rows that say who waits, notifications after the COMMIT, and what breaks them."""

import asyncio

import pytest

from mainstay import CommandBus
from mainstay.commands import waiting
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.scenarios.postgres import OnPostgres, ask, run
from tests.scenarios.requesting import AGES, Add, Calculator, RequestingScenarios
from tests.scenarios.running import Gate
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.waiting import eventually

EARS = "select pid from pg_stat_activity where datname = current_database() and query ilike 'listen \"mainstay.reply%%'"


class TestRequestingOnPostgres(OnPostgres, RequestingScenarios):
    pass


class TestWhatBreaks(OnPostgres, WorldSuite):
    async def test_an_ear_that_is_cut_off_costs_time_and_no_reply(self, world: World) -> None:
        gate = Gate(world)
        async with world.working():
            waits = asyncio.create_task(world.bus.request(DOMAIN, "Wait", None, {}, timeout=PATIENCE))
            await eventually(lambda: gate.started)
            assert await ask(world.store.pool, f"select pg_terminate_backend(pid) from ({EARS}) as ears") == [(True,)]
            gate.open.set()

            assert (await waits).data == "waited"

    async def test_an_ear_is_opened_once_and_closed_with_the_bus(self, world: World) -> None:
        Calculator(world)
        async with world.working():
            for _ in range(3):
                await world.bus.request(Add(a=1, b=2), timeout=PATIENCE)
        assert len(await ask(world.store.pool, EARS)) == 1
        await world.bus.close()

        async def closed():
            return await ask(world.store.pool, EARS) == []

        await eventually(closed)

    async def test_an_ear_is_closed_when_nobody_waits_for_long(self, world: World, monkeypatch) -> None:
        monkeypatch.setattr(waiting, "LINGER", 0.05)
        Calculator(world)
        async with world.working():
            for _ in range(2):
                await world.bus.request(Add(a=1, b=2), timeout=PATIENCE)
                await eventually(world.bus._room._task.done)
        assert await ask(world.store.pool, EARS) == []

    async def test_a_database_that_cannot_answer_is_asked_again(self, world: World, monkeypatch) -> None:
        Calculator(world)
        failures = 3
        look = world.store.get_replies

        async def stumbling(keys):
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise world_error
            return await look(keys)

        from mainstay import StorageUnavailableError  # noqa: PLC0415 - of this test

        world_error = StorageUnavailableError("on purpose")
        monkeypatch.setattr(world.store, "get_replies", stumbling)
        async with world.working():
            assert (await world.bus.request(Add(a=1, b=2), timeout=PATIENCE)).data == {"total": 3}
        assert failures < 0

    async def test_wishes_of_the_dead_are_cleared_away(self, world: World) -> None:
        await run(
            world.store.pool,
            "insert into commandbus.waiter select gen_random_uuid(), 'orders', 'mainstay.reply.dead',"
            " now() - interval '1 hour' from generate_series(1, 150)",
        )
        with pytest.raises(TimeoutError):
            await world.bus.request(DOMAIN, "Nobody", None, {}, timeout=0)
        await world.store.about_to_wait([], "somebody", 1.0)

        assert await ask(world.store.pool, "select count(*) from commandbus.waiter where channel like '%%.dead'") == [
            (0,)
        ]

    async def test_whoever_ends_a_command_waits_for_nobody_who_waits(self, world: World, pool) -> None:
        """Somebody holds the waiter's row; the command ends all the same, and the reply is found by looking."""
        gate = Gate(world)
        async with world.working():
            waits = asyncio.create_task(world.bus.request(DOMAIN, "Wait", None, {}, timeout=PATIENCE))
            await eventually(lambda: gate.started)
            async with pool.connection() as conn, conn.transaction():
                await conn.execute("select from commandbus.waiter for update")
                gate.open.set()

                assert (await waits).data == "waited"

    async def test_a_request_is_heard_by_its_bus_alone(self, world: World, monkeypatch) -> None:
        monkeypatch.setattr(waiting, "FIRST_LOOK", AGES)
        Calculator(world)
        other = CommandBus(PostgresCommandStore(world.store.pool))
        looked = []
        asked = other._room._store.get_replies

        async def look(keys):
            looked.append(keys)
            return await asked(keys)

        monkeypatch.setattr(other._room._store, "get_replies", look)
        unsent = asyncio.create_task(other.request(DOMAIN, "Add", None, {"a": 1, "b": 1}, delay=AGES, timeout=PATIENCE))
        await eventually(lambda: len(other._room) == 1 and other._room._ready.is_set())
        async with world.working():
            await world.bus.request(Add(a=1, b=2), timeout=PATIENCE)
        assert looked == []
        unsent.cancel()
        await other.close()
