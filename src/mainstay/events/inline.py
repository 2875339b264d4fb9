"""Inline projections: what is made of events in the transaction that appends them.

What is promised. The events and all that the projections write through the transaction are one COMMIT; or, if a
projection raises, an append that was refused: nothing of it is there, also in a transaction of the caller's that
goes on. A repeated append is not projected again, because its first time was.

What it costs. The append comes first, because it gives the events their places, so the transaction holds its floor in
the feed (see `mainstay.events.log`), and the rows of its streams, while the projections run; and it takes three round
trips more than an append alone (BEGIN, reading the events as they stand, COMMIT), besides the projections' own.

What is not promised. There is no one order over all streams, as subscriptions have it: two transactions that append to
different streams project at the same time. A row that belongs to one stream is safe, because the stream's row is
locked; a row that several streams change must be changed by a statement that reads and writes in one
(``set total = total + ...``), makes its writers wait for each other, and two that change such rows in different orders
meet in a deadlock, of which one is told.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

from mainstay.errors import ConfigurationError, ProjectionError, StorageError, shown, told
from mainstay.events.decisions import fits
from mainstay.events.event import EventEnvelope
from mainstay.events.log import Appended, FeedFilter, Part, RecordedEvent, StreamAppend
from mainstay.events.reading import EventReader


class InlineProjection(Protocol):
    """What an `EventStore` asks of one: a `mainstay.Projection` is one."""

    @property
    def name(self) -> str:
        """What errors call it."""
        ...

    def wanted(self, source: EventReader) -> FeedFilter:
        """Which events it is given."""
        ...

    async def handle(self, envelope: EventEnvelope, conn: Any) -> None:
        """Take one event in; ``conn`` is `Part.through`."""
        ...


class Inline:
    """The inline projections of a store.

    Args:
        projections: In the order in which each event is given to them.
        source: Their store.

    Raises:
        ConfigurationError: Something that is no projection, or one that handles nothing.
        UnknownEventTypeError: The store's registry does not know an event that one handles.
    """

    def __init__(self, projections: Sequence[InlineProjection], source: EventReader) -> None:
        for each in projections:
            if isinstance(each, type) or not all(callable(getattr(each, name, None)) for name in ("wanted", "handle")):
                raise ConfigurationError(f"inline takes projections, instances of Projection, not {shown(each)}")
        self._source = source
        self._projections = [(each, each.wanted(source)) for each in projections]

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._projections)

    async def project(self, appends: Sequence[StreamAppend], answers: Sequence[Appended], part: Part) -> None:
        """Hand over what has just been appended, in order.

        Args:
            appends: What was asked for.
            answers: What became of it.
            part: The transaction in which it was.

        Raises:
            ProjectionError: A projection raised.
        """
        written = [
            (answer.stream, answer.version - len(append.events))
            for append, answer in zip(appends, answers, strict=True)
            if append.events and not answer.repeated
        ]
        if not written:
            return
        found = await self._source.log.read_streams(written, conn=part.conn)
        events = sorted((each for some in found.values() for each in some), key=lambda each: each.position)
        async with AsyncExitStack() as batches:
            takers = []
            for projection, wanted in self._projections:
                if mine := [recorded for recorded in events if fits(wanted, recorded)]:
                    batch = _batch(projection, part.through, mine)
                    takers.append((projection, wanted, await batches.enter_async_context(batch)))
            for recorded in events:
                given = [(each, conn) for each, wanted, conn in takers if fits(wanted, recorded)]
                for envelope in self._source.enveloped(recorded) if given else ():
                    for projection, conn in given:
                        await _hand_over(projection, envelope, conn)


@asynccontextmanager
async def _batch(projection: InlineProjection, through: Any, events: Sequence[RecordedEvent]) -> AsyncIterator[Any]:
    """What a projection's `batch` gives, if it has one; an error of its own is blamed on the last event."""
    make = getattr(projection, "batch", None)
    if make is None:
        yield through
        return
    is_elsewhere = False
    try:
        async with make(through, events) as conn:
            is_elsewhere = True
            yield conn
            is_elsewhere = False
    except Exception as error:
        if is_elsewhere or isinstance(error, StorageError):
            raise
        raise _blame(projection, events[-1].position, error) from error


async def _hand_over(projection: InlineProjection, envelope: EventEnvelope, conn: Any) -> None:
    try:
        await projection.handle(envelope, conn)
    except StorageError:
        raise
    except Exception as error:
        raise _blame(projection, envelope.position, error) from error


def _blame(projection: InlineProjection, position: int, error: Exception) -> ProjectionError:
    reason = f"{type(error).__name__}: {told(error)}. It is inline: nothing was appended"
    return ProjectionError(projection.name, position, reason)
