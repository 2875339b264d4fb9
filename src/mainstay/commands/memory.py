"""The protocol in memory: its plainest reading, for tests that need no server.

Everything `CommandStore` promises holds here too, within one process and one event loop, and the same contract suite
says so. Leases and due times go by the given clock: with a `FrozenClock` a test lets a lease expire by advancing it.
Nothing survives the process, and nothing is optimised.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from mainstay.clock import Clock, SystemClock
from mainstay.commands import memory_decisions as decisions
from mainstay.commands import memory_questions as questions
from mainstay.commands.breakers import BreakerState
from mainstay.commands.command import AuditEvent, CommandMetadata, TroubleshootingItem
from mainstay.commands.dry_run import TriedTable
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.memory_actions import MemoryActions
from mainstay.commands.memory_batches import MemoryBatches, refusals
from mainstay.commands.memory_breakers import MemoryBreakerStore
from mainstay.commands.memory_conversation import MemoryConversation
from mainstay.commands.memory_failures import MemoryFailures
from mainstay.commands.memory_gates import MemoryGateStore
from mainstay.commands.memory_keys import MemoryKeyStore
from mainstay.commands.memory_ledger import MemoryLedger
from mainstay.commands.memory_processes import MemoryProcesses
from mainstay.commands.memory_replies import MemoryReplies, MemoryWakeups
from mainstay.commands.memory_schedules import MemoryScheduleStore
from mainstay.commands.memory_unit import Row, State, Unit, as_value, claimed_by
from mainstay.commands.sends import sent
from mainstay.commands.store import (
    Answer,
    Backlog,
    CommandFilter,
    DomainStats,
    FsckReport,
    Lease,
    Loss,
    NewCommand,
    NotUnique,
    Outcome,
    Received,
    Refusal,
    Verdict,
)
from mainstay.errors import (
    ConfigurationError,
    InvalidOperationError,
    QueueNotFoundError,
    StaleLeaseError,
)
from mainstay.message import checked_domain, checked_queue, command_queue


class MemoryCommandStore(MemoryBatches, MemoryFailures, MemoryActions, MemoryReplies, MemoryConversation):
    """Commands in memory.

    Args:
        clock: What leases, due times and timestamps go by; the machine's unless given.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._state = State(self._clock)
        self.gates = MemoryGateStore(self._state)
        self.breakers = MemoryBreakerStore(self._state)
        self.keys = MemoryKeyStore(self._state)
        self.ledger = MemoryLedger(self._state)
        self._keepers: list[MemoryLeaseKeeper] = []
        self._sleepers: dict[str, dict[str, None]] = {}
        self._ears: dict[str, MemoryWakeups] = {}
        self.schedules = MemoryScheduleStore(self._clock, self.send)
        self.processes = MemoryProcesses(self._state, self._unit)

    # -- for tests ----------------------------------------------------------------------------------------------------
    def create_queue(self, name: str) -> None:
        """Create a queue for replies; does nothing if it exists.

        Raises:
            InvalidQueueError: PGMQ would not take the name either.
        """
        self._state.replies.setdefault(checked_queue(name), [])

    def replies(self, queue: str) -> list[dict[str, Any]]:
        """The replies in a queue, oldest first.

        Raises:
            QueueNotFoundError: `create_queue` was not called for it.
        """
        if queue not in self._state.replies:
            raise QueueNotFoundError(queue)
        return list(self._state.replies[queue])

    def messages(self, domain: str) -> list[dict[str, Any]]:
        """The messages in a domain's queue, oldest first; also those in a worker's hand, not the deferred."""
        queue = self._state.queues.get(domain, {})
        return [self._state.rows[key].message() for _, key in sorted(queue.items())]

    # -- sending ------------------------------------------------------------------------------------------------------
    async def ensure_queue(self, domain: str) -> None:
        """Create the domain's queue if it is missing.

        Raises:
            InvalidDomainError: Not a name for a domain.
        """
        self._state.domains.add(checked_domain(domain))

    async def send(
        self,
        commands: Sequence[NewCommand],
        *,
        atomic: bool = False,
        patient: bool = True,  # noqa: ARG002 - the protocol's; waiting is short where all transactions are
        conn: Any = None,
    ) -> list[Answer]:
        """Put commands in, each PENDING with a SENT in its audit trail; all or none with ``atomic``."""
        async with self._unit(conn) as unit:
            await unit.claim(claimed_by(commands))
            if atomic:
                answers = refusals(unit, commands)
                if any(isinstance(answer, Refusal | NotUnique) for answer in answers):
                    return answers
            answers = [decisions.send_unless_refused(unit, new) for new in commands]
        if conn is None:
            await self.wake([new.domain for new in commands])
        return answers

    @asynccontextmanager
    async def dedicated(self) -> AsyncIterator[None]:
        """Nothing to keep."""
        yield

    async def wake(self, domains: Sequence[str]) -> int:
        """Wake a sleeping worker for each time a domain is named. Returns how many were woken."""
        woken = 0
        for domain in domains:
            if sleepers := self._sleepers.get(domain):
                worker, _ = sleepers.popitem()
                woken += 1
                if worker in self._ears:
                    self._ears[worker].ring()
        return woken

    async def cancel(
        self, domain: str, command_id: UUID, *, reason: str | None, running: bool = False
    ) -> CommandStatus | None:
        """Cancel a pending command, or ask for the end of a running one. Returns the status found."""
        async with self._unit() as unit:
            await unit.claim([(domain, command_id)])
            found = unit.row((domain, command_id))
            if found is not None and found.status is CommandStatus.PENDING:
                decisions.cancel(unit, found, reason)
                return CommandStatus.PENDING
            if found is not None and found.status is CommandStatus.IN_PROGRESS and running:
                decisions.ask_for_end(unit, found, reason)
            status = found.status if found else None
        if running:
            self._hurry()
        return status

    def _hurry(self) -> None:
        """Let workers learn at once whose end was asked for."""
        for keeper in self._keepers:
            keeper.renew()

    # -- receiving ----------------------------------------------------------------------------------------------------
    async def receive(
        self, domain: str, *, limit: int, lease_seconds: float, worker: str, at_once: int | None = None
    ) -> list[Received]:
        """Lease up to ``limit`` due commands, oldest first.

        Raises:
            QueueNotFoundError: `ensure_queue` was not called for the domain.
        """
        if domain not in self._state.domains:
            raise QueueNotFoundError(command_queue(domain))
        async with self._unit() as unit:
            decisions.expire_parked(unit, domain)
        if self.gates.is_paused(domain):
            return []
        self._hurry()
        async with self._unit() as unit:
            self.breakers.work(unit, domain)
        received: list[Received] = []
        has_ended = True
        while has_ended and not received:  # what ended may have freed its key
            has_ended = False
            async with self._unit() as unit:
                for row in self._receivable(unit, domain):
                    if len(received) >= limit:
                        break
                    is_full = at_once is not None and len(received) >= at_once
                    taken = decisions.receive(
                        unit,
                        row,
                        lease_seconds,
                        worker,
                        self.gates,
                        is_full=is_full,
                        is_probe=self.breakers.is_probe(row),
                    )
                    if taken:
                        received.append(taken)
                    else:
                        has_ended |= decisions.has_ended(unit, row)
        return received

    def _receivable(self, unit: Unit, domain: str) -> list[Row]:
        """What is parked; then, by priority: what is in the queue, deferred ones that are due, and whose turn it is."""
        queue, deferred = self._state.queues.get(domain, {}), self._state.deferred.get(domain, ())
        parked = [row for key in self._state.parked.get(domain, ()) if not (row := self._state.rows[key]).held_by]
        parked.sort(key=lambda row: row.place)
        queued = [self._state.rows[key] for _, key in sorted(queue.items())]
        due = [row for key in deferred if (row := self._state.rows[key]).due_at and row.due_at <= unit.now]
        due.sort(key=lambda row: (row.due_at, row.seq))
        candidates = (
            queued + [row for row in due if row.new.key is None] + questions.whose_turn(self._state, domain, due)
        )
        candidates.sort(key=lambda row: -row.new.priority)
        return [
            row
            for row in parked + candidates
            if not unit.claimed_elsewhere(row.key) and (row.lease_until is None or row.lease_until <= unit.now)
        ]

    async def complete(self, domain: str, outcomes: Sequence[Outcome], *, conn: Any = None) -> list[Verdict]:
        """Write what became of commands, and send what goes with it.

        Raises:
            DuplicateCommandError: A command to send is known, and its id was not derived.
            NotUniqueError: The unique key of a command to send is held.
            BatchNotFoundError: No such batch.
            QueueNotFoundError: No queue, for a command to send or for its reply.
        """
        async with self._unit(conn) as unit:
            sends = claimed_by(new for outcome in outcomes for new in outcome.sends)
            await unit.claim([*((domain, outcome.lease.command_id) for outcome in outcomes), *sends])
            verdicts = [
                decisions.complete(unit, (domain, each.lease.command_id), each, self.breakers) for each in outcomes
            ]
            for outcome, verdict in zip(outcomes, verdicts, strict=True):
                for new in outcome.sends if verdict is Verdict.APPLIED else ():
                    sent(new, decisions.send_unless_refused(unit, new))
            return verdicts

    async def report(self, domain: str, reports: Sequence[tuple[Lease, bytes]]) -> None:
        """Note how far commands are."""
        for lease, document in reports:
            row = self._state.rows.get((domain, lease.command_id))
            if row is None or row.lease_no != lease.lease_no or row.key in self._state.claims:
                continue
            if row.status is CommandStatus.IN_PROGRESS:
                row.progress = as_value(document) | {"at": self._clock.now().isoformat()}

    async def renew(self, domain: str, leases: Sequence[Lease], lease_seconds: float) -> list[Loss]:
        """Extend leases. Returns the commands to stop."""
        return self._renew(domain, leases, lease_seconds)

    def _renew(self, domain: str, leases: Sequence[Lease], lease_seconds: float) -> list[Loss]:
        lost: list[Loss] = []
        until = self._clock.now() + timedelta(seconds=lease_seconds)
        for lease in leases:
            row = self._state.rows.get((domain, lease.command_id))
            if row is None:
                continue
            if row.lease_no != lease.lease_no:
                lost.append(Loss(lease.command_id, is_canceled=False))
            elif row.status is CommandStatus.IN_PROGRESS and row.key not in self._state.claims:
                row.lease_until = until
                if row.cancel_request:
                    lost.append(Loss(lease.command_id, is_canceled=True))
        return lost

    async def about_to_sleep(self, domain: str, worker: str) -> float | None:
        """Ask to be woken. Returns seconds until there may be more to receive, None if only a send can tell."""
        self._sleepers.setdefault(domain, {})[worker] = None
        if self.gates.is_paused(domain):
            return None
        now, deferred = self._clock.now(), [self._state.rows[key] for key in self._state.deferred.get(domain, ())]
        # One with a key whose time has come waits for its turn: who has it will say.
        due = [row.due_at for row in deferred if row.due_at and (row.new.key is None or row.due_at > now)]
        waits = [max(0.0, (at - now).total_seconds()) for at in due]
        return min([*waits, *self.gates.waits(domain), *self.breakers.waits(domain)], default=None)

    @asynccontextmanager
    async def wakeups(self, domain: str, worker: str) -> AsyncIterator[MemoryWakeups]:
        """Listen for wake-ups for this worker."""
        ear = self._ears[worker] = MemoryWakeups()
        try:
            yield ear
        finally:
            self._ears.pop(worker)
            self._sleepers.get(domain, {}).pop(worker, None)

    def lease_keeper(
        self,
        domain: str,
        leases: Callable[[], Sequence[Lease]],
        lost: Callable[[Sequence[Loss]], None],
        lease_seconds: float,
    ) -> "MemoryLeaseKeeper":
        """What renews the leases that ``leases()`` names; ``lost`` is called from within `receive`."""

        def renew() -> None:
            if gone := self._renew(domain, leases(), lease_seconds):
                lost(gone)

        return MemoryLeaseKeeper(renew, self._keepers)

    @asynccontextmanager
    async def transaction(self, first: Any = None) -> AsyncIterator[Unit]:  # noqa: ARG002 - there are no round trips
        """What ``conn=`` takes. Nothing shows before the block's end; nothing happened if it raises."""
        unit = Unit(self._state)
        try:
            yield unit
            unit.commit()
        finally:
            unit.end()

    @property
    def handlers_at_once(self) -> None:
        """Any number: here are no connections."""

    @property
    def waiting_handlers(self) -> int:
        """None: there is nothing to wait for."""
        return 0

    async def make_read_only(self, conn: Any) -> None:
        """Nothing is written by what is only noted."""

    async def watch(self, conn: Any) -> "MemoryWatch":  # noqa: ARG002 - there is nothing but commands
        """Watch a transaction."""
        return MemoryWatch()

    async def commit(self, conn: Any, domain: str, outcome: Outcome, also: Any = None) -> None:  # noqa: ARG002 - as above
        """Complete a command in what `transaction` gave, whose block is about to end.

        Raises:
            StaleLeaseError: Another lease holds the command, or this one has finished it.
        """
        (verdict,) = await self.complete(domain, [outcome], conn=conn)
        if verdict is not Verdict.APPLIED:
            lease = outcome.lease
            raise StaleLeaseError(f"command {lease.command_id} is no longer held by lease {lease.lease_no}")

    def lend(self, conn: Unit) -> "MemoryLent":
        """The transaction of ``conn``, for the thread of a plain handler, which can do nothing with it."""
        return MemoryLent(conn)

    def session(self, conn: Any) -> AbstractAsyncContextManager[Any]:
        """None here.

        Raises:
            InvalidOperationError: Always: SQLAlchemy needs a database.
        """
        raise _no_session(conn)

    @asynccontextmanager
    async def _unit(self, conn: Any = None) -> AsyncIterator[Unit]:
        """The caller's transaction, or one for this call."""
        if conn is None:
            async with self.transaction() as unit:
                yield unit
        elif isinstance(conn, Unit) and conn.state is self._state and not conn.ended.is_set():
            yield conn
        else:
            raise ConfigurationError("conn must be what this store's transaction() gave, inside its block")

    # -- asking -------------------------------------------------------------------------------------------------------
    async def get(self, domain: str, command_id: UUID) -> CommandMetadata | None:
        """One command."""
        row = self._state.rows.get((domain, command_id))
        return questions.metadata(row) if row else None

    async def query(self, which: CommandFilter, *, limit: int, offset: int) -> list[CommandMetadata]:
        """Commands, newest first."""
        return questions.query(self._state, which)[offset : offset + limit]

    async def audit_trail(self, command_id: UUID, domain: str | None) -> list[AuditEvent]:
        """What happened to a command, in order."""
        return [event for event in self._state.audit.get(command_id, []) if domain in (None, event.domain)]

    async def stats(self, domain: str | None) -> list[DomainStats]:
        """Numbers by domain."""
        return [
            replace(questions.stats(self._state, each), breakers=len(await self.breakers.list_breakers(each)))
            for each in sorted(self._state.domains)
            if domain in (None, each)
        ]

    async def backlog(self, domain: str) -> Backlog:
        """What waits in a domain."""
        found = questions.stats(self._state, domain)
        waiting = found.by_status.get(CommandStatus.IN_TROUBLESHOOTING_QUEUE, 0)
        breakers = await self.breakers.list_breakers(domain)
        is_open = sum(each.state is BreakerState.OPEN for each in breakers)
        return Backlog(found.ready, found.in_flight, found.oldest_ready_seconds, waiting, is_open)

    async def fsck(self) -> FsckReport:
        """Look for what must never be."""
        return questions.fsck(self._state, self.breakers.is_held)

    # -- troubleshooting ----------------------------------------------------------------------------------------------
    async def list_troubleshooting(
        self, domain: str | None, command_type: str | None, *, limit: int, offset: int
    ) -> list[TroubleshootingItem]:
        """Commands that wait for an operator, oldest first."""
        return questions.troubleshooting(self._state, domain, command_type)[offset : offset + limit]

    async def count_troubleshooting(self, domain: str | None, command_type: str | None) -> int:
        """How many there are."""
        return len(questions.troubleshooting(self._state, domain, command_type))


class MemoryLeaseKeeper:
    """Renews leases when it matters: just before `receive` asks which have expired.

    A lease here ends only when somebody looks, and everybody who could look runs on this event loop. So no thread is
    needed, and a handler that blocks the loop keeps its lease, as it does with a database.
    """

    def __init__(self, renew: Callable[[], None], keepers: "list[MemoryLeaseKeeper]") -> None:
        self.renew = renew
        self._keepers = keepers

    def start(self) -> None:
        """Begin; does nothing if begun."""
        if self not in self._keepers:
            self._keepers.append(self)

    @property
    def is_alive(self) -> bool:
        """Whether it has begun."""
        return self in self._keepers

    def hurry(self) -> None:
        """Renew now."""
        self.renew()

    def stop(self) -> None:
        """End; does nothing if not begun."""
        if self in self._keepers:
            self._keepers.remove(self)


@dataclass(frozen=True, slots=True)
class MemoryLent:
    """`mainstay.commands.threads.Lent` in memory."""

    conn: Unit

    def session(self) -> AbstractContextManager[Any]:
        """None here.

        Raises:
            InvalidOperationError: Always: SQLAlchemy needs a database.
        """
        raise _no_session(self.conn)

    async def take_back(self) -> None:
        """Nothing: nobody can do anything with it."""


def _no_session(conn: Any) -> InvalidOperationError:
    return InvalidOperationError(f"there is no SQLAlchemy session in memory ({conn!r}): test this with a server")


class MemoryWatch:
    """`mainstay.commands.lending.Watch` in memory, where there are no tables."""

    async def look(self) -> None:
        """There is nothing to see."""

    async def changes(self) -> tuple[TriedTable, ...]:
        """Nothing."""
        return ()
