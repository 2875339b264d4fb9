"""Questions about commands on PostgreSQL: one, many, what happened, how many."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from mainstay.commands.command import AuditEvent, BatchMetadata, CommandMetadata
from mainstay.commands.conversation import TracedCommand
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.store import Backlog, CommandFilter, DomainStats
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.command_rows import audit_event_from, batch_from, metadata_from
from mainstay.storage.postgres.database import Pool, autocommit, fetch_all, fetch_one, sealed


class PostgresQuestions:
    """What `mainstay.commands.store.CommandStore` asks, on PostgreSQL."""

    pool: Pool

    async def get(self, domain: str, command_id: UUID) -> CommandMetadata | None:
        """One command."""
        async with sealed(autocommit(self.pool)) as conn:
            row = await fetch_one(conn, queries.load("commands")["get"], {"domain": domain, "command_id": command_id})
        return None if row is None else metadata_from(row)

    async def query(self, which: CommandFilter, *, limit: int, offset: int) -> list[CommandMetadata]:
        """Commands, newest first."""
        at, after_id, after_domain = which.after or (None, None, None)
        parameters = {
            "domain": which.domain,
            "status": which.status,
            "command_type": which.command_type,
            "batch_id": which.batch_id,
            "created_after": which.created_after,
            "created_before": which.created_before,
            "tenant_id": None if which.tenant_id is None else str(which.tenant_id),
            "correlation_id": which.correlation_id,
            "after_time": at,
            "after_id": after_id,
            "after_domain": after_domain,
            "limit": limit,
            "offset": offset,
        }
        of_batch = (
            which.batch_id
            and which.domain
            and not (which.command_type or which.created_after or which.created_before or which.tenant_id)
            and not (which.correlation_id or which.after)
        )
        async with sealed(autocommit(self.pool)) as conn:
            rows = await fetch_all(
                conn, queries.load("commands")["list_batch_commands" if of_batch else "list_commands"], parameters
            )
        return [metadata_from(row) for row in rows]

    async def conversation(self, correlation_ids: Sequence[UUID], *, limit: int) -> list[TracedCommand]:
        """The commands of these conversations, the earliest first."""
        return await self._traced("conversation", {"correlation_ids": list(correlation_ids), "limit": limit})

    async def commands_known_as(self, command_id: UUID) -> list[TracedCommand]:
        """The commands with an id, in all domains."""
        return await self._traced("commands_known_as", {"command_id": command_id})

    async def _traced(self, question: str, asked: dict[str, Any]) -> list[TracedCommand]:
        async with sealed(autocommit(self.pool)) as conn:
            rows = await fetch_all(conn, queries.load("commands")[question], asked)
        return [TracedCommand(metadata_from(row), row["first_received"], row["last_received"]) for row in rows]

    async def batches_known_as(self, batch_id: UUID) -> list[BatchMetadata]:
        """The batches with an id, in all domains."""
        async with sealed(autocommit(self.pool)) as conn:
            rows = await fetch_all(conn, queries.load("commands")["batches_known_as"], {"batch_id": batch_id})
        return [batch_from(row) for row in rows]

    async def audit_trail(self, command_id: UUID, domain: str | None) -> list[AuditEvent]:
        """What happened to a command, in order."""
        async with sealed(autocommit(self.pool)) as conn:
            rows = await fetch_all(
                conn, queries.load("commands")["audit_trail"], {"command_id": command_id, "domain": domain}
            )
        return [audit_event_from(row) for row in rows]

    async def backlog(self, domain: str) -> Backlog:
        """What waits in a domain."""
        async with sealed(autocommit(self.pool)) as conn:
            row = await fetch_one(conn, queries.load("commands")["backlog"], {"domain": domain})
        return Backlog(0, 0, None, 0) if row is None else Backlog(**row)

    async def stats(self, domain: str | None) -> list[DomainStats]:
        """Numbers by domain, all from one snapshot each."""
        asked = {"domain": domain}
        async with sealed(autocommit(self.pool)) as conn:
            by_status = await fetch_all(conn, queries.load("commands")["stats_by_status"], asked)
            deferred = {
                row["domain"]: row["deferred"]
                for row in await fetch_all(conn, queries.load("commands")["stats_deferred"], asked)
            }
            parked = {
                row["domain"]: row["parked"]
                for row in await fetch_all(conn, queries.load("commands")["stats_parked"], asked)
            }
            breakers = {
                row["domain"]: row["breakers"]
                for row in await fetch_all(conn, queries.load("commands")["stats_breakers"], asked)
            }
            keyed = {
                row["domain"]: row["keyed"]
                for row in await fetch_all(conn, queries.load("commands")["stats_keyed"], asked)
            }
            queues = {
                row["domain"]: row for row in await fetch_all(conn, queries.load("commands")["stats_queues"], asked)
            }
        names = sorted({row["domain"] for row in by_status} | queues.keys())
        return [
            DomainStats(
                domain=name,
                by_status={CommandStatus(row["status"]): row["commands"] for row in by_status if row["domain"] == name},
                ready=queues[name]["ready"] if name in queues else 0,
                in_flight=queues[name]["in_flight"] if name in queues else 0,
                deferred=deferred.get(name, 0),
                oldest_ready_seconds=queues[name]["oldest_ready_seconds"] if name in queues else None,
                parked=parked.get(name, 0),
                keyed=keyed.get(name, 0),
                breakers=breakers.get(name, 0),
            )
            for name in names
        ]
