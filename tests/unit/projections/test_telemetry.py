"""What is recorded of an event's way: append, load, project."""

import json
import logging

import pytest
from opentelemetry.trace import SpanKind

from mainstay import metrics
from mainstay.errors import OptimisticLockError
from mainstay.events.aggregate import AggregateRoot
from mainstay.events.repository import AggregateRepository
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.message import correlated
from mainstay.metrics import observations
from mainstay.projections.config import SubscriptionConfig
from mainstay.retry import RetryPolicy
from tests.support.counting import NAME, QUICK, Counted, Seen, count, is_stopped
from tests.support.telemetry import recorded_spans, recorded_values
from tests.support.waiting import eventually

STREAM = StreamId("Counter", "a")


def spot(span):
    return span.context.trace_id, span.context.span_id


async def test_a_projections_span_links_to_the_span_of_the_append(store, manager) -> None:
    with recorded_spans() as spans:
        await manager.subscribe(Seen(), QUICK)
        await manager.start()
        with spans.tracer.start_as_current_span("request") as request:
            done = await store.append(STREAM, [Counted(number=1), Counted(number=2)])
        await manager.wait_until(done.position)
        await manager.stop()

        (append,) = spans.named("append Counter")
        (project,) = spans.named(f"project {NAME}")
        handled = spans.named("handle ProjectedCounted")

    assert append.parent.span_id == request.get_span_context().span_id
    assert append.kind is SpanKind.PRODUCER
    assert (append.attributes["mainstay.events"], append.attributes["mainstay.outcome"]) == (2, "appended")
    assert append.attributes["mainstay.position"] == done.position
    assert project.parent is None
    assert project.kind is SpanKind.CONSUMER
    assert [(link.context.trace_id, link.context.span_id) for link in project.links] == [spot(append)]
    assert project.attributes["messaging.batch.message_count"] == 2
    assert len(handled) == 2
    for span in handled:
        assert span.parent.span_id == project.context.span_id
        assert [link.context.span_id for link in span.links] == [append.context.span_id]


async def test_a_context_that_the_application_gave_is_left_as_it_is(store) -> None:
    theirs = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    with recorded_spans():
        await store.append(STREAM, [Counted(number=1, metadata={"traceparent": theirs, "shop": 3}), Counted(number=2)])
    first, second = [json.loads(each.event.metadata) for each in (await store.log.read_feed()).events]

    assert first == {"traceparent": theirs, "shop": 3}
    assert list(second) == ["traceparent"]


async def test_while_nobody_records_nothing_is_written_into_events(store) -> None:
    await store.append(STREAM, [Counted(number=1)])
    (recorded,) = (await store.log.read_feed()).events
    assert recorded.event.metadata is None


@pytest.mark.parametrize("written", [{"traceparent": 5}, {"traceparent": "x"}, {"a": "traceparent"}])
async def test_metadata_that_is_no_context_does_no_harm(store, manager, written) -> None:
    await store.append(STREAM, [Counted(number=1, metadata=written)])
    with recorded_spans() as spans:
        await manager.subscribe(Seen(), QUICK)
        await manager.start()
        await manager.wait_until(1)
        await manager.stop()
        (project,) = spans.named(f"project {NAME}")
    assert not project.links


async def test_a_failed_batch_says_so(store, manager, checkpoints) -> None:
    seen = Seen()
    seen.refused = {1}
    with recorded_spans() as spans, recorded_values() as values:
        await manager.subscribe(seen, QUICK)
        await manager.start()
        await count(store, 1)
        await eventually(lambda: is_stopped(checkpoints))
        await manager.stop()
        projected = spans.named(f"project {NAME}")

    assert {span.attributes["error.type"] for span in projected} == {"ValueError"}
    assert [labels for _, labels in values.of(metrics.BATCH)] == [(NAME, "failed")] * 3
    assert values.of(metrics.PROJECTED) == []


async def test_appends_are_counted_by_what_came_of_them(store) -> None:
    event = Counted(number=1)
    with recorded_values() as values, recorded_spans() as spans:
        await store.append(STREAM, [event], expected=ExpectedVersion.no_stream())
        await store.append(STREAM, [event], expected=ExpectedVersion.no_stream())
        with pytest.raises(OptimisticLockError):
            await store.append(STREAM, [Counted(number=2)], expected=5)
        outcomes = [span.attributes["mainstay.outcome"] for span in spans.named("append Counter")]

    assert outcomes == ["appended", "repeated", "conflict"]
    assert values.of(metrics.APPENDED) == [(1, ("Counter", "ProjectedCounted"))]
    assert values.of(metrics.CONFLICTS) == [(1, ("Counter",))]
    assert [labels for _, labels in values.of(metrics.APPENDING)] == [("Counter", each) for each in outcomes]


async def test_imported_events_are_counted_too(store) -> None:
    with recorded_values() as values:
        await store.import_events([(STREAM, Counted(number=number)) for number in range(3)])
    assert values.of(metrics.APPENDED) == [(3, ("Counter", "ProjectedCounted"))]


class Counter(AggregateRoot[dict]):
    aggregate_type = "Counter"

    def _apply(self, event):
        pass


async def test_loading_is_a_span(store) -> None:
    await count(store, 1, 2)
    with recorded_values() as values, recorded_spans() as spans:
        await AggregateRepository(store, Counter).load("a")
        (load,) = spans.named("load Counter")
    assert (load.attributes["mainstay.stream"], load.attributes["mainstay.version"]) == ("Counter/a", 2)
    assert [labels for _, labels in values.of(metrics.LOADING)] == [("Counter",)]


async def test_what_lies_apart_is_counted_and_shown(store, manager, monkeypatch) -> None:
    monkeypatch.setattr(metrics, "REFRESH", 0.0)
    seen = Seen("dead_letter")
    seen.refused = {1}
    with recorded_values() as values:
        await manager.subscribe(seen, QUICK)
        await manager.start()
        await manager.wait_until(await count(store, 1, 2))
        await count(store, 3, stream="b")
        await manager.wait_until(3)

        def found():
            return {one.metric.name: one.value for one in observations() if one.labels in ((NAME,), ())}

        await eventually(lambda: found().get("mainstay.projection.dead_letters") == 2)
        shown = found()

    assert values.total(metrics.LAID_APART, NAME) == 2
    assert values.total(metrics.PROJECTED, NAME) == 1
    assert shown == {
        "mainstay.projection.lag": 0.0,
        "mainstay.projection.lag.events": 0,
        "mainstay.projection.dead_letters": 2,
        "mainstay.projection.stopped": 0,
        "mainstay.horizon.age": 0.0,
    }


async def test_a_handlers_records_and_ours_say_which_event_it_was(store, manager, checkpoints, caplog) -> None:
    seen = Seen()
    seen.refused = {1}
    await manager.subscribe(seen, SubscriptionConfig(poll=0.05, retry_policy=RetryPolicy(max_attempts=1)))
    await manager.start()
    with correlated("11111111-1111-1111-1111-111111111111"):
        await store.append(STREAM, [Counted(number=1)])
    await eventually(lambda: is_stopped(checkpoints))

    (record,) = [each for each in caplog.records if each.getMessage().startswith("Seen failed")]
    assert record.levelno == logging.WARNING
    assert (record.subscription, record.shard, record.position, record.event_type) == (NAME, 0, 1, "ProjectedCounted")
    assert (record.stream, record.correlation_id) == ("Counter/a", "11111111-1111-1111-1111-111111111111")


async def test_what_a_handler_appends_is_caused_by_its_event(store, manager) -> None:
    class Echo(Seen):
        name = NAME

        async def handle(self, envelope, conn):
            if envelope.event.number == 1:
                await store.append(StreamId("Counter", "echo"), [Counted(number=2)])
            await super().handle(envelope, conn)

    await manager.subscribe(Echo(), QUICK)
    await manager.start()
    with correlated("11111111-1111-1111-1111-111111111111"):
        await store.append(STREAM, [Counted(number=1)])
    await manager.wait_until(2)

    first, second = [each.event for each in (await store.log.read_feed()).events]
    assert second.causation_id == first.event_id
    assert second.correlation_id == first.correlation_id
