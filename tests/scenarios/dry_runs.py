"""Dry runs: what a command would do, and that nothing stays of it: a suite for every store."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay import (
    AggregateRepository,
    BusinessRuleException,
    Command,
    CommandNotFoundError,
    EventStore,
    HandlerContext,
    HandlerNotFoundError,
    InvalidInputError,
    InvalidOperationError,
    PermanentCommandError,
    Rehearsal,
    StreamName,
    TransientCommandError,
    tenant_scope,
)
from tests.scenarios.aggregates import Account, Basket, Deposit, Withdraw
from tests.scenarios.world import DOMAIN, World, WorldSuite

_ELSEWHERE = "elsewhere"


class DryRunScenarios(WorldSuite):
    """A dry run tells what a command would do, and nothing stays of it."""

    @pytest.fixture
    def event_store(self, store: Any) -> EventStore:
        raise NotImplementedError

    def rehearsal(self, world: World, event_store: EventStore) -> Rehearsal:
        return Rehearsal(world.store, world.registry, event_store=event_store)

    async def handled(self, world: World, event_store: EventStore, command: Any) -> UUID:
        sent = await world.bus.send(command)
        async with world.working(event_store=event_store):
            await world.settled(sent.command_id)
        return sent.command_id

    async def test_a_decider_is_tried_on_a_new_command(self, world, event_store):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        account_id = uuid4()
        await self.handled(world, event_store, Deposit(account_id=account_id, amount=10))
        rehearsal = self.rehearsal(world, event_store)
        done = await rehearsal.dry_run(Withdraw(account_id=account_id, amount=4))
        refused = await rehearsal.dry_run(DOMAIN, "Withdraw", {"account_id": str(account_id), "amount": 11})

        assert (done.verb, done.reply, done.version_read) == ("COMPLETE", {"version": 2}, 1)
        assert done.stream == StreamName("Account", str(account_id))
        assert [(each.event_type, each.payload) for each in done.events] == [("HandledWithdrawn", {"amount": 4})]
        assert (refused.verb, refused.error_code, refused.events) == ("FAIL", "NOT_ENOUGH", ())
        assert refused.error_message == "there are 10 only"
        assert await AggregateRepository(event_store, Account).get_version(account_id) == 1
        assert len(await world.bus.query_commands()) == 1

    async def test_a_command_that_was_sent_is_tried_on_what_is_there_now(self, world, event_store):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        account_id = uuid4()
        done = await self.handled(world, event_store, Deposit(account_id=account_id, amount=10))
        waiting = (await world.bus.send(Withdraw(account_id=account_id, amount=4), delay=3600)).command_id
        rehearsal = self.rehearsal(world, event_store)
        again, first = [await rehearsal.dry_run_again(DOMAIN, each) for each in (done, waiting)]

        assert (again.command_id, again.version_read, again.reply) == (done, 1, {"version": 2})
        assert [each.event_type for each in first.events] == ["HandledWithdrawn"]
        assert (await world.known(waiting)).attempts == 0

    @pytest.mark.parametrize("kind", ["async", "plain"])
    async def test_a_handler_on_an_aggregate_is_tried_with_what_it_sends(self, world, event_store, kind):
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> dict[str, Any]:
            basket.fill(command.data["item"])
            context.progress(1, 2)
            await context.extend_visibility(30)
            first = await context.send(DOMAIN, "Next", {"n": 1})
            await context.send(_ELSEWHERE, "Far", {"n": 2}, command_id=first.command_id, delay=60)
            return {"items": basket.version}

        def plain(basket: Basket, command: Command, context: Any) -> dict[str, Any]:
            basket.fill(command.data["item"])
            first = context.send(DOMAIN, "Next", {"n": 1})
            context.send(_ELSEWHERE, "Far", {"n": 2}, command_id=first.command_id, delay=60)
            return {"items": basket.version}

        function = fill if kind == "async" else plain
        world.registry.register(DOMAIN, "Fill", function, aggregate=Basket, stream="basket_id")
        rehearsal, command_id = self.rehearsal(world, event_store), uuid4()
        runs = [
            await rehearsal.dry_run(DOMAIN, "Fill", {"basket_id": "b", "item": "tea"}, command_id=command_id)
            for _ in range(2)
        ]

        assert runs[0] == runs[1]
        assert (runs[0].verb, runs[0].reply, runs[0].version_read) == ("COMPLETE", {"items": 1}, 0)
        assert [each.payload for each in runs[0].events] == [{"item": "tea"}]
        assert [(each.domain, each.command_type, each.data) for each in runs[0].sends] == [
            (DOMAIN, "Next", {"n": 1}),
            (_ELSEWHERE, "Far", {"n": 2}),
        ]
        assert {each.is_known for each in runs[0].sends} == {False}
        assert await world.bus.query_commands() == []

    async def test_what_would_be_sent_and_is_known_says_so(self, world, event_store):
        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            basket.fill("tea")
            await context.send(DOMAIN, "Next", {})

        world.registry.register(DOMAIN, "Next", lambda command, context: None)
        command_id = await world.send("Fill", {"basket_id": "b"})
        async with world.working(event_store=event_store):
            await world.settled(command_id)
        found = await self.rehearsal(world, event_store).dry_run_again(DOMAIN, command_id)

        assert [each.is_known for each in found.sends] == [True]

    @pytest.mark.parametrize(
        ("error", "verb", "code"),
        [
            (BusinessRuleException("NO", "no"), "FAIL", "NO"),
            (TransientCommandError("BUSY", "busy"), "RETRY", "BUSY"),
            (PermanentCommandError("BAD", "bad"), "TROUBLESHOOT", "BAD"),
            (KeyError("x"), "RETRY", "KeyError"),
        ],
    )
    async def test_what_a_handler_raises_is_told_and_nothing_else(self, world, event_store, error, verb, code):
        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            basket.fill("tea")
            await context.send(DOMAIN, "Next", {})
            raise error

        found = await self.rehearsal(world, event_store).dry_run(DOMAIN, "Fill", {"basket_id": "b"})

        assert (found.verb, found.error_code, found.events, found.sends) == (verb, code, (), ())
        assert found.stream == StreamName("HandledBasket", "b")

    async def test_a_payload_that_does_not_fit_is_told(self, world, event_store, caplog):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        found = await self.rehearsal(world, event_store).dry_run(DOMAIN, "Deposit", {"account_id": "x"})

        assert (found.verb, found.error_code) == ("TROUBLESHOOT", "INVALID_PAYLOAD")
        assert "an operator must decide" not in caplog.text, "nothing was parked"

    async def test_a_handler_that_takes_too_long_is_told(self, world, event_store):
        @world.handles(DOMAIN, "Do", transactional=True, timeout=0.01)
        async def do(command: Command, context: HandlerContext) -> None:
            await context.send(DOMAIN, "Next", {})
            await eternity()

        found = await self.rehearsal(world, event_store).dry_run(DOMAIN, "Do", {})

        assert (found.verb, found.error_code) == ("RETRY", "TIMEOUT")

    async def test_a_command_is_tried_in_the_name_in_which_it_would_be_handled(self, world, event_store):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        account_id = uuid4()
        with tenant_scope("blue"):
            await self.handled(world, event_store, Deposit(account_id=account_id, amount=10))
            blue = await self.rehearsal(world, event_store).dry_run(Deposit(account_id=account_id, amount=1))
        nobodys = await self.rehearsal(world, event_store).dry_run(Deposit(account_id=account_id, amount=1))

        assert (blue.version_read, blue.stream) == (1, StreamName("Account", str(account_id), "blue"))
        assert (nobodys.version_read, nobodys.stream) == (0, StreamName("Account", str(account_id)))

    async def test_what_cannot_be_tried_is_refused(self, world, event_store):
        called = []
        world.registry.register(DOMAIN, "Plain", lambda command, context: called.append(command))
        rehearsal = self.rehearsal(world, event_store)

        with pytest.raises(InvalidOperationError, match="register it with transactional=True, or with aggregate="):
            await rehearsal.dry_run(DOMAIN, "Plain", {})
        with pytest.raises(HandlerNotFoundError):
            await rehearsal.dry_run(DOMAIN, "Nobody", {})
        with pytest.raises(CommandNotFoundError):
            await rehearsal.dry_run_again(DOMAIN, uuid4())
        with pytest.raises(InvalidInputError):
            await rehearsal.dry_run(DOMAIN, "Plain", [1])
        with pytest.raises(InvalidInputError):
            await rehearsal.dry_run(DOMAIN, "Plain", {}, priority=99)
        assert called == []


async def eternity() -> None:
    """Longer than anybody waits."""
    await asyncio.Event().wait()
