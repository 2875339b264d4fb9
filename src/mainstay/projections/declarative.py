"""Projections with a method for each event."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Self

from mainstay.errors import ConfigurationError
from mainstay.events.event import DomainEvent, EventEnvelope
from mainstay.events.handles import handler_for, handlers_of
from mainstay.events.log import FeedFilter
from mainstay.events.reading import EventReader
from mainstay.events.stream import StreamId
from mainstay.projections.projection import Projection
from mainstay.projections.store import ProjectionStore
from mainstay.projections.tables import TableComparison, Tables, beside


class DeclarativeProjection(Projection):
    """A projection whose methods say with `handles` which events they take; it is given no others.

    ::

        class Revenue(DeclarativeProjection):
            @handles(OrderPlaced)
            async def placed(self, event: OrderPlaced) -> None: ...

    A method may be a coroutine function or a plain one, which must not block.

    Raises:
        ConfigurationError: Two methods take one event, one cannot be called with an event, or there is none. Raised
            when the class is defined; the last when it is subscribed.
    """

    __takes__: ClassVar[int] = 1
    __handlers__: ClassVar[dict[type[DomainEvent], str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Find the methods, and check them."""
        super().__init_subclass__(**options)
        cls.__handlers__ = handlers_of(cls, takes=cls.__takes__, awaitable=True)

    def wanted(self, source: EventReader) -> FeedFilter:
        """The events that the methods take, and those derived from them.

        Raises:
            ConfigurationError: No method takes any.
            UnknownEventTypeError: The store's registry does not know one.
        """
        return source.filter(types=handled(type(self), self.__handlers__, source))

    def subscribed_to(self) -> list[type[DomainEvent]]:
        """The classes that the methods take."""
        return list(self.__handlers__)

    async def handle(self, envelope: EventEnvelope | DomainEvent, conn: Any = None) -> None:
        """Call the method for this event; what is left of a tombstoned stream has none, and is passed by.

        Args:
            envelope: The event, and where it stands; from code that has it in hand, the event alone.
            conn: As `Projection.handle` says.
        """
        if isinstance(envelope, DomainEvent):
            envelope = in_hand(envelope)
        name = handler_for(self.__handlers__, type(envelope.event))
        if name is None:
            return
        outcome = getattr(self, name)(*self._arguments(envelope, conn))
        if outcome is not None:
            await outcome

    def _arguments(self, envelope: EventEnvelope, conn: Any) -> tuple[Any, ...]:
        del conn
        return (envelope.event,)


class DatabaseProjection(DeclarativeProjection):
    """A projection whose methods also get the transaction in which the checkpoint moves.

    ::

        class Revenue(DatabaseProjection):
            @handles(OrderPlaced)
            async def placed(self, event: OrderPlaced, conn) -> None:
                await conn.execute("update revenue set total = total + %s", [event.total])

    What is written through it is there exactly once, wherever the process is killed. ``conn`` is psycopg's
    ``AsyncConnection``, inside a transaction, where the projection store is PostgreSQL, and aiosqlite's ``Connection``
    where it is a SQLite file; it goes on to others as their ``conn``, and is never committed or rolled back. A method
    may also take it first, under this very name: ``async def paid(self, conn, event)``.

    To be rebuilt it names its tables, and its methods write to ``self.table("revenue")`` instead of ``revenue``. The
    new tables have the form of the old ones, unless `create_tables` is overridden::

        async def create_tables(self, tables: Tables) -> None:
            await tables.conn.execute(f"create table {self.table('revenue')} (day date primary key, total int)")

    Attributes:
        tables: The tables that it writes to, named as in SQL; nobody else writes to them.
        left_out: Columns that a comparison does not look at: what differs each time, as the time of writing.
    """

    __takes__: ClassVar[int] = 2
    __conn_first__: ClassVar[frozenset[str]] = frozenset()
    tables: ClassVar[Sequence[str]] = ()
    left_out: ClassVar[Sequence[str]] = ()
    is_beside: bool = False
    """Whether it writes to the tables of a rebuild."""

    def __init_subclass__(cls, **options: Any) -> None:
        """See which methods take the transaction first."""
        super().__init_subclass__(**options)
        cls.__conn_first__ = taking_first(cls, cls.__handlers__, "conn")

    def _arguments(self, envelope: EventEnvelope, conn: Any) -> tuple[Any, ...]:
        event = envelope.event
        return (conn, event) if handler_for(self.__handlers__, type(event)) in self.__conn_first__ else (event, conn)

    def table(self, name: str) -> str:
        """Where to write: the table itself, or in a rebuild the one beside it.

        Args:
            name: One of `tables`.

        Raises:
            ConfigurationError: It is not.
        """
        if name not in self.tables:
            message = f"{type(self).__name__} names no table {name!r}: tables = {(*self.tables, name)!r}"
            raise ConfigurationError(message)
        return beside(name) if self.is_beside else name

    # -- what a rebuild asks; see `mainstay.projections.rebuild` -------------------------------------------------------

    def beside(self, store: ProjectionStore) -> Self:
        """A copy that writes to tables of its own.

        Args:
            store: Where its checkpoint is kept.

        Raises:
            ConfigurationError: It names no tables.
        """
        if not self.tables:
            message = (
                f"{type(self).__name__} cannot be rebuilt because it names no tables: give it tables = ('revenue',), "
                "and let its methods write to self.table('revenue')"
            )
            raise ConfigurationError(message)
        del store
        made = copy(self)
        made.is_beside = made.rebuilding = True
        return made

    async def create_tables(self, tables: Tables) -> None:
        """Make the tables that `table` names, empty or with what is there before the first event."""
        for name in self.tables:
            await tables.create_like(name, self.table(name))

    async def compare_tables(self, tables: Tables, sample: int) -> list[TableComparison]:
        """Compare what serves and what was rebuilt, which have seen the same events; an empty list for nothing."""
        return [
            await tables.compare(name, self.table(name), sample=sample, left_out=self.left_out) for name in self.tables
        ]

    async def swap_tables(self, tables: Tables, *, keep: bool) -> None:
        """Let the new tables have the names of the old ones, which are kept under others, or dropped."""
        await tables.swap([(name, self.table(name)) for name in self.tables], keep=keep)

    async def drop_tables(self, tables: Tables) -> None:
        """Drop the new tables."""
        await tables.drop([self.table(name) for name in self.tables])


def taking_first(cls: type, handlers: Mapping[type[DomainEvent], str], word: str) -> frozenset[str]:
    """The methods whose first argument has a name, which is not the event then.

    Args:
        cls: Whose methods.
        handlers: What `handlers_of` found.
        word: The name.
    """
    found = set()
    for name in handlers.values():
        method = inspect.getattr_static(cls, name)
        skipped = 0 if isinstance(method, staticmethod) else 1
        if list(inspect.signature(getattr(method, "__func__", method)).parameters)[skipped : skipped + 1] == [word]:
            found.add(name)
    return frozenset(found)


def in_hand(event: DomainEvent) -> EventEnvelope:
    """An event that somebody has in hand, as if it had been read: at the position 0, which the feed never gives."""
    stream = StreamId(
        event.aggregate_type or type(event).__name__, event.aggregate_id or event.event_id, event.tenant_id
    )
    return EventEnvelope(event, 0, stream, event.aggregate_version or 1, event.occurred_at)


def handled(cls: type, handlers: Mapping[type[DomainEvent], str], source: EventReader) -> list[type[DomainEvent]]:
    """The events that methods take, and those derived from them, as far as a store knows them.

    Args:
        cls: Whose methods.
        handlers: What `handlers_of` found.
        source: The store.

    Raises:
        ConfigurationError: No method takes any.
        UnknownEventTypeError: The store's registry does not know one that a method names.
    """
    if not handlers:
        raise ConfigurationError(f"{cls.__name__} handles no event: mark methods with @handles(SomeEvent)")
    for kind in handlers:
        source.registry.require(kind)
    return [kind for kind in _derived(handlers) if source.registry.contains(kind.__event_type__)]


def _derived(kinds: Iterable[type[DomainEvent]]) -> Iterator[type[DomainEvent]]:
    """These classes, and all that are derived from them."""
    for kind in kinds:
        yield kind
        yield from _derived(kind.__subclasses__())
