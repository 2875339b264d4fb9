"""Connections whose server process is kept for the next test.

A new session costs tens of milliseconds of the server's time: it knows no table, and has compiled no function. A pool
of an application opens its sessions once; a pool of a test lives for one test. So `KeptConnection` gives its session
back when it is closed, as an application's pool keeps them, and opens a kept one rather than a new one.

What a test can leave behind on a session is discarded when it is given back, but for what the session has learned:
``DISCARD ALL`` without its ``DISCARD PLANS``. A session that is in a transaction, or whose server process is gone, is
closed. Tests that are about new sessions, about their number or about losing them open a pool of their own.
"""

from collections.abc import Generator
from typing import Any

from psycopg import AsyncConnection
from psycopg.generators import connect
from psycopg.pq import ExecStatus, PGconn, TransactionStatus
from psycopg.pq.abc import PGconn as AnyPGconn

#: How sessions of the tests' own are called that a test may find in its database.
KEEPER = "kept for the next test"
_FORGET = f"""
    close all; set session authorization default; reset all; deallocate all; unlisten *;
    select pg_advisory_unlock_all(); discard temp; discard sequences; set application_name = '{KEEPER}';
    select pg_stat_force_next_flush()
""".encode()


class Kept:
    """Sessions that wait for the next test, by what they are connected to."""

    def __init__(self) -> None:
        self._idle: dict[str, list[AnyPGconn]] = {}

    def take(self, conninfo: str) -> AnyPGconn | None:
        """A session that is still there."""
        idle = self._idle.get(conninfo, [])
        while idle:
            found = idle.pop()
            if _answers(found, b"reset application_name"):
                return found
            found.finish()
        return None

    def give_back(self, conninfo: str, session: AnyPGconn) -> None:
        """Keep a session, or end it if it is not what a new one would be."""
        if session.transaction_status == TransactionStatus.IDLE and _answers(session, _FORGET):
            self._idle.setdefault(conninfo, []).append(session)
        else:
            session.finish()

    def pids(self) -> list[int]:
        """The server processes of all."""
        return [session.backend_pid for idle in self._idle.values() for session in idle]

    def close(self, database: str | None = None) -> None:
        """Close those of a database, or all."""
        for conninfo, idle in list(self._idle.items()):
            if database is None or any(session.db == database.encode() for session in idle):
                for session in self._idle.pop(conninfo):
                    session.finish()


KEPT = Kept()


def _answers(session: AnyPGconn, statements: bytes) -> bool:
    return session.exec_(statements).status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


class KeptConnection(AsyncConnection[Any]):
    """A connection for the pools of tests."""

    _conninfo = ""

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Generator[Any, Any, "KeptConnection"]:
        session = KEPT.take(conninfo) or (yield from connect(conninfo))
        made = cls(session)
        made._conninfo = conninfo
        return made

    async def close(self) -> None:
        if self.closed:
            return
        session, self.pgconn = self.pgconn, _ended()
        self._closed = True
        session.notice_handler = session.notify_handler = None  # they hold this connection
        KEPT.give_back(self._conninfo, session)


def _ended() -> AnyPGconn:
    """What a closed connection has in place of its session."""
    never = PGconn.connect_start(b"host=/nowhere")
    never.finish()
    return never
