"""Workers on PostgreSQL: what holds on every store, and what only a database can do to them."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest
from psycopg import sql

from mainstay import (
    AuditEventType,
    CommandStatus,
    Failure,
    HandlerRegistry,
    SendRequest,
    TransientCommandError,
    Worker,
)
from mainstay.commands import worker as worker_module
from tests.scenarios.outcomes import OutcomeScenarios
from tests.scenarios.postgres import QUEUE, OnPostgres, ask, run
from tests.scenarios.running import AGES, Gate, RunningScenarios
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.servers import open_pool
from tests.support.waiting import eventually

A = AuditEventType
S = CommandStatus
LEASE = 6
"""Seconds: renewed after two of them, and longer than a machine stalls."""


@contextmanager
def another_worker(dsn: str, seen: list[int]) -> Iterator[None]:
    """A worker in a thread and an event loop of its own; ``seen`` gets the attempts that it was given."""
    begun: Future[tuple[asyncio.AbstractEventLoop, Worker]] = Future()

    async def main() -> None:
        async with open_pool(dsn) as pool:
            registry = HandlerRegistry()

            @registry.decorator(DOMAIN, "Do")
            async def do(command, context):
                seen.append(context.attempt)

            worker = Worker(pool, DOMAIN, registry, visibility_timeout=LEASE)
            running = asyncio.create_task(worker.run(1, 0.05))
            await eventually(lambda: worker.is_running)
            begun.set_result((asyncio.get_running_loop(), worker))
            await running

    thread = threading.Thread(target=asyncio.run, args=[main()], daemon=True)
    thread.start()
    loop, worker = begun.result(PATIENCE)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(worker.stop(), loop).result(PATIENCE)
        thread.join(PATIENCE)


class TestOutcomes(OnPostgres, OutcomeScenarios):
    pass


class TestRunning(OnPostgres, RunningScenarios):
    pass


class TestLeases(OnPostgres, WorldSuite):
    """Held as long as a worker lives, and no longer."""

    async def test_a_handler_longer_than_its_lease_runs_once(self, world: World) -> None:
        gate = Gate(world)
        async with world.working(visibility_timeout=LEASE), world.working(visibility_timeout=LEASE):
            command_id = await world.send("Wait")
            await eventually(lambda: gate.started, timeout=PATIENCE)
            await self._the_lease_would_be_over(world)
            gate.open.set()
            done = await world.settled(command_id)

        assert gate.started == {command_id: 1}
        assert (done.status, done.attempts) == (S.COMPLETED, 1)

    async def test_a_handler_that_blocks_the_event_loop_keeps_its_lease(self, world: World, dsn: str) -> None:
        calls: list[int] = []
        others: list[int] = []

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            calls.append(context.attempt)
            with another_worker(dsn, others):
                threading.Event().wait(LEASE + 1)  # nothing else runs on this loop meanwhile

        async with world.working(visibility_timeout=LEASE):
            done = await world.settled(await world.send())

        assert others == []
        assert calls == [1]
        assert (done.status, done.attempts) == (S.COMPLETED, 1)

    async def test_what_waits_in_a_backlog_keeps_its_lease(self, world: World) -> None:
        seen: Counter[UUID] = Counter()

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            if not seen:
                await self._the_lease_would_be_over(world)
            seen[command.command_id] += 1

        async with (
            world.working(concurrency=1, visibility_timeout=LEASE),
            world.working(concurrency=1, visibility_timeout=LEASE),
        ):
            results = (await world.bus.send_batch([SendRequest(DOMAIN, "Do", uuid4(), {}) for _ in range(50)])).results
            await world.settled(*[result.command_id for result in results])

        assert set(seen.values()) == {1}

    async def test_a_lease_extended_by_hand_is_as_long_as_asked(self, world: World) -> None:
        gate = Gate(world)

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            await context.extend_visibility(300)
            await gate.open.wait()

        async with world.working(visibility_timeout=LEASE):
            await world.send()

            async def is_long() -> bool:
                ((seconds,),) = await ask(
                    world.store.pool, f"select extract(epoch from vt - now()) from pgmq.q_{QUEUE}"
                )
                return seconds > 200

            await eventually(is_long, timeout=PATIENCE)
            gate.open.set()

    async def test_the_result_of_a_lost_lease_is_refused_and_its_handler_stopped(self, world: World) -> None:
        begun, second = asyncio.Event(), asyncio.Event()

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            if context.attempt == 1:
                try:
                    begun.set()
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    second.set()
                    raise
            await second.wait()
            return context.attempt

        async with world.working(visibility_timeout=LEASE):
            command_id = await world.send()
            await asyncio.wait_for(begun.wait(), PATIENCE)
            async with world.working(visibility_timeout=LEASE):
                await eventually(self._is_taken_over(world, command_id), timeout=PATIENCE)
                await asyncio.wait_for(second.wait(), PATIENCE)
                done = await world.settled(command_id)

        assert (done.status, done.result, done.attempts) == (S.COMPLETED, 2, 2)
        assert await world.events(command_id) == [A.SENT, A.RECEIVED, A.LEASE_EXPIRED, A.RECEIVED, A.COMPLETED]

    async def test_a_handler_that_ignores_the_loss_of_its_lease_is_refused(self, world: World) -> None:
        begun, lost, completed = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @world.handles(DOMAIN, "Other")
        async def other(command, context):
            return None

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            if context.attempt == 1:
                try:
                    begun.set()
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    lost.set()
                    await completed.wait()
            return context.attempt

        async with world.working(visibility_timeout=LEASE):
            command_id = await world.send()
            await asyncio.wait_for(begun.wait(), PATIENCE)
            await eventually(self._is_taken_over(world, command_id), timeout=PATIENCE)
            done = await world.settled(command_id)
            await asyncio.wait_for(lost.wait(), PATIENCE)
            completed.set()
            await eventually(self._says(world, command_id, A.STALE_REFUSED), timeout=PATIENCE)
            another = await world.settled(await world.send("Other"))

        assert done.status is S.COMPLETED
        assert done.result >= 2  # more, if the machine stood still for longer than a lease
        assert (await world.known(command_id)).result == done.result
        assert another.status is S.COMPLETED

    async def test_a_command_that_kills_its_workers_stops_within_its_attempts(self, world: World) -> None:
        gate = Gate(world)
        command_id = await world.send("Wait", max_attempts=2)
        for _ in range(3):
            received = await world.store.receive(DOMAIN, limit=1, lease_seconds=30, worker="doomed")
            await self._take_lease_away(world)
        async with world.working():
            done = await world.settled(command_id)

        assert received == []
        assert (done.status, done.attempts, done.last_error_code) == (S.IN_TROUBLESHOOTING_QUEUE, 2, "LEASE_EXPIRED")
        assert gate.started == {}

    async def _the_lease_would_be_over(self, world: World) -> None:
        """Wait until what is leased now would not be, had nobody renewed it."""
        query = sql.SQL("select max(vt), clock_timestamp() from {}").format(sql.Identifier("pgmq", f"q_{QUEUE}"))
        ((end, _),) = await ask(world.store.pool, query)

        async def is_over() -> bool:
            ((_, now),) = await ask(world.store.pool, query)
            return now > end

        await eventually(is_over, timeout=PATIENCE)

    async def _take_lease_away(self, world: World, condition: str = "true") -> None:
        await run(
            world.store.pool, f"update pgmq.q_{QUEUE} set vt = clock_timestamp() - interval '1 s' where {condition}"
        )

    def _is_taken_over(self, world: World, command_id: UUID):
        """Takes the first lease away until somebody has the next: its holder may renew it in between."""

        async def look() -> bool:
            if (await world.known(command_id)).attempts == 1:
                await self._take_lease_away(world, "read_ct = 1")  # by now somebody may have the next
                return False
            return True

        return look

    def _says(self, world: World, command_id: UUID, event: A):
        async def look() -> bool:
            return event in await world.events(command_id)

        return look


class TestEffects(OnPostgres, WorldSuite):
    """A transactional handler's effect and its completion are one COMMIT."""

    @pytest.fixture
    async def effects(self, pool):
        """Rows of a table without any constraint: what happened twice is there twice."""
        await run(pool, "create table effect (command_id uuid, attempt int)")

        async def look() -> list[tuple[UUID, int]]:
            return await ask(pool, "select command_id, attempt from effect order by attempt")

        return look

    async def _note(self, command, context) -> None:
        await context.conn.execute("insert into effect values (%s, %s)", [command.command_id, context.attempt])

    async def test_an_effect_and_its_completion_are_one_commit(self, world: World, effects) -> None:
        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command, context):
            await self._note(command, context)
            (row,) = await (await context.conn.execute("select pg_current_xact_id()::text")).fetchall()
            return row[0]

        async with world.working():
            done = await world.settled(await world.send())

        ((by_effect, by_audit),) = await ask(
            world.store.pool,
            "select (select xmin::text from effect), (select xmin::text from commandbus.audit"
            " where event_type = 'COMPLETED')",
        )
        assert by_effect == by_audit == done.result
        assert await effects() == [(done.command_id, 1)]

    @pytest.mark.parametrize("how", ["it raises", "it aborts the transaction"])
    async def test_the_effect_of_an_attempt_that_failed_is_rolled_back(self, world: World, effects, how: str) -> None:
        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command, context):
            await self._note(command, context)
            if context.attempt == 1:
                if how == "it raises":
                    raise TransientCommandError("NO", "no")
                await context.conn.execute("select 1 / 0")
            return "done"

        async with world.working():
            done = await world.settled(await world.send())

        assert (done.status, done.result) == (S.COMPLETED, "done")
        assert await effects() == [(done.command_id, 2)]

    @pytest.mark.parametrize(
        ("result", "status"),
        [(Failure("NO", "no"), S.FAILED), (object(), S.IN_TROUBLESHOOTING_QUEUE)],
        ids=["a failure", "no json"],
    )
    async def test_the_effect_of_a_handler_that_does_not_complete_is_rolled_back(
        self, world: World, effects, result, status
    ) -> None:
        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command, context):
            await self._note(command, context)
            return result

        async with world.working():
            done = await world.settled(await world.send())

        assert done.status is status
        assert await effects() == []

    async def test_a_handler_that_swallows_the_databases_error_does_not_complete(self, world: World, effects) -> None:
        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command, context):
            await self._note(command, context)
            if context.attempt == 1:
                try:
                    await context.conn.execute("select 1 / 0")
                except Exception:  # noqa: BLE001 - what a careless handler does
                    return "all is well"
            return "done"

        async with world.working():
            done = await world.settled(await world.send())

        assert (done.status, done.result) == (S.COMPLETED, "done")
        assert await effects() == [(done.command_id, 2)]

    async def test_the_effect_under_a_lost_lease_is_rolled_back(self, world: World, effects) -> None:
        reached, again, leave = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command, context):
            await self._note(command, context)
            if context.attempt == 1:
                reached.set()
                try:
                    await leave.wait()
                except asyncio.CancelledError:
                    await leave.wait()
            again.set()
            return context.attempt

        async def taken_over():
            if not again.is_set():  # the first may have renewed its lease in between
                await run(world.store.pool, f"update pgmq.q_{QUEUE} set vt = clock_timestamp() - interval '1 s'")
            return again.is_set()

        async with world.working(concurrency=2, visibility_timeout=LEASE):
            command_id = await world.send(max_attempts=1000)
            await reached.wait()
            await eventually(taken_over, timeout=PATIENCE)
            done = await world.settled(command_id)
            leave.set()

        assert done.status is S.COMPLETED
        assert done.result > 1
        assert await effects() == [(command_id, done.result)]

    async def test_a_transactional_handler_that_times_out_leaves_nothing(self, world: World, effects) -> None:
        @world.handles(DOMAIN, "Do", transactional=True, timeout=0.2)
        async def do(command, context):
            await self._note(command, context)
            await asyncio.Event().wait()

        async with world.working():
            done = await world.settled(await world.send(max_attempts=2))

        assert (done.status, done.last_error_code) == (S.IN_TROUBLESHOOTING_QUEUE, "TIMEOUT")
        assert await effects() == []


class TestWaking(OnPostgres, WorldSuite):
    """Well below any polling interval."""

    async def _sleepers(self, world: World) -> int:
        ((count,),) = await ask(
            world.store.pool, "select count(*) from commandbus.sleeper where until > clock_timestamp()"
        )
        return count

    async def test_a_wake_up_for_a_busy_worker_reaches_an_idle_one(self, world: World) -> None:
        gate = Gate(world)
        quick = Gate(world, "Quick")
        quick.open.set()
        async with world.working(concurrency=1, poll_interval=AGES):
            await eventually(lambda: self._is(world, 1), timeout=PATIENCE)
            async with world.working(concurrency=1, poll_interval=AGES):
                await eventually(lambda: self._is(world, 2), timeout=PATIENCE)
                # The one that slept last is woken, finds nothing, and wakes by the clock: its wish is still there.
                await world.send("Wait", delay=0.3)
                await eventually(lambda: gate.started, timeout=PATIENCE)
                done = await world.settled(await world.send("Quick"))
                gate.open.set()

        assert done.status is S.COMPLETED

    async def test_a_worker_that_stopped_swallows_no_wake_up(self, world: World) -> None:
        gate = Gate(world)
        gate.open.set()
        async with world.working(poll_interval=AGES):
            await eventually(lambda: self._is(world, 1), timeout=PATIENCE)
            async with world.working(poll_interval=AGES):
                await eventually(lambda: self._is(world, 2), timeout=PATIENCE)

            assert await self._sleepers(world) == 1
            done = await world.settled(await world.send("Wait"))

        assert done.status is S.COMPLETED

    async def test_a_long_sleeper_says_so_again(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(worker_module, "LONGEST_SLEEP", 0.1)
        seen = set()

        async def look() -> bool:
            seen.update(await ask(world.store.pool, "select until from commandbus.sleeper"))
            return len(seen) > 3

        async with world.working(poll_interval=AGES):
            await eventually(look, timeout=PATIENCE)

    async def test_without_notifications_polling_finds_everything(self, world: World) -> None:
        gate = Gate(world)
        gate.open.set()
        async with world.working(poll_interval=0.1, use_notify=False):
            await world.settled(await world.send("Wait"))
            done = await world.settled(await world.send("Wait", delay=0.2))

            assert await self._sleepers(world) == 0
        assert done.status is S.COMPLETED

    async def _is(self, world: World, count: int) -> bool:
        return await self._sleepers(world) == count
