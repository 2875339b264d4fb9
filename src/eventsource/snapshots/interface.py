"""What is asked of a place for snapshots."""

from mainstay import Snapshot, SnapshotPolicy, SnapshotStore

__all__ = [
    "Snapshot",
    "SnapshotPolicy",
    "SnapshotStore",
]
