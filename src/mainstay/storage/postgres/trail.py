"""The operators' trail on PostgreSQL: who changed what, when and why.

Promises. A change that the trail tells of is noted in the transaction that makes it, by triggers and functions of the
database (`commandbus.note_deed`): none can be made without its row, by whatever program, and one that is rolled back
leaves none. Rows are never changed, and nothing but pruning takes them away. What is said here is only in whose name:
the operator and the reason of `mainstay.tenancy.operator_scope`, or of the call, go with the transaction as settings
that end with it, also behind a pooler. Beside them stands the role that was logged in, which nobody can choose.

A row that names no operator was made by a program, or by hand: its role says which.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Connection, Pool, autocommit, execute, fetch_all, sealed, transaction
from mainstay.tenancy import current_operator


class DeedKind(StrEnum):
    """What was changed; after it, what the subject names."""

    SCHEDULE = "SCHEDULE"
    """Its name."""
    PAUSE = "PAUSE"
    """Domain, or domain.type."""
    LIMIT = "LIMIT"
    """domain.type."""
    BREAKER = "BREAKER"
    """domain.type."""
    RULES = "RULES"
    """What operators must keep to."""
    ACTION = "ACTION"
    """A decision on commands, by its id."""
    COMMAND = "COMMAND"
    """domain/id."""
    BATCH = "BATCH"
    """domain/id."""
    KEY = "KEY"
    """domain/key."""
    PROJECTION = "PROJECTION"
    """Its name."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody did.

    Args:
        deed_id: Grows from one to the next.
        at: When.
        operator: Who says to have done it; None: nobody said.
        role: The role that was logged in to the database.
        kind: What was changed.
        subject: Which; see `DeedKind`.
        what: In the past tense: SET, CHANGED, REMOVED, PAUSED and so on.
        reason: Why.
        details: Of a change ``before`` and ``after``, with what differs.
    """

    deed_id: int
    at: datetime
    operator: str | None
    role: str
    kind: DeedKind
    subject: str
    what: str
    reason: str | None
    details: dict[str, Any]


class PostgresTrail:
    """Reads the trail.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("trail")

    async def list(
        self,
        *,
        operator: str | None,
        kind: DeedKind | None,
        subject: str | None,
        since: datetime | None,
        until: datetime | None,
        after: int | None,
        limit: int,
    ) -> list[Deed]:
        """What meets all conditions, newest first; subjects that begin so, deeds before that of an id."""
        asked = {
            "operator": operator, "kind": kind, "subject": subject, "since": since, "until": until,
            "after": after, "limit": limit,
        }  # fmt: skip
        async with sealed(autocommit(self._pool)) as conn:
            rows = await fetch_all(conn, self._sql["list"], asked)
        return [Deed(**row | {"kind": DeedKind(row["kind"])}) for row in rows]


@asynccontextmanager
async def deciding(pool: Pool, operator: str | None = None, reason: str | None = None) -> AsyncIterator[Connection]:
    """A connection for one change that the trail notes, in the name that is given, or that of the operator's scope.

    If somebody says who or why it is a transaction, which ends with the block; else a statement commits by itself.

    Args:
        pool: An open pool.
        operator: Who; None: as the scope says.
        reason: Why; None: as the scope says.

    Raises:
        StorageUnavailableError: As `transaction`, or the database could not do it now, and changed nothing.
        StorageError: The database refused it.
    """
    if not (operator or reason or current_operator()):
        async with sealed(autocommit(pool)) as conn:
            yield conn
        return
    async with sealed(transaction(pool)) as conn:
        await say_who(conn, operator, reason)
        yield conn


async def say_who(conn: Connection, operator: str | None = None, reason: str | None = None) -> None:
    """Say in whose name a transaction makes its changes; one round trip, none if there is nothing to say.

    Args:
        conn: In a transaction.
        operator: Who; None: as the scope says.
        reason: Why; None: as the scope says.
    """
    scope = current_operator()
    who, why = (operator or scope.name, reason or scope.reason) if scope else (operator, reason)
    if who or why:
        await execute(conn, queries.load("trail")["say_who"], {"operator": who or "", "reason": why or ""})
