"""What a projection is to a subscription: which events it wants, what it does with one, and what an error means."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, Self

from mainstay.events.event import DomainEvent, EventEnvelope
from mainstay.events.log import EVERYTHING, FeedFilter, RecordedEvent
from mainstay.events.reading import EventReader
from mainstay.message import correlated
from mainstay.projections.store import MOST_SHARDS, Claim, ProjectionStore
from mainstay.telemetry import get_logger

log = get_logger(__name__)

OnError = Literal["stop", "dead_letter"]
"""What follows when an event could not be handled, all attempts made.

``"stop"``: the subscription's shard stops there, until a person resumes it. ``"dead_letter"``: the event is laid apart,
and so are all later ones with the same key, in order; the others go on.
"""


def following(event: DomainEvent) -> correlated:
    """What is done inside belongs to the event's conversation, has the event as its cause, and is its actor's."""
    return correlated(event.correlation_id or event.event_id, event.event_id, event.actor_id)


class Projection(ABC):
    """Base of what reads the feed.

    Attributes:
        name: Of its subscription: checkpoints are kept under it, so it outlives the class's name. The class's name
            unless given.
        on_error: What an event means that cannot be handled.
        version: Of what it writes. Raise it when code and tables change together: code of another version than that
            which built the tables leaves them alone, until they are rebuilt (`SubscriptionManager.rebuild`).
        rebuilding: Whether an event is handled again, for a rebuild: then nothing is to be done that is not undone by
            throwing the new tables away. No mails, no commands.
        most_shards: Into how many parts its streams may be dealt out.
        by_class: Whether it wants events of classes, whose names may change, rather than of types that somebody named.
    """

    name: str = ""
    on_error: OnError = "stop"
    version: int = 1
    rebuilding: bool = False
    most_shards: int = MOST_SHARDS
    by_class: bool = True

    def __init_subclass__(cls, **options: Any) -> None:
        """Name it."""
        super().__init_subclass__(**options)
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def wanted(self, source: EventReader) -> FeedFilter:
        """Which events it is given; all, unless overridden.

        Args:
            source: Where events are read from; its `EventReader.filter` turns classes into the types that are stored.
        """
        del source
        return EVERYTHING

    def key(self, envelope: EventEnvelope) -> str:
        """What an event that fails takes along: later events of the same key wait behind it. Its stream, here."""
        return str(envelope.stream)

    def enveloped(self, source: EventReader, recorded: RecordedEvent) -> list[EventEnvelope]:
        """An event as `handle` is given it: of its class, as upcasters leave it, here.

        Args:
            source: Where events are read from.
            recorded: As it is stored.

        Raises:
            CorruptEventError: It cannot be read.
            UnknownEventTypeError: Its type has no class, and none is skipped.
        """
        return source.enveloped(recorded)

    def of_shard(self, claim: Claim, source: EventReader) -> Self:
        """What takes the events of one claim: this, for all, here. A replay of dead letters is nobody's claim.

        Args:
            claim: Whose events.
            source: Where events are read from.
        """
        del claim, source
        return self

    async def prepare(self, store: ProjectionStore) -> None:  # noqa: B027 - most have nothing to prepare
        """Make what it writes to, before it is given events. Nothing, here.

        Args:
            store: Where its checkpoint is kept.
        """

    @asynccontextmanager
    async def batch(self, conn: Any, events: Sequence[RecordedEvent]) -> AsyncIterator[Any]:
        """Stands around the events of one transaction; what it does at its end is done before the checkpoint moves.

        An error there is no single event's: the batch is undone, and its events are handled one by one.

        Args:
            conn: The transaction.
            events: Those that are about to be handled; some may be laid apart instead.

        Yields:
            What `handle` gets as ``conn``: the transaction itself, here.
        """
        del events
        yield conn

    async def committed(self, conn: Any) -> None:  # noqa: B027 - most are done
        """The transaction of a batch is: what is not to be done before. Nothing, here.

        Args:
            conn: What `batch` gave.
        """

    @abstractmethod
    async def handle(self, envelope: EventEnvelope, conn: Any) -> None:
        """Take one event in.

        Args:
            envelope: The event, and where it stands.
            conn: What `batch` gave; the transaction that the checkpoint moves in, of the kind that the projection
                store's engine knows (psycopg's ``AsyncConnection`` on PostgreSQL, aiosqlite's ``Connection`` on
                SQLite). What is written through it is there exactly once.

        Raises:
            Exception: It could not; what was written is undone, and it is tried again by the subscription's policy.
        """


async def tell_committed(projection: Projection, conn: Any) -> None:
    """Let a projection know of a COMMIT; what it raises is logged, as nothing can be undone any more.

    Args:
        projection: Whose batch it was.
        conn: What its `Projection.batch` gave.
    """
    try:
        await projection.committed(conn)
    except Exception:
        log.exception("%s failed behind a COMMIT", projection.name)
