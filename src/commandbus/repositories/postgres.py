"""Repositories on PostgreSQL."""

from mainstay.storage.postgres.repositories import PostgresAuditLogger, PostgresCommandRepository

__all__ = ["PostgresAuditLogger", "PostgresCommandRepository"]
