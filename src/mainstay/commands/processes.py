"""Starting processes, and asking after them. What one is: `mainstay.commands.process`."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4, uuid5

from pydantic import BaseModel

from mainstay.clock import SystemClock
from mainstay.commands.checks import (
    checked_choice,
    checked_count,
    checked_list,
    checked_page,
    checked_text,
    domain_filter,
    type_filter,
)
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.process import (
    ENDED,
    FORWARD,
    Process,
    ProcessEvent,
    ProcessMetadata,
    ProcessStatus,
    StepStatus,
)
from mainstay.commands.process_flow import CANCEL, Flow
from mainstay.commands.process_moves import checked_process, own, send_all
from mainstay.commands.process_store import HeldProcess, NewProcess, ProcessFilter
from mainstay.commands.sends import sent
from mainstay.commands.store import CommandStore
from mainstay.commands.unannounced import Unannounced
from mainstay.errors import (
    DuplicateProcessError,
    InvalidInputError,
    InvalidOperationError,
    ProcessNotFoundError,
)
from mainstay.message import checked_id, correlation_id_var
from mainstay.retry import as_seconds
from mainstay.tenancy import current_actor, current_tenant

CHUNK = 200
"""Processes started in one transaction of their own."""
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.5

StateT = TypeVar("StateT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ProcessBatch:
    """Processes that were started together, and how many of them stand where."""

    batch_id: UUID
    by_status: dict[ProcessStatus, int]

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.by_status.values())

    @property
    def is_complete(self) -> bool:
        """Whether all have ended."""
        return ENDED.issuperset(status for status, count in self.by_status.items() if count)


class ProcessManager:
    """Starts processes and answers questions about them.

    Args:
        store: Where commands live.
    """

    def __init__(self, store: CommandStore) -> None:
        self._store = store
        self._unannounced = Unannounced()

    async def start(
        self,
        process: Process[StateT],
        state: StateT,
        *,
        process_id: UUID | None = None,
        batch_id: UUID | None = None,
        correlation_id: UUID | None = None,
        conn: Any = None,
    ) -> UUID:
        """Start a process: its row and its first steps, in one transaction.

        Args:
            process: How it moves. The worker that moves it on gets one of the same type from `register_processes`.
            state: Its state at the beginning.
            process_id: Drawn if None. The ids of its steps are derived from it.
            batch_id: Counts it with others, see `batch`.
            correlation_id: Of its steps; inside a handler that of its command, else drawn.
            conn: A connection whose transaction to join. Nothing is started unless it commits; call `wake` after that,
                else workers find the first steps when they poll.

        Returns:
            The process's id.

        Raises:
            DuplicateProcessError: This id was used before. Nothing was sent.
            ConfigurationError: The process lacks its names, or named something else than steps.
            InvalidInputError: Something cannot be accepted; the message names it.
            QueueNotFoundError: No queue for a step.
            StorageUnavailableError: No connection, or it broke: start it again with the same id.
        """
        key = uuid4() if process_id is None else checked_id(process_id, "process_id")
        new = await self._begun(process, state, key, batch_id, correlation_id, conn)
        await self._put([new], conn)
        return key

    async def start_batch(
        self,
        process: Process[StateT],
        states: Sequence[StateT],
        *,
        batch_id: UUID | None = None,
        chunk_size: int = CHUNK,
        conn: Any = None,
    ) -> UUID:
        """Start many processes, a chunk in a transaction.

        Their ids are derived from the batch's and their place in the list: start the same list again with the same id
        after a failure, and those that were started are passed over.

        Args:
            process: How they move.
            states: One for each.
            batch_id: Drawn if None.
            chunk_size: Processes in a transaction.
            conn: A connection whose transaction to join, all in one.

        Returns:
            The batch's id, for `batch`.

        Raises:
            MainstayError: As `start`, but for DuplicateProcessError.
        """
        checked_list(states, "states")
        checked_count(chunk_size, "chunk_size")
        batch = uuid4() if batch_id is None else checked_id(batch_id, "batch_id")
        for first in range(0, len(states), chunk_size):
            news = [
                await self._begun(process, state, uuid5(batch, str(place)), batch, None, conn)
                for place, state in enumerate(states[first : first + chunk_size], first)
            ]
            await self._put(news, conn, skip_known=True)
        return batch

    async def wake(self) -> None:
        """Wake sleeping workers after the commit of a transaction that this thread or task has started processes in."""
        if domains := self._unannounced.take():
            await self._store.wake(domains)

    async def get(self, process_id: UUID) -> ProcessMetadata | None:
        """A process with its steps; None if there is none."""
        return await self._store.processes.get(checked_id(process_id, "process_id"))

    async def wait_for(self, process_id: UUID, *, timeout: timedelta | float = 30.0) -> ProcessMetadata:
        """Wait until a process has ended, however; it is looked at, after longer and longer pauses.

        Args:
            process_id: Which.
            timeout: Seconds (or timedelta) to wait; 0: only if it has ended.

        Returns:
            The process with its steps.

        Raises:
            ProcessNotFoundError: There is none.
            TimeoutError: It has not ended in time, and goes on; the message says where it stands.
        """
        seconds = as_seconds(timeout)
        end = asyncio.get_running_loop().time() + seconds
        pause = _FIRST_PAUSE
        while True:
            known = await self._store.processes.get(checked_id(process_id, "process_id"), with_steps=False)
            left = end - asyncio.get_running_loop().time()
            if known is not None and (known.has_ended or left <= 0):
                known = await self.get(process_id)
            if known is None:
                raise ProcessNotFoundError(process_id)
            if known.has_ended:
                return known
            if left <= 0:
                waiting = await self.waiting_for(known)
                steps = [f"{step.name} is {waiting[step.step_no]}" for step in known.steps if step.step_no in waiting]
                where = "; ".join([f"it is {known.status}", *steps])
                raise TimeoutError(f"process {process_id} has not ended within {seconds:g} s: {where}")
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def waiting_for(self, process: ProcessMetadata) -> dict[int, CommandStatus]:
        """Where the commands of the steps under way stand, by the steps' numbers; in troubleshooting, for example."""
        waiting: dict[int, CommandStatus] = {}
        for step in process.steps:
            if step.status is StepStatus.SENT:
                command = await self._store.get(step.domain, step.command_id)
                if command is not None:
                    waiting[step.step_no] = command.status
        return waiting

    async def query(
        self,
        *,
        domain: str | None = None,
        process_type: str | None = None,
        status: ProcessStatus | None = None,
        batch_id: UUID | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[ProcessMetadata]:
        """Processes that meet all conditions given, newest first, without their steps."""
        checked_page(limit, offset)
        which = ProcessFilter(
            domain=domain_filter(domain),
            process_type=type_filter(process_type),
            status=None if status is None else checked_choice(status, ProcessStatus, "status"),
            batch_id=None if batch_id is None else checked_id(batch_id, "batch_id"),
        )
        return await self._store.processes.query(which, limit=limit, offset=offset)

    async def get_audit_trail(self, process_id: UUID) -> list[ProcessEvent]:
        """Everything that happened to a process, in order."""
        return await self._store.processes.audit_trail(checked_id(process_id, "process_id"))

    async def batch(self, batch_id: UUID) -> ProcessBatch:
        """How far the processes of a batch are."""
        key = checked_id(batch_id, "batch_id")
        return ProcessBatch(key, await self._store.processes.count(key))

    async def cancel(self, process_id: UUID, *, reason: str | None = None, operator: str | None = None) -> None:
        """Undo a process that is not done. A step under way is waited for; then what was done is undone.

        Returns at once; the process's worker does it.

        Args:
            process_id: Which.
            reason: For the audit trail.
            operator: Who wants it, for the audit trail.

        Raises:
            ProcessNotFoundError: There is none.
            InvalidOperationError: It has ended, or is being undone already.
        """
        key = checked_id(process_id, "process_id")
        known = await self._store.processes.get(key, with_steps=False)
        if known is None:
            raise ProcessNotFoundError(key)
        if known.status not in FORWARD:
            message = f"process {key} is {known.status}; only one that is WAITING_FOR_REPLY can be canceled"
            raise InvalidOperationError(message)
        data = {"process_id": str(key), "reason": checked_text(reason, "reason")}
        if operator is not None:
            data["operator"] = checked_text(operator, "operator")
        command = own(known, CANCEL, uuid4(), data)
        (answer,) = await self._store.send([command])
        sent(command, answer)

    async def _begun(  # noqa: PLR0917 - wired in two places here
        self,
        process: Process[StateT],
        state: StateT,
        key: UUID,
        batch_id: UUID | None,
        correlation_id: UUID | None,
        conn: Any,
    ) -> NewProcess:
        domain, reply_domain, process_type = checked_process(process)
        if not isinstance(state, process.state_class):
            message = f"state must be a {process.state_class.__name__}, not {type(state).__name__}"
            raise InvalidInputError(message)
        now = SystemClock().now()
        current = correlation_id_var.get()
        known = ProcessMetadata(
            process_id=key,
            domain=domain,
            reply_domain=reply_domain,
            process_type=process_type,
            status=ProcessStatus.WAITING_FOR_REPLY,
            state={},
            correlation_id=checked_id(correlation_id or current or key, "correlation_id"),
            created_at=now,
            updated_at=now,
            batch_id=None if batch_id is None else checked_id(batch_id, "batch_id"),
            tenant_id=current_tenant(),
            actor_id=current_actor(),
        )
        flow = Flow(process, HeldProcess(known), state.model_copy(deep=True), conn)
        await flow.started()
        return NewProcess(
            domain, reply_domain, process_type, known.correlation_id, known.batch_id, flow.change(),
            known.tenant_id, known.actor_id,
        )  # fmt: skip

    async def _put(self, news: list[NewProcess], conn: Any, *, skip_known: bool = False) -> None:
        for domain in {new.reply_domain for new in news}:
            await self._store.ensure_queue(domain)
        commands = [command for new in news for command in new.change.commands]
        for domain in {command.domain for command in commands}:
            await self._store.ensure_queue(domain)
        async with AsyncExitStack() as stack:
            joined = conn if conn is not None else await stack.enter_async_context(self._store.transaction())
            known = set(await self._store.processes.start(news, conn=joined))
            if known and not skip_known:
                raise DuplicateProcessError(known.pop())
            begun = [command for new in news if new.change.process_id not in known for command in new.change.commands]
            await send_all(self._store, begun, joined)
        domains = [command.domain for command in begun]
        if conn is None:
            await self._store.wake(domains)
        else:
            self._unannounced.add(domains)
