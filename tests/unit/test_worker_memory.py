"""Workers on the memory store: as on a database, without one."""

import asyncio

import pytest

from mainstay import InMemoryEventStore, MemoryCommandStore
from tests.scenarios.aggregates import AggregateScenarios
from tests.scenarios.breakers import BreakerScenarios
from tests.scenarios.conversations import ConversationScenarios
from tests.scenarios.decisions import DecisionScenarios
from tests.scenarios.dry_runs import DryRunScenarios
from tests.scenarios.grouping import DeciderScenarios, GroupScenarios
from tests.scenarios.limits import LimitScenarios
from tests.scenarios.names import NameScenarios
from tests.scenarios.order import OrderScenarios
from tests.scenarios.outcomes import OutcomeScenarios
from tests.scenarios.plain import PlainScenarios
from tests.scenarios.redelivery import RedeliveryScenarios
from tests.scenarios.requesting import RequestingScenarios
from tests.scenarios.running import RunningScenarios
from tests.scenarios.sending_on import SendingOnScenarios
from tests.scenarios.shadows import ShadowScenarios
from tests.scenarios.timeouts import TimeoutScenarios
from tests.scenarios.tracing import TracingScenarios
from tests.scenarios.typed import TypedScenarios
from tests.scenarios.world import World, WorldSuite
from tests.support.waiting import eventually


class OnMemory:
    @pytest.fixture
    async def store(self):
        return MemoryCommandStore()

    async def create_queue(self, store, name):
        store.create_queue(name)

    async def replies(self, store, queue):
        return store.replies(queue)


class TestOutcomesInMemory(OnMemory, OutcomeScenarios):
    pass


class TestRunningInMemory(OnMemory, RunningScenarios):
    pass


class TestSendingOnInMemory(OnMemory, SendingOnScenarios):
    pass


class TestPlainInMemory(OnMemory, PlainScenarios):
    pass


class TestTypedInMemory(OnMemory, TypedScenarios):
    pass


class TestDecidersInMemory(OnMemory, DeciderScenarios):
    @pytest.fixture
    def event_store(self):
        return InMemoryEventStore()


class TestGroupsInMemory(OnMemory, GroupScenarios):
    @pytest.fixture
    def event_store(self):
        return InMemoryEventStore()


class TestTimeoutsInMemory(OnMemory, TimeoutScenarios):
    @pytest.fixture
    def event_store(self):
        return InMemoryEventStore()


class TestAggregatesInMemory(OnMemory, AggregateScenarios):
    @pytest.fixture
    def event_store(self, store):
        return InMemoryEventStore()


class TestConversationsInMemory(OnMemory, ConversationScenarios):
    @pytest.fixture
    def event_store(self, store):
        return InMemoryEventStore()


class TestDecisionsInMemory(OnMemory, DecisionScenarios):
    @pytest.fixture
    def event_store(self, store):
        return InMemoryEventStore()


class TestDryRunsInMemory(OnMemory, DryRunScenarios):
    @pytest.fixture
    def event_store(self, store):
        return InMemoryEventStore()


class TestShadowsInMemory(OnMemory, ShadowScenarios):
    @pytest.fixture
    def event_store(self, store):
        return InMemoryEventStore()


class TestNamesInMemory(OnMemory, NameScenarios):
    joins = False

    @pytest.fixture
    def event_store(self, store):
        return InMemoryEventStore()


class TestRedeliveryInMemory(OnMemory, RedeliveryScenarios):
    @pytest.fixture
    def event_store(self, store):
        return InMemoryEventStore()


class TestTracingInMemory(OnMemory, TracingScenarios):
    pass


class TestRequestingInMemory(OnMemory, RequestingScenarios):
    async def waiters(self, store):
        return not store._state.waiters


class TestOrderInMemory(OnMemory, OrderScenarios):
    pass


class TestLimitsInMemory(OnMemory, LimitScenarios):
    pass


class TestBreakersInMemory(OnMemory, BreakerScenarios):
    pass


class Crowded(MemoryCommandStore):
    """Says that many handlers wait for a connection."""

    waiting_handlers = 1000


class TestCrowdedInMemory(OnMemory, WorldSuite):
    @pytest.fixture
    async def store(self):
        return Crowded()

    async def test_handlers_that_wait_for_connections_do_not_keep_others_from_free_slots(self, world: World) -> None:
        """A worker that has much in hand receives later, and more at once, but not when nothing moves any more."""
        go, begun = asyncio.Event(), []
        world.handles("orders", "Quick")(lambda command, ctx: None)

        @world.handles("orders", "Do")
        async def do(command, ctx):
            begun.append(command)
            await go.wait()

        async with world.working(concurrency=4):
            await world.settled(await world.send("Quick"))
            held = [await world.send() for _ in range(3)]
            await eventually(lambda: len(begun) == len(held))
            await world.settled(await world.send("Quick"))
            go.set()
            await world.settled(*held)
