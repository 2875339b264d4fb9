"""Where events are kept."""

from eventsource.stores.in_memory import InMemoryEventStore
from eventsource.stores.interface import (
    AppendResult,
    EventStore,
    EventStream,
    ExpectedVersion,
    ReadDirection,
    ReadOptions,
    StoredEvent,
    StreamId,
)
from eventsource.stores.postgresql import PostgreSQLEventStore
from eventsource.stores.sqlite import SQLiteEventStore
from mainstay import OptimisticLockError

__all__ = [
    "AppendResult",
    "EventStore",
    "EventStream",
    "ExpectedVersion",
    "InMemoryEventStore",
    "OptimisticLockError",
    "PostgreSQLEventStore",
    "ReadDirection",
    "ReadOptions",
    "SQLiteEventStore",
    "StoredEvent",
    "StreamId",
]
