"""What commands look like on the way to PostgreSQL and back: JSON documents out, rows in.

A message may come from anybody who can write to a queue. What in it is not as it should be is read as missing; one that
cannot be read at all is an error, and the store deals with it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

import orjson
from psycopg.pq.abc import PGresult

from mainstay.commands.command import (
    AuditEvent,
    BatchMetadata,
    Command,
    CommandMetadata,
    OnConflict,
    SendResult,
    TroubleshootingItem,
)
from mainstay.commands.ledger import NewDecision
from mainstay.commands.lifecycle import AuditEventType, BatchStatus, CommandStatus
from mainstay.commands.store import Answer, Lease, NewCommand, NotUnique, Outcome, Received, Refusal, Verb


def text(document: bytes | None) -> str | None:
    """JSON bytes as the text that a parameter takes."""
    return None if document is None else document.decode()


def commands_document(commands: Sequence[NewCommand]) -> str:
    """Commands as the JSON array that commandbus.send takes."""
    return orjson.dumps([command_fields(command) for command in commands]).decode()


def is_plain(command: NewCommand) -> bool:
    """Whether it waits for no time and no turn, has no unique key, counts in no batch and asks for no reply.

    Args:
        command: What commandbus.send_one takes, if so.
    """
    return (
        command.reply_to is None
        and command.batch_id is None
        and command.delay is None
        and command.not_before is None
        and command.key is None
        and command.expires_at is None
        and command.unique_key is None
    )


def plain_fields(command: NewCommand) -> dict[str, Any]:
    """A plain command as commandbus.send_one takes it."""
    return {
        "domain": command.domain,
        "command_type": command.command_type,
        "command_id": command.command_id,
        "data": command.data,
        "correlation_id": command.correlation_id,
        "max_attempts": command.max_attempts,
        "headers": command.headers,
        "priority": command.priority,
    }


def plain_document(commands: Sequence[NewCommand]) -> bytes:
    """Plain commands as the JSON array that commandbus.send_many takes."""
    return orjson.dumps([_plain_element(command) for command in commands])


def _plain_element(command: NewCommand) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "command_type": command.command_type,
        "command_id": command.command_id,
        "data": orjson.Fragment(command.data),
        "correlation_id": command.correlation_id,
        "max_attempts": command.max_attempts,
    }
    if command.headers is not None:
        fields["headers"] = orjson.Fragment(command.headers)
    if command.priority:
        fields["priority"] = command.priority
    return fields


def numbers_from(array: bytes | None) -> list[int] | None:
    """An array of whole numbers as libpq gives it."""
    return None if array is None else [int(number) for number in array[1:-1].split(b",")]


def command_fields(command: NewCommand) -> dict[str, Any]:
    """Only what is set: the document is parsed for every send."""
    fields: dict[str, Any] = {
        "domain": command.domain,
        "command_type": command.command_type,
        "command_id": command.command_id,
        "data": orjson.Fragment(command.data),
        "correlation_id": command.correlation_id,
        "max_attempts": command.max_attempts,
    }
    if command.reply_to is not None:
        fields["reply_to"] = command.reply_to
    if command.batch_id is not None:
        fields["batch_id"] = command.batch_id
    if command.delay is not None:
        fields["delay"] = command.delay
    if command.not_before is not None:
        fields["not_before"] = command.not_before
    if command.headers is not None:
        fields["headers"] = orjson.Fragment(command.headers)
    if command.skip_known:
        fields["skip_known"] = True
    if command.key is not None:
        fields["key"] = command.key
    if command.priority:
        fields["priority"] = command.priority
    if command.expires_at is not None or command.unique_key is not None:
        fields |= _rare_fields(command)
    return fields


def _rare_fields(command: NewCommand) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if command.expires_at is not None:
        fields["expires_at"] = command.expires_at
    if command.unique_key is not None:
        fields["unique_key"] = command.unique_key
    if command.unique_for is not None:
        fields["unique_for"] = command.unique_for
    if command.on_conflict is not OnConflict.REFUSE:
        fields["on_conflict"] = command.on_conflict
    if command.successor_of is not None:
        fields["successor_of"] = command.successor_of
    return fields


def send_rows(result: PGresult) -> Iterator[tuple[Any, ...]]:
    """What commandbus.send says: (domain, command_id, msg_id, refusal, holder_id), as texts."""
    value: Callable[[int, int], Any] = result.get_value
    for row in range(result.ntuples):
        refusal, holder_id = value(row, 3), value(row, 4)
        yield (
            value(row, 0).decode(),
            value(row, 1).decode(),
            value(row, 2),
            refusal and refusal.decode(),
            holder_id and holder_id.decode(),
        )


def answer_from(command_id: UUID, row: tuple[Any, ...] | None) -> Answer:
    """What commandbus.send says of one command.

    Args:
        command_id: Which.
        row: (msg_id, refusal, holder_id), or None if there was no row: it is a duplicate.
    """
    if row is None:
        return Refusal.DUPLICATE
    msg_id, refusal, holder_id = row
    if holder_id is not None:
        return NotUnique(UUID(holder_id)) if refusal else SendResult(UUID(holder_id), None, skipped=True)
    return Refusal(refusal) if refusal else SendResult(command_id, None if msg_id is None else int(msg_id))


def outcome_fields(outcome: Outcome) -> dict[str, Any]:
    """An outcome as an element of the JSON array that commandbus.complete takes: only what is set."""
    lease = outcome.lease
    fields: dict[str, Any] = {
        "command_id": lease.command_id,
        "msg_id": lease.msg_id,
        "lease_no": lease.lease_no,
        "verb": outcome.verb,
    }
    if outcome.result is not None:
        fields["result"] = orjson.Fragment(outcome.result)
    if outcome.error_code is not None:
        fields["error_type"] = outcome.error_type
        fields["error_code"] = outcome.error_code
        fields["error_message"] = outcome.error_message
    if outcome.details is not None:
        fields["details"] = orjson.Fragment(outcome.details)
    if outcome.delay:
        fields["delay"] = outcome.delay
    if outcome.exhausted:
        fields["exhausted"] = True
    if outcome.position is not None:
        fields["position"] = outcome.position
    if outcome.sends:
        fields["sends"] = [command_fields(command) for command in outcome.sends]
    if outcome.decision is not None:
        fields["decision"] = decision_fields(outcome.decision)
    return fields


def decision_fields(decision: NewDecision) -> dict[str, Any]:
    """A decision as commandbus.record_decisions takes it."""
    stream = decision.stream
    fields: dict[str, Any] = {
        "category": stream.category,
        "stream_id": stream.stream_id,
        "version_read": decision.version_read,
        "events": decision.events,
        "handler": decision.handler,
        "handler_version": decision.handler_version,
    }
    if stream.tenant_id is not None:
        fields["tenant_id"] = stream.tenant_id
    if decision.sends:
        fields["sent"] = [{"domain": domain, "command_id": command_id} for domain, command_id in decision.sends]
    return fields


def reports_document(reports: Sequence[tuple[Lease, bytes]]) -> str:
    """Reports as the JSON array that commandbus.report takes."""
    return orjson.dumps(
        [
            {"command_id": lease.command_id, "lease_no": lease.lease_no, "progress": orjson.Fragment(progress)}
            for lease, progress in reports
        ]
    ).decode()


def received_from(domain: str, row: tuple[Any, ...]) -> Received:
    """A row of commandbus.receive.

    Raises:
        ValueError: Its message is beyond what can be read: too deep, or with a number that Python has no room for.
    """
    command_id, msg_id, lease_no, attempt, max_attempts, message, headers, created_at, key, *about = row
    in_batch, limited, start_within = about
    content = orjson.loads(message)
    command = Command(
        domain=domain,
        command_type=str(content.get("command_type") or "UNKNOWN"),
        command_id=command_id,
        data=content.get("data") or {},
        correlation_id=_uuid(content.get("correlation_id")),
        reply_to=content.get("reply_to"),
        created_at=created_at,
        headers=orjson.loads(headers) if headers else {},
        key=key,
    )
    lease = Lease(command_id, msg_id, lease_no, limited or False, in_batch)
    return Received(command, lease, attempt, max_attempts, start_within)


def unreadable(row: tuple[Any, ...], error: ValueError) -> Outcome:
    """What to write of a received command whose message cannot be read.

    Args:
        row: Of commandbus.receive.
        error: Why it cannot.
    """
    command_id, msg_id, lease_no, *_ = row
    return Outcome(
        Lease(command_id, msg_id, lease_no),
        Verb.TROUBLESHOOT,
        error_type="PERMANENT",
        error_code="UNREADABLE_MESSAGE",
        error_message=f"its message cannot be read: {error}",
    )


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def metadata_from(row: dict[str, Any]) -> CommandMetadata:
    """A row of the command table."""
    return CommandMetadata(
        domain=row["domain"],
        command_id=row["command_id"],
        command_type=row["command_type"],
        status=CommandStatus(row["status"]),
        attempts=row["attempts"],
        max_attempts=row["max_attempts"],
        msg_id=row["msg_id"],
        correlation_id=row["correlation_id"],
        reply_to=row["reply_to"],
        last_error_type=row["error_type"],
        last_error_code=row["error_code"],
        last_error_msg=row["error_message"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        batch_id=row["batch_id"],
        data=row["data"],
        result=row["result"],
        due_at=row["due_at"],
        progress=row["progress"],
        key=row["key"],
        priority=row["priority"],
        expires_at=row["expires_at"],
        headers=row["headers"],
        unique_key=row["unique_key"],
        position=row["position"],
    )


def batch_from(row: dict[str, Any]) -> BatchMetadata:
    """A row of get_batch or list_batches."""
    return BatchMetadata(
        domain=row["domain"],
        batch_id=row["batch_id"],
        status=BatchStatus(row["status"]),
        name=row["name"],
        custom_data=row["custom_data"],
        total_count=row["total_count"],
        completed_count=row["completed_count"],
        failed_count=row["failed_count"],
        canceled_count=row["canceled_count"],
        in_troubleshooting_count=row["troubleshooting_count"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        sealed=row["sealed"],
        parent_id=row["parent_id"],
    )


def troubleshooting_item_from(row: dict[str, Any]) -> TroubleshootingItem:
    """A row of the command table, as an operator sees it."""
    return TroubleshootingItem(
        domain=row["domain"],
        command_id=row["command_id"],
        command_type=row["command_type"],
        attempts=row["attempts"],
        max_attempts=row["max_attempts"],
        last_error_type=row["error_type"],
        last_error_code=row["error_code"],
        last_error_msg=row["error_message"],
        payload=row["data"],
        correlation_id=row["correlation_id"],
        reply_to=row["reply_to"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        batch_id=row["batch_id"],
        headers=row["headers"],
    )


def audit_event_from(row: dict[str, Any]) -> AuditEvent:
    """A line of an audit trail."""
    return AuditEvent(
        audit_id=row["audit_id"],
        domain=row["domain"],
        command_id=row["command_id"],
        event_type=AuditEventType(row["event_type"]),
        timestamp=row["ts"],
        details=row["details"],
    )
