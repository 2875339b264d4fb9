"""What is made of events."""

from mainstay import handles
from mainstay.doorways import CheckpointTrackingProjection, DatabaseProjection, DeclarativeProjection
from mainstay.projections.subscriber import AsyncEventHandler as EventHandlerBase
from mainstay.projections.subscriber import EventHandler, EventSubscriber, SyncEventHandler
from mainstay.projections.subscriber import EventProjection as Projection
from mainstay.projections.subscriber import SyncEventProjection as SyncProjection

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
