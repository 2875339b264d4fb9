"""Processes on PostgreSQL: `mainstay.commands.process_store.ProcessStore`."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from mainstay.commands.process import (
    ProcessEvent,
    ProcessEventType,
    ProcessMetadata,
    ProcessStatus,
    StepMetadata,
    StepStatus,
    TakenEvent,
)
from mainstay.commands.process_store import HeldProcess, NewProcess, ProcessChange, ProcessFilter
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.callers import rows_in
from mainstay.storage.postgres.database import Pool, autocommit, borrowed, fetch_all, fetch_one, sealed
from mainstay.tenancy import checked_tenant

_NOT_OF_A_STEP = {"process_id", "status", "done_after"}


class PostgresProcesses:
    """Processes in a database.

    Args:
        pool: For what is not asked on a caller's connection.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("processes")

    async def start(self, processes: Sequence[NewProcess], *, conn: Any) -> list[UUID]:
        """Put processes in; one round trip. Returns the ids that were known already."""
        document = [
            {
                "process_id": new.change.process_id,
                "domain": new.domain,
                "reply_domain": new.reply_domain,
                "process_type": new.process_type,
                "correlation_id": new.correlation_id,
                "batch_id": new.batch_id,
                "tenant_id": None if new.tenant_id is None else str(new.tenant_id),
                "actor_id": new.actor_id,
                "change": _change_fields(new.change),
            }
            for new in processes
        ]
        rows = await rows_in(conn, self._sql["start"], {"processes": orjson.dumps(document).decode()})
        return [row[0] for row in rows]

    async def lock(
        self,
        *,
        process_id: UUID | None = None,
        command_id: UUID | None = None,
        step_no: int | None = None,
        event_id: UUID | None = None,
        conn: Any,
    ) -> HeldProcess | None:
        """A process, held until the transaction ends; what is asked for besides is read once it is held."""
        async with sealed(borrowed(self._pool, conn)) as own:
            row = await fetch_one(own, self._sql["lock"], {"process_id": process_id, "command_id": command_id})
            if row is None:
                return None
            asked = {
                "process_id": row["process_id"],
                "command_id": command_id,
                "step_no": step_no,
                "event_id": event_id,
            }
            (told,) = await fetch_all(own, self._sql["standing"], asked)
        last_no, last_name, was_told = told.pop("last_no"), told.pop("last_name"), told.pop("was_told")
        step = None if told["step_no"] is None else _step_from(told)
        has_done = row["last_done"] > 0
        return HeldProcess(process_from(row), step, last_no, last_name, row["open_steps"], has_done, was_told)

    async def steps(self, process_id: UUID, *, conn: Any) -> list[StepMetadata]:
        """All steps of a process, in order, as this transaction sees them."""
        async with sealed(borrowed(self._pool, conn)) as own:
            return [_step_from(row) for row in await fetch_all(own, self._sql["steps"], {"process_id": process_id})]

    async def to_undo(
        self, process_id: UUID, *, after: int | None = None, limit: int = 20, conn: Any
    ) -> list[StepMetadata]:
        """The steps of a process that were done, the one done last first."""
        asked = {"process_id": process_id, "after": after, "limit": limit}
        async with sealed(borrowed(self._pool, conn)) as own:
            return [_step_from(row) for row in await fetch_all(own, self._sql["to_undo"], asked)]

    async def advance(self, change: ProcessChange, *, conn: Any) -> None:
        """Write a move of a process that is locked; one round trip."""
        await rows_in(conn, self._sql["advance"], {"change": orjson.dumps(_change_fields(change)).decode()})

    async def get(self, process_id: UUID, *, with_steps: bool = True) -> ProcessMetadata | None:
        """A process with its steps and events, or without them."""
        asked = {"process_id": process_id}
        async with sealed(autocommit(self._pool)) as own:
            row = await fetch_one(own, self._sql["get"], asked)
            if row is None or not with_steps:
                return None if row is None else process_from(row)
            steps = tuple(_step_from(step) for step in await fetch_all(own, self._sql["steps"], asked))
            events = tuple(TakenEvent(**event) for event in await fetch_all(own, self._sql["events"], asked))
        return process_from(row, steps, events)

    async def query(self, which: ProcessFilter, *, limit: int, offset: int) -> list[ProcessMetadata]:
        """Processes without their steps, newest first."""
        parameters = {
            "domain": which.domain,
            "process_type": which.process_type,
            "status": which.status,
            "batch_id": which.batch_id,
            "limit": limit,
            "offset": offset,
        }
        async with sealed(autocommit(self._pool)) as own:
            return [process_from(row) for row in await fetch_all(own, self._sql["list"], parameters)]

    async def audit_trail(self, process_id: UUID) -> list[ProcessEvent]:
        """What happened to a process, in order."""
        async with sealed(autocommit(self._pool)) as own:
            rows = await fetch_all(own, self._sql["audit_trail"], {"process_id": process_id})
        return [
            ProcessEvent(
                audit_id=row["audit_id"],
                process_id=row["process_id"],
                event_type=ProcessEventType(row["event_type"]),
                timestamp=row["ts"],
                step_no=row["step_no"],
                details=row["details"],
            )
            for row in rows
        ]

    async def count(self, batch_id: UUID) -> dict[ProcessStatus, int]:
        """How many processes of a batch stand where."""
        async with sealed(autocommit(self._pool)) as own:
            rows = await fetch_all(own, self._sql["count"], {"batch_id": batch_id})
        return {ProcessStatus(row["status"]): row["processes"] for row in rows}


def process_from(
    row: dict[str, Any], steps: tuple[StepMetadata, ...] = (), events: tuple[TakenEvent, ...] = ()
) -> ProcessMetadata:
    """A row of the process table."""
    return ProcessMetadata(
        process_id=row["process_id"],
        domain=row["domain"],
        reply_domain=row["reply_domain"],
        process_type=row["process_type"],
        status=ProcessStatus(row["status"]),
        state=row["state"],
        correlation_id=row["correlation_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        batch_id=row["batch_id"],
        tenant_id=checked_tenant(row["tenant_id"]),
        actor_id=row["actor_id"],
        deadlines={name: UUID(command_id) for name, command_id in row["deadlines"].items()},
        events=events,
        ends_as=None if row["ends_as"] is None else ProcessStatus(row["ends_as"]),
        error_code=row["error_code"],
        error_message=row["error_message"],
        completed_at=row["completed_at"],
        pruned_at=row["pruned_at"],
        steps=steps,
    )


def _step_from(row: dict[str, Any]) -> StepMetadata:
    fields = {name: value for name, value in row.items() if name not in _NOT_OF_A_STEP}
    return StepMetadata(**fields, status=StepStatus(row["status"]))


def _change_fields(change: ProcessChange) -> dict[str, Any]:
    """A change as the JSON that commandbus.advance_process takes."""
    return {
        "process_id": change.process_id,
        "status": change.status,
        "state": orjson.Fragment(change.state),
        "ends_as": change.ends_as,
        "error_code": change.error_code,
        "error_message": change.error_message,
        "outcomes": [
            {
                "step_no": outcome.step_no,
                "status": outcome.status,
                "result": None if outcome.result is None else orjson.Fragment(outcome.result),
                "error_code": outcome.error_code,
                "error_message": outcome.error_message,
            }
            for outcome in change.outcomes
        ],
        "sent": [
            {
                "step_no": step.step_no,
                "name": step.name,
                "undoes": step.undoes,
                "domain": step.command.domain,
                "command_type": step.command.command_type,
                "command_id": step.command.command_id,
                "data": orjson.Fragment(step.command.data),
            }
            for step in change.sent
        ],
        "armed": change.armed,
        "event": None
        if (event := change.event) is None
        else {
            "event_id": event.event_id,
            "event_type": event.event_type,
            "position": event.position,
            "was_taken": event.was_taken,
        },
        "told": [
            {"event_type": told.event_type, "step_no": told.step_no, "details": told.details} for told in change.told
        ],
    }
