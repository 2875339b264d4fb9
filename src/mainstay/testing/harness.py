"""Everything about events in memory, ready to be used: for tests of what stands on them."""

from collections.abc import Iterable
from typing import Any, TypeVar

from mainstay.app import SubscriptionManager
from mainstay.clock import Clock
from mainstay.events.aggregate import AggregateRoot
from mainstay.events.event import DomainEvent
from mainstay.events.registry import EventRegistry
from mainstay.events.repository import AggregateRepository
from mainstay.events.store import InMemoryEventStore
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.read_models import ReadModels
from mainstay.projections.store import ShardStatus
from mainstay.projections.subscriber import Subscribing
from mainstay.retry import RetryPolicy
from mainstay.testing.assertions import EventAssertions
from mainstay.testing.factories import store_history
from mainstay.testing.waiting import eventually

AggregateT = TypeVar("AggregateT", bound=AggregateRoot[Any])
EventT = TypeVar("EventT", bound=DomainEvent)

AT_ONCE = SubscriptionConfig(poll=0.01, retry_policy=RetryPolicy(max_attempts=1, backoff_schedule=[]))


class InMemoryTestHarness:
    """A store, and a place for checkpoints and dead letters. Published is what was appended and committed.

    ::

        harness = InMemoryTestHarness()
        await harness.given(OrderPlaced(total=3))
        await harness.repository(Order).execute(...)
        harness.published.assert_event_published(OrderShipped)

    Args:
        clock: Where ``recorded_at`` comes from, and what leases go by; the machine's unless given.
        registry: Which class a type belongs to; every class unless given.
    """

    def __init__(self, *, clock: Clock | None = None, registry: EventRegistry | None = None) -> None:
        self._clock = clock
        self._registry = registry
        self.reset()

    def reset(self) -> None:
        """Begin again, with everything new."""
        self._store = InMemoryEventStore(clock=self._clock, registry=self._registry)
        self._checkpoints = MemoryProjectionStore(self._clock)
        self._cleared = 0

    @property
    def event_store(self) -> InMemoryEventStore:
        """Where events are."""
        return self._store

    @property
    def checkpoint_repo(self) -> MemoryProjectionStore:
        """Where checkpoints are."""
        return self._checkpoints

    @property
    def dlq_repo(self) -> MemoryProjectionStore:
        """Where dead letters are: beside the checkpoints."""
        return self._checkpoints

    @property
    def read_models(self) -> ReadModels:
        """What subscriptions have made of events: ``harness.read_models.of(OrderTotal)``."""
        return ReadModels(self._checkpoints.read_models)

    def repository(self, aggregate: type[AggregateT], **options: Any) -> AggregateRepository[AggregateT]:
        """A repository of a class of aggregates; the options are those of `AggregateRepository`."""
        return AggregateRepository(self._store, aggregate, **options)

    async def given(self, *events: DomainEvent) -> None:
        """Let these things have happened before; they do not count as published.

        Args:
            events: In order; they need no envelope. See `mainstay.testing.factories.store_history`.
        """
        await store_history(self._store, events)
        self.clear_published_events()

    @property
    def published(self) -> EventAssertions:
        """What is to be asserted about the events that were published."""
        return EventAssertions(self.published_events)

    @property
    def published_events(self) -> list[DomainEvent]:
        """What was published since the last `clear_published_events`, in order."""
        return [envelope.event for envelope in self._store.recorded() if envelope.position > self._cleared]

    def clear_published_events(self) -> None:
        """Count what is there as not published."""
        self._cleared = max((envelope.position for envelope in self._store.recorded()), default=0)

    def get_events_of_type(self, kind: type[EventT]) -> list[EventT]:
        """The published events of a class, or derived from it."""
        return self.published.get_events_of_type(kind)

    async def run(self, *subscribers: Subscribing, config: SubscriptionConfig = AT_ONCE) -> None:
        """Let subscriptions take all events that are there, as they would in a program, then stop.

        Args:
            subscribers: Who wants events; one that was run before goes on where it was.
            config: How to go about it; each event is tried once, unless given.

        Raises:
            AssertionError: One stopped at an event that it could not handle; the message says why.
        """
        manager = SubscriptionManager(self._store, self._checkpoints)
        names = [(await manager.subscribe(each, config)).name for each in subscribers]
        end = (await self._store.horizon()).position
        for name in names:
            if any(state.status is not ShardStatus.ACTIVE for state in await self._checkpoints.states(name)):
                await self._checkpoints.resume(name, actor="a test")

        async def settled() -> bool:
            return await self._settled(names, end)

        async with manager:
            await eventually(settled, what=f"{', '.join(names)} at {end}")
        for name in names:
            for state in await self._checkpoints.states(name):
                if state.status is ShardStatus.STOPPED:
                    raise AssertionError(f"{name} stopped at position {state.checkpoint.position}: {state.reason}")

    async def _settled(self, names: Iterable[str], end: int) -> bool:
        states = [state for name in names for state in await self._checkpoints.states(name)]
        return all(state.status is ShardStatus.STOPPED or state.checkpoint.position >= end for state in states)
