"""The command store on PostgreSQL: every decision is one call of a function in the schema `commandbus`.

What each call locks, in which order, and what a crash leaves is written in the head of its function
(``schema/functions/commands/``). One call is one round trip and, without a caller's connection, one transaction.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, LiteralString
from uuid import UUID

import orjson
import psycopg
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

from mainstay.commands.command import TroubleshootingItem
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.replies import Key
from mainstay.commands.store import (
    LONGEST_SLEEP,
    CommandStore,
    Finding,
    FsckReport,
    Lease,
    LeaseKeeper,
    Loss,
    Outcome,
    Received,
    Verdict,
    Wakeups,
    WouldWaitError,
)
from mainstay.errors import (
    ConfigurationError,
    MainstayError,
    QueueNotFoundError,
    StorageUnavailableError,
)
from mainstay.message import COMMANDS_SUFFIX
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.actions import PostgresActions
from mainstay.storage.postgres.batches import PostgresBatches
from mainstay.storage.postgres.beside import without_waiting
from mainstay.storage.postgres.breakers import PostgresBreakerStore
from mainstay.storage.postgres.callers import rows_in
from mainstay.storage.postgres.command_questions import PostgresQuestions
from mainstay.storage.postgres.command_rows import (
    decision_fields,
    outcome_fields,
    received_from,
    reports_document,
    text,
    troubleshooting_item_from,
    unreadable,
)
from mainstay.storage.postgres.database import (
    Connection,
    HeldConnection,
    Pool,
    autocommit,
    execute,
    fetch_all,
    fetch_value,
    sealed,
    transaction,
)
from mainstay.storage.postgres.failures import PostgresFailures
from mainstay.storage.postgres.gates import PostgresGateStore
from mainstay.storage.postgres.keys import PostgresKeyStore
from mainstay.storage.postgres.leases import PostgresLeaseKeeper, leases_document
from mainstay.storage.postgres.ledger import PostgresLedger
from mainstay.storage.postgres.lending import LentTransaction
from mainstay.storage.postgres.notifications import Listener
from mainstay.storage.postgres.passing import PassedConnection
from mainstay.storage.postgres.processes import PostgresProcesses
from mainstay.storage.postgres.replies import PostgresReplies, tell
from mainstay.storage.postgres.schedules import PostgresScheduleStore
from mainstay.storage.postgres.sending import PostgresSending
from mainstay.storage.postgres.trail import deciding
from mainstay.storage.postgres.transactions import HandlerTransaction, HandlerTransactions, not_to_be_completed
from mainstay.storage.postgres.watching import TransactionWatch

CHANNEL_PREFIX = "mainstay."
_CANCEL_TRIES = 5
_FEW_CONNECTIONS = 4
"""A pool of fewer connections keeps none back for a worker."""
_KEPT = 2
"""How many a worker keeps: one for receiving, one for completing."""
_SLEEP_LIMIT = 2 * LONGEST_SLEEP
"""Seconds after which a sleeper that never came back is taken for dead."""

_INVARIANTS = (
    "a message in the queue has its command",
    "a message in the queue is where receivers look",
    "a command with a message id has that message",
    "a pending command waits in exactly one place",
    "the deferred and parked tables name commands",
    "what is parked waits before a gate",
    "what a breaker holds has its breaker",
    "the keyed table names commands",
    "a key whose commands wait has a head or a hint",
    "the head of a key is a command that has not ended",
    "a command with a key is ready or in progress only as its head",
    "a unique key is claimed by a command of that key",
    "a command that has not ended holds its unique key",
    "the troubleshooting table equals the commands in troubleshooting",
    "attempts stay within max_attempts",
    "a terminal command has answered who asked",
    "an audit trail is a legal path that ends at the status",
    "a finished batch has sent its completion command",
    "the counts of a batch recount",
    "a step under way has a command or a reply on its way",
    "a process is under way as long as one of its steps",
    "a process knows how many of its steps are under way",
    "what was done in a process is undone in turn, each step once",
    "steps belong to a process, are numbered from one and undo an earlier one",
    "events belong to a process",
    "the audit trail of a process tells each step and ends at its status",
    "the counts of an action recount",
    "an action that is done came to its last item, and says when",
    "items belong to an action",
    "a decision is of a command that has completed or failed",
    "a command answered with the version and position of its own event has its decision",
    "the events of a decision are in its stream, and of no other decision",
    "deltas and parts belong to a batch",
    "a batch that can end has ended, or is looked at again",
    "the events of a stream are numbered from one, in the order of their positions",
    "an event is of a kind, in the category of its stream",
    "an event is found by its tags, and by no others",
    "the events of a tombstoned stream are empty, and no others",
    "positions are drawn before they are used or published",
    "a subscription has the shards that it says it has",
    "a checkpoint stands on its event, and not beyond the last",
    "a shard that rests is nobody's, and one that is somebody's has a lease",
    "a dead letter that waits lies behind the checkpoint of its shard",
    "a dead letter that waits has its event",
)


class PostgresCommandStore(
    PostgresSending, PostgresFailures, PostgresActions, PostgresBatches, PostgresQuestions, PostgresReplies
):
    """`mainstay.commands.store.CommandStore` on PostgreSQL.

    Args:
        pool: Open; its connections are used for one call each and go back as they came.
        listen_dsn: Where to listen for wake-ups and replies, if the pool goes through a pooler: the server itself.
    """

    def __init__(self, pool: Pool, *, listen_dsn: str | None = None) -> None:
        self.pool = pool
        self._listen_dsn = listen_dsn
        self.schedules = PostgresScheduleStore(pool)
        self.processes = PostgresProcesses(pool)
        self._sql = queries.load("commands")
        self.gates = PostgresGateStore(pool)
        self.breakers = PostgresBreakerStore(pool)
        self.keys = PostgresKeyStore(pool)
        self.ledger = PostgresLedger(pool)
        self._queues: set[str] = set()
        self._sending = PassedConnection(pool)
        self._receiving: HeldConnection | None = None
        self._completing: HeldConnection | None = None
        self._handling = HandlerTransactions(
            pool, lambda: _KEPT if pool.max_size >= _FEW_CONNECTIONS else 0, self._tell
        )

    @asynccontextmanager
    async def dedicated(self) -> AsyncIterator[None]:
        """Keep one connection for receiving and one for completing, if the pool has more than those to give."""
        if self._receiving is not None or self.pool.max_size < _FEW_CONNECTIONS:
            yield
            return
        self._receiving, self._completing = held = HeldConnection(self.pool), HeldConnection(self.pool)
        try:
            yield
        finally:
            self._receiving = self._completing = None
            for each in held:
                await each.close()

    @contextmanager
    def _noticing_a_dropped_queue(self, domain: str) -> Iterator[None]:
        """Let `ensure_queue` look again after a queue proved to be gone."""
        try:
            yield
        except QueueNotFoundError as error:
            self._queues -= {domain, error.queue.removesuffix(COMMANDS_SUFFIX)}
            raise

    def _kept(self, held: HeldConnection | None) -> AbstractAsyncContextManager[Connection]:
        """A connection of our own if it is free, else one of the pool."""
        return sealed(autocommit(self.pool) if held is None or held.in_use else held.connection())

    def _own(self) -> AbstractAsyncContextManager[Connection]:
        """A connection of the pool on which every statement commits by itself."""
        return sealed(autocommit(self.pool))

    async def _run(self, conn: Any, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run one of our statements in the caller's transaction, or if there is none, in one of its own."""
        if conn is not None:
            return await rows_in(conn, self._sql[query], parameters)
        async with self._own() as own:
            return await _rows(own, self._sql[query], parameters)

    # -- sending ------------------------------------------------------------------------------------------------------
    async def ensure_queue(self, domain: str) -> None:
        """Create the domain's queue if it is missing, on a connection of its own; never waiting for the pool.

        A handler that sends, a process that moves and a group that holds streams ask within a transaction, which may
        have the pool's last connection: they would wait for themselves.
        """
        if domain in self._queues:
            return
        async with sealed(without_waiting(self.pool)) as conn:
            await execute(conn, self._sql["create_queue"], {"domain": domain})
        self._queues.add(domain)

    async def wake(self, domains: Sequence[str]) -> int:
        """Wake a sleeping worker for each time a domain is named; a round trip for each domain."""
        woken = 0
        async with self._own() as conn:
            for domain, count in Counter(domains).items():
                woken += await fetch_value(conn, self._sql["wake"], {"domain": domain, "count": count})
        return woken

    async def cancel(
        self, domain: str, command_id: UUID, *, reason: str | None, running: bool = False
    ) -> CommandStatus | None:
        """Cancel a waiting command; tried again if it moves between queue and deferred table meanwhile."""
        parameters = {"domain": domain, "command_id": command_id, "reason": reason, "running": running}
        for remaining in reversed(range(_CANCEL_TRIES)):
            try:
                async with deciding(self.pool) as conn:
                    status = await fetch_value(conn, self._sql["cancel"], parameters)
                async with self._own() as conn:
                    await tell(conn, [(domain, command_id)])
            except StorageUnavailableError as error:
                if not remaining or not isinstance(error.__cause__, psycopg.errors.SerializationFailure):
                    raise
            else:
                return None if status is None else CommandStatus(status)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    # -- receiving ----------------------------------------------------------------------------------------------------
    async def receive(
        self, domain: str, *, limit: int, lease_seconds: float, worker: str, at_once: int | None = None
    ) -> list[Received]:
        """Lease up to ``limit`` due commands; one round trip."""
        parameters = {
            "domain": domain, "limit": limit, "lease": lease_seconds, "worker": worker, "at_once": at_once
        }  # fmt: skip
        with self._noticing_a_dropped_queue(domain):
            async with self._kept(self._receiving) as conn:
                rows = await _rows(conn, self._sql["receive"], parameters)
                while rows and None in {rows[0][1], rows[-1][1]}:  # without a message: they have ended
                    await tell(conn, [(domain, row[0]) for row in rows if row[1] is None])
                    rows = [row for row in rows if row[1] is not None] or await _rows(
                        conn, self._sql["receive"], parameters
                    )
        received: list[Received] = []
        refused: list[Outcome] = []
        for row in rows:
            try:
                received.append(received_from(domain, row))
            except ValueError as error:
                refused.append(unreadable(row, error))
        with suppress(StorageUnavailableError, WouldWaitError):  # else its lease ends, and the next one tries
            await self.complete(domain, refused)
        return received

    async def complete(self, domain: str, outcomes: Sequence[Outcome], *, conn: Any = None) -> list[Verdict]:
        """Write what became of commands, and send what goes with it; one round trip."""
        if not outcomes:
            return []
        query = "complete_and_send" if any(outcome.sends for outcome in outcomes) else "complete"
        document = text(orjson.dumps([outcome_fields(outcome) for outcome in outcomes]))
        if conn is not None and conn.info.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
            raise not_to_be_completed(conn)
        parameters = {"domain": domain, "outcomes": document}
        if conn is not None:
            rows = await rows_in(conn, self._sql[query], parameters)
            self._handling.note(conn, _awaited(domain, rows))
        else:
            with _saying_that_it_would_wait():
                async with self._kept(self._completing) as connection:
                    rows = await _rows(connection, self._sql[query], parameters)
                    await tell(connection, _awaited(domain, rows))
        verdicts = {command_id: Verdict(verdict) for command_id, verdict, _ in rows}
        return [verdicts.get(outcome.lease.command_id, Verdict.STALE) for outcome in outcomes]

    async def report(self, domain: str, reports: Sequence[tuple[Lease, bytes]]) -> None:
        """Note how far commands are; one round trip."""
        async with self._own() as conn:
            await execute(conn, self._sql["report"], {"domain": domain, "reports": reports_document(reports)})

    async def renew(self, domain: str, leases: Sequence[Lease], lease_seconds: float) -> list[Loss]:
        """Extend leases; one round trip."""
        parameters = {"domain": domain, "leases": leases_document(leases), "lease": lease_seconds}
        async with self._own() as conn:
            return [Loss(*row) for row in await _rows(conn, self._sql["renew"], parameters)]

    async def about_to_sleep(self, domain: str, worker: str) -> float | None:
        """Ask to be woken; seconds until there may be more."""
        parameters = {"domain": domain, "worker": worker, "seconds": _SLEEP_LIMIT}
        async with self._kept(self._receiving) as conn:
            seconds = await fetch_value(conn, self._sql["about_to_sleep"], parameters)
        return None if seconds is None else float(seconds)

    @asynccontextmanager
    async def wakeups(self, domain: str, worker: str) -> AsyncIterator[Wakeups]:  # noqa: ARG002 - a channel each
        """Listen on this worker's own channel, with a connection outside the pool."""
        async with Listener(self.pool, CHANNEL_PREFIX + worker, conninfo=self._listen_dsn) as listener:
            try:
                yield listener
            finally:
                # A wish left behind would swallow a wake-up that somebody else waits for.
                with suppress(MainstayError):
                    async with self._own() as conn:
                        await execute(conn, self._sql["forget_sleeper"], {"worker": worker})

    def lease_keeper(
        self,
        domain: str,
        leases: Callable[[], Sequence[Lease]],
        lost: Callable[[Sequence[Loss]], None],
        lease_seconds: float,
    ) -> LeaseKeeper:
        """A thread with a connection of its own."""
        return PostgresLeaseKeeper(self.pool, domain, leases, lost, lease_seconds)

    def transaction(self, first: Any = None) -> HandlerTransaction:
        """A pool connection in a transaction; errors of the block arrive as they were raised."""
        return self._handling.begin(first)

    @property
    def handlers_at_once(self) -> int:
        """How many may have a transaction at the same time."""
        return self._handling.most

    @property
    def waiting_handlers(self) -> int:
        """How many callers of `transaction` wait for a connection."""
        return len(self._handling)

    async def make_read_only(self, conn: Any) -> None:
        """Let nothing be written from now on in a transaction."""
        await execute(conn, queries.load("watching")["make_read_only"])

    async def watch(self, conn: Any) -> TransactionWatch:
        """Watch a transaction."""
        return await TransactionWatch.begin(self.pool, conn)

    async def commit(self, conn: Any, domain: str, outcome: Outcome, also: Any = None) -> None:
        """Complete a command in what `transaction` gave, and commit that; one round trip if others wait for it."""
        decision = None if outcome.decision is None else orjson.dumps(decision_fields(outcome.decision))
        await self._handling.complete(conn, domain, outcome.lease, outcome.result, decision=decision, also=also)

    async def _tell(self, keys: Sequence[Key]) -> None:
        """Tell those who wait for these commands, which have ended and are committed."""
        if keys:
            with suppress(MainstayError):
                async with self._own() as own:
                    await tell(own, keys)

    def lend(self, conn: Any) -> LentTransaction:
        """The transaction of ``conn``, for the thread of a plain handler."""
        return self._handling.lend(conn)

    def session(self, conn: Any) -> AbstractAsyncContextManager[Any]:
        """A SQLAlchemy ``AsyncSession`` in the transaction of ``conn``."""
        from mainstay.storage.postgres.sqlalchemy import lent_session  # noqa: PLC0415 - who needs none waits for none

        return lent_session(conn)

    # -- checking -----------------------------------------------------------------------------------------------------
    async def fsck(self) -> FsckReport:
        """Look for what must never be, in one REPEATABLE READ snapshot."""
        async with transaction(self.pool) as conn:
            await execute(conn, self._sql["take_snapshot"])
            rows = await fetch_all(conn, self._sql["find_faults"])
            commands = await fetch_value(conn, self._sql["count_commands"])
            events = await fetch_value(conn, self._sql["count_events"])
        findings = tuple(
            Finding(row["invariant"], row["domain"], row["command_id"], row["details"] or {}) for row in rows
        )
        return FsckReport(commands=commands, checked=_INVARIANTS, findings=findings, events=events)

    # -- troubleshooting ----------------------------------------------------------------------------------------------
    async def list_troubleshooting(
        self, domain: str | None, command_type: str | None, *, limit: int, offset: int
    ) -> list[TroubleshootingItem]:
        """Commands that wait for an operator, the longest waiting first."""
        parameters = {"domain": domain, "command_type": command_type, "limit": limit, "offset": offset}
        async with self._own() as conn:
            rows = await fetch_all(conn, self._sql["list_troubleshooting"], parameters)
        return [troubleshooting_item_from(row) for row in rows]

    async def count_troubleshooting(self, domain: str | None, command_type: str | None) -> int:
        """How many there are."""
        async with self._own() as conn:
            asked = {"domain": domain, "command_type": command_type}
            return int(await fetch_value(conn, self._sql["count_troubleshooting"], asked))


def command_store(source: Any, *, listen_dsn: str | None = None) -> CommandStore:
    """The store for a pool, or the store itself.

    Args:
        source: A ``psycopg_pool.AsyncConnectionPool`` or a `CommandStore`.
        listen_dsn: As for `PostgresCommandStore`, if it is a pool.

    Raises:
        ConfigurationError: Neither.
    """
    if isinstance(source, AsyncConnectionPool):
        return PostgresCommandStore(source, listen_dsn=listen_dsn)
    if isinstance(source, CommandStore):
        return source
    message = f"expected a psycopg_pool.AsyncConnectionPool or a command store, not {type(source).__name__}"
    raise ConfigurationError(message)


@contextmanager
def _saying_that_it_would_wait() -> Iterator[None]:
    """A lock that was not to be had in time is no reason to take the database for unreachable."""
    try:
        yield
    except StorageUnavailableError as error:
        if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
            raise WouldWaitError from error
        raise


async def _rows(conn: Connection, query: LiteralString, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Rows as tuples: the hot paths need no names."""
    async with psycopg.AsyncCursor(conn, row_factory=tuple_row) as cursor:
        await cursor.execute(query, parameters)
        return await cursor.fetchall()


def _awaited(domain: str, rows: Iterable[tuple[Any, ...]]) -> list[Key]:
    """The commands that `complete` may have ended and somebody waits for: one that is given back may be called off."""
    return [(domain, command_id) for command_id, verdict, awaited in rows if awaited and verdict != Verdict.STALE]
