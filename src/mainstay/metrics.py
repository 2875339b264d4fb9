"""What is measured: every metric by name, and where its values go.

Values go to OpenTelemetry's meter, which does nothing until the application sets up an SDK, and to every `Recorder`
that listens (`listening`), such as the worker's Prometheus endpoint. What is read rather than counted (how many wait,
how old the oldest is) is asked for when somebody reads: whoever knows it says so with `observed`.

A metric's labels are few and bounded: a domain, a command type, an outcome. Ids belong to spans and logs.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from opentelemetry import metrics

from mainstay.telemetry import NAME, is_metering, is_tracing, library_version

T = TypeVar("T")

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_COUNTS = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)


class Kind(StrEnum):
    """How a metric moves."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One thing that is measured.

    Args:
        name: With dots, as OpenTelemetry has it; Prometheus gets underscores, and its own endings.
        kind: How it moves.
        description: What the value says.
        labels: What it is told apart by, in order.
        unit: As in UCUM; empty for a plain number.
        buckets: Upper bounds, for a histogram.
    """

    name: str
    kind: Kind
    description: str
    labels: tuple[str, ...] = ("domain",)
    unit: str = ""
    buckets: tuple[float, ...] = ()
    is_sum: bool = False
    """Of a gauge: what several sources say of the same labels is added up; else it is the same thing, said twice."""


SENT = Metric("mainstay.commands.sent", Kind.COUNTER, "Commands sent.", ("domain", "command_type"))
HANDLED = Metric(
    "mainstay.commands.handled",
    Kind.COUNTER,
    "Runs of handlers, by what came of them.",
    ("domain", "command_type", "outcome"),
)
DURATION = Metric(
    "mainstay.command.duration",
    Kind.HISTOGRAM,
    "How long a run of a handler took.",
    ("domain", "command_type", "outcome"),
    "s",
    _SECONDS,
)
ATTEMPTS = Metric(
    "mainstay.command.attempts",
    Kind.HISTOGRAM,
    "Which attempt it was that ended a command, or led it to troubleshooting.",
    ("domain", "command_type", "outcome"),
    buckets=_COUNTS,
)
RENEWED = Metric("mainstay.leases.renewed", Kind.COUNTER, "Leases renewed.")
LOST = Metric("mainstay.leases.lost", Kind.COUNTER, "Leases found lost to another worker, or ended.")
FLUSH = Metric("mainstay.flush.size", Kind.HISTOGRAM, "Outcomes written in one flush.", buckets=_COUNTS)
READY = Metric("mainstay.queue.ready", Kind.GAUGE, "Commands that wait for a worker.")
OLDEST = Metric(
    "mainstay.queue.oldest_ready.age", Kind.GAUGE, "How long the oldest command that is ready has waited.", unit="s"
)
LEASED = Metric("mainstay.queue.leased", Kind.GAUGE, "Commands in the hands of workers, whichever process they are in.")
TROUBLED = Metric("mainstay.troubleshooting", Kind.GAUGE, "Commands that wait for an operator.")
BREAKERS = Metric(
    "mainstay.breakers.open", Kind.GAUGE, "Breakers that hold a kind of failure, and have not begun to close."
)
IN_FLIGHT = Metric("mainstay.worker.in_flight", Kind.GAUGE, "Handlers of this process that run.", is_sum=True)
SLOTS = Metric("mainstay.worker.slots", Kind.GAUGE, "Handlers of this process that may run at once.", is_sum=True)

APPENDED = Metric("mainstay.events.appended", Kind.COUNTER, "Events appended.", ("category", "event_type"))
APPENDING = Metric(
    "mainstay.append.duration",
    Kind.HISTOGRAM,
    "How long an append took, by what came of it.",
    ("category", "outcome"),
    "s",
    _SECONDS,
)
CONFLICTS = Metric(
    "mainstay.events.conflicts", Kind.COUNTER, "Appends refused because somebody else had been quicker.", ("category",)
)
LOADING = Metric(
    "mainstay.load.duration", Kind.HISTOGRAM, "How long it took to load an aggregate.", ("category",), "s", _SECONDS
)
PROJECTED = Metric("mainstay.projection.events", Kind.COUNTER, "Events handled by projections.", ("subscription",))
BATCH = Metric(
    "mainstay.projection.batch.duration",
    Kind.HISTOGRAM,
    "How long a batch of events took, with its COMMIT, by what came of it.",
    ("subscription", "outcome"),
    "s",
    _SECONDS,
)
LAID_APART = Metric(
    "mainstay.projection.laid_apart", Kind.COUNTER, "Events laid apart as dead letters.", ("subscription",)
)
LAG = Metric(
    "mainstay.projection.lag",
    Kind.GAUGE,
    "How long ago the oldest event was recorded that the projection wants and has not handled.",
    ("subscription",),
    "s",
)
LAG_EVENTS = Metric(
    "mainstay.projection.lag.events", Kind.GAUGE, "Events that the projection has not come to.", ("subscription",)
)
DEAD_LETTERS = Metric(
    "mainstay.projection.dead_letters", Kind.GAUGE, "Events that lie apart and wait for a replay.", ("subscription",)
)
STOPPED = Metric(
    "mainstay.projection.stopped",
    Kind.GAUGE,
    "Shards that an error has stopped, until they are resumed.",
    ("subscription",),
)
HORIZON_AGE = Metric(
    "mainstay.horizon.age",
    Kind.GAUGE,
    "For how long the oldest open transaction that has appended holds the feed back; 0 without any.",
    (),
    "s",
)

PUBLISHED = Metric("mainstay.bus.published", Kind.COUNTER, "Messages handed to a bus, and confirmed by it.", ("topic",))
PUBLISHING = Metric(
    "mainstay.bus.publish.duration",
    Kind.HISTOGRAM,
    "How long it took until a batch of messages was confirmed, by what came of it.",
    ("topic", "outcome"),
    "s",
    _SECONDS,
)
CONSUMED = Metric(
    "mainstay.bus.consumed",
    Kind.COUNTER,
    "Runs of handlers of messages by what came of them, and messages laid apart.",
    ("topic", "group", "outcome"),
)
CONSUMING = Metric(
    "mainstay.bus.consume.duration",
    Kind.HISTOGRAM,
    "How long a run of a handler of messages took.",
    ("topic", "group", "outcome"),
    "s",
    _SECONDS,
)

METRICS = (
    SENT,
    HANDLED,
    DURATION,
    ATTEMPTS,
    RENEWED,
    LOST,
    FLUSH,
    READY,
    OLDEST,
    LEASED,
    TROUBLED,
    BREAKERS,
    IN_FLIGHT,
    SLOTS,
    APPENDED,
    APPENDING,
    CONFLICTS,
    LOADING,
    PROJECTED,
    BATCH,
    LAID_APART,
    LAG,
    LAG_EVENTS,
    DEAD_LETTERS,
    STOPPED,
    HORIZON_AGE,
    PUBLISHED,
    PUBLISHING,
    CONSUMED,
    CONSUMING,
)


class Observation(NamedTuple):
    """A value that was read."""

    metric: Metric
    value: float
    labels: tuple[str, ...]


Source = Callable[[], Iterable[Observation]]
"""Says what can be read now. Called from any thread; waits a moment at most, and never on an event loop."""


class Recorder(Protocol):
    """Takes values as they come; called from any thread."""

    def record(self, metric: Metric, value: float, labels: tuple[str, ...]) -> None:
        """Add to a counter, or take one value into a histogram."""
        ...


_recorders: tuple[Recorder, ...] = ()
_sources: tuple[Source, ...] = ()
_changing = threading.Lock()


def is_measuring() -> bool:
    """Whether anybody takes values."""
    return bool(_recorders) or is_metering()


def is_observed() -> bool:
    """Whether anybody records spans or takes values."""
    return is_tracing() or is_measuring()


def record(metric: Metric, value: float, *labels: str) -> None:
    """Add to a counter, or take one value into a histogram.

    Args:
        metric: One of `METRICS`.
        value: How much.
        labels: One for each of the metric's labels, in order.
    """
    if is_metering():
        attributes = dict(zip(metric.labels, labels, strict=True))
        if metric.kind is Kind.COUNTER:
            _instruments()[metric].add(value, attributes)
        else:
            _instruments()[metric].record(value, attributes)
    for recorder in _recorders:
        recorder.record(metric, value, labels)


@contextmanager
def listening(recorder: Recorder) -> Iterator[None]:
    """Give a recorder every value for the length of a block."""
    global _recorders  # noqa: PLW0603 - replaced as a whole, so that other threads read one or the other
    _recorders = (*_recorders, recorder)
    try:
        yield
    finally:
        _recorders = tuple(one for one in _recorders if one is not recorder)


@contextmanager
def observed(source: Source) -> Iterator[None]:
    """Let a source be read for the length of a block."""
    global _sources  # noqa: PLW0603 - as above
    _instruments()
    with _changing:
        _sources = (*_sources, source)
    try:
        yield
    finally:
        with _changing:
            _sources = tuple(one for one in _sources if one is not source)


def observations() -> list[Observation]:
    """What can be read now, from all sources; one value for each metric and its labels."""
    found: dict[tuple[Metric, tuple[str, ...]], Observation] = {}
    for source in _sources:
        for one in source():
            before = found.get((one.metric, one.labels))
            added = before.value if before is not None and one.metric.is_sum else 0
            found[one.metric, one.labels] = one._replace(value=one.value + added)
    return list(found.values())


@cache
def _instruments() -> dict[Metric, Any]:
    """OpenTelemetry's instruments, made when the first value comes; they find the SDK whenever it is set up."""
    meter = metrics.get_meter(NAME, library_version())
    return {metric: _instrument(meter, metric) for metric in METRICS}


def _instrument(meter: metrics.Meter, metric: Metric) -> Any:
    named = {"name": metric.name, "unit": metric.unit or "1", "description": metric.description}
    if metric.kind is Kind.COUNTER:
        return meter.create_counter(**named)
    if metric.kind is Kind.HISTOGRAM:
        return meter.create_histogram(**named, explicit_bucket_boundaries_advisory=list(metric.buckets))

    def read(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        for found in observations():
            if found.metric is metric:
                yield metrics.Observation(found.value, dict(zip(metric.labels, found.labels, strict=True)))

    return meter.create_observable_gauge(callbacks=[read], **named)


REFRESH: Final = 5.0
"""Seconds for which what was asked of a database is good."""
_PATIENCE = 2.0
"""Seconds that a reader waits for fresh numbers; after that it gets the old ones."""


class Reading(Generic[T]):
    """Numbers that are asked for when somebody reads, at most every `REFRESH` seconds, on the event loop it is made on.

    A reader in a thread of its own waits a moment for the answer; one on an event loop, which must not wait, gets what
    was known before.

    Args:
        ask: Asks for them.
    """

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._known: T | None = None
        self._read = -REFRESH
        self._lock = threading.Lock()

    def latest(self) -> T | None:
        """What is known now, None before the first answer; called from any thread."""
        with self._lock:
            if self._loop.is_closed() or time.monotonic() - self._read < REFRESH:
                return self._known
            self._read = time.monotonic()
            asking = asyncio.run_coroutine_threadsafe(self._learn(), self._loop)
            if not _is_on_a_loop():
                with suppress(Exception):  # the old numbers must do
                    asking.result(_PATIENCE)
        return self._known

    async def _learn(self) -> None:
        self._known = await self._ask()


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
