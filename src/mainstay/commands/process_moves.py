"""Moving processes: the handlers of what arrives for them, and the transaction that writes a move."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ValidationError

from mainstay.clock import SystemClock
from mainstay.commands.carried import carrying
from mainstay.commands.command import Command, Reply
from mainstay.commands.context import HandlerContext
from mainstay.commands.handler import HandlerRegistry
from mainstay.commands.process import (
    Process,
    ProcessMetadata,
    ProcessStatus,
    StepReply,
    StepStatus,
    TakenEvent,
)
from mainstay.commands.process_flow import CANCEL, DEADLINE, MOVE_ATTEMPTS, Flow
from mainstay.commands.process_store import HeldProcess, NewProcess, ProcessChange
from mainstay.commands.sends import sent
from mainstay.commands.store import CommandStore, NewCommand
from mainstay.errors import ConfigurationError, PermanentCommandError, shown
from mainstay.message import causation_id_var, checked_domain, checked_type, correlated
from mainstay.serialization import to_json
from mainstay.tenancy import scope_of

REPLY = "Reply"
"""Type of the command that a reply is, where ``reply_to`` names the queue of a domain's commands."""


def register_processes(registry: HandlerRegistry, *processes: Process[Any]) -> None:
    """Let the workers of this registry move processes of these kinds; call it once for all kinds of a domain.

    Args:
        registry: Of the workers of the processes' domains.
        processes: One of each kind.

    Raises:
        ConfigurationError: A process lacks its names, or two kinds of a domain have one.
        HandlerAlreadyRegisteredError: The domain's processes are registered already.
    """
    domains: dict[str, dict[str, Process[Any]]] = {}
    for process in processes:
        _, domain, process_type = checked_process(process)
        kinds = domains.setdefault(domain, {})
        if process_type in kinds:
            message = f"two processes whose replies go to domain {domain!r} are called {process_type!r}"
            raise ConfigurationError(message)
        kinds[process_type] = process
    for domain, kinds in domains.items():
        moves = _Moves(kinds)
        for command_type, handler in ((REPLY, moves.reply), (DEADLINE, moves.deadline), (CANCEL, moves.cancel)):
            registry.register(domain, command_type, handler, transactional=True)


class _Moves:
    """The handlers that move the processes of a domain."""

    def __init__(self, kinds: dict[str, Process[Any]]) -> None:
        self._kinds = kinds

    async def reply(self, command: Command, ctx: HandlerContext) -> dict[str, Any]:
        """A step was answered."""
        change = await take_reply(_store_of(ctx), self._kinds, Reply.from_message(command.data), ctx.conn)
        return _moved(change, ctx)

    async def deadline(self, command: Command, ctx: HandlerContext) -> dict[str, Any]:
        """The deadline of a step or a process has come."""
        store = _store_of(ctx)
        process_id, step_no = UUID(command.data["process_id"]), command.data.get("step_no")
        flow, held = await _locked(store, self._kinds, ctx.conn, process_id=process_id, step_no=step_no)
        if flow is None:
            return _moved(_no_change(held.known), ctx)
        with in_name_of(held.known):
            if (name := command.data.get("deadline")) is not None:
                await flow.deadline_reached(name, command.command_id)
            else:
                await flow.ran_out_of_time(step_no)
        return _moved(await write(store, flow.change(), ctx.conn), ctx)

    async def cancel(self, command: Command, ctx: HandlerContext) -> dict[str, Any]:
        """Somebody wants a process undone."""
        store = _store_of(ctx)
        flow, held = await _locked(store, self._kinds, ctx.conn, process_id=UUID(command.data["process_id"]))
        if flow is None:
            return _moved(_no_change(held.known), ctx)
        with in_name_of(held.known):
            await flow.cancel_asked(command.data["reason"], command.data.get("operator"))
        return _moved(await write(store, flow.change(), ctx.conn), ctx)


async def take_reply(
    store: CommandStore, kinds: Mapping[str, Process[Any]], reply: Reply[Any], conn: Any
) -> ProcessChange:
    """Move the process that sent a command with the reply to it.

    Args:
        store: Where processes live.
        kinds: Processes by their types.
        reply: To one of its steps.
        conn: The transaction to do it in.

    Returns:
        What was written. Wake the domains of its commands after the commit.

    Raises:
        PermanentCommandError: No process has sent this command, or one that is not among the kinds.
    """
    flow, held = await _locked(store, kinds, conn, command_id=reply.command_id)
    known, step = held.known, held.step
    if flow is None or step is None:
        return _no_change(known)
    answer = StepReply(
        step.name, StepStatus(reply.outcome.value), step.data, reply.data, reply.error_code, reply.error_message, conn,
        known.process_id, step.command_id,
    )  # fmt: skip
    with in_name_of(known):
        await flow.replied(answer)
    return await write(store, flow.change(), conn)


@dataclass(frozen=True, slots=True)
class Happening:
    """An event, as a process is told of it.

    Args:
        event: Which.
        steps: What the process says to it, given its state.
        begin: Its state, if it begins with this event; None if this event begins none.
        correlation_id: The conversation that the event belongs to.
        tenant_id: Whose event it is.
        actor_id: Who wanted it.
    """

    event: TakenEvent
    steps: Callable[[Any], Any]
    begin: Callable[[], BaseModel] | None
    correlation_id: UUID
    tenant_id: UUID | str | None = None
    actor_id: str | None = None


async def take_event(
    store: CommandStore, process: Process[Any], process_id: UUID, told: Happening, conn: Any
) -> ProcessChange | None:
    """Tell a process of an event, and begin it if the event does.

    Locks the process's row, and then as sending does. Two that begin one process at the same time wait for each other:
    the second finds it there.

    Args:
        store: Where processes live.
        process: How this kind moves.
        process_id: Which one.
        told: What has happened.
        conn: The transaction to do it in.

    Returns:
        What was written: wake the domains of its commands after the commit. None if there is nothing to do: it was told
        of this event before, it was pruned, or there is none and this event begins none.
    """
    event_id = told.event.event_id
    held = await store.processes.lock(process_id=process_id, event_id=event_id, conn=conn)
    if held is None and told.begin is not None:
        change = await _begun_by(store, process, process_id, told, conn)
        if change is not None:
            return change
        held = await store.processes.lock(process_id=process_id, event_id=event_id, conn=conn)
    if held is None or held.known.pruned_at is not None or held.was_told:
        return None
    flow = Flow(process, held, _state_of(process, held.known), conn, store.processes)
    with _because_of(held.known, told):
        await flow.told_of(told.event, told.steps)
        change = flow.change()
    return await write(store, change, conn)


async def _begun_by(
    store: CommandStore, process: Process[Any], process_id: UUID, told: Happening, conn: Any
) -> ProcessChange | None:
    """The first move of a process that an event begins; None if somebody else has begun it meanwhile."""
    domain, reply_domain, process_type = checked_process(process)
    now = SystemClock().now()
    known = ProcessMetadata(
        process_id, domain, reply_domain, process_type, ProcessStatus.WAITING_FOR_EVENT, {}, told.correlation_id, now,
        now, tenant_id=told.tenant_id, actor_id=told.actor_id,
    )  # fmt: skip
    with _because_of(known, told):
        begin = told.begin
        state = None if begin is None else begin()
        if not isinstance(state, process.state_class):
            message = f"{process_type} begins with a {process.state_class.__name__}, not with {shown(state)}"
            raise ConfigurationError(message)
        flow = Flow(process, HeldProcess(known), state, conn)
        await flow.begun_by(told.event, told.steps)
        change = flow.change()
    new = NewProcess(
        domain, reply_domain, process_type, told.correlation_id, None, change, told.tenant_id, told.actor_id
    )
    await _ensure_queues(store, change, reply_domain)
    if await store.processes.start([new], conn=conn):
        return None
    await send_all(store, change.commands, conn)
    return change


@contextmanager
def _because_of(known: ProcessMetadata, told: Happening) -> Iterator[None]:
    """What a process is moved in by an event: its tenant's scope, in the name of who wanted the event."""
    actor_id = told.actor_id or known.actor_id
    with correlated(known.correlation_id, told.event.event_id, actor_id), scope_of(known.tenant_id):
        yield


async def _ensure_queues(store: CommandStore, change: ProcessChange, *others: str) -> None:
    for domain in sorted({*(command.domain for command in change.commands), *others}):
        await store.ensure_queue(domain)


async def _locked(
    store: CommandStore,
    kinds: Mapping[str, Process[Any]],
    conn: Any,
    *,
    process_id: UUID | None = None,
    command_id: UUID | None = None,
    step_no: int | None = None,
) -> tuple[Flow | None, HeldProcess]:
    """A process, held, and its next move; None if it was pruned, and so ended long ago."""
    held = await store.processes.lock(process_id=process_id, command_id=command_id, step_no=step_no, conn=conn)
    if held is None:
        which = f"id {process_id}" if command_id is None else f"command {command_id}"
        raise PermanentCommandError("UNKNOWN_PROCESS", f"there is no process with {which}")
    known = held.known
    if known.pruned_at is not None:
        return None, held
    process = kinds.get(known.process_type)
    if process is None:
        message = f"no process {known.process_type!r} is registered in domain {known.reply_domain!r}"
        raise PermanentCommandError("UNKNOWN_PROCESS_TYPE", message)
    return Flow(process, held, _state_of(process, known), conn, store.processes), held


def _state_of(process: Process[Any], known: ProcessMetadata) -> BaseModel:
    try:
        state: BaseModel = process.state_class.model_validate(known.state)
    except ValidationError as error:
        raise PermanentCommandError("INVALID_STATE", str(error)) from error
    return state


@contextmanager
def in_name_of(known: ProcessMetadata) -> Iterator[None]:
    """What a process is moved in, whoever moves it: its tenant's scope, and its actor's name."""
    with correlated(known.correlation_id, causation_id_var.get(), known.actor_id), scope_of(known.tenant_id):
        yield


def _no_change(known: ProcessMetadata) -> ProcessChange:
    return ProcessChange(known.process_id, known.status, b"{}")


async def write(store: CommandStore, change: ProcessChange, conn: Any) -> ProcessChange:
    """Write a move of a process that is held, and send its commands."""
    await _ensure_queues(store, change)
    await store.processes.advance(change, conn=conn)
    await send_all(store, change.commands, conn)
    return change


def _moved(change: ProcessChange, ctx: HandlerContext) -> dict[str, Any]:
    ctx.sends.domains.extend(command.domain for command in change.commands)
    told = Counter(each.event_type.value for each in change.told)
    return {"process_id": str(change.process_id), "status": change.status.value, "told": dict(told)}


async def send_all(store: CommandStore, commands: Sequence[NewCommand], conn: Any) -> None:
    """Send the commands of moves.

    Raises:
        MainstayError: One is refused; the transaction is to be undone.
    """
    if commands:
        answers = await store.send(commands, conn=conn)
        for command, answer in zip(commands, answers, strict=True):
            sent(command, answer)


def _store_of(ctx: HandlerContext) -> CommandStore:
    if ctx.sends.store is None:
        raise ConfigurationError("processes are moved by workers; without one, call the process's methods")
    return ctx.sends.store


def own(known: ProcessMetadata, command_type: str, command_id: UUID, data: dict[str, Any]) -> NewCommand:
    """A command that moves a process."""
    headers = carrying(None, None, known.tenant_id, None)
    return NewCommand(
        known.reply_domain, command_type, command_id, to_json(data), known.correlation_id, MOVE_ATTEMPTS,
        headers=None if headers is None else to_json(headers),
    )  # fmt: skip


def checked_process(process: Process[Any]) -> tuple[str, str, str]:
    """The domain of a process, that of its replies, and its name.

    Raises:
        ConfigurationError: It is none, or lacks one of its names.
    """
    if not isinstance(process, Process):
        message = f"expected a Process, made from its class, not {process!r:.80}"
        raise ConfigurationError(message)
    kind = type(process)
    for name in ("process_type", "domain", "state_class"):
        if getattr(process, name, None) is None:
            message = f"{kind.__name__} has no {name}: set it in the class"
            raise ConfigurationError(message)
    if not (isinstance(process.state_class, type) and issubclass(process.state_class, BaseModel)):
        message = f"{kind.__name__}.state_class must be a pydantic model, not {process.state_class!r:.80}"
        raise ConfigurationError(message)
    domain = checked_domain(process.domain)
    replies = domain if process.reply_domain is None else checked_domain(process.reply_domain)
    return domain, replies, checked_type(process.process_type)
