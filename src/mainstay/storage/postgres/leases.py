"""Renewing leases from a thread with a connection of its own.

Promise: while a worker's process lives and can reach the database, the commands it has in hand stay its own, however
    long a
handler takes and however long it blocks the event loop. One call extends them all, every third of a lease.

How it fails. If the connection breaks it is made anew at the next turn, of which two fit into a lease. If the database
cannot be reached for longer than a lease, the leases end, other workers take the commands, and the fence refuses this
worker's results. A lease that another worker took is reported through ``lost``, so that the worker can stop a handler
whose result nobody will accept.
"""

import asyncio
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import psycopg

from mainstay.commands.store import Lease, Loss
from mainstay.metrics import LOST, RENEWED, record
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool
from mainstay.telemetry import get_logger

_RENEWALS_PER_LEASE = 3
_CONNECT_TIMEOUT = 5
_KEPT_OPTIONS = frozenset({"prepare_threshold", "context"})

logger = get_logger(__name__)


def leases_document(leases: Sequence[Lease]) -> str:
    """Leases as the JSON array that commandbus.renew takes."""
    return orjson.dumps(
        [{"command_id": lease.command_id, "msg_id": lease.msg_id, "lease_no": lease.lease_no} for lease in leases]
    ).decode()


def _resolved(parameter: Any) -> Any:
    """A pool's parameter, which may be a value, a function or an async function."""
    value = parameter() if callable(parameter) else parameter
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


class PostgresLeaseKeeper:
    """Renews what ``leases()`` names until stopped.

    Args:
        pool: Says how to connect; none of its connections is used.
        domain: Whose commands they are.
        leases: Called from the thread; the leases in hand now.
        lost: Called from the thread with commands to stop.
        lease_seconds: Length of a lease.
    """

    def __init__(
        self,
        pool: Pool,
        domain: str,
        leases: Callable[[], Sequence[Lease]],
        lost: Callable[[Sequence[Loss]], None],
        lease_seconds: float,
    ) -> None:
        self._pool = pool
        self._domain = domain
        self._leases = leases
        self._lost = lost
        self._lease_seconds = lease_seconds
        self._sql = queries.load("commands")["renew"]
        self._stop = threading.Event()
        self._turn = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; does nothing if begun."""
        if self._thread is not None:
            return
        self._stop.clear()
        self._turn.clear()
        self._thread = threading.Thread(target=self._run, name=f"mainstay-leases-{self._domain}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End and wait for the thread; does nothing if not begun."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        self._turn.set()
        thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def hurry(self) -> None:
        """Renew now, not at the next turn."""
        self._turn.set()

    def _run(self) -> None:
        conn: psycopg.Connection[Any] | None = None
        try:
            while True:
                self._turn.wait(self._lease_seconds / _RENEWALS_PER_LEASE)
                self._turn.clear()
                if self._stop.is_set():
                    return
                leases = self._leases()
                if not leases:
                    continue
                try:
                    if conn is None:
                        conn = self._connect()
                    self._renew(conn, leases)
                except Exception:
                    logger.warning(
                        "could not renew leases; will try again", exc_info=True, extra={"domain": self._domain}
                    )
                    if conn is not None:
                        conn.close()
                        conn = None
        finally:
            if conn is not None:
                conn.close()

    def _connect(self) -> psycopg.Connection[Any]:
        conninfo = _resolved(self._pool.conninfo) or ""
        options = _resolved(self._pool.kwargs) or {}
        given = {
            name: value for name, value in options.items() if name in _KEPT_OPTIONS or isinstance(value, str | int)
        }
        return psycopg.connect(conninfo, **(given | {"autocommit": True, "connect_timeout": _CONNECT_TIMEOUT}))

    def _renew(self, conn: psycopg.Connection[Any], leases: Sequence[Lease]) -> None:
        parameters = {"domain": self._domain, "leases": leases_document(leases), "lease": self._lease_seconds}
        with psycopg.Cursor(conn) as cursor:
            cursor.execute(self._sql, parameters)
            lost = [Loss(*row) for row in cursor.fetchall()]
        record(RENEWED, len(leases) - len(lost), self._domain)
        if lost:
            record(LOST, len(lost), self._domain)
            self._lost(lost)
