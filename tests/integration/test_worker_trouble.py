"""Workers whose database is meddled with: by users, by other programs, by whoever can write to a queue."""

from collections import Counter
from uuid import UUID, uuid4

import pytest

from mainstay import CommandStatus, PgmqClient, TransientCommandError
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.scenarios.postgres import QUEUE, OnPostgres, ask, run
from tests.scenarios.running import Gate
from tests.scenarios.world import DOMAIN, PATIENCE, REPLIES, World, WorldSuite
from tests.support.servers import open_pool
from tests.support.waiting import eventually

S = CommandStatus


class TestTrouble(OnPostgres, WorldSuite):
    """What users and other programs do to the database meanwhile."""

    async def test_a_dropped_reply_queue_troubles_its_own_command_and_none_beside_it(self, world: World) -> None:
        gate = Gate(world)
        await self.create_queue(world.store, "short_lived")
        async with world.working(concurrency=20) as worker:
            ids = [await world.send("Wait", reply_to="short_lived" if n == 7 else REPLIES) for n in range(20)]
            await eventually(lambda: worker.in_flight_count == 20, timeout=PATIENCE)
            await PgmqClient(world.store.pool).drop_queue("short_lived")
            gate.open.set()
            await world.settled(*ids)
            found = [await world.known(command_id) for command_id in ids]

            assert [n for n, one in enumerate(found) if one.status is not S.COMPLETED] == [7]
            assert (found[7].status, found[7].last_error_type) == (S.IN_TROUBLESHOOTING_QUEUE, "PERMANENT")
            assert "short_lived" in (found[7].last_error_msg or "")
            assert gate.started[ids[7]] == 1
            await self.create_queue(world.store, "short_lived")
            await world.tsq.operator_complete(DOMAIN, ids[7], {"by": "hand"})
        assert len(await self.replies(world.store, REPLIES)) == 19

    async def test_a_dropped_queue_is_made_again(self, world: World) -> None:
        gate = Gate(world)
        gate.open.set()
        async with world.working():
            await world.settled(await world.send("Wait"))
            await PgmqClient(world.store.pool).drop_queue(QUEUE)
            done = await world.settled(await world.send("Wait"))

        assert done.status is S.COMPLETED

    async def test_a_worker_makes_its_dropped_queue_again_by_itself(self, world: World) -> None:
        async with world.working():
            await PgmqClient(world.store.pool).drop_queue(QUEUE)

            async def is_back() -> bool:
                return bool(await ask(world.store.pool, "select from pgmq.meta where queue_name = %s", QUEUE))

            await eventually(is_back, timeout=PATIENCE)

    @pytest.mark.parametrize(
        "message",
        [
            "null",
            "7",
            '"text"',
            "[]",
            "{}",
            '{"command_id": 7}',
            '{"command_id": "7"}',
            '{"command_id": null, "command_type": 5}',
            '{"command_id": "00000000-0000-0000-0000-00000000000g"}',
            '{"command_type": "' + "x" * 5000 + '"}',
        ],
    )
    async def test_a_malformed_message_waits_for_an_operator_and_does_not_loop(self, world: World, message) -> None:
        gate = Gate(world)
        gate.open.set()
        await run(world.store.pool, "select pgmq.send(%s, %s::jsonb)", QUEUE, message)
        async with world.working():
            await world.settled(await world.send("Wait"))
            (item,) = await world.tsq.list_troubleshooting(DOMAIN)

        assert item.last_error_code == "MALFORMED_MESSAGE"
        assert await ask(world.store.pool, f"select from pgmq.q_{QUEUE}") == []

    async def test_a_foreign_command_waits_for_an_operator_who_can_have_it_handled(self, world: World) -> None:
        gate = Gate(world)
        gate.open.set()
        foreign = str(uuid4())
        await run(
            world.store.pool,
            "select pgmq.send(%s, jsonb_build_object('command_id', %s::text, 'command_type', 'Wait'))",
            QUEUE,
            foreign,
        )
        async with world.working():
            done = await world.settled(await world.send("Wait"))
            (item,) = await world.tsq.list_troubleshooting(DOMAIN)
            await world.tsq.operator_retry(DOMAIN, item.command_id)
            done = await world.settled(UUID(foreign))

        assert (item.last_error_code, str(item.command_id)) == ("UNKNOWN_COMMAND", foreign)
        assert done.status is S.COMPLETED

    @pytest.mark.parametrize("delay", [None, 3600])
    async def test_a_second_message_of_a_command_changes_nothing(self, world: World, delay) -> None:
        calls: Counter[UUID] = Counter()

        @world.handles(DOMAIN, "Do")
        async def do(command, context):
            calls[command.command_id] += 1
            raise TransientCommandError("LATER", "later")

        known = await world.send(delay=delay, max_attempts=1)
        await run(
            world.store.pool,
            "select pgmq.send(%s, jsonb_build_object('command_id', %s::text, 'command_type', 'Do'))"
            " from generate_series(1, 3)",
            QUEUE,
            str(known),
        )
        async with world.working():
            await eventually(lambda: self._is_empty(world), timeout=PATIENCE)
            await eventually(lambda: delay or calls, timeout=PATIENCE)
        if delay:
            assert await world.status(known) is S.PENDING
        assert calls == ({} if delay else {known: 1})

    async def _is_empty(self, world: World) -> bool:
        return await ask(world.store.pool, f"select from pgmq.q_{QUEUE}") == []

    @pytest.mark.parametrize(
        "data",
        [
            '{"n": 1e400}',
            '{"n": 1' + "0" * 6000 + "}",
            '{"n": 0.1' + "0" * 2000 + "1}",
            '{"deep": ' + "[" * 1500 + "]" * 1500 + "}",
        ],
        ids=["1e400", "6000 digits", "2000 decimals", "1500 levels"],
    )
    async def test_a_payload_that_python_cannot_read_troubles_no_other_command(self, world: World, data: str) -> None:
        gate = Gate(world)
        gate.open.set()
        odd = uuid4()
        await run(
            world.store.pool,
            "select commandbus.send(jsonb_build_array(jsonb_build_object('domain', %s::text, 'command_type', 'Wait',"
            " 'command_id', %s::text, 'data', %s::jsonb)))",
            DOMAIN,
            str(odd),
            data,
        )
        ids = [await world.send("Wait", max_attempts=1) for _ in range(5)]
        async with world.working():
            await world.settled(*ids)

            async def is_settled() -> bool:
                ((status,),) = await ask(
                    world.store.pool, "select status from commandbus.command where command_id = %s", odd
                )
                return status in {"COMPLETED", "IN_TROUBLESHOOTING_QUEUE"}

            await eventually(is_settled, timeout=PATIENCE)
        assert {(await world.known(one)).status for one in ids} == {S.COMPLETED}

    async def test_a_message_with_an_odd_correlation_is_handled_all_the_same(self, world: World) -> None:
        gate = Gate(world)
        gate.open.set()
        ids = [await world.send("Wait", max_attempts=1) for _ in range(3)]
        await run(
            world.store.pool,
            f"update pgmq.q_{QUEUE} set message = message || jsonb_build_object('correlation_id', %s::jsonb)"
            " where message ->> 'command_id' = %s",
            '"not a uuid"',
            str(ids[1]),
        )
        async with world.working():
            await world.settled(*ids)
            found = [await world.known(one) for one in ids]

        assert [one.status for one in found] == [S.COMPLETED] * 3

    async def test_an_outcome_that_waits_for_a_lock_too_long_is_written_later(self, world: World, dsn: str) -> None:
        """A lock timeout is no fault of the command: the flush is repeated."""
        gate = Gate(world)
        options = {"kwargs": {"options": "-c lock_timeout=200ms"}}
        async with open_pool(dsn, **options) as impatient:
            other = World(PostgresCommandStore(impatient))
            other.registry = world.registry
            async with other.working() as worker:
                ids = [await world.send("Wait") for _ in range(3)]
                await eventually(lambda: worker.in_flight_count == 3, timeout=PATIENCE)
                async with world.store.pool.connection() as conn:
                    await conn.execute("select from commandbus.command where command_id = %s for update", [ids[1]])
                    gate.open.set()
                    await eventually(lambda: worker.in_flight_count == 0, timeout=PATIENCE)
                    refusals = await self._until_refused(world)
                done = await world.settled(*ids)
            await other.bus.close()

        assert refusals
        assert {(await world.known(one)).status for one in ids} == {S.COMPLETED}
        assert done.attempts == 1

    async def _until_refused(self, world: World) -> bool:
        """Wait until two different statements have waited for our lock."""
        seen = set()

        async def look() -> bool:
            rows = await ask(
                world.store.pool,
                "select pid, query_start from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
                " and query like '%commandbus.complete%'",
            )
            seen.update(rows)
            return len(seen) >= 2

        return await eventually(look, timeout=PATIENCE)
