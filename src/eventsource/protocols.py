"""What is asked of those who take events, and of those who keep them."""

from mainstay import EventStore, SnapshotStore
from mainstay.doorways import EventPublisher
from mainstay.projections.store import ProjectionStore as CheckpointRepository
from mainstay.projections.subscriber import (
    AsyncEventHandler,
    EventHandler,
    EventSubscriber,
    FlexibleEventHandler,
    FlexibleEventSubscriber,
    SyncEventHandler,
)

__all__ = [
    "AsyncEventHandler",
    "CheckpointRepository",
    "EventHandler",
    "EventPublisher",
    "EventStore",
    "EventSubscriber",
    "FlexibleEventHandler",
    "FlexibleEventSubscriber",
    "SnapshotStore",
    "SyncEventHandler",
]
