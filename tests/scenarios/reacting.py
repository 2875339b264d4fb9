"""Subscriptions that send commands: a suite for every place where commands and checkpoints are together."""

from typing import Any
from uuid import uuid4

import pytest

from mainstay import (
    CommandModel,
    DomainEvent,
    Reaction,
    ReactionContext,
    RetryPolicy,
    StreamId,
    SubscriptionConfig,
    SubscriptionManager,
    current_actor,
    current_tenant,
    handles,
)
from mainstay.commands.store import CommandFilter
from mainstay.projections.reaction import reaction_id
from mainstay.projections.store import Checkpoint, ShardStatus
from tests.support.waiting import eventually

DOMAIN = "shipping"
PATIENCE = 40.0
AT_ONCE = RetryPolicy(max_attempts=2, backoff_schedule=[0.0])
QUICK = SubscriptionConfig(poll=0.02, lease=2.0, retry_policy=AT_ONCE)


class Paid(DomainEvent, aggregate_type="ReactedOrder", event_type="ReactedOrderPaid"):
    amount: int = 1


class Ship(CommandModel, domain=DOMAIN):
    amount: int


class Shipping(Reaction):
    """Ships what was paid, and tells about it; what its class says changes between tests."""

    name = "shipping"
    refused: int | None = None
    options: dict[str, Any]
    also = False

    def __init__(self) -> None:
        self.options = {}
        self.seen: list[Any] = []

    @handles(Paid)
    async def paid(self, event: Paid, ctx: ReactionContext) -> None:
        self.seen.append((event.amount, current_tenant(), current_actor()))
        await ctx.send(Ship(amount=event.amount), **self.options)
        await ctx.send(DOMAIN, "Tell", {"amount": event.amount}, name="tell")
        if self.also:
            await ctx.send(DOMAIN, "Also", {"amount": event.amount}, name="also")
        if event.amount == self.refused:
            raise ValueError("not this one")


class ReactingScenarios:
    """What a subscription sends is committed with its checkpoint, once."""

    # -- given by subclasses: event_store, checkpoints, commands -------------------------------------------------------
    @pytest.fixture
    def event_store(self, checkpoints):
        raise NotImplementedError

    @pytest.fixture
    async def checkpoints(self):
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    async def sound(self, checkpoints):
        yield
        assert (await checkpoints.commands.fsck()).findings == ()

    # -- words ---------------------------------------------------------------------------------------------------------
    async def pay(self, event_store, *amounts: int, stream: str = "1", tenant: Any = None, **said: Any) -> list[Paid]:
        events = [Paid(amount=amount, **said) for amount in amounts]
        await event_store.append(StreamId("ReactedOrder", stream, tenant), events)
        return events

    async def react(self, event_store, checkpoints, reaction: Reaction, config: SubscriptionConfig = QUICK) -> Any:
        """React to everything that there is."""
        manager = SubscriptionManager(event_store, checkpoints)
        await manager.subscribe(reaction, config)
        await manager.start()
        await manager.drain(PATIENCE)
        return manager

    async def sent(self, checkpoints, command_type: str | None = "Ship") -> list[Any]:
        found = await checkpoints.commands.query(CommandFilter(command_type=command_type), limit=10_000, offset=0)
        return sorted(found, key=lambda each: each.data["amount"])

    async def stops(self, event_store, checkpoints, reaction: Reaction) -> str:
        """Run until the subscription stops; why."""
        manager = SubscriptionManager(event_store, checkpoints)
        await manager.subscribe(reaction, QUICK)
        async with manager:

            async def has_stopped() -> bool:
                return (await checkpoints.states("shipping"))[0].status is ShardStatus.STOPPED

            await eventually(has_stopped, timeout=PATIENCE)
        return (await checkpoints.states("shipping"))[0].reason or ""

    # -- what is sent --------------------------------------------------------------------------------------------------
    async def test_what_is_sent_follows_from_its_event(self, event_store, checkpoints):
        correlation_id = uuid4()
        (theirs,) = await self.pay(
            event_store, 1, tenant="acme", correlation_id=correlation_id, actor_id="ann", causation_id=uuid4()
        )
        (ours,) = await self.pay(event_store, 2)
        reaction = Shipping()
        await self.react(event_store, checkpoints, reaction)
        first, second = await self.sent(checkpoints)

        assert [first.command_id, second.command_id] == [
            reaction_id("shipping", event.event_id, "#1") for event in (theirs, ours)
        ]
        assert [each.causation_id for each in (first, second)] == [theirs.event_id, ours.event_id]
        assert (first.correlation_id, first.tenant_id, first.actor_id) == (correlation_id, "acme", "ann")
        assert (second.correlation_id, second.tenant_id, second.actor_id) == (ours.event_id, None, None)
        assert reaction.seen == [(1, "acme", "ann"), (2, None, None)]
        assert current_tenant() is None

    @pytest.mark.parametrize("shards", [1, 4])
    async def test_many_events_send_once_each_from_however_many_shards(self, event_store, checkpoints, shards):
        for stream in range(6):
            await self.pay(event_store, *range(stream * 10, stream * 10 + 10), stream=str(stream))
        config = SubscriptionConfig(poll=0.02, lease=2.0, shards=shards, batch_size=7)
        await self.react(event_store, checkpoints, Shipping(), config)

        for command_type in ("Ship", "Tell"):
            assert [each.data["amount"] for each in await self.sent(checkpoints, command_type)] == list(range(60))

    async def test_everything_that_a_send_may_say_is_said(self, event_store, checkpoints):
        await self.pay(event_store, 1, 2, tenant="acme", actor_id="ann")
        reaction = Shipping()
        reaction.options = {
            "key": "k", "priority": 3, "max_attempts": 7, "headers": {"x": 1}, "actor_id": "deputy",
        }  # fmt: skip
        await self.react(event_store, checkpoints, reaction)
        found, _ = await self.sent(checkpoints)

        assert (found.key, found.priority, found.max_attempts, found.headers["x"]) == ("k", 3, 7, 1)
        assert (found.tenant_id, found.actor_id) == ("acme", "deputy")

    # -- once ----------------------------------------------------------------------------------------------------------
    async def test_a_subscription_that_begins_again_sends_what_is_new_and_nothing_twice(self, event_store, checkpoints):
        events = await self.pay(event_store, *range(5))
        await self.react(event_store, checkpoints, Shipping())
        before = await self.sent(checkpoints, None)
        await checkpoints.reset("shipping", Checkpoint(), actor="ann")
        again = Shipping()
        again.also = True
        await self.react(event_store, checkpoints, again)
        after = await self.sent(checkpoints, None)

        assert len(again.seen) == 5
        assert {each.command_id for each in after} - {each.command_id for each in before} == {
            reaction_id("shipping", event.event_id, "also") for event in events
        }
        assert len(after) == len(before) + 5 == 15

    async def test_an_id_of_your_own_is_sent_once_as_well(self, event_store, checkpoints):
        await self.pay(event_store, 1, 2)
        reaction = Shipping()
        reaction.options = {"command_id": uuid4()}
        await self.react(event_store, checkpoints, reaction)
        await checkpoints.reset("shipping", Checkpoint(), actor="ann")
        await self.react(event_store, checkpoints, reaction)

        assert [each.data for each in await self.sent(checkpoints)] == [{"amount": 1}]

    async def test_an_event_that_fails_has_sent_nothing_and_the_others_once(self, event_store, checkpoints):
        await self.pay(event_store, 1, 2, 3)
        reaction = Shipping()
        reaction.refused = 2
        reason = await self.stops(event_store, checkpoints, reaction)
        before = [each.data["amount"] for each in await self.sent(checkpoints)]
        await checkpoints.resume("shipping", actor="ann")
        await self.react(event_store, checkpoints, Shipping())

        assert "not this one" in reason
        assert before == [1]
        assert [each.data["amount"] for each in await self.sent(checkpoints)] == [1, 2, 3]
        assert len(await self.sent(checkpoints, "Tell")) == 3

    async def test_a_dead_letter_sends_when_it_is_replayed(self, event_store, checkpoints):
        await self.pay(event_store, 1, 2, 3, tenant="acme", actor_id="ann")
        reaction = Shipping()
        reaction.on_error, reaction.refused = "dead_letter", 1
        manager = await self.react(event_store, checkpoints, reaction)
        before = await self.sent(checkpoints)
        reaction.refused = None
        replayed = await manager.replay("shipping", actor="ann")
        found = await self.sent(checkpoints)

        assert (before, replayed.handled) == ([], 3)
        assert [each.data["amount"] for each in found] == [1, 2, 3]
        assert {(each.tenant_id, each.actor_id) for each in found} == {("acme", "ann")}

    # -- refused -------------------------------------------------------------------------------------------------------
    async def test_a_send_that_is_refused_fails_the_event_that_wanted_it(self, event_store, checkpoints):
        await self.pay(event_store, 1, 2, 3)

        class Asking(Shipping):
            name = "shipping"

            @handles(Paid)
            async def paid(self, event: Paid, ctx: ReactionContext) -> None:
                self.options = {"reply_to": "nowhere"} if event.amount == 2 else {}
                await super().paid(event, ctx)

        reason = await self.stops(event_store, checkpoints, Asking())

        assert "nowhere" in reason
        assert "position" in reason
        assert [each.data["amount"] for each in await self.sent(checkpoints)] == [1]

    async def test_a_unique_key_that_is_held_is_passed_by_if_told_so(self, event_store, checkpoints):
        await self.pay(event_store, 1, 2)
        reaction = Shipping()
        reaction.options = {"unique_key": "one", "on_conflict": "skip"}
        await self.react(event_store, checkpoints, reaction)

        assert [each.data["amount"] for each in await self.sent(checkpoints)] == [1]
        assert len(await self.sent(checkpoints, "Tell")) == 2
