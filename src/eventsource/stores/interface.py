"""What a store does, and what is said with it."""

from mainstay import AppendResult, EventStore, EventStream, ExpectedVersion, ReadDirection, ReadOptions, StreamId
from mainstay import EventEnvelope as StoredEvent

__all__ = [
    "AppendResult",
    "EventStore",
    "EventStream",
    "ExpectedVersion",
    "ReadDirection",
    "ReadOptions",
    "StoredEvent",
    "StreamId",
]
