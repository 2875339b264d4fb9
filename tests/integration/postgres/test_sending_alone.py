"""One command sent alone: one round trip, on a connection that one sender passes on to the next."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from mainstay import (
    Command,
    CommandBus,
    CommandStatus,
    DuplicateCommandError,
    HandlerContext,
    HandlerRegistry,
    SendRequest,
    StorageUnavailableError,
    Worker,
)
from mainstay.commands.command import SendResult
from mainstay.commands.store import Refusal, WouldWaitError
from mainstay.storage.postgres import passing
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.testing.contracts.commands.base import new
from tests.support.proxy import Proxy
from tests.support.servers import open_pool
from tests.support.waiting import eventually

DOMAIN = "orders"
PATIENCE = 90.0
CALL = "call commandbus.send_one("


class Counted(psycopg.AsyncConnection[Any]):
    """Counts round trips."""

    trips = 0

    async def wait(self, *args: Any, **options: Any) -> Any:
        Counted.trips += 1
        return await super().wait(*args, **options)


@asynccontextmanager
async def bus_on(dsn: str, **options: Any) -> AsyncIterator[tuple[CommandBus, Any]]:
    """A bus and its pool; what it leaves is looked through."""
    async with open_pool(dsn, **options) as pool:
        store = PostgresCommandStore(pool)
        await store.ensure_queue(DOMAIN)
        bus = CommandBus(store)
        yield bus, pool
        await bus.close()
        assert (await store.fsck()).findings == ()


async def send(bus: CommandBus, command_id: UUID | None = None, **options: Any) -> UUID:
    return (await bus.send(DOMAIN, "Do", command_id or uuid4(), {"text": "häß ' \\ %s"}, **options)).command_id


async def ask(pool: Any, question: str, *parameters: Any) -> list[Any]:
    async with pool.connection() as conn:
        return await (await conn.execute(question.encode(), parameters or None)).fetchall()


async def count(pool: Any) -> int:
    ((found,),) = await ask(pool, "select count(*) from commandbus.command")
    return int(found)


def given_back(pool: Any) -> Callable[[], bool]:
    def look() -> bool:
        stats = pool.get_stats()
        return bool(stats["pool_available"] == stats["pool_size"])

    return look


# -- the connection ----------------------------------------------------------------------------------------------------
async def test_one_after_the_other_is_one_round_trip_each_on_one_connection(dsn: str) -> None:
    async with bus_on(dsn, connection_class=Counted) as (bus, pool):
        trips, requests = Counted.trips, pool.get_stats()["requests_num"]

        for _ in range(20):
            await send(bus)

        assert Counted.trips - trips == 20
        assert pool.get_stats()["requests_num"] - requests == 1
        await eventually(given_back(pool), timeout=PATIENCE)


async def test_who_waits_for_the_pool_is_served_though_somebody_sends_without_end(dsn: str) -> None:
    async with bus_on(dsn, max_size=1) as (bus, pool):
        is_over = False

        async def sends() -> int:
            number = 0
            while not is_over:
                await send(bus)
                number += 1
            return number

        sending = asyncio.create_task(sends())
        try:
            async with asyncio.timeout(PATIENCE):
                while await count(pool) < 3:
                    pass
        finally:
            is_over = True
        sent = await sending

        assert await count(pool) == sent


async def test_who_waits_would_not_be_served_if_nobody_looked(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive way."""
    monkeypatch.setattr(passing, "may_pass_on", lambda _pool: True)
    async with bus_on(dsn, max_size=1) as (bus, pool):
        waiting: asyncio.Task[Any] | None = None
        for number in range(20):
            await send(bus)
            waiting = waiting or asyncio.create_task(pool.getconn())
            if number:
                assert pool.get_stats()["requests_waiting"] == 1
        assert waiting is not None
        await pool.putconn(await waiting)


async def test_a_connection_goes_back_after_a_while_in_any_case(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing, "RUN", 0.0)
    async with bus_on(dsn) as (bus, pool):
        requests = pool.get_stats()["requests_num"]

        for _ in range(5):
            await send(bus)

        assert pool.get_stats()["requests_num"] - requests == 5


async def test_a_pool_that_resets_its_connections_does_so_after_each(dsn: str) -> None:
    resets = []

    async def reset(conn: Any) -> None:
        resets.append(conn)

    async with bus_on(dsn, reset=reset) as (bus, _pool):
        before = len(resets)
        for _ in range(5):
            await send(bus)
        await eventually(lambda: len(resets) - before == 5, timeout=PATIENCE)


async def test_another_encoding_of_the_client_changes_nothing(dsn: str) -> None:
    async with bus_on(dsn, kwargs={"options": "-c client_encoding=latin1"}) as (bus, pool):
        command_id = await send(bus)
        await bus.send(DOMAIN, "Mäh", uuid4(), {}, headers={"ä": "ö"})

        (found,) = await ask(pool, "select data ->> 'text' from commandbus.command where command_id = %s", command_id)
        assert found == ("häß ' \\ %s",)
        of_the_other = "select headers ->> %s from commandbus.command where command_type = %s"
        assert await ask(pool, of_the_other, "ä", "Mäh") == [("ö",)]


async def test_what_is_asked_and_worked_through_another_encoding_is_what_was_sent(dsn: str) -> None:
    registry = HandlerRegistry()

    @registry.handler(DOMAIN, "Do")
    async def do(command: Command, context: HandlerContext) -> dict[str, str]:
        return {"got": command.data["text"]}

    async with bus_on(dsn, kwargs={"options": "-c client_encoding=latin1"}) as (bus, pool):
        command_id = await send(bus)
        worker = Worker(pool, DOMAIN, registry)
        running = asyncio.create_task(worker.run())
        await eventually(lambda: _is_completed(bus, command_id), timeout=PATIENCE)
        await worker.stop()
        await running
        found = await bus.get_command(DOMAIN, command_id)

        assert found is not None
        assert (found.data, found.result) == ({"text": "häß ' \\ %s"}, {"got": "häß ' \\ %s"})


async def _is_completed(bus: CommandBus, command_id: UUID) -> bool:
    found = await bus.get_command(DOMAIN, command_id)
    return found is not None and found.status is CommandStatus.COMPLETED


# -- what breaks -------------------------------------------------------------------------------------------------------
@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    with Proxy(dsn) as running:
        yield running


@pytest.mark.parametrize("order", ["cut_before", "cut_after"])
async def test_a_connection_cut_around_a_chunk_leaves_all_of_it_or_nothing(proxy: Proxy, pool: Any, order: str) -> None:
    requests = [SendRequest(DOMAIN, "Do", uuid4(), {}) for _ in range(5)]
    async with bus_on(proxy.dsn) as (bus, _):
        cut = getattr(proxy, order)("begin;\nselect commandbus.send_many(")

        with pytest.raises(StorageUnavailableError):
            await bus.send_batch(requests)
        await eventually(cut.happened.is_set, timeout=PATIENCE)
        if order == "cut_before":
            await bus.send_batch(requests)
        await eventually(lambda: _is(count(pool), 5), timeout=PATIENCE)

        with pytest.raises(DuplicateCommandError):
            await bus.send_batch(requests)
        assert await count(pool) == 5


async def test_joined_ones_do_not_wait_for_a_stranger_and_leave_nothing(pool: Any) -> None:
    store = PostgresCommandStore(pool)
    await store.ensure_queue(DOMAIN)
    held, other = new(), new()
    async with pool.connection() as stranger:
        await store.send([held], conn=stranger)
        for group in ([held], [other, held]):
            with pytest.raises(WouldWaitError):
                await store.send(group, patient=False)
        assert await count(pool) == 0
    answers = await store.send([other, held], patient=False)

    assert isinstance(answers[0], SendResult)
    assert answers[1] is Refusal.DUPLICATE
    assert (await store.fsck()).findings == ()


@pytest.mark.parametrize("order", ["cut_before", "cut_after"])
async def test_a_connection_cut_around_a_send_says_so_and_the_same_may_be_sent_again(
    proxy: Proxy, pool: Any, order: str
) -> None:
    command_id = uuid4()
    async with bus_on(proxy.dsn) as (bus, _):
        await send(bus)
        cut = getattr(proxy, order)(CALL)

        with pytest.raises(StorageUnavailableError):
            await send(bus, command_id)
        await eventually(cut.happened.is_set, timeout=PATIENCE)
        if order == "cut_after":
            await eventually(lambda: _is(count(pool), 2), timeout=PATIENCE)

        assert await count(pool) == (1 if order == "cut_before" else 2)
        assert await send(bus, command_id, idempotent=True) == command_id
        assert await count(pool) == 2


async def _is(asked: Awaitable[Any], expected: Any) -> bool:
    return bool(await asked == expected)


@asynccontextmanager
async def stopped_in_the_middle(bus: CommandBus, pool: Any, command_id: UUID) -> AsyncIterator[asyncio.Task[UUID]]:
    """A send that has stored its command and sleeps before it writes the audit."""
    await ask_for_nothing(
        pool,
        "create function sleeps() returns trigger language plpgsql as 'begin perform pg_sleep(600); return new; end'",
        "create trigger sleeps before insert on commandbus.audit for each row execute function sleeps()",
    )
    task = asyncio.create_task(send(bus, command_id))
    await eventually(lambda: sleepers(pool), timeout=PATIENCE)
    yield task
    await ask_for_nothing(pool, "drop function sleeps() cascade")


async def ask_for_nothing(pool: Any, *statements: str) -> None:
    async with pool.connection() as conn:
        for statement in statements:
            await conn.execute(statement.encode())


async def sleepers(pool: Any) -> list[Any]:
    return await ask(
        pool, "select pid from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
    )


async def test_a_send_canceled_in_the_middle_leaves_nothing_and_a_connection_that_can_be_used(dsn: str, pool) -> None:
    command_id = uuid4()
    async with bus_on(dsn, min_size=1, max_size=1) as (bus, its_pool):
        async with stopped_in_the_middle(bus, pool, command_id) as sending:
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert await sleepers(pool) == []
            assert await count(pool) == 0
        await eventually(given_back(its_pool), timeout=PATIENCE)

        assert await send(bus, command_id) == command_id
        assert await ask(its_pool, "select pg_current_xact_id_if_assigned(), current_setting('lock_timeout')") == [
            (None, "0")
        ]


async def test_a_session_ended_in_the_middle_leaves_nothing_and_the_next_send_works(dsn: str, pool) -> None:
    command_id = uuid4()
    async with bus_on(dsn, min_size=1, max_size=1) as (bus, _its_pool):
        async with stopped_in_the_middle(bus, pool, command_id) as sending:
            ((pid,),) = await sleepers(pool)
            await ask(pool, "select pg_terminate_backend(%s)", pid)
            with pytest.raises(StorageUnavailableError):
                await sending
            await eventually(lambda: _is(sleepers(pool), []), timeout=PATIENCE)
            assert await count(pool) == 0

        assert await send(bus, command_id) == command_id
        assert await count(pool) == 1


async def test_a_timeout_of_the_server_in_the_middle_leaves_nothing(dsn: str, pool) -> None:
    command_id = uuid4()
    async with bus_on(dsn, kwargs={"options": "-c statement_timeout=5s"}) as (bus, _its_pool):
        async with stopped_in_the_middle(bus, pool, command_id) as sending:
            with pytest.raises(StorageUnavailableError, match="changed nothing"):
                await sending
            assert await count(pool) == 0

        assert await send(bus, command_id) == command_id
