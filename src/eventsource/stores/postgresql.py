"""Events on PostgreSQL."""

from mainstay import PostgreSQLEventStore

__all__ = [
    "PostgreSQLEventStore",
]
