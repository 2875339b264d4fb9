"""Streams that many append to, on PostgreSQL: who waits for one keeps nobody else from his slot, and decides once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from mainstay import AggregateRepository, CommandStatus, PostgreSQLEventStore, SnapshotPolicy, Worker
from mainstay.errors import StorageUnavailableError
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.scenarios.world import DOMAIN, World
from tests.support.purses import Purse, Sum, Take, Watched
from tests.support.waiting import eventually

DONE = (CommandStatus.COMPLETED, 1)
END_ALL = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and state = 'idle in transaction'
"""


@pytest.fixture
async def world(pool: Any) -> AsyncIterator[World]:
    world = World(PostgresCommandStore(pool))
    world.registry.register_decider(domain=DOMAIN, decider=Purse, stream="purse_id")
    yield world
    await world.bus.close()


@pytest.fixture
def event_store(pool: Any) -> PostgreSQLEventStore:
    return PostgreSQLEventStore(pool)


@pytest.fixture
def purses(event_store: PostgreSQLEventStore) -> AggregateRepository[Purse]:
    return AggregateRepository(event_store, Purse)


@pytest.fixture(params=[True, False], ids=["in groups", "one by one"])
def worker(request: Any, world: World, event_store: PostgreSQLEventStore) -> Worker:
    return world.worker(event_store=event_store, group_commit=request.param)


async def hot(worker: Worker, purses: AggregateRepository[Purse]) -> UUID:
    """A purse that the worker takes to be contended for."""
    purse_id = uuid4()
    await purses.execute(purse_id, Take(purse_id=purse_id, amount=1))
    contend(worker, purse_id)
    return purse_id


def contend(worker: Worker, purse_id: UUID) -> None:
    execution = worker._execution
    if execution.grouping is None:
        execution._turns.contend((Purse, str(purse_id), None))
        execution._turns._queues[Purse, str(purse_id), None].until = float("inf")
    else:
        grouping = execution.grouping
        grouping._gathering.contended[grouping.deciders.stream_of(Purse, purse_id)] = float("inf")


@asynccontextmanager
async def held(event_store: PostgreSQLEventStore, purses: AggregateRepository[Purse], purse_id: UUID) -> Any:
    """Somebody else holds a purse's stream for the length of the block."""
    async with event_store.transaction() as tx:
        assert await event_store.hold((await purses.load(purse_id)).stream, conn=tx)
        yield


async def sent(world: World, *commands: Take) -> list[UUID]:
    return [(await world.bus.send(each)).command_id for each in commands]


def watched(worker: Worker) -> Watched:
    grouping: Any = worker._execution.grouping
    grouping.deciders._groups = found = Watched(grouping.deciders._groups)
    return found


async def test_who_waits_for_a_stream_leaves_his_slot_to_others(world, event_store, purses, worker):
    world.registry.register(DOMAIN, "Other", lambda _command, _context: None)  # so there are as many slots as said
    purse_id = await hot(worker, purses)
    async with world.working(worker, concurrency=2):
        async with held(event_store, purses, purse_id):
            waiting = await sent(world, *(Take(purse_id=purse_id, amount=1) for _ in range(8)))
            await eventually(lambda: worker.in_flight_count >= 3)
            others = [await world.send("Other") for _ in range(6)]
            await world.settled(*others)
            assert {(await world.known(each)).status for each in waiting} == {CommandStatus.IN_PROGRESS}
        await world.settled(*waiting)

    assert {(known.status, known.attempts) for known in [await world.known(each) for each in waiting]} == {DONE}
    assert (await purses.load(purse_id)).state == Sum(9)


async def test_so_many_wait_at_most(world, event_store, purses, worker, monkeypatch):
    monkeypatch.setattr("mainstay.commands.slots.MOST_PARKED", 3)
    world.registry.register(DOMAIN, "Other", lambda _command, _context: None)
    purse_id, most = await hot(worker, purses), 0
    async with world.working(worker, concurrency=2):
        async with held(event_store, purses, purse_id):
            waiting = await sent(world, *(Take(purse_id=purse_id, amount=1) for _ in range(12)))
            await eventually(lambda: worker._execution.parked >= 3)
            most = worker.in_flight_count
        await world.settled(*waiting)

    assert most <= 2 + 3
    assert (await purses.load(purse_id)).state == Sum(13)


async def test_those_who_wait_while_somebody_holds_their_stream_are_one_group(world, event_store, purses):
    worker = world.worker(event_store=event_store)
    groups, purse_id = watched(worker), await hot(worker, purses)
    async with world.working(worker):
        async with held(event_store, purses, purse_id):
            first = await sent(world, Take(purse_id=purse_id, amount=1))
            await eventually(lambda: groups.held)
            later = await sent(world, *(Take(purse_id=purse_id, amount=1) for _ in range(5)))
            await eventually(lambda: worker.in_flight_count == 6)
        await world.settled(*first, *later)

    assert max(map(len, groups.committed)) >= 5
    assert (await purses.load(purse_id)).state == Sum(7)


async def test_other_contended_streams_go_on_beside_one_that_somebody_holds(world, event_store, purses):
    worker = world.worker(event_store=event_store)
    groups, purse_id, free = watched(worker), await hot(worker, purses), await hot(worker, purses)
    async with world.working(worker):
        async with held(event_store, purses, purse_id):
            waits = await sent(world, Take(purse_id=purse_id, amount=1))
            await eventually(lambda: groups.held)
            for _ in range(5):
                await world.settled(*(await sent(world, Take(purse_id=free, amount=1))))
            assert (await world.known(waits[0])).status is CommandStatus.IN_PROGRESS
        await world.settled(*waits)

    assert (await world.known(waits[0])).attempts == 1


@pytest.mark.parametrize("snapshots", [None, SnapshotPolicy.every(3)], ids=["plain", "with snapshots"])
@pytest.mark.parametrize("in_groups", [True, False], ids=["in groups", "one by one"])
async def test_what_others_append_meanwhile_is_known_to_who_holds_the_stream(
    world, event_store, purses, in_groups, snapshots
):
    worker = world.worker(event_store=event_store, group_commit=in_groups, snapshots=snapshots)
    purse_id, versions = await hot(worker, purses), []
    async with world.working(worker):
        for n in range(8):
            versions.append(
                (await world.settled(*(await sent(world, Take(purse_id=purse_id, amount=1))))).result["version"]
            )
            if n % 3:
                await purses.execute(purse_id, Take(purse_id=purse_id, amount=10))

    assert versions == [2, 3, 5, 7, 8, 10, 12, 13]
    assert (await purses.load(purse_id)).state == Sum(9 + 50)


async def test_a_decider_that_is_kept_is_used_only_if_the_stream_says_the_same(world, event_store, purses):
    worker = world.worker(event_store=event_store, group_commit=False)
    purse_id = await hot(worker, purses)
    async with world.working(worker):
        await world.settled(*(await sent(world, Take(purse_id=purse_id, amount=1))))
        await eventually(lambda: worker._execution._aggregates._kept)
        (kept,) = worker._execution._aggregates._kept.values()
        kept.restore_state(Sum(1000), kept.version, uuid4())  # of a server that was lost with what it had
        (last,) = await sent(world, Take(purse_id=purse_id, amount=1))
        found = await world.settled(last)

        await eventually(lambda: worker._execution._aggregates._kept)
        (again,) = worker._execution._aggregates._kept.values()
        assert again is not kept
        assert again.state == Sum(3)
    assert found.result["version"] == 3


async def test_two_workers_whose_connections_break_while_they_hold_a_stream_decide_once(
    world, event_store, purses, dsn, monkeypatch
):
    workers = [world.worker(event_store=event_store, group_commit=False) for _ in range(2)]
    purse_id, broken, decide = await hot(workers[0], purses), [], Purse.decide
    contend(workers[1], purse_id)

    def breaking(state: Sum, command: Take) -> Any:
        if command.amount == 1 and len(broken) < 2:
            with psycopg.connect(dsn, autocommit=True) as conn:
                broken.append(conn.execute(END_ALL).fetchall())
        return decide(state, command)

    monkeypatch.setattr(Purse, "decide", staticmethod(breaking))
    ids = await sent(world, *(Take(purse_id=purse_id, amount=1) for _ in range(20)))
    async with world.working(workers[0]), world.working(workers[1]):
        await world.settled(*ids)

    assert len(broken) == 2
    assert (await purses.load(purse_id)).state == Sum(21)


@pytest.mark.parametrize("is_committed", [True, False], ids=["after the COMMIT", "before it"])
async def test_a_group_whose_connection_breaks_while_it_holds_a_stream_is_decided_once(
    world, event_store, purses, dsn, is_committed
):
    worker = world.worker(event_store=event_store)
    groups, purse_id, broken = watched(worker), await hot(worker, purses), []
    commit = groups._groups.commit

    async def breaking(domain: str, group: Any, *, held: Any = None) -> Any:
        if held is None or len(broken) >= 2:
            return await commit(domain, group, held=held)
        broken.append(group)
        if is_committed:
            await commit(domain, group, held=held)
            raise StorageUnavailableError("the answer is lost")
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
            await conn.execute("select pg_terminate_backend(%s, 10000)", [held.conn.info.backend_pid])
        return await commit(domain, group, held=held)

    groups._groups.commit = breaking
    ids = await sent(world, *(Take(purse_id=purse_id, amount=1) for _ in range(20)))
    async with world.working(worker):
        await world.settled(*ids)
    known = [await world.known(each) for each in ids]

    assert len(broken) == 2
    assert {(each.status, each.attempts) for each in known} == {DONE}
    assert (await purses.load(purse_id)).state == Sum(21)


async def test_one_who_waits_and_times_out_is_left_out_of_the_group_and_the_others_are_not(world, event_store, purses):
    worker = world.worker(event_store=event_store)
    groups, purse_id = watched(worker), await hot(worker, purses)
    async with world.working(worker):
        async with held(event_store, purses, purse_id):
            gone, *stay = await sent(world, *(Take(purse_id=purse_id, amount=1) for _ in range(3)))
            await eventually(lambda: worker.in_flight_count == 3)
            lease = next(each for each in worker._running if each.command_id == gone)
            worker._running[lease].cancel()  # as a lease that is lost does
            await eventually(lambda: lease not in worker._running)
        await world.settled(gone, *stay)

    assert groups.held
    assert worker._execution.parked == 0
    assert (await purses.load(purse_id)).state == Sum(4)
