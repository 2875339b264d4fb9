"""Events in memory."""

from mainstay import InMemoryEventStore

__all__ = [
    "InMemoryEventStore",
]
