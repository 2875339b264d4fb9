"""The nouns of processes."""

from mainstay.commands.process_records import (
    ProcessAuditEntry,
    ProcessCommand,
    ProcessMetadata,
    ProcessResponse,
    ProcessState,
    ProcessStatus,
)

__all__ = [
    "ProcessAuditEntry",
    "ProcessCommand",
    "ProcessMetadata",
    "ProcessResponse",
    "ProcessState",
    "ProcessStatus",
]
