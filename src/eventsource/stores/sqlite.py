"""Events in a SQLite file."""

from mainstay import SQLiteEventStore
from mainstay.extras import SQLITE_AVAILABLE

__all__ = [
    "SQLITE_AVAILABLE",
    "SQLiteEventStore",
]
