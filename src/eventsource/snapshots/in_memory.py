"""Snapshots in memory."""

from mainstay import MemorySnapshotStore as InMemorySnapshotStore

__all__ = [
    "InMemorySnapshotStore",
]
