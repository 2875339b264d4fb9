"""Snapshots on PostgreSQL."""

from mainstay.storage.postgres.snapshots import PostgresSnapshotStore as PostgreSQLSnapshotStore

__all__ = [
    "PostgreSQLSnapshotStore",
]
