"""What is made of events."""

from eventsource.projections.base import (
    CheckpointTrackingProjection,
    DatabaseProjection,
    DeclarativeProjection,
    EventHandler,
    EventHandlerBase,
    EventSubscriber,
    Projection,
    SyncEventHandler,
    SyncProjection,
    handles,
)

__all__ = [
    "CheckpointTrackingProjection",
    "DatabaseProjection",
    "DeclarativeProjection",
    "EventHandler",
    "EventHandlerBase",
    "EventSubscriber",
    "Projection",
    "SyncEventHandler",
    "SyncProjection",
    "handles",
]
