"""How workers run, wake, share and stop: a suite for every store."""

import asyncio
import threading
from collections import Counter
from datetime import timedelta
from uuid import uuid4

import pytest

from mainstay import (
    AuditEventType,
    BatchCommand,
    BatchStatus,
    CommandStatus,
    ConfigurationError,
    PermanentCommandError,
    SendRequest,
)
from mainstay.commands import slots as slots_module
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.waiting import eventually

A = AuditEventType
S = CommandStatus
AGES = 3600.0


class Gate:
    """A handler that waits until a test lets it go on."""

    def __init__(self, world: World, command_type: str = "Wait", **options) -> None:
        self.started: Counter[str] = Counter()
        self.cancelled = 0
        self.open = asyncio.Event()

        @world.handles(DOMAIN, command_type, **options)
        async def wait(command, context):
            self.started[command.command_id] += 1
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return "waited"


class RunningScenarios(WorldSuite):
    """Starting, sleeping, waking, sharing, stopping."""

    async def test_a_worker_runs_for_the_length_of_a_block(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            return "done"

        worker = world.worker()
        for _ in range(2):
            async with worker as entered:
                assert entered.is_running
                with pytest.raises(ConfigurationError, match="running already"):
                    await entered.__aenter__()
                await world.settled(await world.send())
            assert not worker.is_running
        with pytest.raises(ZeroDivisionError):
            async with worker:
                raise ZeroDivisionError
        assert not worker.is_running

    # -- stopping -----------------------------------------------------------------------------------------------------
    async def test_a_worker_can_be_stopped_unstarted_and_twice(self, world: World) -> None:
        worker = world.worker()
        await worker.stop()
        async with world.working(worker):
            await asyncio.gather(worker.stop(), worker.stop())
            await worker.stop()

            assert not worker.is_running

    async def test_a_worker_can_run_again_after_it_was_stopped(self, world: World) -> None:
        gate = Gate(world)
        gate.open.set()
        worker = world.worker()
        async with world.working(worker):
            first = await world.settled(await world.send("Wait"))
        second = await world.send("Wait")
        async with world.working(worker):
            await world.settled(second)

        assert first.status is S.COMPLETED
        assert await world.status(second) is S.COMPLETED

    async def test_a_worker_cannot_run_twice_at_once(self, world: World) -> None:
        async with world.working() as worker:
            with pytest.raises(ConfigurationError, match="running"):
                await worker.run()

            assert worker.is_running

    async def test_stopping_waits_for_what_has_started_and_gives_back_the_rest_unspent(self, world: World) -> None:
        gate = Gate(world)

        @world.handles(DOMAIN, "Quick")
        async def quick(command, context):
            return None

        worker = world.worker()
        async with world.working(worker, concurrency=1) as worker:
            await world.settled(*[await world.send("Quick") for _ in range(50)])  # so that it receives ahead
            ids = [await world.send("Wait") for _ in range(20)]
            await eventually(lambda: gate.started, timeout=PATIENCE)
            stopping = asyncio.create_task(worker.stop(timeout=None))
            await eventually(lambda: worker.in_flight_count == 1)
            gate.open.set()
            async with asyncio.timeout(PATIENCE):
                await stopping
        found = [await world.known(command_id) for command_id in ids]

        assert [one.status for one in found].count(S.COMPLETED) == len(gate.started)
        for one in found:
            if one.status is not S.COMPLETED:
                assert (one.status, one.attempts) == (S.PENDING, 0)
                assert (await world.events(one.command_id))[-1] in {A.SENT, A.GIVEN_BACK}

    async def test_what_was_given_back_is_received_at_once_by_the_next_worker(self, world: World) -> None:
        gate = Gate(world)
        async with world.working() as worker:
            command_id = await world.send("Wait", max_attempts=1)
            await eventually(lambda: gate.started, timeout=PATIENCE)
            async with asyncio.timeout(PATIENCE):
                await worker.stop(timeout=0)
        given_back = await world.known(command_id)
        gate.open.set()
        async with world.working():
            done = await world.settled(command_id)

        assert (given_back.status, given_back.attempts) == (S.PENDING, 0)
        assert gate.cancelled == 1
        assert (done.status, done.attempts) == (S.COMPLETED, 1)
        assert await world.events(command_id) == [A.SENT, A.RECEIVED, A.GIVEN_BACK, A.RECEIVED, A.COMPLETED]

    async def test_a_handler_that_answers_its_cancellation_is_completed_and_lets_the_worker_stop(
        self, world: World
    ) -> None:
        started = asyncio.Event()

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "put away"

        async with world.working() as worker:
            command_id = await world.send()
            await started.wait()
            async with asyncio.timeout(PATIENCE):
                await worker.stop(timeout=0)
        done = await world.known(command_id)

        assert (done.status, done.result) == (S.COMPLETED, "put away")

    async def test_a_handler_that_will_not_end_does_not_keep_the_worker_from_stopping(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(slots_module, "GRACE", 0.2)
        started, enough = asyncio.Event(), asyncio.Event()

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            started.set()
            while not enough.is_set():
                try:
                    await enough.wait()
                except asyncio.CancelledError:
                    continue

        async with world.working() as worker:
            command_id = await world.send()
            await started.wait()
            try:
                async with asyncio.timeout(PATIENCE):
                    await worker.stop(timeout=0)
            finally:
                enough.set()

            assert not worker.is_running
        # It ended in time after all: its lease had not ended.
        assert (await world.settled(command_id)).status is S.COMPLETED

    async def test_a_cancelled_run_gives_back_what_it_had(self, world: World) -> None:
        gate = Gate(world)
        worker = world.worker()
        running = asyncio.create_task(worker.run(2, 0.2))
        ids = [await world.send("Wait") for _ in range(2)]
        await eventually(lambda: len(gate.started) == 2, timeout=PATIENCE)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert not worker.is_running
        for command_id in ids:
            found = await world.known(command_id)
            assert (found.status, found.attempts) == (S.PENDING, 0)

    async def test_a_thread_that_outlives_its_timeout_is_reported_and_its_result_is_refused(self, world: World) -> None:
        leave = threading.Event()
        attempts = []

        @world.handles(DOMAIN, "Do", timeout=0.1)
        def do(command, context):
            attempts.append(context.attempt)
            if context.attempt == 1:
                leave.wait(PATIENCE)
                return "too late"
            return "in time"

        try:
            async with world.working(concurrency=2, visibility_timeout=1) as worker:
                command_id = await world.send(max_attempts=100)
                await eventually(lambda: worker.stuck_count == 1, timeout=PATIENCE)
                done = await world.settled(command_id)

                assert (done.status, done.result) == (S.COMPLETED, "in time")
                await eventually(lambda: worker.stuck_count == 1, timeout=PATIENCE)
                leave.set()
                await eventually(lambda: worker.stuck_count == 0, timeout=PATIENCE)
                await eventually(lambda: worker.in_flight_count == 0)
        finally:
            leave.set()

        assert attempts[:2] == [1, 2]  # on a machine that stalls, more than one may be out of time
        assert done.attempts > 1
        assert (await world.known(command_id)).result == "in time"
        assert A.LEASE_EXPIRED in await world.events(command_id)

    async def test_a_stuck_thread_keeps_neither_the_other_slots_nor_the_stop_waiting(self, world: World) -> None:
        leave = threading.Event()

        @world.handles(DOMAIN, "Hang", timeout=0.1)
        def hang(command, context):
            leave.wait(4 * PATIENCE)

        @world.handles(DOMAIN, "Do", timeout=PATIENCE)
        def do(command, context):
            return "done"

        try:
            async with world.working(concurrency=2) as worker:
                hung = await world.send("Hang")
                await eventually(lambda: worker.stuck_count == 1, timeout=PATIENCE)
                done = await world.settled(*[await world.send() for _ in range(5)])
                async with asyncio.timeout(PATIENCE):
                    await worker.stop(timeout=AGES)
        finally:
            leave.set()

        assert done.status is S.COMPLETED
        # Its thread is still at it: it must not be given to another worker before its lease ends.
        assert await world.status(hung) is S.IN_PROGRESS

    # -- sharing ------------------------------------------------------------------------------------------------------
    async def test_of_two_workers_one_handles_a_command(self, world: World) -> None:
        calls: Counter[str] = Counter()

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            calls[command.command_id] += 1

        async with world.working(), world.working():
            ids = [await world.send() for _ in range(100)]
            await world.settled(*ids)

        assert calls == Counter(ids)
        assert {(await world.known(one)).attempts for one in ids} == {1}

    async def test_what_waits_behind_a_slow_handler_is_left_to_other_workers(self, world: World) -> None:
        gate = Gate(world)

        @world.handles(DOMAIN, "Quick")
        async def quick(command, context):
            return None

        async with world.working(concurrency=1) as first:
            await world.settled(*[await world.send("Quick") for _ in range(100)])  # so that it receives ahead
            ids = [
                result.command_id
                for result in (
                    await world.bus.send_batch(
                        [SendRequest(DOMAIN, command_type, uuid4(), {}) for command_type in ("Wait", *["Quick"] * 20)]
                    )
                ).results
            ]
            await eventually(lambda: gate.started, timeout=PATIENCE)
            async with world.working(concurrency=1):
                await world.settled(*ids[1:])

                assert first.in_flight_count == 1
            gate.open.set()
            await world.settled(*ids)

    # -- sleeping and waking ------------------------------------------------------------------------------------------
    async def test_an_idle_worker_is_woken_by_a_send(self, world: World) -> None:
        gate = Gate(world)
        gate.open.set()
        async with world.working(poll_interval=AGES):
            for _ in range(3):
                done = await world.settled(await world.send("Wait"), timeout=PATIENCE)

                assert done.status is S.COMPLETED

    async def test_an_idle_worker_is_awake_when_a_deferred_command_is_due(self, world: World) -> None:
        gate = Gate(world)
        gate.open.set()
        async with world.working(poll_interval=AGES):
            await world.settled(await world.send("Wait"))
            done = await world.settled(await world.send("Wait", delay=0.5), timeout=PATIENCE)

        assert done.status is S.COMPLETED

    async def test_an_idle_worker_is_awake_when_a_retry_is_due(self, world: World) -> None:
        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            if context.attempt < 3:
                raise KeyError(context.attempt)

        async with world.working(poll_interval=AGES):
            done = await world.settled(await world.send(), timeout=PATIENCE / 2)

        assert (done.status, done.attempts) == (S.COMPLETED, 3)

    async def test_an_idle_worker_is_woken_after_a_callers_commit(self, world: World) -> None:
        gate = Gate(world)
        gate.open.set()
        async with world.working(poll_interval=AGES):
            await world.settled(await world.send("Wait"))
            async with world.store.transaction() as conn:
                command_id = await world.send("Wait", conn=conn)
                assert await world.bus.get_command(DOMAIN, command_id) is None
            await world.bus.wake()
            done = await world.settled(command_id, timeout=PATIENCE)

        assert done.status is S.COMPLETED

    async def test_a_burst_wakes_as_many_sleepers_as_there_are_commands(self, world: World) -> None:
        gate = Gate(world)
        async with world.working(concurrency=1, poll_interval=AGES), world.working(concurrency=1, poll_interval=AGES):
            gate.open.set()
            await world.settled(await world.send("Wait"))
            gate.open.clear()
            await world.bus.send_batch([SendRequest(DOMAIN, "Wait", uuid4(), {}) for _ in range(2)])
            await eventually(lambda: len(gate.started) == 3, timeout=PATIENCE, what="both workers are awake")
            gate.open.set()

    async def test_a_command_is_not_handled_before_its_time(self, world: World) -> None:
        gate = Gate(world)
        gate.open.set()
        async with world.working():
            late = await world.send("Wait", delay=timedelta(hours=1))
            await world.settled(await world.send("Wait"))

            assert await world.status(late) is S.PENDING
        await world.bus.cancel(DOMAIN, late)

    # -- batches ------------------------------------------------------------------------------------------------------
    async def test_a_batch_ends_with_its_completion_command_and_callback_once(self, world: World) -> None:
        told = []
        ends: Counter[str] = Counter()

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            if command.data["n"] == 0:
                raise PermanentCommandError("BAD", "bad")

        @world.handles(DOMAIN, "End")
        async def end(command, context):
            ends[command.command_id] += 1

        final = SendRequest(DOMAIN, "End", uuid4(), {})
        async with world.working(), world.working():
            quiet = await world.bus.create_batch(
                DOMAIN, [BatchCommand("Do", uuid4(), {"n": n}) for n in range(30)], on_complete=final
            )
            called = await world.bus.create_batch(
                DOMAIN, [BatchCommand("Do", uuid4(), {"n": 1})], on_complete=told.append
            )
            await eventually(
                lambda: world.bus.command_exists(DOMAIN, final.command_id), timeout=PATIENCE, what="it was sent"
            )
            await world.settled(final.command_id)
            await eventually(lambda: told, timeout=PATIENCE)
            (item,) = await world.tsq.list_troubleshooting(DOMAIN)
            await world.tsq.operator_complete(DOMAIN, item.command_id)
        batch = await world.bus.get_batch(DOMAIN, quiet.batch_id)

        assert ends == {final.command_id: 1}
        assert batch is not None
        assert batch.status is BatchStatus.COMPLETED_WITH_FAILURES
        assert (batch.total_count, batch.completed_count, batch.in_troubleshooting_count) == (30, 30, 0)
        assert [(one.batch_id, one.status) for one in told] == [(called.batch_id, BatchStatus.COMPLETED)]

    # -- effects ------------------------------------------------------------------------------------------------------
    async def test_what_a_transactional_handler_sends_goes_with_its_completion(self, world: World) -> None:
        child = uuid4()

        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command, context):
            await world.send("Next", command_id=child, conn=context.conn)
            return context.attempt

        @world.handles(DOMAIN, "Next")
        async def follow(command, context):
            return "followed"

        async with world.working():
            done = await world.settled(await world.send())
            followed = await world.settled(child)

        assert (done.status, done.result) == (S.COMPLETED, 1)
        assert followed.result == "followed"

    @pytest.mark.parametrize("how", ["transient", "business", "result"])
    async def test_what_a_failing_transactional_handler_sent_was_never_sent(self, world: World, how: str) -> None:
        children = [uuid4(), uuid4()]

        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command, context):
            await world.send("Next", command_id=children[context.attempt - 1], conn=context.conn)
            if context.attempt == 1:
                match how:
                    case "transient":
                        raise KeyError(how)
                    case "business":
                        raise PermanentCommandError("NO", "no")
                    case "result":
                        return object()
            return "done"

        async with world.working():
            done = await world.settled(await world.send())
            expected = S.COMPLETED if how == "transient" else S.IN_TROUBLESHOOTING_QUEUE

            assert done.status is expected
        assert not await world.bus.command_exists(DOMAIN, children[0])
        assert await world.bus.command_exists(DOMAIN, children[1]) is (how == "transient")
