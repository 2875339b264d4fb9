"""Batches: many commands with exact counts and one end.

Small ones are created in one transaction, commands and all. Large ones are opened, sent in a stream and sealed: the
sender holds two chunks in memory, whatever the size, and each chunk is a transaction. An open batch cannot end, so a
sender that dies in the middle leaves one that operators see, and seal or cancel.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from mainstay.commands.actions import CANCEL_BATCH, ActionItem, ActionState, NewAction, OperatorAction
from mainstay.commands.batch import BatchWatcher
from mainstay.commands.checks import checked_choice, checked_flag, checked_list, checked_page, checked_text
from mainstay.commands.command import (
    BatchCallback,
    BatchCommand,
    BatchMetadata,
    CommandMetadata,
    CreateBatchResult,
    SendRequest,
)
from mainstay.commands.failures import Selection
from mainstay.commands.lifecycle import BatchStatus, CommandStatus
from mainstay.commands.sends import all_sent
from mainstay.commands.store import Answer, CommandFilter, CommandStore, NewBatch, NewCommand, Refusal
from mainstay.commands.tracing import sending
from mainstay.errors import ActionNotFoundError, BatchNotFoundError, InvalidInputError, QueueNotFoundError, shown
from mainstay.message import checked_domain, checked_id, command_queue
from mainstay.retry import as_seconds
from mainstay.serialization import checked_object, to_json
from mainstay.telemetry import get_logger

STREAM_CHUNK = 1000
"""Commands of a stream in one transaction."""
_CHUNK_BYTES = 8 * 1024 * 1024
"""JSON that a chunk of a stream may hold; two chunks are in memory at a time."""
_CANCEL_CHUNK = 500
_SHORTEST_LOOK = 0.05

logger = get_logger(__name__)


class BatchStream:
    """An open batch that commands are sent into.

    A chunk is on its way while the next one fills, so what is wrong with a command may show at a later `send`, or at
    the end.

    Attributes:
        batch_id: Its id.
        sent: Commands that are stored for certain.
    """

    def __init__(
        self,
        domain: str,
        batch_id: UUID,
        send: Callable[[Sequence[NewCommand]], Any],
        check: Callable[[SendRequest], NewCommand],
    ) -> None:
        self.batch_id = batch_id
        self.sent = 0
        self._domain = domain
        self._send = send
        self._check = check
        self._chunk: list[NewCommand] = []
        self._weight = 0
        self._on_its_way: asyncio.Task[None] | None = None

    async def send(self, *commands: BatchCommand) -> None:
        """Send commands into the batch.

        Raises:
            DuplicateCommandError: An id was sent before. Its chunk, of up to 1,000 commands, was not sent.
            NotUniqueError: A unique key is held. Its chunk was not sent.
            InvalidOperationError: Somebody sealed or canceled the batch meanwhile.
            InvalidInputError: Something cannot be accepted.
            MainstayError: As `CommandBus.send`.
        """
        for command in commands:
            checked = self._check(in_batch(self._domain, self.batch_id, command))
            self._chunk.append(checked)
            self._weight += len(checked.data)
            if len(self._chunk) >= STREAM_CHUNK or self._weight >= _CHUNK_BYTES:
                await self._flush()

    async def finish(self) -> None:
        """Send what is left, and wait until all is stored."""
        if self._chunk:
            await self._flush()
        await self._settle()

    async def abandon(self) -> None:
        """Wait for what is on its way; whether it was stored no longer matters."""
        if self._on_its_way is not None:
            await asyncio.gather(self._on_its_way, return_exceptions=True)

    async def _flush(self) -> None:
        await self._settle()
        chunk, self._chunk, self._weight = self._chunk, [], 0
        self._on_its_way = asyncio.create_task(self._store(chunk), name=f"mainstay-batch-{self.batch_id}-chunk")

    async def _settle(self) -> None:
        if self._on_its_way is not None:
            on_its_way, self._on_its_way = self._on_its_way, None
            await on_its_way

    async def _store(self, chunk: list[NewCommand]) -> None:
        with sending(chunk) as carrying:
            results = all_sent(chunk, await self._send(carrying))
        self.sent += sum(not result.skipped for result in results)


class Batches:
    """The part of `CommandBus` that is about batches."""

    _store: CommandStore
    _watcher: BatchWatcher
    _checked: Callable[[SendRequest], NewCommand]
    _announce: Callable[[Sequence[str], Any], None]

    async def create_batch(
        self,
        domain: str,
        commands: Sequence[BatchCommand] | Iterable[BatchCommand] | AsyncIterable[BatchCommand],
        *,
        batch_id: UUID | None = None,
        name: str | None = None,
        custom_data: dict[str, Any] | None = None,
        on_complete: BatchCallback | SendRequest | None = None,
        parent_id: UUID | None = None,
        conn: Any = None,
    ) -> CreateBatchResult:
        """Create a batch and send its commands.

        Args:
            domain: Who handles them.
            commands: At least one. A list or tuple is sent in one transaction, all or none. Any other iterable, sync or
                async, is sent in a stream, as with `open_batch`, for what is too large for one transaction; the result
                then holds no result for each command.
            batch_id: Drawn if None.
            name: For people.
            custom_data: JSON object kept with the batch.
            on_complete: What happens when every command has ended or waits for an operator. A `SendRequest` is sent
                then, once, whatever process is still alive. A callable is called in this process, if it still runs: a
                convenience.
            parent_id: A batch of the same domain that does not end before this one.
            conn: A connection whose transaction to join; not for a stream.

        Raises:
            DuplicateBatchError: The batch id was used before. Nothing was sent.
            DuplicateCommandError: The id of a command, or of the completion command, was used before. Nothing was sent;
                of a stream, the chunks before it were.
            NotUniqueError: Unique keys are held, or stand twice in it; the same goes for what was sent.
            BatchNotFoundError: There is no such parent.
            InvalidOperationError: The parent has ended.
            InvalidInputError: No commands, or something cannot be accepted.
            MainstayError: As `send`.
        """
        if isinstance(commands, Iterable | AsyncIterable) and not isinstance(
            commands, list | tuple | dict | str | bytes | bytearray | memoryview
        ):
            if conn is not None:
                raise InvalidInputError(
                    "a stream of commands is sent in many transactions, and cannot join yours: give a list"
                )
            async with self.open_batch(
                domain,
                batch_id=batch_id,
                name=name,
                custom_data=custom_data,
                on_complete=on_complete,
                parent_id=parent_id,
            ) as batch:
                async for command in _each(commands):
                    await batch.send(command)
            return CreateBatchResult(batch_id=batch.batch_id, command_results=[], total_commands=batch.sent)
        checked_domain(domain)
        key = uuid4() if batch_id is None else checked_id(batch_id, "batch_id")
        requests = [in_batch(domain, key, command) for command in checked_list(commands, "commands")]
        new = self._new_batch(domain, key, name, custom_data, on_complete, parent_id)
        checked = [self._checked(request) for request in requests]
        with sending(checked) as carrying:
            answers = await self._create(new, carrying, conn)
            results = all_sent(checked, answers)
        self._announce([domain] * len(results), conn)
        self._watch(new, on_complete)
        total = sum(not result.skipped for result in results)
        return CreateBatchResult(batch_id=key, command_results=results, total_commands=total)

    @asynccontextmanager
    async def open_batch(
        self,
        domain: str,
        *,
        batch_id: UUID | None = None,
        name: str | None = None,
        custom_data: dict[str, Any] | None = None,
        on_complete: BatchCallback | SendRequest | None = None,
        parent_id: UUID | None = None,
    ) -> AsyncIterator[BatchStream]:
        """Open a batch, send commands into it in a stream, and seal it at the end of the block.

        The batch cannot end before it is sealed. If the block raises, or the process dies, it stays open: operators see
        it, and seal or cancel it. Workers handle what was sent meanwhile. Arguments and errors as `create_batch`.
        """
        checked_domain(domain)
        key = uuid4() if batch_id is None else checked_id(batch_id, "batch_id")
        new = replace(self._new_batch(domain, key, name, custom_data, on_complete, parent_id), sealed=False)
        await self._create(new, [], None)
        self._watch(new, on_complete)

        async def send(chunk: Sequence[NewCommand]) -> list[Answer]:
            return await self._store.send_to_batch(domain, key, chunk)

        stream = BatchStream(domain, key, send, self._checked)
        try:
            yield stream
            await stream.finish()
        except BaseException:
            await stream.abandon()
            logger.warning(
                "a batch was left open; seal or cancel it: mainstay batches seal|cancel %s",
                key,
                extra={"domain": domain, "batch_id": str(key)},
            )
            raise
        await self._store.seal_batch(domain, key)

    async def seal_batch(self, domain: str, batch_id: UUID) -> None:
        """Say that nothing more is sent into an open batch, so that it can end. Does nothing to a sealed one.

        Raises:
            BatchNotFoundError: There is no such batch.
        """
        await self._store.seal_batch(checked_domain(domain), checked_id(batch_id, "batch_id"))

    async def cancel_batch(
        self,
        domain: str,
        batch_id: UUID,
        *,
        operator: str | None = None,
        reason: str | None = None,
        running: bool = False,
        on_begin: Callable[[OperatorAction], None] | None = None,
        on_progress: Callable[[Sequence[ActionItem]], None] | None = None,
    ) -> OperatorAction:
        """Cancel the commands of a batch that wait; seal it, if it is open.

        Args:
            domain: Whose batch.
            batch_id: Which.
            operator: Who decides.
            reason: Why.
            running: Also ask for the end of those that are being handled, as `cancel` does; else they go on.
            on_begin: Called when it is written down.
            on_progress: Called after each part with what it did.

        Returns:
            The action under which it was written down: DONE, or PROPOSED if the operators' rules ask for a second one.
            A process that dies in the middle leaves it RUNNING; `TroubleshootingQueue.run` goes on with it.

        Raises:
            BatchNotFoundError: There is no such batch.
            ReasonRequiredError: The operators' rules ask for a reason.
        """
        begun = await self.begin_cancel_batch(domain, batch_id, operator=operator, reason=reason, running=running)
        if on_begin:
            on_begin(begun)
        while begun.state is ActionState.RUNNING and (
            steps := await self._store.run_action(begun.action_id, _CANCEL_CHUNK)
        ):
            if on_progress:
                on_progress(steps)
        return await self._action(begun.action_id)

    async def begin_cancel_batch(
        self,
        domain: str,
        batch_id: UUID,
        *,
        operator: str | None = None,
        reason: str | None = None,
        running: bool = False,
    ) -> OperatorAction:
        """Seal a batch, and write down that what waits of it is canceled: `TroubleshootingQueue.run` carries it out.

        Arguments and errors as `cancel_batch`.

        Returns:
            The action: RUNNING, or PROPOSED if the operators' rules ask for a second one.
        """
        await self.seal_batch(domain, batch_id)
        new = NewAction(
            uuid4(),
            CANCEL_BATCH,
            Selection(domain, batch_id=batch_id),
            checked_text(operator, "operator"),
            checked_text(reason, "reason"),
            running=checked_flag(running, "running"),
        )
        await self._store.begin_action(new)
        return await self._action(new.action_id)

    async def _action(self, action_id: UUID) -> OperatorAction:
        found = await self._store.get_action(action_id)
        if found is None:  # pragma: no cover - actions are never deleted
            raise ActionNotFoundError(action_id)
        return found

    async def watch_batch(self, domain: str, batch_id: UUID, *, interval: float = 0.5) -> AsyncIterator[BatchMetadata]:
        """A batch as it is now, and again whenever it has changed, until it has ended.

        Args:
            domain: Whose batch.
            batch_id: Which.
            interval: Seconds between two looks, at least 0.05.

        Raises:
            BatchNotFoundError: There is no such batch.
            InvalidInputError: An argument cannot be accepted.
        """
        key = checked_id(batch_id, "batch_id")
        try:
            pause = max(as_seconds(interval), _SHORTEST_LOOK)
        except ValueError as error:
            raise InvalidInputError(f"interval: {error}") from error
        before: BatchMetadata | None = None
        while True:
            found = await self._store.get_batch(checked_domain(domain), key)
            if found is None:
                raise BatchNotFoundError(domain, key)
            if found != before:
                yield found
                before = found
            if found.is_complete:
                return
            await asyncio.sleep(pause)

    async def get_batch(self, domain: str, batch_id: UUID) -> BatchMetadata | None:
        """A batch with its exact counts; None if there is none."""
        return await self._store.get_batch(checked_domain(domain), checked_id(batch_id, "batch_id"))

    async def list_batches(
        self,
        domain: str,
        *,
        status: BatchStatus | None = None,
        parent_id: UUID | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[BatchMetadata]:
        """Batches of a domain, newest first; of one parent, if it is given."""
        checked_page(limit, offset)
        return await self._store.list_batches(
            checked_domain(domain),
            status=None if status is None else checked_choice(status, BatchStatus, "status"),
            parent_id=None if parent_id is None else checked_id(parent_id, "parent_id"),
            limit=limit,
            offset=offset,
        )

    async def list_batch_commands(
        self,
        domain: str,
        batch_id: UUID,
        *,
        status: CommandStatus | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[CommandMetadata]:
        """Commands of a batch, newest first."""
        checked_page(limit, offset)
        which = CommandFilter(
            domain=checked_domain(domain),
            batch_id=checked_id(batch_id, "batch_id"),
            status=None if status is None else checked_choice(status, CommandStatus, "status"),
        )
        return await self._store.query(which, limit=limit, offset=offset)

    # -- inside -------------------------------------------------------------------------------------------------------
    def _new_batch(  # noqa: PLR0917 - what a batch is made of
        self,
        domain: str,
        key: UUID,
        name: str | None,
        custom_data: dict[str, Any] | None,
        on_complete: BatchCallback | SendRequest | None,
        parent_id: UUID | None,
    ) -> NewBatch:
        if on_complete is not None and not isinstance(on_complete, SendRequest) and not callable(on_complete):
            message = f"on_complete must be a callable or a SendRequest, not {shown(on_complete)}"
            raise InvalidInputError(message)
        if isinstance(on_complete, SendRequest) and on_complete.unique_key is not None:
            raise InvalidInputError("a batch sends its completion command once, come what may: it has no unique_key")
        return NewBatch(
            domain=domain,
            batch_id=key,
            name=checked_text(name, "name"),
            custom_data=None
            if custom_data is None
            else to_json(checked_object(custom_data, what="custom_data"), what="custom_data"),
            on_complete=self._checked(on_complete) if isinstance(on_complete, SendRequest) else None,
            parent_id=None if parent_id is None else checked_id(parent_id, "parent_id"),
        )

    def _watch(self, new: NewBatch, on_complete: BatchCallback | SendRequest | None) -> None:
        if on_complete is not None and not isinstance(on_complete, SendRequest):
            self._watcher.watch(new.domain, new.batch_id, on_complete)

    async def _create(self, batch: NewBatch, commands: Sequence[NewCommand], conn: Any) -> list[Answer]:
        """Create a batch; a queue of ours that was dropped meanwhile is made again, once."""
        queues = {batch.domain} | ({batch.on_complete.domain} if batch.on_complete else set())
        for queue in queues:
            await self._store.ensure_queue(queue)
        try:
            answers = await self._store.create_batch(batch, commands, conn=conn)
        except QueueNotFoundError as error:
            if conn is not None or error.queue not in map(command_queue, queues):
                raise
        else:
            if conn is not None or Refusal.QUEUE_NOT_FOUND not in answers:
                return answers
        for queue in queues:
            await self._store.ensure_queue(queue)
        return await self._store.create_batch(batch, commands, conn=conn)


async def _each(commands: Iterable[BatchCommand] | AsyncIterable[BatchCommand]) -> AsyncIterator[BatchCommand]:
    if isinstance(commands, AsyncIterable):
        async for command in commands:
            yield command
    else:
        for command in commands:
            yield command


def in_batch(domain: str, batch_id: UUID, command: BatchCommand) -> SendRequest:
    """A command of a batch as any other.

    Raises:
        InvalidInputError: It is none, or of another domain.
    """
    if not isinstance(command, BatchCommand):
        message = f"expected a BatchCommand, not {type(command).__name__}"
        raise InvalidInputError(message)
    if command.domain not in {None, domain}:
        message = (
            f"{command.command_type} is a command of domain {shown(command.domain)}; this batch is of {shown(domain)}"
        )
        raise InvalidInputError(message)
    return SendRequest(
        domain=domain,
        command_type=command.command_type,
        command_id=command.command_id,
        data=command.data,
        correlation_id=command.correlation_id,
        reply_to=command.reply_to,
        max_attempts=command.max_attempts,
        batch_id=batch_id,
        key=command.key,
        priority=command.priority,
        expires_at=command.expires_at,
        headers=command.headers,
        unique_key=command.unique_key,
        unique_for=command.unique_for,
        on_conflict=command.on_conflict,
        causation_id=command.causation_id,
        tenant_id=command.tenant_id,
        actor_id=command.actor_id,
    )
