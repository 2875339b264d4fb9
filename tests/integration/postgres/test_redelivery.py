"""Redelivery on PostgreSQL: also of what was pruned, and of messages that are in the queue again, however."""

from datetime import timedelta
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from mainstay import DuplicateCommandError, PostgreSQLEventStore
from mainstay.storage.postgres.retention import Retention, prune
from tests.scenarios.aggregates import Deposit, Withdraw
from tests.scenarios.postgres import OnPostgres, ask, run
from tests.scenarios.redelivery import RedeliveryScenarios
from tests.scenarios.world import DOMAIN, PATIENCE, REPLIES
from tests.support.waiting import eventually


def message(command_id, reply_to=None, **changes):
    """A message as it stood in the queue."""
    content = {"domain": DOMAIN, "command_type": "Deposit", "command_id": str(command_id)}
    content |= {"data": {"account_id": str(uuid4()), "amount": 10}}
    return Jsonb(content | ({} if reply_to is None else {"reply_to": reply_to}) | changes)


class TestOnPostgres(OnPostgres, RedeliveryScenarios):
    @pytest.fixture
    def event_store(self, pool):
        return PostgreSQLEventStore(pool)

    async def put(self, pool, *messages):
        for each in messages:
            await run(pool, "select pgmq.send(%s, %s)", f"{DOMAIN}__commands", each)

    async def worked_off(self, world, pool, event_store):
        """Work until nothing is in the queue."""

        async def is_empty():
            return await ask(pool, f"select count(*) from pgmq.q_{DOMAIN}__commands") == [(0,)]

        async with world.working(event_store=event_store):
            await eventually(is_empty)

    @pytest.mark.parametrize("is_pruned", [False, True])
    async def test_a_message_of_a_command_that_has_ended_is_answered_with_the_stored_reply(
        self, world, event_store, refused, is_pruned
    ):
        pool, deposit = world.store.pool, (await world.bus.list_decisions())[0].command_id
        if is_pruned:
            await prune(pool, Retention(timedelta(0), audit=timedelta(days=1)))
        await self.put(pool, message(deposit, REPLIES), message(deposit), message(refused, REPLIES))
        await self.worked_off(world, pool, event_store)
        answers = await self.replies(world.store, REPLIES)

        assert [(each["command_id"], each["outcome"]) for each in answers] == [
            (str(deposit), "SUCCESS"),
            (str(refused), "FAILED"),
        ]
        assert (answers[0]["data"]["version"], answers[1]["error_code"]) == (1, "NOT_ENOUGH")
        await self.is_as_before(world, event_store, deposit, refused)

    @pytest.mark.parametrize(
        "reply_to", ["no_such_queue", "", 'it\'s "quoted"; drop', "x" * 500, 7, {"a": 1}, "ORDERS__commands"]
    )
    async def test_a_reply_queue_that_is_none_stops_nobody(self, world, event_store, pool, deposit, reply_to):
        await self.put(pool, message(deposit, reply_to))
        await self.worked_off(world, pool, event_store)

        assert (await world.status(deposit)).value == "COMPLETED"

    async def test_a_message_of_a_command_that_has_not_ended_is_answered_by_its_end_only(
        self, world, event_store, pool, deposit
    ):
        waiting = await world.send("Nobody", delay=3600, reply_to=REPLIES)
        await self.put(pool, message(waiting, REPLIES))
        await self.worked_off(world, pool, event_store)

        assert await self.replies(world.store, REPLIES) == []

    async def test_who_asks_after_pruning_gets_the_stored_reply(self, world, event_store, pool, deposit, refused):
        await prune(pool, Retention(timedelta(0), audit=timedelta(days=1)))
        account_id = self.account_id
        done = await world.bus.request(
            Deposit(account_id=account_id, amount=10), command_id=deposit, idempotent=True, timeout=PATIENCE
        )
        failed = await world.bus.wait_for(DOMAIN, refused, timeout=0)
        await world.bus.send(
            Withdraw(account_id=account_id, amount=11), command_id=refused, idempotent=True, reply_to=REPLIES
        )
        with pytest.raises(DuplicateCommandError):
            await world.bus.send(Withdraw(account_id=account_id, amount=11), command_id=deposit, idempotent=True)
        (answer,) = await self.replies(world.store, REPLIES)

        assert (done.data["version"], failed.error_code, answer["error_code"]) == (1, "NOT_ENOUGH", "NOT_ENOUGH")
        await self.is_as_before(world, event_store, deposit, refused)
