"""Commands and audit events, row by row."""

from mainstay.commands.repository import CommandRepository
from mainstay.storage.postgres.repositories import PostgresAuditLogger, PostgresCommandRepository

__all__ = ["CommandRepository", "PostgresAuditLogger", "PostgresCommandRepository"]
