"""Every question that the people who run mainstay ask, and every action they take.

The command line and the web console call this and nothing else, so both show the same and may do the same. It decides
nothing by itself: questions and actions are those of the bus, the troubleshooting queue and the schema runner. What it
adds is what a person at a keyboard needs: a command is found by its id alone, one decision covers any number of
commands in any number of domains, and of many commands each is reported on its own.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from mainstay.app import CommandBus, ProcessManager, TroubleshootingQueue
from mainstay.commands.actions import ActionItem, ActionState, OperatorAction
from mainstay.commands.checks import domain_filter
from mainstay.commands.command import AuditEvent, BatchMetadata, CommandMetadata, SendRequest, TroubleshootingItem
from mainstay.commands.edits import Edit
from mainstay.commands.failures import FailureGroup, Selection
from mainstay.commands.handler import HandlerRegistry
from mainstay.commands.keys import Turns
from mainstay.commands.lifecycle import BatchStatus, CommandStatus
from mainstay.commands.limits import Holding
from mainstay.commands.store import Action, DomainStats, FsckReport
from mainstay.conversations import Conversations
from mainstay.errors import CommandError, DuplicateCommandError, InvalidInputError, InvalidOperationError
from mainstay.operations.activity import Activity
from mainstay.operations.events import Events
from mainstay.operations.ledger import Ledger
from mainstay.operations.missing import NoSuchBatchError, NoSuchCommandError
from mainstay.operations.projections import Projections
from mainstay.operations.search import Search
from mainstay.operations.trail import Trail
from mainstay.storage.postgres.commands import command_store
from mainstay.storage.postgres.doctor import Check, Limits, examine
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.migrate import SchemaStatus, require_current, schema_status, setup_database
from mainstay.storage.postgres.operations import Latency, OperationsStore, connected_pool
from mainstay.storage.postgres.repair import Repair, mend
from mainstay.storage.postgres.retention import Pruned, Retention, prune

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Acted:
    """What became of a decision on one command.

    Args:
        domain: Whose command; None if there is no such command.
        command_id: Which.
        applied: Whether anything was changed.
        status: Where the command stands now.
        problem: Why nothing was changed.
    """

    domain: str | None
    command_id: UUID
    applied: bool
    status: CommandStatus | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a chunk of commands: how many were sent, are known, or were skipped as their keys are held."""

    sent: int
    known: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of a decision on many commands: the action as it is now, and the commands that it left alone."""

    action: OperatorAction
    left: list[Acted]


class Operator(Holding, Turns):
    """Asks and acts on one database.

    Args:
        pool: An open ``psycopg_pool.AsyncConnectionPool``.
        registry: The handlers, whose models edited payloads must fit.

    Attributes:
        bus: Sends and cancels.
        decisions: The troubleshooting queue: previews, actions, approvals, rules.
        events: Streams, the feed, and files of events.
        ledger: What was decided on commands.
        projections: How far they are, and what they could not handle.
        conversations: What led to something, and what followed from it.
        activity: What happened lately, and which workers are alive.
        search: Commands by any conditions, and anything by its id.
        trail: Who changed what, when and why.
    """

    def __init__(self, pool: Any, *, registry: HandlerRegistry | None = None) -> None:
        self.pool = pool
        self.bus = CommandBus(pool)
        self.schedules = self.bus.schedules
        self.use_registry(registry)
        self.processes = ProcessManager(pool)
        self._commands = command_store(pool)
        self._keys = self._commands.keys
        super().__init__(self._commands)
        self._questions = OperationsStore(pool)
        self.events = Events(pool)
        self.ledger = Ledger(self.bus, self.events.log)
        self.projections = Projections(pool)
        self.activity = Activity(pool)
        self.search = Search(pool)
        self.trail = Trail(pool)
        self.conversations = Conversations(self._commands, PostgresEventLog(pool))

    def use_registry(self, registry: HandlerRegistry | None) -> None:
        """From now on, edited payloads must fit the models of these handlers."""
        self.decisions = TroubleshootingQueue(self.pool, registry=registry)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, dsn: str, *, check_schema: bool = True, max_size: int = 4, prepare: bool = True
    ) -> AsyncIterator[Self]:
        """Connect, and close everything at the end.

        Args:
            dsn: libpq connection string or URL.
            check_schema: Refuse a database that is not prepared.
            max_size: Connections at most.
            prepare: False behind a pooler that hands out another server connection for each transaction.

        Raises:
            ConfigurationError: The connection string cannot be understood.
            StorageUnavailableError: No connection could be had.
            SchemaError: The database is not prepared.
        """
        async with connected_pool(dsn, max_size=max_size, prepare=prepare) as pool:
            if check_schema:
                await require_current(pool)
            one = cls(pool)
            try:
                yield one
            finally:
                await one.bus.close()

    # -- the schema ---------------------------------------------------------------------------------------------------
    async def schema_status(self) -> SchemaStatus:
        """What the database has, what it lacks, and what is wrong with it."""
        return await schema_status(self.pool)

    async def upgrade_schema(self) -> bool:
        """Install or upgrade mainstay; whether anything was changed.

        Raises:
            SchemaError: It cannot be done; nothing was changed.
        """
        return await setup_database(self.pool, skip_if_exists=False)

    # -- commands -----------------------------------------------------------------------------------------------------
    async def commands(self, *, limit: int = 50, offset: int = 0, **conditions: Any) -> list[CommandMetadata]:
        """Commands that meet all conditions, those of `CommandBus.query_commands`, newest first."""
        return await self.bus.query_commands(limit=limit, offset=offset, **conditions)

    async def command(self, command_id: UUID, domain: str | None = None) -> CommandMetadata:
        """One command.

        Args:
            command_id: Which.
            domain: Needed only where two domains use the same id.

        Raises:
            CommandNotFoundError: There is none.
            InvalidInputError: Several domains have one of this id.
        """
        found = await self.bus.get_command(await self._domain_of(command_id, domain), command_id)
        if found is None:  # pragma: no cover - it was there a moment ago, and commands are never deleted
            raise NoSuchCommandError(command_id, domain)
        return found

    async def audit(self, command_id: UUID, domain: str | None = None) -> list[AuditEvent]:
        """Everything that happened to a command, in order.

        Raises:
            CommandNotFoundError: There is none.
            InvalidInputError: Several domains have one of this id.
        """
        return await self.bus.get_audit_trail(command_id, await self._domain_of(command_id, domain))

    async def cancel(
        self,
        command_ids: Iterable[UUID],
        *,
        domain: str | None = None,
        reason: str | None = None,
        running: bool = False,
    ) -> list[Acted]:
        """Cancel commands that wait; the others are left alone and reported.

        With ``running`` also ask for the end of those that are being handled: they are IN_PROGRESS until it comes.
        """
        done: list[Acted] = []
        for key in command_ids:
            home: str | None = None
            try:
                home = await self._domain_of(key, domain)
                await self.bus.cancel(home, key, reason=reason, running=running)
                now = await self.bus.get_command(home, key) if running else None
            except CommandError as error:
                now = await self.bus.get_command(home, key) if home else None
                done.append(Acted(home, key, applied=False, status=now.status if now else None, problem=str(error)))
            else:
                done.append(Acted(home, key, applied=True, status=now.status if now else CommandStatus.CANCELED))
        return done

    async def send(self, requests: Sequence[SendRequest], *, skip_known: bool = False) -> Sent:
        """Send commands in one transaction, all or none.

        Args:
            requests: In the order in which they shall be received.
            skip_known: Leave out commands whose id was sent before, and send the rest.

        Raises:
            DuplicateCommandError: An id was sent before, or stands twice in the list.
            NotUniqueError: Unique keys are held, or stand twice in the list.
            MainstayError: As `CommandBus.send_batch`.
        """
        for remaining in reversed(range(_TRIES if skip_known else 1)):
            new = await self._unknown(requests) if skip_known else requests
            try:
                sent = (await self.bus.send_batch(new, chunk_size=len(new))).total_commands if new else 0
                return Sent(sent, len(requests) - len(new), len(new) - sent)
            except DuplicateCommandError:  # somebody sends the same at the same time
                if not remaining:
                    raise
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def _unknown(self, requests: Sequence[SendRequest]) -> list[SendRequest]:
        """Those whose ids are not in the database, each id once."""
        seen = set(await self._questions.find_commands([request.command_id for request in requests], None))
        new: list[SendRequest] = []
        for request in requests:
            key = (request.domain, request.command_id)
            if key not in seen:
                seen.add(key)
                new.append(request)
        return new

    # -- troubleshooting ----------------------------------------------------------------------------------------------
    async def troubleshooting(
        self, *, domain: str | None = None, command_type: str | None = None, limit: int = 50, offset: int = 0
    ) -> list[TroubleshootingItem]:
        """Commands that wait for an operator, the longest waiting first."""
        return await self.decisions.list_troubleshooting(domain, command_type, limit, offset)

    async def troubleshooting_item(self, command_id: UUID, domain: str | None = None) -> TroubleshootingItem:
        """One command that waits for an operator.

        Raises:
            CommandNotFoundError: There is no such command.
            InvalidOperationError: It does not wait for an operator.
            InvalidInputError: Several domains have one of this id.
        """
        home = await self._domain_of(command_id, domain)
        found = await self.decisions.get(home, command_id)
        if found is None:
            status = (await self.command(command_id, home)).status
            raise InvalidOperationError(f"command {command_id} is {status}, not in the troubleshooting queue")
        return found

    async def failure_groups(self, **conditions: Any) -> list[FailureGroup]:
        """What waits for an operator, by what went wrong; conditions as of `TroubleshootingQueue.list_groups`."""
        return await self.decisions.list_groups(**conditions)

    async def locate(self, command_ids: Sequence[UUID], domain: str | None = None) -> list[tuple[str | None, UUID]]:
        """The domain of each command, None for those that do not exist.

        Raises:
            InvalidInputError: Several domains have one of these ids, or the domain is none.
        """
        homes: dict[UUID, str] = {}
        for home, key in await self._questions.find_commands(command_ids, domain_filter(domain)):
            if key in homes:
                raise InvalidInputError(f"command {key} is in domain {homes[key]} and in {home}: name one")
            homes[key] = home
        return [(homes.get(key), key) for key in dict.fromkeys(command_ids)]

    async def resolve(
        self,
        action: Action,
        which: Selection,
        *,
        operator: str | None = None,
        reason: str | None = None,
        data: dict[str, Any] | None = None,
        result: Any = None,
        rate: float | None = None,
        expect: int | None = None,
        on_begin: Callable[[OperatorAction], None] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Resolved:
        """Make a decision on commands in the troubleshooting queue, and carry it out unless it needs approval.

        Args:
            action: Retry, complete or cancel.
            which: The commands.
            operator: Who decides.
            reason: Why.
            data: Replaces the payload of every retried command.
            result: What a completed command replies.
            rate: Commands a second that a retry hands out.
            expect: How many commands it must be about.
            on_begin: Called when it is written down.
            on_progress: Called after each part with the number of commands in it.

        Raises:
            InvalidInputError: An argument cannot be accepted.
            InvalidOperationError: The operators' rules, or the number of commands, do not allow it.
        """
        begun = await self.decisions.begin(
            action, which, operator=operator, reason=reason, data=data, result_data=result, rate=rate, expect=expect
        )
        if on_begin:
            on_begin(begun)
        if begun.state is ActionState.PROPOSED:
            return Resolved(begun, [])
        return await self.carry_out(begun.action_id, on_progress=on_progress)

    async def carry_out(self, action_id: UUID, *, on_progress: Callable[[int], None] | None = None) -> Resolved:
        """Carry out an action, or go on with one that somebody else began.

        Raises:
            ActionNotFoundError: No such action.
            InvalidOperationError: It still waits for approval.
        """
        left: list[Acted] = []
        note = _noting(left, on_progress, ", not in the troubleshooting queue")
        return Resolved(await self.decisions.run(action_id, on_progress=note), left)

    async def preview_edit(self, command_id: UUID, data: dict[str, Any], *, domain: str | None = None) -> Edit:
        """What another payload would change in a command that waits, and what its handler's model refuses in it.

        Raises:
            CommandNotFoundError: There is no such command.
            InvalidOperationError: It does not wait for an operator.
            HandlerNotFoundError: There is a registry, and it does not know the command.
            InvalidInputError: Several domains have one of this id, or the payload cannot be stored.
        """
        return await self.decisions.preview_edit(await self._domain_of(command_id, domain), command_id, data)

    async def retry_edited(
        self,
        command_id: UUID,
        data: dict[str, Any],
        *,
        domain: str | None = None,
        operator: str | None = None,
        reason: str | None = None,
        base: dict[str, Any] | None = None,
    ) -> None:
        """Retry one command with another payload; ``base`` is the one that was edited, if not the one it has now.

        Raises:
            CommandNotFoundError: There is no such command.
            InvalidOperationError: It does not wait for an operator, or somebody edited it meanwhile.
            InvalidInputError: The payload cannot be accepted, or its handler's model refuses it.
        """
        home = await self._domain_of(command_id, domain)
        await self.decisions.operator_retry(home, command_id, operator, data=data, base=base, reason=reason)

    async def undo_command(
        self,
        command_id: UUID,
        *,
        domain: str | None = None,
        operator: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Take the retry of one command back.

        Raises:
            CommandNotFoundError: There is no such command.
            InvalidOperationError: It was not retried, or a worker has received it since.
        """
        home = await self._domain_of(command_id, domain)
        await self.decisions.undo_command(home, command_id, operator, reason=reason)

    # -- batches ------------------------------------------------------------------------------------------------------
    async def batches(
        self, *, domain: str | None = None, status: BatchStatus | None = None, limit: int = 50, offset: int = 0
    ) -> list[BatchMetadata]:
        """Batches, newest first."""
        return await self._commands.list_batches(domain, status=status, limit=limit, offset=offset)

    async def batch(self, batch_id: UUID, domain: str | None = None) -> BatchMetadata:
        """One batch.

        Raises:
            BatchNotFoundError: There is none.
            InvalidInputError: Several domains have one of this id.
        """
        homes = await self._questions.find_batches(batch_id, domain_filter(domain))
        if len(homes) > 1:
            raise InvalidInputError(f"batch {batch_id} is in the domains {', '.join(homes)}: name one")
        found = await self.bus.get_batch(homes[0], batch_id) if homes else None
        if found is None:
            raise NoSuchBatchError(batch_id, domain)
        return found

    async def cancel_batch(
        self,
        batch: BatchMetadata,
        *,
        operator: str | None = None,
        reason: str | None = None,
        running: bool = False,
        on_begin: Callable[[OperatorAction], None] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Resolved:
        """Cancel the commands of a batch that wait, and seal it. With ``running`` also ask for the end of the others.

        Raises:
            InvalidOperationError: The operators' rules do not allow it.
        """
        left: list[Acted] = []
        note = _noting(left, on_progress)
        told: dict[str, Any] = {"operator": operator, "reason": reason, "running": running}
        action = await self.bus.cancel_batch(batch.domain, batch.batch_id, **told, on_begin=on_begin, on_progress=note)
        return Resolved(action, left)

    async def batch_commands(
        self, batch: BatchMetadata, *, status: CommandStatus | None = None, limit: int = 50
    ) -> list[CommandMetadata]:
        """Commands of a batch, newest first."""
        return await self.bus.list_batch_commands(batch.domain, batch.batch_id, status=status, limit=limit)

    # -- the whole ----------------------------------------------------------------------------------------------------
    async def stats(self, domain: str | None = None) -> list[DomainStats]:
        """Numbers by domain."""
        return await self._commands.stats(domain)

    async def latencies(
        self, domains: Sequence[str], since: datetime, command_type: str | None = None
    ) -> list[Latency]:
        """How long commands sent since then waited, and took."""
        return await self._questions.latencies(domains, since, command_type)

    async def fsck(self) -> FsckReport:
        """Look for what must never be, in one snapshot."""
        return await self._commands.fsck()

    async def repair(self, *, dry_run: bool = False, operator: str | None = None) -> list[Repair]:
        """Look for what must never be, and mend what is safe to mend, each in a transaction of its own.

        Beside live workers, too: everything is looked at again under its locks.

        Args:
            dry_run: Only say what would be done.
            operator: Who asked for it; for the audit trail.
        """
        report = await self._commands.fsck()
        return [await mend(self.pool, each, dry_run=dry_run, operator=operator) for each in report.findings]

    async def prune(self, retention: Retention) -> Pruned:
        """Take away what is no longer needed of commands that ended long ago, in small transactions."""
        return await prune(self.pool, retention)

    async def doctor(self, limits: Limits | None = None) -> tuple[Check, ...]:
        """Look at everything around the commands that makes them slow, unsafe or stand still; changes nothing.

        ``limits`` say from where on something is worth a word.
        """
        return await examine(self.pool, limits)

    async def _domain_of(self, command_id: UUID, domain: str | None) -> str:
        """The only domain that has this command."""
        ((home, _),) = await self.locate([command_id], domain)
        if home is None:
            raise NoSuchCommandError(command_id, domain)
        return home


def _noting(
    left: list[Acted], on_progress: Callable[[int], None] | None, but: str = ""
) -> Callable[[Sequence[ActionItem]], None]:
    """What to call after each part of an action: notes what was left alone, and tells how many commands it had."""

    def note(steps: Sequence[ActionItem]) -> None:
        alone = [step for step in steps if not step.applied]
        left.extend(
            Acted(*step[:2], applied=False, status=step.status, problem=f"it is {step.status}{but}") for step in alone
        )
        if on_progress:
            on_progress(len(steps))

    return note
