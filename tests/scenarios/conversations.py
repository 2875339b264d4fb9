"""Conversations, from the commands and events of real workers to the tree: a suite for every store."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay import (
    BatchCommand,
    Command,
    ConversationNotFoundError,
    DeclarativeAggregate,
    DomainEvent,
    EventStore,
    HandlerContext,
    InvalidInputError,
    StreamId,
    SubscriptionManager,
    handles,
)
from mainstay.conversations import Conversation, Conversations, Kind
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.projections.projection import Projection
from tests.scenarios.processes import Buy, ProcessSuite, Purchase
from tests.scenarios.world import DOMAIN, PATIENCE, World

SHIPPING = "shipping"


class ParcelPacked(DomainEvent, event_type="TracedParcelPacked"):
    item: str


class ParcelSent(DomainEvent, event_type="TracedParcelSent"):
    item: str


class Parcel(DeclarativeAggregate[str]):
    aggregate_type = "TracedParcel"

    def pack(self, item: str) -> None:
        self.raise_event(ParcelPacked, item=item)

    @handles(ParcelPacked)
    def _packed(self, event: ParcelPacked) -> None:
        self._state = event.item


class Telling(Projection):
    """A subscription that sends a command for each parcel that was sent."""

    name = "telling"

    def __init__(self, world: World) -> None:
        self._world = world

    def wanted(self, source: Any) -> Any:
        return source.filter(types=[ParcelSent])

    async def handle(self, envelope: Any, conn: Any) -> None:
        await self._world.bus.send(DOMAIN, "Tell", uuid4(), {})


def outline(found: Conversation) -> list[str]:
    """A line for each step, indented."""
    return [f"{'  ' * step.depth}{step.name or step.kind.value}" for step in found.steps]


class ConversationScenarios(ProcessSuite):
    """From any command, event or reply the whole tree of causes and effects."""

    @pytest.fixture
    def event_store(self, store: Any) -> EventStore:
        raise NotImplementedError

    @pytest.fixture
    def conversations(self, store: Any, event_store: EventStore) -> Conversations:
        return Conversations(store, event_store.log)

    @pytest.fixture
    async def ordered(self, world: World, event_store: EventStore) -> UUID:
        """A command that packed a parcel, whose next command sent it, which a subscription told of."""

        @world.handles(DOMAIN, "Pack", aggregate=Parcel, stream="parcel_id")
        async def pack(parcel: Parcel, command: Command, context: HandlerContext) -> None:
            parcel.pack("tea")
            await context.send(
                SHIPPING, "Ship", {"parcel_id": command.data["parcel_id"]}, reply_to=f"{DOMAIN}__commands"
            )

        @world.handles(SHIPPING, "Ship")
        async def ship(command: Command, context: HandlerContext) -> None:
            stream = StreamId("TracedShipment", command.data["parcel_id"])
            await event_store.append(stream, [ParcelSent(item="tea")])

        world.registry.register(DOMAIN, "Reply", lambda command, context: None)
        world.registry.register(DOMAIN, "Tell", lambda command, context: None)
        await world.store.ensure_queue(SHIPPING)
        command_id = await world.send("Pack", {"parcel_id": str(uuid4())})
        subscriptions = SubscriptionManager(event_store)
        await subscriptions.subscribe(Telling(world))
        async with subscriptions, world.working(event_store=event_store):
            await world.settled(command_id)
            async with world.working(world.worker(SHIPPING, event_store=event_store)):
                last = (await event_store.horizon()).position
                while last < 2:
                    last = await event_store.log.wait_beyond(last, timeout=PATIENCE)
                await subscriptions.wait_until(last, timeout=PATIENCE)
                (shipped,) = await world.bus.query_commands(domain=SHIPPING)
                await world.settled(shipped.command_id, domain=SHIPPING)
            mine = await world.bus.query_commands(domain=DOMAIN)
            await world.settled(*(each.command_id for each in mine))
        return command_id

    async def test_everything_leads_to_the_whole_tree(self, world, conversations, ordered) -> None:
        found = await conversations.find(ordered)

        assert outline(found) == [
            "Pack",
            "  TracedParcelPacked",
            "  Ship",
            "    TracedParcelSent",
            "      Tell",
            "    Reply",
        ] or outline(found) == [
            "Pack",
            "  Ship",
            "    TracedParcelSent",
            "      Tell",
            "    Reply",
            "  TracedParcelPacked",
        ]
        assert (found.count(Kind.COMMAND), found.count(Kind.EVENT), found.more) == (4, 2, False)
        for step in found.steps:
            again = await conversations.find(str(step.id))
            assert (again.steps, again.asked) == (found.steps, step.id)
        (correlation_id,) = found.correlation_ids
        assert (await conversations.find(correlation_id)).steps == found.steps

    async def test_a_step_says_where_it_stands_and_how_long_it_waited_and_took(self, conversations, ordered) -> None:
        found = {step.name: step for step in (await conversations.find(ordered)).steps}
        pack, ship, packed = found["Pack"], found["Ship"], found["TracedParcelPacked"]

        assert (pack.place, pack.status, pack.cause, ship.cause) == (DOMAIN, "COMPLETED", None, pack.id)
        assert (ship.place, packed.cause, packed.status) == (SHIPPING, pack.id, None)
        for step in (pack, ship):
            assert step.waited is not None
            assert step.took is not None
            assert 0 <= step.waited < PATIENCE
            assert 0 <= step.took < PATIENCE
        assert packed.event is not None
        assert pack.command is not None
        assert pack.command.command.position == packed.event.position

    # -- other conversations -------------------------------------------------------------------------------------------
    async def test_a_cause_in_another_conversation_is_shown_up_to_the_root(self, world, conversations) -> None:
        root = await world.send("Root")
        middle = await world.send("Middle", causation_id=root)
        leaf = await world.send("Leaf", causation_id=middle)
        await world.send("Aside", causation_id=root)

        found = await conversations.find(leaf)

        assert outline(found) == ["Root", "  Middle", "    Leaf"]
        assert len({step.correlation_id for step in found.steps}) == 3
        assert found.correlation_ids == (found.steps[-1].correlation_id,)

    async def test_a_cause_that_is_nowhere_is_shown_by_its_id(self, world, conversations) -> None:
        unknown = uuid4()
        leaf = await world.send("Leaf", causation_id=unknown)

        found = await conversations.find(leaf)

        assert outline(found) == ["MISSING", "  Leaf"]
        assert (found.steps[0].id, found.steps[0].at) == (unknown, None)

    # -- what is said wrongly, and what is much ------------------------------------------------------------------------
    async def test_causes_in_a_circle_are_cut_at_the_earliest(self, world, conversations) -> None:
        one, two, three = uuid4(), uuid4(), uuid4()
        correlation_id = uuid4()
        for command_id, cause in ((one, three), (two, one), (three, two)):
            await world.send(f"{cause}", command_id=command_id, causation_id=cause, correlation_id=correlation_id)
        own = await world.send("Own", command_id=(own := uuid4()), causation_id=own)

        found = await conversations.find(two)

        assert [(step.id, step.depth) for step in found.steps] == [(one, 0), (two, 1), (three, 2)]
        assert [(step.id, step.depth) for step in (await conversations.find(own)).steps] == [(own, 0)]

    async def test_a_long_chain_is_followed_and_much_is_bounded(self, world, conversations) -> None:
        correlation_id, cause, many = uuid4(), None, 60
        for _ in range(many):
            cause = await world.send("Next", causation_id=cause, correlation_id=correlation_id)

        found = await conversations.find(correlation_id)
        some = await conversations.find(correlation_id, limit=10)

        assert [step.depth for step in found.steps] == list(range(many))
        assert ([step.depth for step in some.steps], some.more) == (list(range(10)), True)
        far = await conversations.find(cause, limit=10)
        assert far.more
        assert cause in {step.id for step in far.steps}

    async def test_an_event_without_a_correlation_is_a_conversation_of_its_own(
        self, world, conversations, event_store
    ) -> None:
        alone = NewEvent(uuid4(), "TracedAlone", b"{}", datetime.now(UTC))
        await event_store.log.append([StreamAppend(StreamId("TracedAlone", "1"), (alone,))])
        sent = await world.send("Follow", causation_id=alone.event_id, correlation_id=alone.event_id)

        for asked in (alone.event_id, sent):
            assert outline(await conversations.find(asked)) == ["TracedAlone", "  Follow"]

    # -- what belongs together otherwise -------------------------------------------------------------------------------
    async def test_a_batch_leads_to_its_commands(self, world, conversations) -> None:
        made = await world.bus.create_batch(
            DOMAIN, [BatchCommand("One", uuid4(), {}), BatchCommand("Two", uuid4(), {})], name="both"
        )

        found = await conversations.find(made.batch_id)

        assert outline(found)[0] == "both"
        assert sorted(outline(found)[1:]) == ["  One", "  Two"]
        assert (found.steps[0].kind, found.steps[0].status) == (Kind.BATCH, "PENDING")

    async def test_a_process_leads_to_its_steps_and_each_reply_to_the_next(
        self, world, conversations, processes, done
    ) -> None:
        process_id = await processes.start(Buy(), Purchase())
        async with self.moving(world):
            await self.ended(processes, process_id)

        found = await conversations.find(process_id)
        lines = outline(found)

        assert lines[:5] == ["Buy", "  Reserve", "    Reply", "      Pay", "        Reply"]
        assert sorted(lines[5:]) == ["            Reply", "            Reply", "          Ship", "          Thank"]
        assert (found.steps[0].kind, found.steps[0].status) == (Kind.PROCESS, "COMPLETED")
        for step in found.steps[1:]:
            alone = await conversations.find(step.id)
            assert {each.id for each in alone.steps} == {each.id for each in found.steps if each.kind is Kind.COMMAND}

    async def test_what_nothing_is_called_is_said_to_be_so(self, world, conversations) -> None:
        unknown = uuid4()
        with pytest.raises(ConversationNotFoundError, match=f"nothing here is called {unknown}"):
            await conversations.find(unknown)
        for wrong in ("no id", 3, None):
            with pytest.raises(InvalidInputError, match="id must be a UUID"):
                await conversations.find(wrong)
        for limit in (0, 10_001, True, "5"):
            with pytest.raises(InvalidInputError, match="limit must be a whole number from 1 to 10,000"):
                await conversations.find(unknown, limit=limit)
