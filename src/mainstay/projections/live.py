"""Live projections: folded when they are asked for, and kept nowhere.

Right from the first moment, with nothing to build, to follow or to rebuild; and as slow as reading the events is. For
one stream, for what has few events, and for a look at the past.
"""

import inspect
from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from mainstay.errors import ConfigurationError, InvalidInputError, ProjectionError
from mainstay.events.event import DomainEvent, EventEnvelope
from mainstay.events.handles import handler_for, handlers_of
from mainstay.events.log import PAGE, FeedFilter, Query
from mainstay.events.reading import EventReader
from mainstay.events.stream import StreamId
from mainstay.projections.declarative import handled

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Folded(Generic[S]):
    """What a live projection made of events.

    Attributes:
        state: The outcome.
        position: Every event that was asked for and stands at or below is in it, and none above.
        events: How many were folded.
        version: Of a stream: that of its last event; 0 if it has none, or for anything but a stream.
    """

    state: S
    position: int
    events: int
    version: int = 0


class LiveProjection(Generic[S]):
    """A state that is folded from events on reading.

    ::

        class Balance(LiveProjection[int]):
            def initial_state(self) -> int:
                return 0

            @handles(MoneyPaid)
            def paid(self, state: int, event: MoneyPaid) -> int:
                return state + event.amount

        found = await Balance().read_stream(store, StreamId("Account", "ann"))

    A method takes the state and an event, and returns the next state, which may be the same object, changed.

    Raises:
        ConfigurationError: Two methods take one event, one cannot be called with a state and an event or is a
            coroutine function; raised when the class is defined. There is none; raised when it reads.
    """

    __handlers__: ClassVar[dict[type[DomainEvent], str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Find the methods, and check them."""
        super().__init_subclass__(**options)
        if inspect.iscoroutinefunction(cls.initial_state):
            raise ConfigurationError(f"{cls.__name__}.initial_state is called, not awaited: write def, not async def")
        cls.__handlers__ = handlers_of(cls, takes=2)

    @abstractmethod
    def initial_state(self) -> S:
        """The state before the first event."""
        raise NotImplementedError

    async def read_stream(
        self, source: EventReader, stream: StreamId, *, up_to_version: int | None = None, conn: Any = None
    ) -> Folded[S]:
        """Fold a stream: all of it that is committed, also what the feed does not show yet.

        Args:
            source: Where events are read from.
            stream: Which one; of one that was never written, the initial state.
            up_to_version: Not later than this.
            conn: The caller's transaction, which sees what it has appended.

        Raises:
            CorruptEventError: An event cannot be read; it is named.
            ProjectionError: A method raised.
            StreamTombstonedError: The stream is.
        """
        handled(type(self), self.__handlers__, source)
        fold = _Fold(self)
        async for envelope in source.read_stream(stream, up_to_version=up_to_version, conn=conn):
            fold.take(envelope)
        return Folded(fold.state, fold.position, fold.events, fold.version)

    async def read_category(
        self, source: EventReader, category: str, *, tenant_id: UUID | str | None = None, up_to: int | None = None
    ) -> Folded[S]:
        """Fold the events of all streams of a category; as `read_all`."""
        return await self._read_feed(source, up_to, category, tenant_id, None)

    async def read_query(
        self, source: EventReader, query: Query, *, tenant_id: UUID | str | None = None, up_to: int | None = None
    ) -> Folded[S]:
        """Fold the events whose types and tags fit (see `EventStore.query`); as `read_all`."""
        return await self._read_feed(source, up_to, None, tenant_id, query)

    async def read_all(
        self, source: EventReader, *, tenant_id: UUID | str | None = None, up_to: int | None = None
    ) -> Folded[S]:
        """Fold the events of all streams, in their one order.

        Args:
            source: Where events are read from.
            tenant_id: Only this tenant's.
            up_to: Not beyond this position, which the feed must have reached (`EventStore.wait`); the horizon, as it
                is when reading begins, if None.

        Returns:
            The state, with the position up to which it is complete.

        Raises:
            InvalidInputError: The feed cannot be read as far as that.
            CorruptEventError: An event cannot be read; it is named.
            ProjectionError: A method raised.
        """
        return await self._read_feed(source, up_to, None, tenant_id, None)

    async def _read_feed(
        self,
        source: EventReader,
        up_to: int | None,
        category: str | None,
        tenant_id: UUID | str | None,
        query: Query | None,
    ) -> Folded[S]:
        kinds = handled(type(self), self.__handlers__, source)
        horizon = (await source.horizon()).position
        end = horizon if up_to is None else up_to
        if end > horizon:
            message = (
                f"the feed can be read up to {horizon} now, not to {end}: wait until it is there "
                f"(store.wait({end - 1}, timeout=...)), or ask for less"
            )
            raise InvalidInputError(message)
        categories = None if category is None else [category]
        wanted = source.filter(types=kinds, categories=categories, tenant_id=tenant_id, query=query)
        fold = _Fold(self)
        async for envelope in _up_to(source, wanted, end):
            fold.take(envelope)
        return Folded(fold.state, end, fold.events)


class _Fold(Generic[S]):
    """A fold under way."""

    def __init__(self, projection: LiveProjection[S]) -> None:
        self._projection = projection
        self.state = projection.initial_state()
        self.position = self.version = self.events = 0

    def take(self, envelope: EventEnvelope) -> None:
        """Fold one event, if a method takes it."""
        self.position, self.version = envelope.position, envelope.version
        handlers = self._projection.__handlers__
        name = handler_for(handlers, type(envelope.event))
        if name is None:
            return
        method = getattr(self._projection, name)
        try:
            state = method(self.state, envelope.event)
        except Exception as error:
            kind = type(self._projection).__name__
            raise ProjectionError(kind, envelope.position, f"{type(error).__name__}: {error}") from error
        if state is None and self.state is not None:
            message = f"{type(self._projection).__name__}.{name} returned None: it must return the next state"
            raise ConfigurationError(message)
        self.state = state
        self.events += 1


async def _up_to(source: EventReader, wanted: FeedFilter, end: int) -> AsyncIterator[EventEnvelope]:
    after = 0
    while after < end:
        page = await source.read_page(after=after, limit=PAGE, wanted=wanted)
        for envelope in page.events:
            if envelope.position > end:
                return
            yield envelope
        after = page.position
