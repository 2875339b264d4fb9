"""Errors about the database and the way to it."""

from mainstay.errors.base import MainstayError, shown


class StorageError(MainstayError):
    """The database, or the way to it."""


class QueueNotFoundError(StorageError):
    """A queue that should receive something does not exist."""

    def __init__(self, queue: str) -> None:
        """Keep the name as ``queue``."""
        self.queue = queue
        is_domain_s = isinstance(queue, str) and queue.endswith("__commands")
        worker = ", or start a worker of its domain, which does" if is_domain_s else ""
        super().__init__(
            f"queue {shown(queue)} does not exist; create it first: "
            f"PgmqClient(pool).create_queue({shown(queue)}){worker}"
        )


class SchemaError(StorageError):
    """The database schema is not what this code needs."""


class SchemaMissingError(SchemaError):
    """Mainstay is not installed in this database."""


class SchemaOutdatedError(SchemaError):
    """The database schema is older than this code."""


class SchemaTooNewError(SchemaError):
    """The database schema is newer than this code, with a change that this code cannot live with."""


class SchemaDriftError(SchemaError):
    """The database differs from what its ledger says, or a released migration was edited."""


class PgmqMissingError(StorageError):
    """PGMQ is absent or too old, and could not be installed."""


class PermissionDeniedError(StorageError):
    """The database role may not do this; the message says what to grant."""


class StorageUnavailableError(StorageError):
    """No connection could be had, or it broke. If it broke during a commit, the outcome is unknown."""


class DatabaseNotFoundError(StorageUnavailableError):
    """The server is there and has no database of this name; create it, or name another."""


class LoginRefusedError(StorageUnavailableError):
    """The server is there and does not let this role in: no such role, a wrong password, or its rules."""


class PoolExhaustedError(StorageUnavailableError):
    """No connection became free in time; make the pool larger or hold connections for a shorter time."""


class PoolClosedError(StorageUnavailableError):
    """The pool is not open; waiting does not help."""


class DatabaseLockedError(StorageUnavailableError):
    """Another process, another transaction or a connection of yours held the database file for too long.

    Nothing was written.
    """


class DatabaseFullError(StorageError):
    """The disk is full, or the database file may not grow. Nothing was written."""


class DatabaseCorruptError(StorageError):
    """The file is no database, or is damaged; restore it from a copy."""


class EmbeddedServerError(StorageError):
    """The embedded PostgreSQL server could not be started or stopped."""
