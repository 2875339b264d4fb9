"""What every bus of events does."""

from mainstay.event_bus import EventBus, EventHandlerFunc

__all__ = [
    "EventBus",
    "EventHandlerFunc",
]
