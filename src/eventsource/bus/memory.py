"""A bus of events in this process."""

from mainstay.event_bus import InMemoryEventBus

__all__ = [
    "InMemoryEventBus",
]
