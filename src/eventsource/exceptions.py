"""What can go wrong."""

from mainstay.errors import (
    AggregateNotCreatedError,
    AggregateNotFoundError,
    CorruptEventError,
    DuplicateEventTypeError,
    EventVersionError,
    OptimisticLockError,
    ProjectionError,
    UnhandledEventError,
)
from mainstay.errors import CheckpointMismatchError as CheckpointError
from mainstay.errors import ConfigurationError as HandlerSignatureError
from mainstay.errors import InvalidPayloadError as SerializationError
from mainstay.errors import MainstayError as EventSourceError
from mainstay.errors import StorageError as EventStoreError
from mainstay.errors import StreamNotFoundError as EventNotFoundError
from mainstay.errors import UnknownEventTypeError as EventTypeNotFoundError

__all__ = [
    "AggregateNotCreatedError",
    "AggregateNotFoundError",
    "CheckpointError",
    "CorruptEventError",
    "DuplicateEventTypeError",
    "EventNotFoundError",
    "EventSourceError",
    "EventStoreError",
    "EventTypeNotFoundError",
    "EventVersionError",
    "HandlerSignatureError",
    "OptimisticLockError",
    "ProjectionError",
    "SerializationError",
    "UnhandledEventError",
]
