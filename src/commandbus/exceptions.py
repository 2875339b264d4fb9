"""What handlers raise, and what callers may meet."""

from mainstay import (
    BatchNotFoundError,
    BusinessRuleException,
    CommandNotFoundError,
    ConfigurationError,
    DuplicateCommandError,
    HandlerAlreadyRegisteredError,
    HandlerNotFoundError,
    InvalidDomainError,
    InvalidInputError,
    InvalidOperationError,
    InvalidPayloadError,
    PermanentCommandError,
    QueueNotFoundError,
    SchemaError,
    StorageUnavailableError,
    TransientCommandError,
)
from mainstay import MainstayError as CommandBusError

__all__ = [
    "BatchNotFoundError",
    "BusinessRuleException",
    "CommandBusError",
    "CommandNotFoundError",
    "ConfigurationError",
    "DuplicateCommandError",
    "HandlerAlreadyRegisteredError",
    "HandlerNotFoundError",
    "InvalidDomainError",
    "InvalidInputError",
    "InvalidOperationError",
    "InvalidPayloadError",
    "PermanentCommandError",
    "QueueNotFoundError",
    "SchemaError",
    "StorageUnavailableError",
    "TransientCommandError",
]
