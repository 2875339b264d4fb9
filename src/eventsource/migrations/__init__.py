"""What the database needs."""

from mainstay import check_schema_exists, setup_database
from mainstay import get_schema_sql as get_all_schemas

__all__ = [
    "check_schema_exists",
    "get_all_schemas",
    "setup_database",
]
