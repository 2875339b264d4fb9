"""Where checkpoints and dead letters are kept."""

from eventsource.repositories.checkpoint import (
    Checkpoint,
    CheckpointRepository,
    InMemoryCheckpointRepository,
    PostgreSQLCheckpointRepository,
    SQLiteCheckpointRepository,
)
from eventsource.repositories.dlq import (
    DeadLetter,
    DeadLetterStatus,
    DLQRepository,
    InMemoryDLQRepository,
    PostgreSQLDLQRepository,
    SQLiteDLQRepository,
)

__all__ = [
    "Checkpoint",
    "CheckpointRepository",
    "DLQRepository",
    "DeadLetter",
    "DeadLetterStatus",
    "InMemoryCheckpointRepository",
    "InMemoryDLQRepository",
    "PostgreSQLCheckpointRepository",
    "PostgreSQLDLQRepository",
    "SQLiteCheckpointRepository",
    "SQLiteDLQRepository",
]
