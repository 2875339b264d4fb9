"""The named questions on PostgreSQL, one file for each room; parameters are psycopg's, ``%(domain)s``."""

from functools import cache
from importlib.resources import files

from mainstay.storage.query_files import QueryFile, read


@cache
def load(room: str) -> QueryFile:
    """The queries of a room.

    Args:
        room: ``"commands"`` reads ``queries/commands.sql``.

    Raises:
        ConfigurationError: There is no such file, or it is malformed.
    """
    return read(files("mainstay.storage.postgres") / "queries", room)
