"""Snapshots in a SQLite file."""

from mainstay.doorways import SnapshotFile as SQLiteSnapshotStore
from mainstay.extras import SQLITE_AVAILABLE

__all__ = [
    "SQLITE_AVAILABLE",
    "SQLiteSnapshotStore",
]
