"""Processes as rows."""

from mainstay.app import PostgresProcessRepository
from mainstay.commands.process_records import ProcessRepository

__all__ = ["PostgresProcessRepository", "ProcessRepository"]
