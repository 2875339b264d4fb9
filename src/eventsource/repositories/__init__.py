"""Where checkpoints and dead letters are kept."""

from eventsource.repositories.checkpoint import (
    Checkpoint,
    CheckpointRepository,
    InMemoryCheckpointRepository,
    PostgreSQLCheckpointRepository,
)
from eventsource.repositories.dlq import (
    DeadLetter,
    DeadLetterStatus,
    DLQRepository,
    InMemoryDLQRepository,
    PostgreSQLDLQRepository,
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
]
