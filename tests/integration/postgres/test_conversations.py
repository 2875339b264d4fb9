"""Conversations on PostgreSQL: what was pruned, and ids that are derived."""

import pytest

from mainstay import Command, HandlerContext, Mainstay, PostgreSQLEventStore
from mainstay.conversations import Conversation, Conversations
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.scenarios.conversations import ConversationScenarios, outline
from tests.scenarios.postgres import OnPostgres, run
from tests.scenarios.world import DOMAIN, World


class TestOnPostgres(OnPostgres, ConversationScenarios):
    @pytest.fixture
    def event_store(self, pool):
        return PostgreSQLEventStore(pool)

    async def test_an_application_asks_in_one_line(self, world: World, dsn) -> None:
        command_id = await world.send("Do")
        async with Mainstay.connect(dsn) as app:
            found = await app.trace(command_id)

        assert isinstance(found, Conversation)
        assert [step.id for step in found.steps] == [command_id]


async def test_what_was_pruned_is_marked_and_found_by_derived_ids(pool) -> None:
    world = World(PostgresCommandStore(pool))
    conversations = Conversations(world.store, PostgreSQLEventStore(pool).log)

    @world.handles(DOMAIN, "First")
    async def first(command: Command, context: HandlerContext) -> None:
        await context.send(DOMAIN, "Next", {})
        await context.send(DOMAIN, "Last", {}, name="by name")

    for each in ("Next", "Last", "Reply"):
        world.registry.register(DOMAIN, each, lambda command, context: None)
    await world.store.ensure_queue(DOMAIN)
    command_id = await world.send("First", reply_to=f"{DOMAIN}__commands")
    async with world.working():
        await world.settled(command_id)
        await world.settled(*(each.command_id for each in await world.bus.query_commands(domain=DOMAIN)))
    before = await conversations.find(command_id)
    await run(pool, "select commandbus.prune(now() + '1 s', now() + '1 s', false, '-infinity', gen_random_uuid(), 100)")

    after = await conversations.find(command_id)
    await world.bus.close()

    assert sorted(outline(before)) == ["  Last", "  Next", "  Reply", "First"]
    assert sorted(outline(after)) == ["  Next", "  Reply", "First", "Last"], "a name cannot be guessed"
    assert all(step.is_pruned and step.waited is None for step in after.steps)
