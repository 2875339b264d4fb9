"""What a process does next: decisions only. `Flow.change` says what to write.

A move is told of the step that it is about, and how many are under way; what that costs does not depend on how many the
process has sent. It reads more only if it must: to undo, what was done, the last first, until there is something to
undo; and if the process was not done in time, what is under way.
"""

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

from pydantic import BaseModel

from mainstay.commands.checks import checked_request
from mainstay.commands.command import SendRequest
from mainstay.commands.process import (
    FORWARD,
    CancelDeadline,
    Deadline,
    Process,
    ProcessEventType,
    ProcessStatus,
    Step,
    StepMetadata,
    StepReply,
    StepSending,
    StepStatus,
    TakenEvent,
)
from mainstay.commands.process_store import HeldProcess, NewStep, ProcessChange, ProcessStore, StepOutcome, Told
from mainstay.commands.store import NewCommand
from mainstay.errors import ConfigurationError
from mainstay.message import causation_id_var, checked_text, command_queue
from mainstay.retry import DEFAULT_MAX_ATTEMPTS, as_seconds
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT, to_json

DEADLINE = "ProcessDeadline"
CANCEL = "ProcessCancel"
MOVE_ATTEMPTS = 10
"""Attempts of the commands that move processes."""

_P, _S, _E = ProcessStatus, StepStatus, ProcessEventType
_LONGEST_NAME = 200
_PAGE = 20
"""Steps that were done, read at once when some are to be undone."""
_UNDONE = frozenset({_P.COMPENSATED, _P.CANCELED})
_TOLD = {
    _S.SUCCESS: _E.STEP_SUCCEEDED,
    _S.FAILED: _E.STEP_FAILED,
    _S.CANCELED: _E.STEP_CANCELED,
    _S.TIMED_OUT: _E.STEP_TIMED_OUT,
}


class Flow:
    """One move of a process: what happened is told by one of the methods, what follows is in `change`.

    Args:
        process: How this kind moves.
        held: The process as it stands.
        state: Its state, which the process's methods change.
        conn: Given to them, and what steps are read with.
        store: Where its steps are; None of one that begins, which has none.
    """

    def __init__(
        self,
        process: Process[Any],
        held: HeldProcess,
        state: BaseModel,
        conn: Any = None,
        store: ProcessStore | None = None,
    ) -> None:
        known = held.known
        self._process = process
        self._held = held
        self._known = known
        self._state = state
        self._conn = conn
        self._store = store
        self._open = held.open_steps
        self._done_now: list[StepMetadata] = []
        self._status = known.status
        self._ends_as = known.ends_as
        self._error = known.error_code, known.error_message
        self._outcomes: list[StepOutcome] = []
        self._sent: list[NewStep] = []
        self._deadlines: list[NewCommand] = []
        self._armed = dict(known.deadlines)
        self._event: TakenEvent | None = None
        self._told: list[Told] = []

    def change(self) -> ProcessChange:
        """What to write."""
        return ProcessChange(
            process_id=self._known.process_id,
            status=self._status,
            state=to_json(self._state, what="the process's state"),
            ends_as=self._ends_as,
            error_code=self._error[0],
            error_message=self._error[1],
            outcomes=tuple(self._outcomes),
            sent=tuple(self._sent),
            deadlines=tuple(self._deadlines),
            armed=self._armed if self._status in FORWARD else {},
            event=self._event,
            told=tuple(self._told),
        )

    # -- what happened ------------------------------------------------------------------------------------------------
    async def started(self) -> None:
        """It begins."""
        self._tell(_E.STARTED)
        await self._send(await _waited(self._process.start(self._state)))
        self._end_if_done()
        self._set_its_deadline()

    async def begun_by(self, event: TakenEvent, steps: Callable[[Any], Any]) -> None:
        """It begins with an event; as `told_of`."""
        self._tell(_E.STARTED)
        await self.told_of(event, steps)
        self._set_its_deadline()

    async def told_of(self, event: TakenEvent, steps: Callable[[Any], Any]) -> None:
        """An event that it has not been told of before.

        Args:
            event: Which.
            steps: What it says to that, given its state.
        """
        self._event = replace(event, was_taken=self._status in FORWARD)
        kind = _E.EVENT_TAKEN if self._event.was_taken else _E.EVENT_IGNORED
        self._tell(
            kind, None, event_id=str(event.event_id), event_type=event.event_type, position=event.position,
            status=None if self._event.was_taken else self._status.value,
        )  # fmt: skip
        if self._event.was_taken:
            await self._send(await _waited(steps(self._state)))
            self._end_if_done()

    async def replied(self, told: StepReply) -> None:
        """The step that is held was answered."""
        step = self._step
        if step.status is not _S.SENT and step.status is not _S.TIMED_OUT:
            self._tell(_E.REPLY_IGNORED, step.step_no, status=told.status.value)
            return
        is_late = step.status is _S.TIMED_OUT
        self._note(step, told)
        if step.undoes is not None:
            await self._undone(told)
        elif self._status in FORWARD and not is_late:
            await self._move(told)
        elif self._status is _P.COMPENSATING or (self._status in _UNDONE and told.status is _S.SUCCESS):
            await self._undo_next()

    async def ran_out_of_time(self, step_no: int | None) -> None:
        """The deadline of the step that is held, or of the process, has come."""
        if step_no is None:
            if self._status not in FORWARD:
                return
            late = StepReply("", _S.TIMED_OUT, {}, None, "DEADLINE", "the process was not done in time")
            for step in await self._all_steps() if self._open else []:
                if step.status is _S.SENT:
                    self._note(step, replace(self._reply(step), status=_S.TIMED_OUT))
            await self._begin_to_undo(late)
            return
        waiting = self._held.step
        if waiting is None or waiting.status is not _S.SENT:
            return
        late = replace(
            self._reply(waiting), status=_S.TIMED_OUT, error_code="DEADLINE", error_message="no reply came in time"
        )
        await self.replied(late)

    async def deadline_reached(self, name: str, command_id: UUID) -> None:
        """A deadline that it has set; unless it was canceled or set anew, or it is not to go on."""
        if self._status not in FORWARD or self._armed.get(name) != command_id:
            return
        del self._armed[name]
        self._tell(_E.DEADLINE_REACHED, None, name=name)
        await self._send(await _waited(self._process.on_deadline(self._state, name)))
        self._end_if_done()

    async def cancel_asked(self, reason: str | None, operator: str | None = None) -> None:
        """Somebody wants it undone. What is under way is waited for."""
        self._tell(_E.CANCEL_ASKED, None, reason=reason, operator=operator)
        if self._status in FORWARD:
            await self._begin_to_undo(StepReply("", _S.CANCELED, {}, None, "CANCELED", reason))

    # -- forward ------------------------------------------------------------------------------------------------------
    async def _move(self, told: StepReply) -> None:
        if told.status is _S.SUCCESS:
            await self._send(await _waited(self._process.on_reply(self._state, told)))
        else:
            another_way = _as_steps(await _waited(self._process.on_failure(self._state, told)))
            if not another_way:
                await self._begin_to_undo(told)
                return
            await self._send(another_way)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._status not in FORWARD:
            return
        if self._open:
            self._status = _P.WAITING_FOR_REPLY
        elif self._process.is_done(self._state):
            self._status = _P.COMPLETED
            self._tell(_E.COMPLETED)
        else:
            self._status = _P.WAITING_FOR_EVENT

    # -- back ---------------------------------------------------------------------------------------------------------
    async def _begin_to_undo(self, why: StepReply) -> None:
        self._status = _P.COMPENSATING
        self._ends_as = _P.CANCELED if why.status is _S.CANCELED else _P.COMPENSATED
        self._error = why.error_code, why.error_message
        self._tell(_E.COMPENSATING, None, step=why.step or None, error_code=why.error_code)
        await self._undo_next()

    async def _undone(self, told: StepReply) -> None:
        if told.status is _S.SUCCESS:
            await _waited(self._process.on_compensated(self._state, told))
            if self._status is _P.COMPENSATING:
                await self._undo_next()
            return
        self._status = _P.FAILED
        self._error = "COMPENSATION_FAILED", f"{told.step}: {told.error_code}: {told.error_message}"
        self._tell(_E.FAILED, None, step=told.step, error_code=told.error_code)

    async def _undo_next(self) -> None:
        """Send what undoes the last step that was done and is not undone, or end; one at a time."""
        if self._open:
            return
        async with aclosing(self._done()) as done:
            async for step in done:
                undoing = await _waited(self._process.compensate(self._state, self._reply(step)))
                if undoing is not None:
                    if self._status is not _P.COMPENSATING:
                        self._status = _P.COMPENSATING
                        self._tell(_E.COMPENSATING, step.step_no)
                    await self._send(undoing, undoes=step.step_no)
                    return
        if self._status is _P.COMPENSATING:
            self._status = self._ends_as or _P.COMPENSATED
            self._tell(_E(self._status.value))

    async def _done(self) -> AsyncGenerator[StepMetadata, None]:
        """The steps that were done and are not undone, the one done last first."""
        for step in reversed(self._done_now):
            yield step
        if self._store is None or not self._held.has_done:
            return
        after: int | None = None
        while found := await self._store.to_undo(self._known.process_id, after=after, limit=_PAGE, conn=self._conn):
            for step in found:
                if step.status is _S.SUCCESS:
                    yield step
            after = found[-1].step_no

    # -- steps --------------------------------------------------------------------------------------------------------
    @property
    def _step(self) -> StepMetadata:
        """The step that this move is about."""
        if self._held.step is None:
            raise LookupError(f"process {self._known.process_id} has sent no such step")
        return self._held.step

    async def _all_steps(self) -> list[StepMetadata]:
        """Every step, as it stood before this move."""
        if self._store is None:
            return []
        return await self._store.steps(self._known.process_id, conn=self._conn)

    async def _send(self, steps: Any, *, undoes: int | None = None) -> None:
        for step in _as_steps(steps):
            if isinstance(step, Step):
                await self._send_one(step, undoes)
            elif isinstance(step, Deadline):
                self._arm(step)
            elif self._armed.pop(step.name, None) is not None:
                self._deadlines = [each for each in self._deadlines if each.command_id != self._named(step.name)]
                self._tell(_E.DEADLINE_CANCELED, None, name=step.name)

    def _named(self, name: str) -> UUID:
        """The id of the command that tells of a deadline which this move sets; another move's is another."""
        moved_by = causation_id_var.get() or self._known.updated_at.isoformat()
        return uuid5(self._known.process_id, f"{DEADLINE}:{name}/{moved_by}")

    def _arm(self, deadline: Deadline) -> None:
        name = checked_text(deadline.name, "a deadline's name", _LONGEST_NAME)
        process_id, command_id = self._known.process_id, self._named(name)
        self._deadlines = [each for each in self._deadlines if each.command_id != command_id]
        self._deadlines.append(
            self._command(
                self._known.reply_domain,
                DEADLINE,
                command_id,
                {"process_id": str(process_id), "deadline": name},
                delay=as_seconds(deadline.after),
                max_attempts=MOVE_ATTEMPTS,
            )
        )
        self._armed[name] = command_id
        self._tell(_E.DEADLINE_SET, None, name=name, command_id=str(command_id))

    async def _send_one(self, step: Step, undoes: int | None) -> None:
        name = step.name or step.command_type
        step_no = self._held.last_no + len(self._sent) + 1
        command_id = uuid5(self._known.process_id, f"{name}#{step_no}")
        sending = StepSending(self._known, command_id, self._conn, self._held.last_name, self._all_steps)
        await _waited(self._process.before_send(self._state, step, sending))
        command = self._command(
            step.domain,
            step.command_type,
            command_id,
            step.data,
            max_attempts=step.max_attempts,
            delay=step.delay,
            key=step.key,
            priority=step.priority,
            expires_at=step.expires_at,
            headers={"process_id": str(self._known.process_id)} | (step.headers or {}),
            reply_to=command_queue(self._known.reply_domain),
        )
        self._sent.append(NewStep(step_no, name, command, undoes))
        self._open += 1
        self._tell(_E.STEP_SENT, step_no, command_id=str(command.command_id), undoes=undoes)
        if step.deadline is not None:
            self._set_deadline(step_no, step.deadline)

    def _set_its_deadline(self) -> None:
        """Set the deadline that all processes of its kind have."""
        if self._process.deadline is not None and self._status in FORWARD:
            self._set_deadline(None, self._process.deadline)

    def _set_deadline(self, step_no: int | None, deadline: timedelta | float) -> None:
        process_id = self._known.process_id
        self._deadlines.append(
            self._command(
                self._known.reply_domain,
                DEADLINE,
                deadline_id(process_id, step_no),
                {"process_id": str(process_id), "step_no": step_no},
                delay=as_seconds(deadline),
                max_attempts=MOVE_ATTEMPTS,
                headers={"process_id": str(process_id)},
            )
        )

    def _command(self, domain: str, command_type: str, command_id: UUID, data: Any, **options: Any) -> NewCommand:
        request = SendRequest(
            domain, command_type, command_id, data, self._known.correlation_id,
            tenant_id=self._known.tenant_id, **options,
        )  # fmt: skip
        new = checked_request(request, default_max_attempts=DEFAULT_MAX_ATTEMPTS, payload_limit=DEFAULT_PAYLOAD_LIMIT)
        return replace(new, skip_known=True)

    def _note(self, step: StepMetadata, told: StepReply) -> None:
        """What became of a step."""
        result = None if told.result is None else to_json(told.result, what="the reply")
        self._outcomes.append(StepOutcome(step.step_no, told.status, result, told.error_code, told.error_message))
        self._open -= step.status is _S.SENT
        if told.status is _S.SUCCESS and step.undoes is None:
            noted = {"status": told.status, "result": told.result, "error_code": told.error_code}
            self._done_now.append(replace(step, **noted, error_message=told.error_message))
        self._tell(_TOLD[told.status], step.step_no, error_code=told.error_code)

    def _reply(self, step: StepMetadata) -> StepReply:
        return StepReply(
            step.name, step.status, step.data, step.result, step.error_code, step.error_message, self._conn,
            self._known.process_id, step.command_id,
        )  # fmt: skip

    def _tell(self, event: ProcessEventType, step_no: int | None = None, **details: Any) -> None:
        told = {name: value for name, value in details.items() if value is not None}
        self._told.append(Told(event, step_no, told or None))


def deadline_id(process_id: UUID, step_no: int | None) -> UUID:
    """The id of the command that tells of the deadline of a step; of the whole process, if it is None."""
    return uuid5(process_id, f"{DEADLINE}/{step_no or ''}")


async def _waited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _as_steps(steps: Any) -> list[Step | Deadline | CancelDeadline]:
    """Steps, and what is said of deadlines, as a list.

    Raises:
        ConfigurationError: Something else than steps.
    """
    if steps is None:
        return []
    found = list(steps) if isinstance(steps, list | tuple) else [steps]
    for step in found:
        if not isinstance(step, Step | Deadline | CancelDeadline):
            message = f"a process names its next steps as a Step, a list of them or None, not {step!r:.80}"
            raise ConfigurationError(message)
    return found
