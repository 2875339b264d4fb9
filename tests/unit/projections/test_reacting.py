"""Reactions in memory, and what is refused of them."""

from typing import Any
from uuid import uuid4

import pytest

from mainstay import (
    ConfigurationError,
    DuplicateCommandError,
    InMemoryEventStore,
    InvalidInputError,
    MemoryCommandStore,
    MemoryProjectionStore,
    Reaction,
    ReactionContext,
    SQLiteEventStore,
    SubscriptionManager,
    TenantScopeError,
    all_tenants,
    handles,
)
from mainstay.projections.reaction import Reactions
from tests.scenarios.reacting import DOMAIN, Paid, ReactingScenarios, Shipping


class TestInMemory(ReactingScenarios):
    @pytest.fixture
    async def checkpoints(self):
        return MemoryProjectionStore(commands=MemoryCommandStore())

    @pytest.fixture
    def event_store(self, checkpoints):
        return InMemoryEventStore()


async def test_without_commands_beside_its_checkpoint_a_reaction_cannot_be_subscribed(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match=r"MemoryProjectionStore\(commands="):
        await SubscriptionManager(InMemoryEventStore()).subscribe(Shipping())
    async with SQLiteEventStore(tmp_path / "events.db") as store:
        with pytest.raises(ConfigurationError, match="a SQLite file holds no commands"):
            await SubscriptionManager(store).subscribe(Shipping())


async def test_a_reaction_that_was_not_subscribed_says_so() -> None:
    with pytest.raises(ConfigurationError, match="subscribe it"):
        async with Shipping().batch(None, []):
            pass
    with pytest.raises(ConfigurationError, match=r"in a batch\(\)"):
        await Shipping().handle(Paid(aggregate_id="1"))


def context(**said: Any) -> ReactionContext:
    return ReactionContext(Paid(aggregate_id="1", **said))


class TestContext:
    """A method, called by a test."""

    async def test_a_method_can_be_called_without_a_subscription(self) -> None:
        ctx = context(actor_id="ann")
        await Shipping().paid(Paid(amount=3), ctx)

        assert [(each.command_type, each.data) for each in ctx.kept] == [
            ("Ship", b'{"amount":3}'),
            ("Tell", b'{"amount":3}'),
        ]
        assert ctx.conn is None

    async def test_what_makes_no_sense_is_refused(self) -> None:
        ctx = context(tenant_id="acme")
        await ctx.send(DOMAIN, "Tell", name="tell")

        with pytest.raises(DuplicateCommandError):
            await ctx.send(DOMAIN, "Tell", name="tell")
        with pytest.raises(InvalidInputError, match="not both"):
            await ctx.send(DOMAIN, "Tell", name="other", command_id=uuid4())
        with pytest.raises(InvalidInputError, match="unexpected keyword argument 'nothing'"):
            await ctx.send(DOMAIN, "Tell", nothing=1)  # type: ignore[call-overload]  # what a mistake looks like
        with pytest.raises(InvalidInputError):
            await ctx.send("Not A Domain", "Tell")

    async def test_a_method_that_is_in_its_events_scope_sends_for_others_outside_it(self) -> None:
        found: list[Any] = []

        class Telling(Reaction):
            name = "telling"

            @handles(Paid)
            async def paid(self, event: Paid, ctx: ReactionContext) -> None:
                with pytest.raises(TenantScopeError):
                    await ctx.send(DOMAIN, "Tell", tenant_id="globex")
                with all_tenants():
                    await ctx.send(DOMAIN, "Tell", tenant_id="globex")
                found.extend(ctx.kept)

        await Telling().handle(Paid(aggregate_id="1", tenant_id="acme"), Reactions("telling"))

        assert [b'"tenant_id":"globex"' in (each.headers or b"") for each in found] == [True]
