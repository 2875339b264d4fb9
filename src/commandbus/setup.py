"""Bringing a database to what the bus needs."""

from mainstay import check_schema_exists, get_schema_sql, setup_database

__all__ = ["check_schema_exists", "get_schema_sql", "setup_database"]
