"""Where checkpoints are kept."""

from mainstay import Checkpoint
from mainstay import MemoryProjectionStore as InMemoryCheckpointRepository
from mainstay.doorways import CheckpointFile as SQLiteCheckpointRepository
from mainstay.projections.store import ProjectionStore as CheckpointRepository
from mainstay.storage.postgres.projections import PostgresProjectionStore as PostgreSQLCheckpointRepository

__all__ = [
    "Checkpoint",
    "CheckpointRepository",
    "InMemoryCheckpointRepository",
    "PostgreSQLCheckpointRepository",
    "SQLiteCheckpointRepository",
]
