"""The command bus: where commands are sent and asked after.

Promises. A command is sent with the caller's transaction or not at all (``conn=``), or else in one of its own. A
duplicate id is refused and nothing is changed. Sending wakes a sleeping worker after the commit, in the same round
trip; when the wake-up gets lost, the worker's polling finds the command.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack, overload
from uuid import UUID

from mainstay.commands.batch import BatchWatcher
from mainstay.commands.batches import Batches
from mainstay.commands.checks import (
    checked_attempts,
    checked_choice,
    checked_count,
    checked_flag,
    checked_list,
    checked_number,
    checked_page,
    checked_place,
    checked_request,
    checked_text,
    checked_time,
    domain_filter,
    named,
    type_filter,
)
from mainstay.commands.command import (
    AuditEvent,
    BatchSendResult,
    CommandMetadata,
    OnConflict,
    Place,
    ScheduleOptions,
    SendOptions,
    SendRequest,
    SendResult,
)
from mainstay.commands.ledger import Decision, DecisionFilter, StreamName, checked_stream
from mainstay.commands.lifecycle import TERMINAL, CommandStatus
from mainstay.commands.limits import Holding
from mainstay.commands.model import CommandModel
from mainstay.commands.requests import Requests
from mainstay.commands.schedules import Schedules
from mainstay.commands.sends import all_sent, sent
from mainstay.commands.store import Answer, CommandFilter, CommandStore, NewCommand, Refusal, WouldWaitError
from mainstay.commands.tracing import sending
from mainstay.commands.unannounced import Unannounced
from mainstay.errors import (
    CommandNotFoundError,
    DuplicateCommandError,
    InvalidOperationError,
    QueueNotFoundError,
)
from mainstay.joining import Joiner
from mainstay.message import COMMANDS_SUFFIX, checked_domain, checked_id
from mainstay.metrics import is_observed
from mainstay.retry import DEFAULT_MAX_ATTEMPTS
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT, from_json, same_json
from mainstay.tenancy import checked_tenant

DEFAULT_CHUNK = 1000
CHUNK_BYTES = 32 * 1024 * 1024
"""JSON that one chunk may hold; PostgreSQL's limit for one document lies at 256 MB."""
_CANCEL_HINTS = {
    CommandStatus.IN_TROUBLESHOOTING_QUEUE: "; use the troubleshooting queue",
    CommandStatus.IN_PROGRESS: ", or with running=True one that is being handled",
}


class CommandBus(Batches, Holding, Requests):
    """Sends commands and answers questions about them; ``schedules`` sends them again and again.

    Args:
        store: Where commands live.
        default_max_attempts: For commands that do not say themselves.
        payload_limit: Bytes of JSON that one command's data may have.
        use_notify: Be woken when the reply to a `request` is there, through a connection of its own; False behind a
            pooler that cannot: looking for it finds it.

    ``limits`` sets how many commands of a type may run at once, or start in a time: see `Limits`; ``breakers`` what is
    held when commands of a type fail alike: see `Breakers`.
    """

    def __init__(
        self,
        store: CommandStore,
        default_max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        *,
        payload_limit: int = DEFAULT_PAYLOAD_LIMIT,
        use_notify: bool = True,
    ) -> None:
        Holding.__init__(self, store)
        Requests.__init__(self, store, listens=use_notify)
        self._default_max_attempts = checked_attempts(default_max_attempts, DEFAULT_MAX_ATTEMPTS)
        self._payload_limit = checked_count(payload_limit, "payload_limit")
        self._joiner: Joiner[NewCommand, Answer] = Joiner(self._send_own)
        self._unannounced = Unannounced()
        self._watcher = BatchWatcher(store)
        self.schedules = Schedules(store.schedules, self._checked, store.ensure_queue, store.wake)

    # -- sending ------------------------------------------------------------------------------------------------------
    @overload
    async def send(
        self,
        domain: str,
        command_type: str,
        command_id: UUID,
        data: dict[str, Any],
        correlation_id: UUID | None = None,
        reply_to: str | None = None,
        max_attempts: int | None = None,
        batch_id: UUID | None = None,
        conn: Any = None,
        *,
        idempotent: bool = False,
        **options: Unpack[ScheduleOptions],
    ) -> SendResult: ...
    @overload
    async def send(
        self,
        command: CommandModel,
        /,
        *,
        command_id: UUID | None = None,
        conn: Any = None,
        idempotent: bool = False,
        **options: Unpack[SendOptions],
    ) -> SendResult: ...
    async def send(  # noqa: PLR0917 - the signature is a promise to users of `commandbus`
        self,
        domain: str | CommandModel,
        command_type: str | None = None,
        command_id: UUID | None = None,
        data: dict[str, Any] | None = None,
        correlation_id: UUID | None = None,
        reply_to: str | None = None,
        max_attempts: int | None = None,
        batch_id: UUID | None = None,
        conn: Any = None,
        *,
        delay: timedelta | float | None = None,
        not_before: datetime | None = None,
        headers: dict[str, Any] | None = None,
        idempotent: bool = False,
        key: str | None = None,
        priority: int = 0,
        expires_at: datetime | None = None,
        unique_key: str | None = None,
        unique_for: timedelta | float | None = None,
        on_conflict: OnConflict | str = OnConflict.REFUSE,
        causation_id: UUID | None = None,
        tenant_id: UUID | str | None = None,
        actor_id: str | None = None,
    ) -> SendResult:
        """Send one command: ``send("orders", "CreateOrder", uuid4(), {...})`` or ``send(CreateOrder(...))``.

        Args:
            domain: Who handles it; or a typed command, which holds its type and its data, too.
            command_type: Name of the handler.
            command_id: Chosen by the sender, unique in the domain for ever; drawn for a typed command if None.
            data: JSON object.
            correlation_id: Ties a conversation together; inside a handler that of its command, else drawn.
            reply_to: Queue that gets the reply; it must exist.
            max_attempts: Instead of the bus's default; from 1 to 2,147,483,647.
            batch_id: An existing batch to count in.
            conn: A connection whose transaction to join. Nothing is sent unless it commits; call `wake` after that,
                else a worker finds the command when it polls.
            delay: Seconds or timedelta to wait before it may be received.
            not_before: Time before which it is not received; aware.
            headers: JSON object that travels along.
            idempotent: A command with this id, type and data that was sent before is a success, and is not repeated.
                If it has ended, ``reply_to`` gets the stored reply. If it was pruned, the data is not compared.
            key: Commands of a domain with the same key are handled one after another, in the order in which they were
                sent; sends that overlap in time are in no order.
            priority: -9 to 9; of what is ready, the highest is received first.
            expires_at: Time after which it is not handled any more but ends CANCELED, with the code EXPIRED; aware.
            unique_key: Of the commands of a domain with the same unique key at most one has not ended; one that waits
                for an operator has not.
            unique_for: Seconds or timedelta, counted from this send, in which the key stays held though the command
                is completed. One that failed or was canceled holds it no longer.
            on_conflict: If the key is held: ``"refuse"``, or ``"skip"``: nothing is sent, and the result names the
                command that holds it.
            causation_id: The command or event that led to it; inside a handler what is being handled.
            tenant_id: Whose it is, and so in which scope it is handled; in a `tenant_scope` that tenant's.
            actor_id: Who wants it, a text of 200 characters at most; in an `actor_scope` that actor.

        Raises:
            DuplicateCommandError: This id was sent before in this domain; with ``idempotent``, with another type, other
                data or another ``reply_to``, and the error says which.
            NotUniqueError: Another command holds the unique key; the error names it.
            BatchNotFoundError: No such batch.
            QueueNotFoundError: No such reply queue.
            InvalidInputError: Something cannot be accepted; the message names it.
            TenantScopeError: It is another tenant's than that of the scope that this runs in.
            StorageUnavailableError: No connection, or it broke: whether the command was sent is unknown; send it again
                with the same id.
        """
        name = named(domain, command_type, command_id, data)
        request = SendRequest(
            *name,
            correlation_id,
            reply_to,
            max_attempts,
            batch_id,
            delay,
            not_before,
            headers,
            key,
            priority,
            expires_at,
            unique_key,
            unique_for,
            on_conflict,
            causation_id,
            tenant_id,
            actor_id,
        )
        checked = self._checked(request)
        if not is_observed():
            return await self._send_one(checked, conn, idempotent=idempotent)
        with sending([checked]) as (command,):
            return await self._send_one(command, conn, idempotent=idempotent)

    async def _send_one(self, command: NewCommand, conn: Any, *, idempotent: bool) -> SendResult:
        await self._store.ensure_queue(command.domain)
        if conn is None:
            try:
                answer = await self._joiner.serve(command)
            except WouldWaitError:  # for another transaction: alone, so that nobody waits with it
                (answer,) = await self._store.send([command])
        else:
            (answer,) = await self._store.send([command], conn=conn)
        if answer is Refusal.DUPLICATE and idempotent:
            return await self._same_as_before(command, conn)
        result = sent(command, answer)
        self._announce([command.domain], conn)
        return result

    async def send_batch(
        self, requests: Sequence[SendRequest], chunk_size: int = DEFAULT_CHUNK, conn: Any = None
    ) -> BatchSendResult:
        """Send many commands, a chunk in a transaction and a round trip. A chunk has 32 MB of data at most.

        A refused command refuses its whole chunk; chunks before it stay sent.

        Args:
            requests: In the order in which they shall be received.
            chunk_size: Commands in a transaction.
            conn: A connection whose transaction to join, all chunks in one.

        Raises:
            DuplicateCommandError: An id was sent before, or stands twice in a chunk.
            NotUniqueError: Unique keys are held, or stand twice in a chunk; the error names all of the chunk.
            InvalidInputError: Something cannot be accepted; checked for all before any is sent.
            MainstayError: As `send`.
        """
        checked_list(requests, "requests")
        checked_count(chunk_size, "chunk_size")
        commands = [self._checked(request) for request in requests]
        for domain in {command.domain for command in commands}:
            await self._store.ensure_queue(domain)
        results: list[SendResult] = []
        chunks = 0
        for chunk in in_chunks(commands, chunk_size):
            results.extend(await self._send_chunk(chunk, conn))
            chunks += 1
        return BatchSendResult(
            results=results, chunks_processed=chunks, total_commands=sum(not result.skipped for result in results)
        )

    async def wake(self, domain: str | None = None) -> None:
        """Wake sleeping workers after the commit of a transaction that commands were sent in.

        Args:
            domain: Whose workers; None: those of all domains that this thread or task has sent to with ``conn=`` since
                its last call. What others have sent, and perhaps not committed, waits for theirs.
        """
        which = domain_filter(domain)
        domains = self._unannounced.take(which) or ([] if which is None else [which])
        if domains:
            await self._store.wake(domains)

    async def cancel(self, domain: str, command_id: UUID, *, reason: str | None = None, running: bool = False) -> None:
        """Cancel a command that waits, or ask for the end of one that is being handled.

        Args:
            domain: Whose command.
            command_id: Which.
            reason: For the audit trail.
            running: Also if it is being handled: its worker cancels an async handler and the command ends CANCELED,
                unless the handler completes before. A plain handler cannot be stopped, but its result is refused.

        Raises:
            CommandNotFoundError: No such command.
            InvalidOperationError: It is being handled (without ``running``), or ended, or waits for an operator.
        """
        key = checked_id(command_id, "command_id")
        status = await self._store.cancel(
            checked_domain(domain), key, reason=checked_text(reason, "reason"), running=checked_flag(running, "running")
        )
        if status is None:
            raise CommandNotFoundError(domain, key)
        if status is CommandStatus.PENDING:
            await self._store.wake([domain])  # the next of its key may go
        elif not (running and status is CommandStatus.IN_PROGRESS):
            hint = _CANCEL_HINTS.get(status, "")
            message = f"command {key} is {status}; only a PENDING command can be canceled{hint}"
            raise InvalidOperationError(message)

    # -- asking -------------------------------------------------------------------------------------------------------
    async def get_command(self, domain: str, command_id: UUID) -> CommandMetadata | None:
        """All that is known of a command; None if there is none."""
        return await self._store.get(checked_domain(domain), checked_id(command_id, "command_id"))

    async def command_exists(self, domain: str, command_id: UUID) -> bool:
        """Whether this id was sent in this domain."""
        return await self.get_command(domain, command_id) is not None

    async def query_commands(  # noqa: PLR0917 - the signature is a promise to users of `commandbus`
        self,
        status: CommandStatus | None = None,
        domain: str | None = None,
        command_type: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
        *,
        tenant_id: UUID | str | None = None,
        correlation_id: UUID | None = None,
        after: CommandMetadata | Place | None = None,
    ) -> list[CommandMetadata]:
        """Commands that meet all conditions given, newest first. The scope that this runs in narrows nothing.

        ``after``: those that follow this one in the list; so a page neither repeats nor skips what is there already,
        and the thousandth costs as much as the first, which ``offset`` cannot do.
        """
        checked_page(limit, offset)
        which = CommandFilter(
            domain=domain_filter(domain),
            status=None if status is None else checked_choice(status, CommandStatus, "status"),
            command_type=type_filter(command_type),
            created_after=checked_time(created_after, "created_after"),
            created_before=checked_time(created_before, "created_before"),
            tenant_id=checked_tenant(tenant_id),
            correlation_id=None if correlation_id is None else checked_id(correlation_id, "correlation_id"),
            after=checked_place(after),
        )
        return await self._store.query(which, limit=limit, offset=offset)

    async def get_audit_trail(self, command_id: UUID, domain: str | None = None) -> list[AuditEvent]:
        """Everything that happened to a command, in order."""
        return await self._store.audit_trail(checked_id(command_id, "command_id"), domain_filter(domain))

    async def get_decision(self, domain: str, command_id: UUID) -> Decision | None:
        """What was decided on a command by its handler on an aggregate; None before its end, or without such a one."""
        return await self._store.ledger.get(checked_domain(domain), checked_id(command_id, "command_id"))

    async def list_decisions(
        self,
        domain: str | None = None,
        command_type: str | None = None,
        *,
        stream: StreamName | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> Sequence[Decision]:
        """Decisions that meet all conditions given, in the order in which their commands were sent.

        Args:
            domain: Of the commands.
            command_type: Of the commands.
            stream: On this stream.
            since: Not decided before this time; aware.
            until: Decided before this time; aware.
            after: The ``number`` of the last one of the page before.
            limit: So many at most.

        Raises:
            InvalidInputError: Something cannot be accepted; the message names it.
        """
        checked_page(limit, 0)
        checked_number(after, "after")
        which = DecisionFilter(
            domain=domain_filter(domain),
            command_type=type_filter(command_type),
            since=checked_time(since, "since"),
            until=checked_time(until, "until"),
            stream=checked_stream(stream),
        )
        return await self._store.ledger.list(which, after=after, limit=limit)

    async def close(self) -> None:
        """Finish the sends under way, stop watching batches and listening for replies. The pool stays the caller's."""
        await self._joiner.idle()
        await self._room.close()
        await self._watcher.stop()

    # -- inside -------------------------------------------------------------------------------------------------------
    def _checked(self, request: SendRequest) -> NewCommand:
        return checked_request(
            request, default_max_attempts=self._default_max_attempts, payload_limit=self._payload_limit
        )

    async def _send_own(self, commands: Sequence[NewCommand]) -> list[Answer]:
        """Send in a transaction of our own; a queue dropped meanwhile is made again, once."""
        answers = await self._store.send(commands, patient=False)
        missing = [index for index, answer in enumerate(answers) if answer is Refusal.QUEUE_NOT_FOUND]
        if missing:
            for domain in {commands[index].domain for index in missing}:
                await self._store.ensure_queue(domain)
            again = await self._store.send([commands[index] for index in missing], patient=False)
            for index, answer in zip(missing, again, strict=True):
                answers[index] = answer
        return answers

    async def _send_chunk(self, chunk: list[NewCommand], conn: Any) -> list[SendResult]:
        """Send a chunk, all or nothing."""
        with sending(chunk) as carrying:
            answers = await self._store.send(carrying, atomic=True, conn=conn)
            results = all_sent(chunk, answers)
        self._announce([command.domain for command in chunk], conn)
        return results

    async def _same_as_before(self, command: NewCommand, conn: Any) -> SendResult:
        """The result of the first send, if this one repeats it; whoever takes the reply gets it again."""
        key = command.domain, command.command_id
        known = await self._store.get(*key)
        if known is None:
            raise DuplicateCommandError(*key)
        if known.command_type != command.command_type:
            raise DuplicateCommandError(*key, "command_type")
        has_ended = known.status in TERMINAL
        is_pruned = has_ended and known.data is None
        if not is_pruned and not same_json(known.data, from_json(command.data)):
            raise DuplicateCommandError(*key, "data")
        if command.reply_to is not None and has_ended:
            if not await self._store.reply_again(*key, command.reply_to, conn=conn):
                raise QueueNotFoundError(command.reply_to)
            if command.reply_to.endswith(COMMANDS_SUFFIX):
                answered = command.reply_to.removesuffix(COMMANDS_SUFFIX)
                self._announce([answered], conn)
                if conn is None:
                    await self._store.wake([answered])
        elif command.reply_to not in (None, known.reply_to):
            raise DuplicateCommandError(*key, "reply_to")
        return SendResult(command.command_id, known.msg_id)

    def _announce(self, domains: Sequence[str], conn: Any) -> None:
        if conn is not None:
            self._unannounced.add(domains)


def in_chunks(commands: Sequence[NewCommand], size: int) -> Iterator[list[NewCommand]]:
    """Commands in groups of so many, or fewer where their data is large."""
    chunk: list[NewCommand] = []
    weight = 0
    for command in commands:
        if chunk and (len(chunk) >= size or weight + len(command.data) > CHUNK_BYTES):
            yield chunk
            chunk, weight = [], 0
        chunk.append(command)
        weight += len(command.data)
    if chunk:
        yield chunk
