"""The spans of projections, a batch of events and each event in it; and what is counted on the way.

A span of a batch begins a trace of its own and links to the appends of its events, in whichever process they were: one
batch handles events of many, and a trace that went on for as long as its events are projected would never end.

While nobody records and nobody measures, a batch asks, and that is all.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from mainstay.errors import StaleLeaseError, StorageUnavailableError, told
from mainstay.events.log import RecordedEvent
from mainstay.events.tracing import links_to
from mainstay.metrics import BATCH, LAID_APART, PROJECTED, is_observed, record
from mainstay.projections.store import Claim
from mainstay.telemetry import is_tracing, tracer

_UNDONE = (StaleLeaseError, StorageUnavailableError)
_NO_SPAN: AbstractContextManager[None] = nullcontext()


class Projecting:
    """One batch, seen from outside; a context manager.

    Args:
        claim: Whose.
        events: What it is to handle.
    """

    __slots__ = ("_apart", "_began", "_claim", "_events", "_span", "_token")

    def __init__(self, claim: Claim, events: Sequence[RecordedEvent]) -> None:
        self._claim = claim
        self._events = events
        self._apart = 0
        self._span: Span | None = None
        self._token: Any = None

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        if is_tracing():
            self._open()
        return self

    def event(self, recorded: RecordedEvent) -> AbstractContextManager[object]:
        """Handle an event inside the block."""
        if self._span is None:
            return _NO_SPAN
        attributes: dict[str, Any] = {
            "mainstay.event_id": str(recorded.event.event_id),
            "mainstay.event_type": recorded.event.event_type,
            "mainstay.position": recorded.position,
            "mainstay.stream": str(recorded.stream),
        }
        return tracer().start_as_current_span(
            f"handle {recorded.event.event_type}", links=links_to([recorded]), attributes=attributes
        )

    def apart(self) -> None:
        """One of the events is laid apart, behind an earlier one of its key."""
        self._apart += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        name = self._claim.subscription
        outcome = "handled" if error is None else "undone" if isinstance(error, _UNDONE) else "failed"
        record(BATCH, time.perf_counter() - self._began, name, outcome)
        if error is None:
            record(PROJECTED, len(self._events) - self._apart, name)
            if self._apart:
                record(LAID_APART, self._apart, name)
        span = self._span
        if span is None:
            return
        span.set_attribute("mainstay.outcome", outcome)
        if error is not None:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR, told(error)))
        otel.detach(self._token)
        span.end()

    def _open(self) -> None:
        claim, first, last = self._claim, self._events[0], self._events[-1]
        span = tracer().start_span(
            f"project {claim.subscription}", otel.Context(), SpanKind.CONSUMER, links=links_to(self._events)
        )
        if not span.is_recording():
            return
        span.set_attributes(
            {
                "mainstay.subscription": claim.subscription,
                "mainstay.shard": claim.shard,
                "messaging.batch.message_count": len(self._events),
                "mainstay.position.first": first.position,
                "mainstay.position.last": last.position,
            }
        )
        self._span = span
        self._token = otel.attach(trace.set_span_in_context(span))


class _Unobserved:
    """A batch that nobody watches."""

    def __enter__(self) -> Self:
        return self

    def event(self, _: RecordedEvent) -> AbstractContextManager[object]:
        """Handle an event inside the block."""
        return _NO_SPAN

    def apart(self) -> None:
        """One of the events is laid apart."""

    def __exit__(self, *_: object) -> None:
        """Nothing is to be said."""


_UNOBSERVED = _Unobserved()


def projecting(claim: Claim, events: Sequence[RecordedEvent]) -> "Projecting | _Unobserved":
    """Handle a batch inside the block.

    Args:
        claim: Whose.
        events: What it is to handle; not empty.
    """
    return Projecting(claim, events) if is_observed() else _UNOBSERVED


def count_apart(subscription: str) -> None:
    """Count an event that failed and is laid apart."""
    if is_observed():
        record(LAID_APART, 1, subscription)
