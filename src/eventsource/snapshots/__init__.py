"""States of aggregates, kept."""

from eventsource.snapshots.in_memory import InMemorySnapshotStore
from eventsource.snapshots.interface import Snapshot, SnapshotPolicy, SnapshotStore
from eventsource.snapshots.postgresql import PostgreSQLSnapshotStore
from eventsource.snapshots.sqlite import SQLiteSnapshotStore

__all__ = [
    "InMemorySnapshotStore",
    "PostgreSQLSnapshotStore",
    "SQLiteSnapshotStore",
    "Snapshot",
    "SnapshotPolicy",
    "SnapshotStore",
]
