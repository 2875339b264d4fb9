"""Order, draining and canceling, as workers do it: a suite for every store."""

import asyncio
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from mainstay import (
    AuditEventType,
    BatchCommand,
    CommandStatus,
    InvalidOperationError,
    SendRequest,
    TransientCommandError,
)
from mainstay.errors import StaleLeaseError
from tests.scenarios.running import Gate
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.waiting import eventually

A = AuditEventType
S = CommandStatus


class OrderScenarios(WorldSuite):
    """Order per key, retry_after, drain, canceling what runs."""

    # -- order --------------------------------------------------------------------------------------------------------
    async def test_a_worker_handles_a_key_in_order_without_waiting_for_its_polls(self, world: World) -> None:
        seen: dict[str, list[int]] = {"a": [], "b": []}

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            seen[command.key].append(command.data["n"])
            if context.attempt == 1 and command.data["n"] % 5 == 0:
                raise TransientCommandError("BUSY", "not now", retry_after=0)

        ids = [await world.send(data={"n": n}, key=key) for n in range(20) for key in "ab"]
        async with world.working(concurrency=8, poll_interval=3600):
            await world.settled(*ids)

        expected = [n for n in range(20) for _ in range(2 if n % 5 == 0 else 1)]
        assert seen == {"a": expected, "b": expected}

    async def test_a_transactional_handlers_key_goes_on_at_once(self, world: World) -> None:
        seen: list[int] = []

        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command, context):
            seen.append(command.data["n"])

        ids = [await world.send(data={"n": n}, key="a") for n in range(10)]
        async with world.working(poll_interval=3600):
            await world.settled(*ids)

        assert seen == list(range(10))

    async def test_a_blocked_key_blocks_no_other(self, world: World) -> None:
        gate, seen = Gate(world), []

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            seen.append(command.key)

        blocked = [await world.send("Wait", key="a"), await world.send(key="a")]
        others = [await world.send(key=f"k{n % 3}") for n in range(9)]
        async with world.working():
            await world.settled(*others)
            assert "a" not in seen
            gate.open.set()
            await world.settled(*blocked)

        assert seen[-1] == "a"

    async def test_cancelling_the_first_lets_the_next_of_its_key_go_at_once(self, world: World) -> None:
        gate = Gate(world)
        gate.open.set()
        first, second = await world.send("Wait", key="a", delay=0), await world.send("Wait", key="a")
        later = await world.send("Wait", key="b", not_before=datetime.now(UTC) + timedelta(hours=1))
        await world.bus.cancel(DOMAIN, first)
        async with world.working(poll_interval=3600):
            await world.settled(second)

        assert list(gate.started) == [second]
        assert await world.status(later) is S.PENDING

    async def test_an_error_says_when_to_try_again(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            raise TransientCommandError("LIMIT", "too many requests", retry_after=timedelta(hours=1))

        @world.handles(DOMAIN, "Wrong")
        async def wrong(command, context):
            raise TransientCommandError("LIMIT", "too many requests", retry_after="soon")

        async with world.working():
            late, soon = await world.send("Do"), await world.send("Wrong", max_attempts=2)
            await eventually(lambda: self.is_put_off(world, late), timeout=PATIENCE)
            await world.settled(soon)
        known = await world.known(late)

        assert known.due_at is not None
        assert timedelta(minutes=59) < known.due_at - known.updated_at <= timedelta(hours=1)
        assert await world.status(soon) is S.IN_TROUBLESHOOTING_QUEUE

    async def is_put_off(self, world: World, command_id: UUID) -> bool:
        return A.RETRY_SCHEDULED in await world.events(command_id)

    # -- draining -----------------------------------------------------------------------------------------------------
    async def test_draining_finishes_what_was_received_and_takes_no_more(self, world: World) -> None:
        gate = Gate(world)

        @world.handles(DOMAIN, "Quick")
        async def quick(command, context):
            return None

        worker = world.worker()
        async with world.working(worker, concurrency=1):
            await world.settled(*[await world.send("Quick") for _ in range(50)])  # so that it receives ahead
            await world.bus.send_batch([SendRequest(DOMAIN, "Wait", uuid4(), {}) for _ in range(20)])
            await eventually(lambda: gate.started, timeout=PATIENCE)
            draining = asyncio.create_task(worker.drain())
            await eventually(lambda: worker.in_flight_count == 1)
            gate.open.set()
            async with asyncio.timeout(PATIENCE):
                await draining
            assert not worker.is_running
        rest = [one.command_id for one in await world.bus.query_commands(S.PENDING, DOMAIN)]
        untouched = [await world.events(command_id) for command_id in rest]
        done = await world.bus.query_commands(S.COMPLETED, DOMAIN, "Wait")
        async with world.working(worker):
            await world.settled(await world.send("Wait"), *rest)

        assert untouched == [[A.SENT]] * len(rest)
        assert len(done) + len(rest) == 20
        assert Counter(gate.started.values()) == {1: 21}

    async def test_draining_ends_at_its_timeout_like_stopping(self, world: World) -> None:
        gate = Gate(world)
        async with world.working() as worker:
            command_id = await world.send("Wait")
            await eventually(lambda: gate.started, timeout=PATIENCE)
            async with asyncio.timeout(PATIENCE):
                await worker.drain(timeout=0.05)
            await worker.drain()

        assert gate.cancelled == 1
        assert await world.status(command_id) is S.PENDING

    # -- canceling what runs -----------------------------------------------------------------------------------------
    async def test_a_running_async_handler_is_cancelled_at_once(self, world: World) -> None:
        gate = Gate(world)
        async with world.working() as worker:
            command_id, behind = await world.send("Wait", key="a"), await world.send("Wait", key="a")
            await eventually(lambda: gate.started, timeout=PATIENCE)
            with pytest.raises(InvalidOperationError, match="running=True"):
                await world.bus.cancel(DOMAIN, command_id)
            await world.bus.cancel(DOMAIN, command_id, reason="changed our mind", running=True)
            done = await world.settled(command_id)
            await eventually(lambda: behind in gate.started, timeout=PATIENCE)
            gate.open.set()
            await world.settled(behind)
            with pytest.raises(InvalidOperationError, match="COMPLETED"):
                await world.bus.cancel(DOMAIN, behind, running=True)
            assert worker.is_running

        assert (done.status, done.last_error_msg) == (S.CANCELED, "changed our mind")
        assert gate.cancelled == 1
        assert await world.events(command_id) == [
            A.SENT,
            A.RECEIVED,
            A.CANCEL_REQUESTED,
            A.GIVEN_BACK,
            A.CANCELED,
        ]

    async def test_a_batch_is_cancelled_with_what_runs_of_it(self, world: World) -> None:
        gate = Gate(world)
        commands = [BatchCommand("Wait", uuid4(), {}) for _ in range(3)]
        async with world.working(concurrency=1):
            batch = await world.bus.create_batch(DOMAIN, commands)
            await eventually(lambda: gate.started, timeout=PATIENCE)
            action = await world.bus.cancel_batch(DOMAIN, batch.batch_id, reason="a mistake", running=True)
            await world.settled(*(command.command_id for command in commands))
        found = await world.bus.list_batch_commands(DOMAIN, batch.batch_id)

        assert action.applied == 3
        assert [each.status for each in found] == [S.CANCELED] * 3
        assert gate.cancelled == len(gate.started) >= 1

    async def test_the_result_of_a_thread_that_cannot_be_stopped_is_refused(self, world: World) -> None:
        started, release = threading.Event(), threading.Event()
        ended: list[str] = []

        @world.handles(DOMAIN, "Block")
        def block(command, context):
            started.set()
            release.wait(PATIENCE)
            ended.append("returned")
            return "too late"

        async with world.working():
            command_id = await world.send("Block")
            await eventually(started.is_set, timeout=PATIENCE)
            await world.bus.cancel(DOMAIN, command_id, running=True)
            done = await world.settled(command_id)
            release.set()
            await eventually(lambda: ended, timeout=PATIENCE)

        assert (done.status, done.result) == (S.CANCELED, None)
        assert await world.status(command_id) is S.CANCELED

    async def test_a_cancelled_transactional_handler_leaves_nothing(self, world: World) -> None:
        gate = Gate(world, transactional=True)
        async with world.working():
            command_id = await world.send("Wait")
            await eventually(lambda: gate.started, timeout=PATIENCE)
            await world.bus.cancel(DOMAIN, command_id, running=True)
            done = await world.settled(command_id)

        assert done.status is S.CANCELED
        assert gate.cancelled == 1

    async def test_extending_a_lease_that_shall_end_is_no_loss(self, world: World) -> None:
        gate, told = Gate(world), []

        @world.handles(DOMAIN, "Extend")
        async def extend(command, context):
            try:
                await gate.open.wait()
            except asyncio.CancelledError:
                try:
                    await context.extend_visibility(30)
                except StaleLeaseError as error:
                    told.append(error)
                raise

        async with world.working():
            command_id = await world.send("Extend")
            await eventually(lambda: self.is_running(world, command_id), timeout=PATIENCE)
            await world.bus.cancel(DOMAIN, command_id, running=True)
            await world.settled(command_id)

        assert told == []

    async def is_running(self, world: World, command_id: UUID) -> bool:
        return await world.status(command_id) is S.IN_PROGRESS
