"""Where dead letters are kept."""

from mainstay import DeadLetter, DeadLetterStatus
from mainstay import MemoryProjectionStore as InMemoryDLQRepository
from mainstay.doorways import CheckpointFile as SQLiteDLQRepository
from mainstay.projections.store import ProjectionStore as DLQRepository
from mainstay.storage.postgres.projections import PostgresProjectionStore as PostgreSQLDLQRepository

__all__ = [
    "DLQRepository",
    "DeadLetter",
    "DeadLetterStatus",
    "InMemoryDLQRepository",
    "PostgreSQLDLQRepository",
    "SQLiteDLQRepository",
]
