"""What is recorded of an event's way to a broker, and from it."""

from opentelemetry.trace import SpanKind

from mainstay import metrics
from mainstay.delivery.consumer import Consumer
from mainstay.delivery.memory import MemoryBus
from mainstay.events.event import DomainEvent
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.subscription import SubscriptionManager
from mainstay.relay import Relay
from mainstay.testing.contracts.delivery.base import LAYING_APART, Taken
from mainstay.testing.contracts.delivery.base import message as some_message
from tests.support.telemetry import recorded_spans, recorded_values
from tests.support.waiting import eventually

QUICK = SubscriptionConfig(poll=0.05)
OUTCOMES = ("handled", "failed", "laid_apart")


class Weighed(DomainEvent, aggregate_type="Crate", event_type="TestCrateWeighed"):
    grams: int


async def relayed(bus) -> None:
    store = InMemoryEventStore()
    manager = SubscriptionManager(store, MemoryProjectionStore())
    await manager.subscribe(Relay(bus), QUICK)
    async with manager:
        done = await store.append(StreamId("Crate", "c"), [Weighed(grams=1), Weighed(grams=2)])
        await manager.wait_until(done.position)


async def test_taking_a_message_in_links_to_the_append_of_its_event() -> None:
    bus, handler = MemoryBus("crates"), Taken()
    with recorded_spans() as spans:
        await relayed(bus)
        async with Consumer(bus, "desk", handler):
            await handler.has(bus.published)
        (append,) = spans.named("append Crate")
        first, second = spans.named("process crates")

    assert "traceparent" in bus.published[0].headers
    assert first.kind is SpanKind.CONSUMER
    assert first.parent is None
    assert [link.context.span_id for link in first.links] == [append.context.span_id]
    assert first.context.trace_id != second.context.trace_id
    assert first.attributes["messaging.consumer.group.name"] == "desk"
    assert first.attributes["messaging.message.id"] == str(bus.published[0].id)
    assert first.attributes["mainstay.outcome"] == "handled"


async def test_what_fails_is_told_and_nothing_of_the_trace_is_needed() -> None:
    bus, handler = MemoryBus("crates"), Taken(fails=lambda taken: taken.position == 1)
    await bus.publish([some_message(1, headers={"traceparent": "nonsense"}), end := some_message(2)])
    with recorded_spans() as spans:
        async with Consumer(bus, "desk", handler, LAYING_APART):
            await handler.has([end])
        failed, again, handled = spans.named("process crates")

    assert [span.attributes["mainstay.outcome"] for span in (failed, again, handled)] == ["failed", "failed", "handled"]
    assert failed.attributes["error.type"] == "ValueError"
    assert failed.status.description == "not this one"
    assert list(failed.links) == []


async def test_messages_are_counted_on_both_sides() -> None:
    bus, handler = MemoryBus("crates"), Taken(fails=lambda taken: taken.data.get("grams") == 1)
    with recorded_values() as values:
        await relayed(bus)
        async with Consumer(bus, "desk", handler, LAYING_APART):
            await handler.has(bus.published[1:])
            await eventually(lambda: values.total(metrics.CONSUMED, "crates", "desk", "laid_apart"))

    assert values.total(metrics.PUBLISHED, "crates") == 2
    assert [labels for _, labels in values.of(metrics.PUBLISHING)] == [("crates", "published")]
    assert {outcome: values.total(metrics.CONSUMED, "crates", "desk", outcome) for outcome in OUTCOMES} == {
        "handled": 1,
        "failed": 2,
        "laid_apart": 1,
    }
