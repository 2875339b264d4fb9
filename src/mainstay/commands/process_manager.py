"""Processes written as managers, the way of `commandbus.process`: a step decides the next, one after another.

A manager is a `Process` like any other underneath, and keeps its promises: no step twice, none lost, undone one after
another. Its replies arrive as commands in a domain named after its reply queue, so that the worker of its own domain,
which handles the steps, need not know of it; `ProcessReplyRouter` is a worker of that domain. The queue itself, if
somebody has created one of this name, stays empty.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from enum import Enum
from typing import Any, Generic, get_args, get_origin
from uuid import UUID, uuid4

from pydantic import RootModel

from mainstay.commands.bus import CommandBus
from mainstay.commands.command import Reply
from mainstay.commands.handler import HandlerRegistry
from mainstay.commands.lifecycle import ReplyOutcome
from mainstay.commands.process import Process, Step, StepReply, StepSending, StepStatus
from mainstay.commands.process_moves import register_processes, take_reply
from mainstay.commands.process_records import (
    ProcessCommand,
    ProcessMetadata,
    ProcessRepository,
    TState,
    TStep,
    as_dict,
    as_name,
    shown,
)
from mainstay.commands.processes import ProcessManager
from mainstay.commands.running import ForABlock
from mainstay.commands.store import CommandStore
from mainstay.commands.worker import Worker
from mainstay.errors import ConfigurationError
from mainstay.message import COMMANDS_SUFFIX, checked_domain


class BaseProcessManager(ABC, Generic[TState, TStep]):
    """Says how one kind of process goes: which step is first, which command it is, and what comes after its reply.

    Its methods run in a transaction, and again if that fails.

    Args:
        command_bus: For methods of subclasses; kept as it is.
        process_repo: The same.
        reply_queue: Names the domain in which replies arrive: give `ProcessReplyRouter` the same.
        pool: For methods of subclasses; kept as it is.
        store: Where processes live.

    Raises:
        InvalidDomainError: No domain can be called like the reply queue; it has 37 characters at most.
    """

    def __init__(
        self, command_bus: CommandBus, process_repo: ProcessRepository, reply_queue: str, pool: Any, store: CommandStore
    ) -> None:
        self.command_bus = command_bus
        self.process_repo = process_repo
        self.reply_queue = reply_queue
        self.pool = pool
        self._store = store
        self._reply_domain = reply_domain(reply_queue)

    # -- what subclasses say ------------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def process_type(self) -> str:
        """The name of this kind, unique among those that share a reply queue."""

    @property
    @abstractmethod
    def domain(self) -> str:
        """Who handles the steps."""

    @property
    @abstractmethod
    def state_class(self) -> type[TState]:
        """What the state is read back with."""

    @abstractmethod
    def create_initial_state(self, initial_data: dict[str, Any]) -> TState:
        """The state at the beginning, from what `start` was given."""

    @abstractmethod
    def get_first_step(self, state: TState) -> TStep:
        """Where it begins."""

    @abstractmethod
    async def build_command(self, step: TStep, state: TState) -> ProcessCommand[Any]:
        """The command that a step is."""

    @abstractmethod
    def update_state(self, state: TState, step: TStep, reply: Reply[Any]) -> None:
        """Take over from a reply, a success or a failure, what is needed later."""

    @abstractmethod
    def get_next_step(self, current_step: TStep, reply: Reply[Any], state: TState) -> TStep | None:
        """What comes after a step that succeeded; None if all is done."""

    def get_compensation_step(self, step: TStep) -> TStep | None:
        """What undoes a step that succeeded; None if there is nothing to undo."""
        del step
        return None

    async def before_send_command(
        self,
        process: ProcessMetadata[TState, TStep],
        step: TStep,
        command_id: UUID,
        command_payload: dict[str, Any],
        conn: Any,
    ) -> None:
        """A step is about to be sent, in the transaction of ``conn``.

        What is changed in the payload is sent, and what is changed in the state is stored.
        """

    # -- what it does -------------------------------------------------------------------------------------------------
    async def start(self, initial_data: dict[str, Any], conn: Any = None, batch_id: UUID | None = None) -> UUID:
        """Start a process: its row and its first step, in one transaction.

        Args:
            initial_data: For `create_initial_state`.
            conn: A connection whose transaction to join, as for `CommandBus.send`.
            batch_id: Counts it with others, see `ProcessManager.batch`.

        Returns:
            The process's id, which is also the correlation id of its steps.

        Raises:
            MainstayError: As `ProcessManager.start`.
        """
        process_id = uuid4()
        for domain in (self.domain, self._reply_domain):
            await self._store.ensure_queue(domain)
        state = _Document(as_dict(self.create_initial_state(initial_data)))
        async with AsyncExitStack() as stack:
            joined = conn if conn is not None else await stack.enter_async_context(self._store.transaction())
            await ProcessManager(self._store).start(
                as_process(self),
                state,
                process_id=process_id,
                batch_id=batch_id,
                correlation_id=process_id,
                conn=joined,
            )
        if conn is None:
            await self._store.wake([self.domain])
        return process_id

    async def handle_reply(self, reply: Reply[Any], process: ProcessMetadata[Any, Any], conn: Any = None) -> None:
        """Move a process on with a reply; the router does this. A reply that was taken before changes nothing.

        Args:
            reply: To a step of the process.
            process: Whose state is read anew.
            conn: A connection whose transaction to join.

        Raises:
            PermanentCommandError: No process of this kind has sent such a command.
        """
        del process
        async with AsyncExitStack() as stack:
            joined = conn if conn is not None else await stack.enter_async_context(self._store.transaction())
            change = await take_reply(self._store, {self.process_type: as_process(self)}, reply, joined)
        if conn is None:
            await self._store.wake(sorted({command.domain for command in change.commands}))


class _Document(RootModel[dict[str, Any]]):
    """A state, as its ``to_dict`` gave it."""


class _Managed(Process[_Document]):
    """A manager as the process that it is."""

    state_class = _Document

    def __init__(self, manager: BaseProcessManager[Any, Any], replies: str) -> None:
        self.process_type = manager.process_type
        self.domain = manager.domain
        self.reply_domain = replies
        self._manager = manager
        self._steps = _step_class(type(manager))

    async def start(self, state: _Document) -> Step:
        """The first step."""
        typed = self._read(state)
        step = await self._built(self._manager.get_first_step(typed), typed)
        state.root = as_dict(typed)
        return step

    async def on_reply(self, state: _Document, reply: StepReply) -> Step | None:
        """The next step."""
        typed, told, current = self._read(state), _reply(reply), self._step(reply.step)
        self._manager.update_state(typed, current, told)
        following = self._manager.get_next_step(current, told, typed)
        step = None if following is None else await self._built(following, typed)
        state.root = as_dict(typed)
        return step

    def on_failure(self, state: _Document, reply: StepReply) -> None:
        """Keep what the failure says; what was done is undone."""
        if reply.status is StepStatus.FAILED:
            self._update(state, reply)

    async def compensate(self, state: _Document, done: StepReply) -> Step | None:
        """The step that undoes another."""
        typed = self._read(state)
        undoing = self._manager.get_compensation_step(self._step(done.step))
        step = None if undoing is None else await self._built(undoing, typed)
        state.root = as_dict(typed)
        return step

    def on_compensated(self, state: _Document, reply: StepReply) -> None:
        """Keep what undoing says."""
        self._update(state, reply)

    async def before_send(self, state: _Document, step: Step, sending: StepSending) -> None:
        """The manager's own hook."""
        process = shown(sending.process, self._read(state), sending.last_step)
        name = self._step(step.name or step.command_type)
        await self._manager.before_send_command(process, name, sending.command_id, step.data, sending.conn)
        state.root = as_dict(process.state)

    def _update(self, state: _Document, reply: StepReply) -> None:
        typed = self._read(state)
        self._manager.update_state(typed, self._step(reply.step), _reply(reply))
        state.root = as_dict(typed)

    async def _built(self, step: Any, state: Any) -> Step:
        command = await self._manager.build_command(step, state)
        return Step(self.domain, as_name(command.command_type), as_dict(command.data), name=as_name(step))

    def _read(self, state: _Document) -> Any:
        return self._manager.state_class.from_dict(state.root)

    def _step(self, name: str) -> Any:
        """A step by its name: the member of the manager's enumeration, if it has one of this name."""
        members = {member.value: member for member in self._steps} if self._steps else {}
        return members.get(name, name)


class ProcessReplyRouter(ForABlock):
    """Moves processes on with the replies to their steps; a worker, with all that `Worker` promises.

    A reply to a process, or to a kind of process, that is not known here goes to the troubleshooting queue.

    Args:
        store: Where processes live.
        managers: One of each kind, by its ``process_type``.
        reply_queue: That of the managers.
        domain: For logs; the steps go where each manager says.
        visibility_timeout: Seconds (or timedelta) until a reply whose router died is received again.

    Raises:
        ConfigurationError: A manager has another reply queue.
    """

    def __init__(
        self,
        store: CommandStore,
        managers: Mapping[str, BaseProcessManager[Any, Any]],
        reply_queue: str,
        domain: str,
        visibility_timeout: timedelta | float = 30,
    ) -> None:
        self.domain = checked_domain(domain)
        self.reply_queue = reply_queue
        registry = HandlerRegistry()
        for manager in managers.values():
            if manager.reply_queue != reply_queue:
                message = f"{manager.process_type} has the reply queue {manager.reply_queue!r}, not {reply_queue!r}"
                raise ConfigurationError(message)
        register_processes(registry, *(as_process(manager) for manager in managers.values()))
        self._worker = Worker(store, reply_domain(reply_queue), registry, visibility_timeout)

    @property
    def is_running(self) -> bool:
        """Whether `run` is under way."""
        return self._worker.is_running

    @property
    def in_flight_count(self) -> int:
        """Replies that are being taken."""
        return self._worker.in_flight_count

    async def run(
        self,
        concurrency: int = 10,
        poll_interval: timedelta | float = 1.0,
        use_notify: bool = True,  # noqa: FBT001, FBT002 - as above
    ) -> None:
        """Take replies until `stop` is called or this task is canceled; the arguments and errors of `Worker.run`."""
        await self._worker.run(concurrency, poll_interval, use_notify=use_notify)

    async def stop(self, timeout: timedelta | float | None = None) -> None:
        """Stop, as `Worker.stop` does."""
        await self._worker.stop(timeout)


def reply_domain(reply_queue: str) -> str:
    """The domain in which the replies for a reply queue arrive.

    Raises:
        InvalidDomainError: None can be called so.
    """
    return checked_domain(reply_queue.removesuffix(COMMANDS_SUFFIX))


def as_process(manager: BaseProcessManager[Any, Any]) -> Process[Any]:
    """A manager as the process that it is."""
    return _Managed(manager, reply_domain(manager.reply_queue))


def _step_class(kind: type) -> type[Enum] | None:
    """The enumeration of steps that a manager's class was given: ``BaseProcessManager[State, Steps]``."""
    for base in (base for each in kind.__mro__ for base in getattr(each, "__orig_bases__", ())):
        origin, given = get_origin(base), get_args(base)
        if isinstance(origin, type) and issubclass(origin, BaseProcessManager) and isinstance(given[-1], type):
            return given[-1] if issubclass(given[-1], Enum) else None
    return None


def _reply(reply: StepReply) -> Reply[Any]:
    """A reply as managers get it; its correlation is the process."""
    if reply.command_id is None:
        raise ConfigurationError("only replies to steps reach a manager")
    return Reply(
        command_id=reply.command_id,
        correlation_id=reply.process_id,
        outcome=ReplyOutcome(reply.status.value),
        data=reply.result,
        error_code=reply.error_code,
        error_message=reply.error_message,
    )
