"""The span of taking a message in, and what is counted on the way.

The span begins a trace of its own and links to what led to the message, which its headers name as W3C's
``traceparent``: a message may be taken in long after that, and again. While nobody records and nobody measures, a
message asks, and that is all.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from opentelemetry import context as otel
from opentelemetry import propagate, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from mainstay.delivery.message import Message
from mainstay.metrics import CONSUMED, CONSUMING, is_observed, record
from mainstay.telemetry import is_tracing, tracer


@contextmanager
def consuming(topic: str, group: str, message: Message) -> Iterator[None]:
    """Handle a message inside the block.

    Args:
        topic: Where it comes from.
        group: Who takes it in.
        message: The message.
    """
    if not is_observed():
        yield
        return
    began, outcome = time.perf_counter(), "failed"
    span: Any = _span(topic, group, message) if is_tracing() else nullcontext()
    try:
        with span as current:
            try:
                yield
                outcome = "handled"
            except BaseException as error:
                if current is not None:
                    current.set_attribute("error.type", type(error).__name__)
                    current.set_status(Status(StatusCode.ERROR, str(error)))
                raise
            finally:
                if current is not None:
                    current.set_attribute("mainstay.outcome", outcome)
    finally:
        record(CONSUMED, 1, topic, group, outcome)
        record(CONSUMING, time.perf_counter() - began, topic, group, outcome)


def _span(topic: str, group: str, message: Message) -> Any:
    spot = trace.get_current_span(propagate.extract(message.headers, otel.Context())).get_span_context()
    return tracer().start_as_current_span(
        f"process {topic}",
        otel.Context(),
        SpanKind.CONSUMER,
        links=[Link(spot)] if spot.is_valid else [],
        attributes={
            "messaging.system": "mainstay",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": topic,
            "messaging.consumer.group.name": group,
            "messaging.message.id": str(message.id),
            "mainstay.event_type": message.type,
            "mainstay.stream": message.stream,
            "mainstay.position": message.position,
        },
        record_exception=False,
        set_status_on_exception=False,
    )
