"""What operators ask of PostgreSQL beyond what the rooms ask themselves, and how a command-line program reaches it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool

from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import (
    RECONNECT_TIMEOUT,
    Pool,
    autocommit,
    checked_dsn,
    fetch_all,
    in_utf8,
    judged,
)
from mainstay.storage.postgres.refusals import unreached

CONNECT_TIMEOUT = 5
"""Seconds that one attempt to connect may take."""
_POOL_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of one span of commands' lives, in seconds.

    Args:
        span: ``"wait"``: sent until first started; ``"handling"``: started until its outcome was written.
        samples: How many were measured.
        p50: Half of them took at most this long.
        p95: 95 % of them did.
        p99: 99 % of them did.
        longest: All of them did.
    """

    span: str
    samples: int
    p50: float
    p95: float
    p99: float
    longest: float


@asynccontextmanager
async def connected_pool(dsn: str, *, max_size: int = 4, prepare: bool = True) -> AsyncIterator[Pool]:
    """A pool for one run of a program; a database that cannot be reached is an error at once, and says why.

    Args:
        dsn: libpq connection string or URL.
        max_size: Connections at most.
        prepare: False behind a pooler that hands out another server connection for each transaction.

    Raises:
        ConfigurationError: The connection string cannot be understood.
        StorageUnavailableError: No connection could be had.
        MainstayError: What a driver's error stands for that the block lets out.
    """
    await reach(dsn)
    options: dict[str, Any] = in_utf8(dsn) | {"application_name": "mainstay", "connect_timeout": CONNECT_TIMEOUT}
    if not prepare:
        options["prepare_threshold"] = None  # psycopg's word for never
    try:
        async with AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=max_size,
            open=False,
            timeout=_POOL_TIMEOUT,
            reconnect_timeout=RECONNECT_TIMEOUT,
            kwargs=options,
        ) as pool:
            yield pool
    except psycopg.Error as error:
        raise judged(error) from error


async def reach(dsn: str) -> None:
    """Connect once: a pool only says that it timed out.

    Raises:
        ConfigurationError: The connection string cannot be understood.
        DatabaseNotFoundError: The server has no such database.
        LoginRefusedError: It does not let this role in.
        StorageUnavailableError: There is no server, or no way to it.
    """
    try:
        conn = await psycopg.AsyncConnection.connect(checked_dsn(dsn), connect_timeout=CONNECT_TIMEOUT)
    except psycopg.Error as error:
        raise unreached(error) from error
    await conn.close()


class OperationsStore:
    """Questions across rooms.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("operations")

    async def find_commands(self, command_ids: Sequence[UUID], domain: str | None) -> list[tuple[str, UUID]]:
        """Domain and id of the commands that exist."""
        async with autocommit(self._pool) as conn:
            asked = {"command_ids": list(command_ids), "domain": domain}
            return [
                (row["domain"], row["command_id"]) for row in await fetch_all(conn, self._sql["find_commands"], asked)
            ]

    async def find_batches(self, batch_id: UUID, domain: str | None) -> list[str]:
        """Domains that have this batch."""
        async with autocommit(self._pool) as conn:
            asked = {"batch_id": batch_id, "domain": domain}
            return [row["domain"] for row in await fetch_all(conn, self._sql["find_batches"], asked)]

    async def latencies(
        self, domains: Sequence[str], since: datetime, command_type: str | None = None
    ) -> list[Latency]:
        """How long commands sent since then waited, and took, by their audit trails."""
        async with autocommit(self._pool) as conn:
            asked = {"domains": list(domains), "since": since, "command_type": command_type}
            rows = await fetch_all(conn, self._sql["latencies"], asked)
        return [Latency(row["span"], row["samples"], *row["percentiles"]) for row in rows]
