"""What is made of events."""

from eventsource.projections.base import (
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
