"""Single rows of commands and of the audit trail, for code that keeps its own bus on these tables.

It is a thin layer. What `CommandBus` and `Worker` promise, leases, retries and batches, comes from the functions in the
schema, and a row that is written here has none of it: save it together with its message (`PgmqClient.send`) and its
``msg_id``, in one transaction, and a `Worker` will handle it like any other. The side tables are kept in step, a
command that has ended stays as it is, and what is left out (an audit event, a message) `fsck` reports.
"""

from typing import Any
from uuid import UUID

from mainstay.commands.command import AuditEvent, CommandMetadata
from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.errors import CommandNotFoundError, DuplicateCommandError, InvalidInputError, InvalidOperationError, shown
from mainstay.message import checked_domain, checked_id, checked_queue, checked_type
from mainstay.serialization import to_json
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Connection, Pool, borrowed, fetch_all, fetch_one, fetch_value
from mainstay.storage.postgres.pgmq_message import checked_count, checked_msg_id


class PostgresCommandRepository:
    """`mainstay.commands.repository.CommandRepository` on PostgreSQL.

    Args:
        pool: An open pool, for calls without a connection.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("repositories")

    async def save(self, command: CommandMetadata, *, conn: Connection | None = None) -> None:
        """Store a new command.

        Args:
            command: Its ``created_at`` and ``updated_at`` are stored as they are.
            conn: Join this connection's transaction.

        Raises:
            DuplicateCommandError: The id is known in this domain; nothing was changed.
            InvalidInputError: A field that no command can have, or a batch, which only `CommandBus` counts.
        """
        if command.batch_id is not None:
            raise InvalidInputError("a command of a batch is sent by CommandBus, which counts it")
        values = {
            "domain": checked_domain(command.domain),
            "command_id": checked_id(command.command_id, "command_id"),
            "command_type": checked_type(command.command_type),
            "status": _status(command.status),
            "attempts": command.attempts,
            "max_attempts": checked_count(command.max_attempts, "max_attempts"),
            "msg_id": None if command.msg_id is None else checked_msg_id(command.msg_id),
            "correlation_id": command.correlation_id,
            "reply_to": checked_queue(command.reply_to) if command.reply_to else None,
            "last_error_type": command.last_error_type,
            "last_error_code": command.last_error_code,
            "last_error_msg": command.last_error_msg,
            "created_at": command.created_at,
            "updated_at": command.updated_at,
            "data": _document(command.data, "data"),
            "result": _document(command.result, "result"),
            "due_at": command.due_at,
        }
        async with borrowed(self._pool, conn) as session:
            if not await fetch_value(session, self._sql["save"], values):
                raise DuplicateCommandError(command.domain, command.command_id)

    async def get_by_id(
        self, domain: str, command_id: UUID, *, conn: Connection | None = None
    ) -> CommandMetadata | None:
        """One command, or None."""
        async with borrowed(self._pool, conn) as session:
            row = await fetch_one(session, self._sql["get"], _key(domain, command_id))
        return None if row is None else CommandMetadata(**{**row, "status": CommandStatus(row["status"])})

    async def update_status(
        self, domain: str, command_id: UUID, status: CommandStatus, *, conn: Connection | None = None
    ) -> None:
        """Set the status of a command that has not ended; its message, if any, is the caller's to delete.

        Raises:
            CommandNotFoundError: No such command.
            InvalidOperationError: It has ended with another status, or belongs to a batch.
        """
        key = _key(domain, command_id)
        async with borrowed(self._pool, conn) as session:
            if await fetch_value(session, self._sql["update_status"], {**key, "status": _status(status)}):
                return
            row = await fetch_one(session, self._sql["get"], key)
        if row is None:
            raise CommandNotFoundError(domain, key["command_id"])
        why = "belongs to a batch" if row["batch_id"] else f"is {row['status']}"
        raise InvalidOperationError(f"command {command_id} {why}; its status cannot be set to {status}")

    async def update_msg_id(
        self, domain: str, command_id: UUID, msg_id: int, *, conn: Connection | None = None
    ) -> None:
        """Note which message of the domain's queue stands for a command.

        Raises:
            CommandNotFoundError: No such command.
        """
        values = {**_key(domain, command_id), "msg_id": checked_msg_id(msg_id)}
        async with borrowed(self._pool, conn) as session:
            if not await fetch_value(session, self._sql["update_msg_id"], values):
                raise CommandNotFoundError(domain, values["command_id"])


class PostgresAuditLogger:
    """The audit trail of commands.

    Args:
        pool: An open pool, for calls without a connection.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("repositories")

    async def log(
        self,
        *,
        event_type: AuditEventType | str,
        command_id: UUID,
        domain: str | None = None,
        details: dict[str, Any] | None = None,
        conn: Connection | None = None,
    ) -> None:
        """Add an event to a command's trail.

        Args:
            event_type: One of `AuditEventType`.
            command_id: A command that exists.
            domain: Whose; None: of every domain that knows the id, which is one as a rule.
            details: JSON object.
            conn: Join this connection's transaction.

        Raises:
            CommandNotFoundError: No such command.
            InvalidInputError: No such event, or details that JSON cannot hold.
        """
        try:
            event = AuditEventType(event_type)
        except ValueError:
            raise InvalidInputError(
                f"event_type must be one of {', '.join(AuditEventType)}, not {shown(event_type)}"
            ) from None
        values = {**_trail(command_id, domain), "event_type": event.value, "details": _document(details, "details")}
        async with borrowed(self._pool, conn) as session:
            if not await fetch_value(session, self._sql["log"], values):
                raise CommandNotFoundError(domain or "any", values["command_id"])

    async def get_events(
        self, command_id: UUID, domain: str | None = None, *, conn: Connection | None = None
    ) -> list[AuditEvent]:
        """A command's trail, in order."""
        async with borrowed(self._pool, conn) as session:
            rows = await fetch_all(session, self._sql["events"], _trail(command_id, domain))
        return [
            AuditEvent(
                audit_id=row["audit_id"],
                domain=row["domain"],
                command_id=row["command_id"],
                event_type=AuditEventType(row["event_type"]),
                timestamp=row["ts"],
                details=row["details"],
            )
            for row in rows
        ]


def _key(domain: str, command_id: UUID) -> dict[str, Any]:
    return {"domain": checked_domain(domain), "command_id": checked_id(command_id, "command_id")}


def _trail(command_id: UUID, domain: str | None) -> dict[str, Any]:
    checked = None if domain is None else checked_domain(domain)
    return {"domain": checked, "command_id": checked_id(command_id, "command_id")}


def _status(status: CommandStatus | str) -> str:
    try:
        return CommandStatus(status).value
    except ValueError:
        raise InvalidInputError(f"status must be one of {', '.join(CommandStatus)}, not {shown(status)}") from None


def _document(value: Any, what: str) -> str | None:
    return None if value is None else to_json(value, what=what).decode()
