"""The ledger of decisions, from the command to the entry: a suite for every store."""

from typing import Any
from uuid import uuid4

import pytest

from mainstay import (
    BusinessRuleException,
    Command,
    EventStore,
    Failure,
    HandlerContext,
    PermanentCommandError,
    ReplyOutcome,
    StreamId,
    TransientCommandError,
    Worker,
    tenant_scope,
)
from mainstay.commands.ledger import StreamName
from tests.scenarios.aggregates import Account, Basket, Deposit, Withdraw
from tests.scenarios.world import DOMAIN, World, WorldSuite


class DecisionScenarios(WorldSuite):
    """For each handled command: the version it read, events, next commands, reply, the handler's version."""

    @pytest.fixture
    def event_store(self, store: Any) -> EventStore:
        raise NotImplementedError

    def worker(self, world: World, event_store: EventStore, **options: Any) -> Worker:
        return world.worker(event_store=event_store, **options)

    async def done(self, world: World, event_store: EventStore, *commands: Any) -> Any:
        ids = [getattr(each, "command_id", each) for each in commands]
        async with world.working(self.worker(world, event_store), concurrency=8):
            return await world.settled(*ids)

    async def test_the_decision_of_a_decider_says_what_was_read_and_what_followed(self, world, event_store):
        world.registry.register_decider(domain=DOMAIN, decider=Account, version=3)
        account_id = uuid4()
        first = await world.bus.send(Deposit(account_id=account_id, amount=10))
        await self.done(world, event_store, first)
        second = await world.bus.send(Withdraw(account_id=account_id, amount=4))
        await self.done(world, event_store, second)
        refused = await world.bus.send(Withdraw(account_id=account_id, amount=7))
        await self.done(world, event_store, refused)
        found = [await world.bus.get_decision(DOMAIN, each.command_id) for each in (first, second, refused)]
        events = [each async for each in event_store.read_stream(StreamId("Account", account_id))]

        assert [(each.version_read, each.events, each.version) for each in found] == [(0, 1, 1), (1, 1, 2), (2, 0, 2)]
        assert {each.stream for each in found} == {StreamName("Account", str(account_id))}
        assert {each.handler for each in found} == {"tests.scenarios.aggregates.Account"}
        assert {each.handler_version for each in found} == {"3"}
        assert [each.event.causation_id for each in events] == [first.command_id, second.command_id]
        assert [each.reply.outcome for each in found] == [*[ReplyOutcome.SUCCESS] * 2, ReplyOutcome.FAILED]
        assert (found[0].reply.data["version"], found[2].reply.error_code) == (1, "NOT_ENOUGH")
        assert await world.bus.list_decisions(DOMAIN, stream=found[0].stream) == found

    async def test_the_decision_of_a_handler_names_its_next_commands_in_order(self, world, event_store):
        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> dict[str, Any]:
            basket.fill("tea")
            basket.fill("milk")
            await context.send(DOMAIN, "Next", {"n": 1})
            await context.send(DOMAIN, "Next", {"n": 2})
            return {"filled": True}

        world.registry.register(DOMAIN, "Next", lambda command, context: None)
        command_id = await world.send("Fill", {"basket_id": "b-1"})
        await self.done(world, event_store, command_id)
        found = await world.bus.get_decision(DOMAIN, command_id)
        sent = [await world.known(each) for _, each in found.sends]

        assert [each.data for each in sent] == [{"n": 1}, {"n": 2}]
        assert {domain for domain, _ in found.sends} == {DOMAIN}
        assert (found.events, found.handler_version, found.reply.data) == (2, "1", {"filled": True})
        assert found.handler.endswith("fill")
        assert await world.bus.get_decision(DOMAIN, sent[0].command_id) is None

    @pytest.mark.parametrize("how", ["return", "raise"])
    async def test_a_refusal_is_a_decision_that_appended_and_sent_nothing(self, world, event_store, how):
        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id", version="2026-11")
        def fill(basket: Basket, command: Command, context: Any) -> Failure:
            basket.fill("tea")
            context.send(DOMAIN, "Next", {})
            if how == "raise":
                raise BusinessRuleException("NO", "not today")
            return Failure("NO", "not today")

        command_id = await world.send("Fill", {"basket_id": "b-1"})
        await self.done(world, event_store, command_id)
        found = await world.bus.get_decision(DOMAIN, command_id)

        assert (found.version_read, found.events, found.sends) == (0, 0, ())
        assert (found.handler_version, found.reply.error_code) == ("2026-11", "NO")

    async def test_who_was_overtaken_has_the_decision_that_counted(self, world, event_store):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        account_id = uuid4()
        sent = [await world.bus.send(Deposit(account_id=account_id, amount=n)) for n in range(1, 21)]
        await self.done(world, event_store, *sent)
        found = await world.bus.list_decisions(DOMAIN)

        assert sorted(each.version_read for each in found) == list(range(20))
        assert {each.command_id for each in found} == {each.command_id for each in sent}

    async def test_an_attempt_that_failed_is_no_decision(self, world, event_store):
        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            basket.fill("tea")
            if command.data["fails"]:
                raise PermanentCommandError("BAD", "no")
            if context.attempt == 1:
                raise TransientCommandError("BUSY", "try again")

        done, broken = [await world.send("Fill", {"basket_id": "b-1", "fails": fails}) for fails in (False, True)]
        await self.done(world, event_store, done, broken)

        assert [each.command_id for each in await world.bus.list_decisions()] == [done]

    async def test_a_handler_without_an_aggregate_decides_nothing_here(self, world, event_store):
        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command: Command, context: HandlerContext) -> None:
            if command.data["fails"]:
                raise BusinessRuleException("NO", "no")

        ids = [await world.send("Do", {"fails": fails}) for fails in (True, False)]
        await self.done(world, event_store, *ids)

        assert await world.bus.list_decisions() == []

    async def test_the_tenant_of_the_stream_is_part_of_the_decision(self, world, event_store):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        account_id = uuid4()
        with tenant_scope("blue"):
            sent = await world.bus.send(Deposit(account_id=account_id, amount=10))
            await self.done(world, event_store, sent)
        found = await world.bus.get_decision(DOMAIN, sent.command_id)

        assert found.stream == StreamName("Account", str(account_id), "blue")
        assert await world.bus.list_decisions(stream=found.stream) == [found]
        assert await world.bus.list_decisions(stream=StreamName("Account", str(account_id))) == []
