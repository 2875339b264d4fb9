"""Handlers on aggregates on PostgreSQL: command, events, next command, reply and audit are one COMMIT."""

from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay import (
    AggregateRepository,
    Command,
    ConfigurationError,
    ExpectedVersion,
    HandlerContext,
    HandlerRegistry,
    InMemoryEventStore,
    MemoryCommandStore,
    PostgreSQLEventStore,
    StreamId,
    Worker,
)
from mainstay.testing.certifier import IdempotencyCertifier
from tests.scenarios.aggregates import Account, AggregateScenarios, Basket, Deposit, Deposited
from tests.scenarios.postgres import OnPostgres, ask
from tests.scenarios.world import DOMAIN, World

ACCOUNT = UUID("00000000-0000-4000-8000-000000000001")
COMMANDS, WORKERS, SLOTS = 100, 3, 4


class TestOnPostgres(OnPostgres, AggregateScenarios):
    @pytest.fixture
    def event_store(self, pool):
        return PostgreSQLEventStore(pool)

    async def test_a_worker_with_a_pool_needs_to_be_told_nothing(self, world: World, event_store):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        deposit = await world.bus.send(Deposit(account_id=ACCOUNT, amount=10))

        async with world.working():
            found = await world.settled(deposit.command_id)

        assert found.result["version"] == 1

    async def test_workers_who_want_one_stream_wait_for_their_turn_and_seldom_decide_in_vain(
        self, world: World, event_store, monkeypatch
    ):
        decided: list[int] = []
        decide = Account.decide
        monkeypatch.setattr(Account, "decide", staticmethod(lambda *asked: decided.append(1) or decide(*asked)))
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        sent = [await world.bus.send(Deposit(account_id=ACCOUNT, amount=1)) for _ in range(COMMANDS)]

        async with AsyncExitStack() as stack:
            for _ in range(WORKERS):
                worker = self.worker(world, event_store, group_commit=False)
                await stack.enter_async_context(world.working(worker, concurrency=SLOTS))
            await world.settled(*(each.command_id for each in sent))
        known = [await world.known(each.command_id) for each in sent]

        assert {each.attempts for each in known} == {1}
        assert sorted(each.result["version"] for each in known) == list(range(1, COMMANDS + 1))
        assert len(decided) <= COMMANDS + 2 * WORKERS * SLOTS

    async def test_a_stream_that_others_hold_for_long_is_waited_for_no_longer_than_a_second(self, event_store):
        stream = StreamId("Account", ACCOUNT)
        await event_store.append(stream, [Deposited(amount=1)], expected=ExpectedVersion.no_stream())

        async with event_store.transaction() as mine, event_store.transaction() as other:
            assert await event_store.hold(stream, conn=mine)
            assert not await event_store.hold(stream, conn=other)

    async def test_what_else_a_handler_appends_is_in_the_same_commit(self, world, event_store, baskets, pool):
        other = uuid4()

        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            basket.fill("tea")
            mine = await baskets.load_or_create(other, conn=context.conn)
            mine.fill("milk")
            await baskets.save(mine, conn=context.conn)

        basket_id = uuid4()
        await self.done(world, event_store, await world.send("Fill", {"basket_id": basket_id}))

        made = await ask(pool, "select count(distinct xmin::text), count(*) from eventsource.event")
        assert made == [(1, 2)]

    async def test_what_a_handler_appends_on_its_connection_is_in_the_reply_whoever_appends_it(
        self, world, event_store, baskets, pool
    ):
        @world.handles(DOMAIN, "Save", transactional=True)
        async def save(command: Command, context: HandlerContext) -> None:
            mine = await baskets.load_or_create(uuid4(), conn=context.conn)
            mine.fill("milk")
            await baskets.save(mine, conn=context.conn)

        @world.handles(DOMAIN, "Call", transactional=True)
        async def call(command: Command, context: HandlerContext) -> None:
            await context.conn.execute(
                "select eventsource.append_one('HandledBasket', '', gen_random_uuid()::text, 0, gen_random_uuid(), "
                "'HandledBasketFilled', '{\"item\": \"tea\"}', now(), 1, null, null, null, null)"
            )

        @world.handles(DOMAIN, "TakeBack", transactional=True)
        async def take_back(command: Command, context: HandlerContext) -> None:
            with suppress(ZeroDivisionError):
                async with context.conn.transaction():
                    await call(command, context)
                    raise ZeroDivisionError

        async with world.working(self.worker(world, event_store)):
            replies = [
                await world.bus.request(DOMAIN, each, None, {}, timeout=20) for each in ("Save", "Call", "TakeBack")
            ]

        events = [each.position async for each in event_store.read_all()]
        assert [each.position for each in replies] == [*events, None]
        assert len(events) == 2

    async def test_events_completion_reply_and_audit_are_of_one_transaction(self, world, event_store, pool):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        deposit = await world.bus.send(Deposit(account_id=ACCOUNT, amount=10))
        await self.done(world, event_store, deposit.command_id)

        (transactions,) = await ask(
            pool,
            """
            select e.xmin = c.xmin, e.xmin = a.xmin
            from eventsource.event as e
            join commandbus.command as c on c.command_id = e.causation_id
            join commandbus.audit as a on a.subject_no = c.subject_no and a.event_type = 'COMPLETED'
            """,
        )
        assert transactions == (True, True)


# -- crashes ---------------------------------------------------------------------------------------------------------
def registry_of(pool: Any) -> HandlerRegistry:
    registry = HandlerRegistry()

    @registry.handler(Deposit, aggregate=Account)
    async def deposit(account: Account, command: Command[Deposit], context: HandlerContext) -> None:
        account.execute(command.data)
        await context.send(DOMAIN, "Next", {"amount": command.data.amount})

    return registry


def naive_registry_of(pool: Any) -> HandlerRegistry:
    """The way without: events in a transaction of their own."""
    registry = HandlerRegistry()
    repository = AggregateRepository(PostgreSQLEventStore(pool), Account)

    @registry.handler(Deposit)
    async def deposit(command: Command[Deposit], context: HandlerContext) -> None:
        await repository.execute(command.data.account_id, command.data)

    return registry


async def what_is_there(conn: Any) -> Any:
    events = await (await conn.execute("select version, payload from eventsource.event order by 1")).fetchall()
    sent = await (
        await conn.execute("select command_id, data from commandbus.command where command_type = 'Next'")
    ).fetchall()
    decided = await (
        await conn.execute(
            "select command_id, version_read, events, sent_ids, handler_version from commandbus.decision order by 1"
        )
    ).fetchall()
    return {"events": events, "sent": sent, "decided": decided}


async def certified(dsn: str, make: Callable[[Any], HandlerRegistry]) -> Any:
    certifier = IdempotencyCertifier(dsn, state=what_is_there)
    found = await certifier.certify(make, DOMAIN, "Deposit", {"account_id": str(ACCOUNT), "amount": 10})
    print(found)
    return found


async def test_a_crash_at_any_statement_leaves_all_of_it_or_nothing(dsn: str) -> None:
    found = await certified(dsn, registry_of)

    assert found.passed
    assert len(found.boundaries) >= 4


async def test_events_in_a_transaction_of_their_own_are_appended_twice(dsn: str) -> None:
    """The control: this is what the test before this one would see."""
    assert not (await certified(dsn, naive_registry_of)).passed


# -- what cannot be one COMMIT -----------------------------------------------------------------------------------------
async def test_events_elsewhere_than_the_commands_are_refused(pool: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be in the database of the commands"):
        Worker(pool, DOMAIN, event_store=InMemoryEventStore())
    with pytest.raises(ConfigurationError, match="must be in the database of the commands"):
        Worker(MemoryCommandStore(), DOMAIN, event_store=PostgreSQLEventStore(pool))
