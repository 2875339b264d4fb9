"""The relay: publishes events to a bus, in the order of the feed.

The feed is the outbox: an event is published because it was committed, and there is no second table to be written. A
`Relay` is a projection whose read model is the broker::

    manager = SubscriptionManager(store)
    await manager.subscribe(Relay(bus, name="orders to billing", categories=["Order"]), SubscriptionConfig(shards=4))

What it promises
----------------

*At least once.* A batch of events is published, and the broker confirms it, before the checkpoint moves; what was
committed is published, wherever relays and brokers are killed.

*In order.* Events of one stream are published by one shard, in order. One that the broker refuses stops the shard, or
is laid apart with all later ones of its stream, as ``on_error`` says.

*Once, where the broker can tell* (`Bus.deduplicates`). What was confirmed and not yet committed when a relay was killed
is published again by its successor. A bus that keeps the highest position of each sender leaves it out; on others it
comes twice, and an inbox takes it in once.

What it locks. A batch holds the shard's row while the broker confirms, as any projection's batch does while it handles:
so two relays never publish for one shard at a time, but for one that stalled and whose database session was ended
meanwhile: what it publishes late has been published before.

How it fails. Killed before the broker has the batch: nothing has happened, and the next owner of the shard publishes
it. Killed between the broker's answer and the COMMIT: as above, at least once. A broker that is away is waited for; no
attempt is counted. A broker that has lost what it had confirmed, and can tell, is not sent more, until somebody resets
the subscription (`BusForgotError`).

Events are sent as they are stored, not as classes of today have them: neither registry nor upcasters are asked.
`mainstay.event_messages` says what a message has of an event, and makes it one again.
"""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import Any, Self, cast

from mainstay.delivery.bus import Bus, Sent
from mainstay.delivery.message import Message
from mainstay.errors import ConfigurationError, shown
from mainstay.event_messages import as_message
from mainstay.events.event import DomainEvent, EventEnvelope
from mainstay.events.log import FeedFilter, RecordedEvent
from mainstay.events.reading import EventReader, EventType
from mainstay.metrics import PUBLISHED, PUBLISHING, record
from mainstay.projections.projection import OnError, Projection
from mainstay.projections.store import Claim


class Relay(Projection):
    """Publishes events to a bus; a subscription of its own.

    Args:
        bus: Where to; open as long as the subscription runs.
        name: Stable: the checkpoint, and what the broker knows of it, are kept under it. ``"relay to <topic>"`` unless
            given; relays of several databases that publish to one topic need names of their own.
        types: Only events of these classes, or of these names; all unless given.
        categories: Only events of streams of these categories; all unless given.
        on_error: What follows when the broker refuses an event.

    Raises:
        ConfigurationError: Not a bus; or types or categories are none, or one name instead of several.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        name: str | None = None,
        types: Iterable[EventType] | None = None,
        categories: Iterable[str] | None = None,
        on_error: OnError = "stop",
    ) -> None:
        if not isinstance(bus, Bus):
            raise ConfigurationError(f"a relay publishes to a bus, such as MemoryBus(), not to {shown(bus)}")
        self.bus = bus
        self.name = name or f"relay to {bus.topic}"
        self.on_error = on_error
        self._types = _several(types, "types", "[OrderPlaced]")
        self.by_class = any(isinstance(each, type) for each in self._types or ())
        self._categories = _several(categories, "categories", "['Order']")
        self.sender: RelaySender | None = None

    def wanted(self, source: EventReader) -> FeedFilter:
        """Which events are published.

        Raises:
            UnknownEventTypeError: The store's registry does not know a class.
        """
        return source.filter(types=self._types, categories=self._categories)

    def enveloped(self, source: EventReader, recorded: RecordedEvent) -> list[EventEnvelope]:
        """The event as it is stored, whatever it is: nobody reads it here."""
        del source
        event = cast("DomainEvent", recorded.event)
        return [EventEnvelope(event, recorded.position, recorded.stream, recorded.version, recorded.recorded_at)]

    def of_shard(self, claim: Claim, source: EventReader) -> Self:
        """The same, with a name at the broker: what it knows of that one is not published again."""
        mine = copy(self)
        mine.sender = RelaySender(claim, source)
        return mine

    @asynccontextmanager
    async def batch(self, conn: Any, events: Sequence[RecordedEvent]) -> AsyncIterator[Any]:
        """Publish what was handled, and wait until the broker has it.

        Raises:
            BusUnavailableError: The broker is away.
            MessageRefusedError: It does not take one of them.
        """
        del conn
        outgoing = _Outgoing({recorded.position: recorded for recorded in events}, [])
        yield outgoing
        if not outgoing.messages:
            return
        began, outcome = time.perf_counter(), "failed"
        try:
            await self.bus.publish(outgoing.messages, sender=self.sender)
            outcome = "published"
        finally:
            record(PUBLISHING, time.perf_counter() - began, self.bus.topic, outcome)
        record(PUBLISHED, len(outgoing.messages), self.bus.topic)
        if self.sender is not None:
            self.sender.confirmed = outgoing.messages[-1].position if self.bus.deduplicates else 0

    async def handle(self, envelope: EventEnvelope, conn: Any) -> None:
        """Take one event into the batch."""
        conn.messages.append(as_message(conn.events[envelope.position]))


def _several(chosen: Iterable[Any] | None, name: str, such_as: str) -> tuple[Any, ...] | None:
    """What was chosen; one text would be taken for its letters, and everything be passed by in silence."""
    if chosen is None:
        return None
    found = () if isinstance(chosen, str | bytes) or not isinstance(chosen, Iterable) else tuple(chosen)
    if not found or not all(isinstance(each, str | type) for each in found):
        raise ConfigurationError(f"{name} are given as a list, one alone, too: {such_as}, not {shown(chosen)}")
    return found


class RelaySender:
    """A shard of a relay, as the broker knows it.

    The number of shards is part of the name, as positions of a shard grow only while the streams are dealt out alike.

    Args:
        claim: Whose.
        source: Where the events are.
    """

    def __init__(self, claim: Claim, source: EventReader) -> None:
        self.name = f"{claim.subscription}/{claim.shard} of {claim.shards}"
        self.confirmed = 1 if claim.checkpoint.event_position and not claim.dead_letters else 0
        self._source = source

    async def wrote(self, sent: Sent) -> bool:
        """Whether the log has this event at this position; another one's positions say nothing about ours."""
        found = await self._source.log.event_at(sent.position)
        return found is not None and found.event.event_id == sent.id


class _Outgoing:
    def __init__(self, events: dict[int, RecordedEvent], messages: list[Message]) -> None:
        self.events = events
        self.messages = messages
