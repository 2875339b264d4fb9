"""Is this database, as this role sees it through this connection, fit for commands?

`examine` asks everything and judges. Each check stands alone: one that cannot be made (a right is missing, the schema
is not installed) says so in its own line, and the others go on. Nothing is written, nothing is locked. The questions
are in ``queries/doctor.sql``; what their answers mean is in `server`, `tables` and `pooler`, as functions of rows
alone.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import DictRow

from mainstay.clock import Clock, SystemClock
from mainstay.errors import MainstayError, SchemaMissingError
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, autocommit, fetch_all
from mainstay.storage.postgres.doctor import feed, pooler, projections, server, tables
from mainstay.storage.postgres.doctor.check import Check, Level, Limits, fault, unless, warning
from mainstay.storage.postgres.migrate import schema_status

__all__ = ["CHECKS", "Check", "Level", "Limits", "Patient", "examine"]


@dataclass(frozen=True, slots=True)
class Patient:
    """The database that is examined.

    Args:
        pool: Open.
        limits: From where on something is worth a word.
        clock: This host's.
    """

    pool: Pool
    limits: Limits = field(default_factory=Limits)
    clock: Clock = field(default_factory=SystemClock)

    async def rows(self, question: str, **parameters: Any) -> list[DictRow]:
        """The answer to a question of ``queries/doctor.sql``."""
        async with autocommit(self.pool) as conn:
            return await fetch_all(conn, queries.load("doctor")[question], parameters or None)

    async def row(self, question: str) -> DictRow:
        """The only row of an answer."""
        (only,) = await self.rows(question)
        return only


async def _version(patient: Patient) -> Iterable[Check]:
    return server.versions(await patient.row("server"))


async def _schema(patient: Patient) -> Iterable[Check]:
    return server.schema(await schema_status(patient.pool))


async def _rights(patient: Patient) -> Iterable[Check]:
    return tables.rights(await patient.rows("missing_rights"), (await patient.row("server"))["role"])


async def _settings(patient: Patient) -> Iterable[Check]:
    return server.settings(await patient.row("server"))


async def _autovacuum(patient: Patient) -> Iterable[Check]:
    return tables.autovacuum(await patient.row("server"), await patient.rows("tables"), patient.limits)


async def _sessions(patient: Patient) -> Iterable[Check]:
    return server.sessions(await patient.rows("sessions"), patient.limits)


async def _prepared_transactions(patient: Patient) -> Iterable[Check]:
    found = server.prepared_transactions(await patient.rows("prepared_transactions"), patient.limits)
    return unless(found, "prepared transactions", "No prepared transaction was left behind.")


async def _replication_slots(patient: Patient) -> Iterable[Check]:
    found = server.replication_slots(await patient.rows("replication_slots"), patient.limits)
    return unless(found, "replication slots", "No replication slot is without its reader.")


async def _queues(patient: Patient) -> Iterable[Check]:
    rows = await patient.rows("queues", sample=tables.SAMPLE)
    return unless(tables.queues(rows, patient.limits), "queues", "There are no queues yet.")


async def _breakers(patient: Patient) -> Iterable[Check]:
    return unless(tables.breakers(await patient.rows("breakers")), "breakers", "No breaker is open.")


async def _processes(patient: Patient) -> Iterable[Check]:
    found = tables.held_processes(await patient.rows("held_processes"))
    return unless(found, "processes", "No process waits for an operator.")


async def _feed(patient: Patient) -> Iterable[Check]:
    holders = feed.holders(await patient.rows("feed_holders"), patient.limits)
    found = [*holders, *feed.positions(await patient.row("feed_positions"))]
    return unless(iter(found), "feed", "No open transaction holds the feed of events back.")


async def _projections(patient: Patient) -> Iterable[Check]:
    found = projections.projections(await patient.rows("projections"), patient.limits)
    return unless(found, "projections", "There are no projections yet.")


async def _clock(patient: Patient) -> Iterable[Check]:
    await patient.row("clock")  # the connection is made before the time is taken
    before = patient.clock.now()
    row = await patient.row("clock")
    return server.clock(before, row["now"], patient.clock.now(), patient.limits)


async def _connections(patient: Patient) -> Iterable[Check]:
    return server.connections(await patient.rows("connections"), patient.limits)


async def _pooler(patient: Patient) -> Iterable[Check]:
    return pooler.pooler(await pooler.observe(patient.pool))


async def _indexes(patient: Patient) -> Iterable[Check]:
    return unless(tables.invalid_indexes(await patient.rows("invalid_indexes")), "indexes", "Every index is valid.")


async def _wraparound(patient: Patient) -> Iterable[Check]:
    return server.wraparound(await patient.row("wraparound"), patient.limits)


async def _sizes(patient: Patient) -> Iterable[Check]:
    return tables.sizes(await patient.rows("tables"), patient.limits)


#: Every check by its name, in the order in which they are made and shown.
CHECKS: dict[str, Callable[[Patient], Awaitable[Iterable[Check]]]] = {
    "PostgreSQL version": _version,
    "schema": _schema,
    "rights": _rights,
    "durability": _settings,
    "autovacuum": _autovacuum,
    "long transactions": _sessions,
    "prepared transactions": _prepared_transactions,
    "replication slots": _replication_slots,
    "queues": _queues,
    "breakers": _breakers,
    "processes": _processes,
    "feed": _feed,
    "projections": _projections,
    "clock": _clock,
    "connections": _connections,
    "pooler": _pooler,
    "indexes": _indexes,
    "wraparound": _wraparound,
    "sizes": _sizes,
}


async def examine(pool: Pool, limits: Limits | None = None, clock: Clock | None = None) -> tuple[Check, ...]:
    """Make every check.

    Args:
        pool: Open; its connections are used as they are, so that what is said about them is true.
        limits: From where on something is worth a word.
        clock: Instead of this host's.

    Returns:
        At least one line for each check, in a fixed order.

    Raises:
        StorageUnavailableError: The pool is closed, or the server cannot be reached.
    """
    patient = Patient(pool, limits or Limits(), clock or SystemClock())
    await patient.row("server")
    found: list[Check] = []
    for name, check in CHECKS.items():
        try:
            found += await check(patient)
        except SchemaMissingError:  # what exactly, is said by the check of the schema, which comes before
            advice = "Run `mainstay schema upgrade`, and look again."
            found.append(fault(name, "This could not be looked at: it needs mainstay's schema.", advice))
        except MainstayError as error:
            found.append(
                fault(name, f"This could not be looked at: {error}.", "Mend what is said above, and look again.")
            )
        except psycopg.Error as error:
            text = error.diag.message_primary or str(error)
            found.append(warning(name, f"This could not be looked at: {text}.", "Connect as a role that may see it."))
    return tuple(found)
