"""Events for code that blocks."""

from mainstay import SyncEventStoreAdapter

__all__ = ["SyncEventStoreAdapter"]
