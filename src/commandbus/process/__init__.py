"""Processes: several commands that belong together."""

from commandbus.process.base import BaseProcessManager
from commandbus.process.models import (
    ProcessAuditEntry,
    ProcessCommand,
    ProcessMetadata,
    ProcessResponse,
    ProcessState,
    ProcessStatus,
)
from commandbus.process.repository import PostgresProcessRepository, ProcessRepository
from commandbus.process.router import ProcessReplyRouter

__all__ = [
    "BaseProcessManager",
    "PostgresProcessRepository",
    "ProcessAuditEntry",
    "ProcessCommand",
    "ProcessMetadata",
    "ProcessReplyRouter",
    "ProcessRepository",
    "ProcessResponse",
    "ProcessState",
    "ProcessStatus",
]
