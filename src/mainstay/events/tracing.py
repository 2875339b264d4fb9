"""The spans of events: append and load; and what is counted on the way.

The context of an append travels in its events' metadata, as W3C's ``traceparent``, but only if its span is recorded.
What handles an event later, in whichever process, links its own span to that one. A ``traceparent`` that the
application gave in an event's metadata is left as it is.

While nobody records and nobody measures, none of this is prepared: an append and a load ask, and that is all.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

from opentelemetry import context as otel
from opentelemetry import propagate, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from mainstay.errors import AppendConditionError, EventError, OptimisticLockError, told
from mainstay.events.log import Appended, NewEvent, RecordedEvent, StreamAppend
from mainstay.metrics import APPENDED, APPENDING, CONFLICTS, LOADING, is_measuring, record
from mainstay.serialization import from_json, to_json
from mainstay.telemetry import is_tracing, tracer

_CONFLICTS = (OptimisticLockError, AppendConditionError)


class Appending:
    """One append, seen from outside; a context manager.

    Args:
        appends: All of one call; not empty.
    """

    __slots__ = ("_answers", "_began", "_span", "_token", "appends")

    def __init__(self, appends: Sequence[StreamAppend]) -> None:
        self.appends = appends
        self._span: Span | None = None
        self._token: Any = None
        self._answers: Sequence[Appended] = ()

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        if is_tracing():
            self._open()
        return self

    def done(self, answers: Sequence[Appended]) -> None:
        """Say what the log answered."""
        self._answers = answers

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        outcome = _outcome(error, self._answers)
        category = self.appends[0].stream.category if self.appends else ""
        record(APPENDING, time.perf_counter() - self._began, category, outcome)
        if outcome == "conflict":
            record(CONFLICTS, 1, category)
        elif outcome == "appended":
            count_appended(
                Counter(
                    (append.stream.category, event.event_type) for append in self.appends for event in append.events
                )
            )
        if self._span is not None:
            self._close(self._span, outcome, error)

    def _open(self) -> None:
        first = self.appends[0].stream if self.appends else None
        span = tracer().start_span(f"append {first.category if first else ''}".rstrip(), kind=SpanKind.PRODUCER)
        if not span.is_recording():
            return
        self._span = span
        self._token = otel.attach(trace.set_span_in_context(span))
        span.set_attribute("mainstay.events", sum(len(append.events) for append in self.appends))
        if len(self.appends) == 1 and first is not None:
            span.set_attribute("mainstay.stream", str(first))
        else:
            span.set_attribute("mainstay.streams", len(self.appends))
        self.appends = [replace(append, events=carrying(append.events)) for append in self.appends]

    def _close(self, span: Span, outcome: str, error: BaseException | None) -> None:
        span.set_attribute("mainstay.outcome", outcome)
        positions = [each.position for each in self._answers if each.position is not None]
        if positions:
            span.set_attribute("mainstay.position", positions[-1])
        _ended(span, error)
        otel.detach(self._token)
        span.end()


@contextmanager
def loading(category: str, stream: str) -> Iterator[Span | None]:
    """Load an aggregate inside the block; gives the span, if one is recorded.

    Args:
        category: Of its stream.
        stream: The stream itself.
    """
    began = time.perf_counter()
    try:
        if not is_tracing():
            yield None
            return
        with tracer().start_as_current_span(f"load {category}", record_exception=False) as span:
            span.set_attribute("mainstay.stream", stream)
            yield span if span.is_recording() else None
    finally:
        record(LOADING, time.perf_counter() - began, category)


def links_to(events: Sequence[RecordedEvent]) -> list[Link]:
    """To the spans that appended these events, each once."""
    found: dict[tuple[int, int], Link] = {}
    for recorded in events:
        spot = origin_of(recorded)
        if spot is not None:
            found.setdefault((spot.trace_id, spot.span_id), Link(spot))
    return list(found.values())


def origin_of(recorded: RecordedEvent) -> trace.SpanContext | None:
    """The span that appended an event; None if it carries none. Anybody may have written what is there."""
    if recorded.event.metadata is None or b"traceparent" not in recorded.event.metadata:
        return None
    metadata = from_json(recorded.event.metadata)
    carrier = {name: value for name, value in metadata.items() if isinstance(value, str)}
    spot = trace.get_current_span(propagate.extract(carrier, otel.Context())).get_span_context()
    return spot if spot.is_valid else None


def count_appended(counted: Mapping[tuple[str, str], int]) -> None:
    """Count events as appended.

    Args:
        counted: How many, by category and type.
    """
    if is_measuring():
        for labels, count in counted.items():
            record(APPENDED, count, *labels)


def carrying(events: Sequence[NewEvent]) -> tuple[NewEvent, ...]:
    """Events that carry the context of the span that they are raised in, if one is recorded."""
    if not is_tracing() or not trace.get_current_span().is_recording():
        return tuple(events)
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple(_carrying(event, carrier) for event in events)


class GroupAppending:
    """A group of appends, seen from outside: what became of each is told when it is over."""

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def done(self, ends: Iterable[tuple[str, Sequence[NewEvent], str]]) -> None:
        """Say what became of them.

        Args:
            ends: Of each the category, the events, and ``appended``, ``conflict`` or ``refused``.
        """
        if not is_measuring():
            return
        counted: Counter[tuple[str, str]] = Counter()
        took = time.perf_counter() - self._began
        for category, events, outcome in ends:
            record(APPENDING, took, category, outcome)
            if outcome == "conflict":
                record(CONFLICTS, 1, category)
            elif outcome == "appended":
                counted.update((category, event.event_type) for event in events)
        count_appended(counted)


def _carrying(event: NewEvent, carrier: dict[str, str]) -> NewEvent:
    given = from_json(event.metadata) if event.metadata else {}
    return replace(event, metadata=to_json(carrier | given, what="metadata"))


def _outcome(error: BaseException | None, answers: Sequence[Appended]) -> str:
    if isinstance(error, _CONFLICTS):
        return "conflict"
    if error is not None:
        return "refused" if isinstance(error, EventError) else "failed"
    return "repeated" if any(each.repeated for each in answers) else "appended"


def _ended(span: Span, error: BaseException | None) -> None:
    if error is not None:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(Status(StatusCode.ERROR, told(error)))
