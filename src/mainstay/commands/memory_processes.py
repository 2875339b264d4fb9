"""Processes in memory: the plainest reading of `ProcessStore`."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from copy import deepcopy
from dataclasses import replace
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from mainstay.commands.lifecycle import TERMINAL
from mainstay.commands.memory_unit import State, Unit, as_value, reply_id
from mainstay.commands.process import (
    ENDED,
    ProcessEvent,
    ProcessEventType,
    ProcessMetadata,
    ProcessStatus,
    StepMetadata,
    StepStatus,
)
from mainstay.commands.process_store import HeldProcess, NewProcess, ProcessChange, ProcessFilter
from mainstay.commands.store import Finding

_STANDS = frozenset(status.value for status in ProcessStatus)
_WITHOUT_STEPS = ENDED | {ProcessStatus.WAITING_FOR_EVENT}
_ANSWERS = frozenset(
    {
        ProcessEventType.STEP_SUCCEEDED,
        ProcessEventType.STEP_FAILED,
        ProcessEventType.STEP_CANCELED,
        ProcessEventType.STEP_TIMED_OUT,
    }
)


class MemoryProcesses:
    """Processes in memory.

    Args:
        state: What was committed.
        joined: Gives the unit that a caller's ``conn`` is.
    """

    def __init__(self, state: State, joined: Callable[[Any], AbstractAsyncContextManager[Unit]]) -> None:
        self._state = state
        self._joined = joined
        self._written: WeakKeyDictionary[Unit, dict[UUID, ProcessMetadata]] = WeakKeyDictionary()
        self._chained: WeakKeyDictionary[Unit, dict[UUID, tuple[int, ...]]] = WeakKeyDictionary()

    async def start(self, processes: Sequence[NewProcess], *, conn: Any) -> list[UUID]:
        """Put processes in. Returns the ids that were known already."""
        async with self._joined(conn) as unit:
            await unit.claim(_key(new.change.process_id) for new in processes)
            refused: list[UUID] = []
            for new in processes:
                if self._seen(unit, new.change.process_id) is not None:
                    refused.append(new.change.process_id)
                else:
                    found = ProcessMetadata(
                        process_id=new.change.process_id,
                        domain=new.domain,
                        reply_domain=new.reply_domain,
                        process_type=new.process_type,
                        status=new.change.status,
                        state={},
                        correlation_id=new.correlation_id,
                        created_at=unit.now,
                        updated_at=unit.now,
                        batch_id=new.batch_id,
                        tenant_id=new.tenant_id,
                        actor_id=new.actor_id,
                    )
                    self._write(unit, found, new.change)
            return refused

    async def lock(
        self,
        *,
        process_id: UUID | None = None,
        command_id: UUID | None = None,
        step_no: int | None = None,
        event_id: UUID | None = None,
        conn: Any,
    ) -> HeldProcess | None:
        """A process, held until the transaction ends, with what is asked for besides."""
        async with self._joined(conn) as unit:
            if process_id is None:
                owners = (
                    known.process_id
                    for known in (self._state.processes | self._written.get(unit, {})).values()
                    if any(step.command_id == command_id for step in known.steps)
                )
                process_id = next(owners, None)
            if process_id is None:
                return None
            await unit.claim([_key(process_id)])
            found = self._seen(unit, process_id)
            if found is None:
                return None
            step = next(
                (
                    step
                    for step in found.steps
                    if command_id in {None, step.command_id} and step_no in {None, step.step_no}
                ),
                None,
            )
            return HeldProcess(
                known=deepcopy(replace(found, steps=(), events=())),
                step=None if command_id is None and step_no is None else deepcopy(step),
                last_no=len(found.steps),
                last_name=found.steps[-1].name if found.steps else None,
                open_steps=sum(step.status is StepStatus.SENT for step in found.steps),
                has_done=bool(self._chain(unit, process_id)),
                was_told=any(event.event_id == event_id for event in found.events),
            )

    async def steps(self, process_id: UUID, *, conn: Any) -> list[StepMetadata]:
        """All steps of a process, in order, as this transaction sees them."""
        async with self._joined(conn) as unit:
            found = self._seen(unit, process_id)
            return [] if found is None else list(deepcopy(found.steps))

    async def to_undo(
        self, process_id: UUID, *, after: int | None = None, limit: int = 20, conn: Any
    ) -> list[StepMetadata]:
        """The steps of a process that were done, the one done last first."""
        async with self._joined(conn) as unit:
            found = self._seen(unit, process_id)
            chain = self._chain(unit, process_id)
            until = len(chain) if after is None else chain.index(after)
            steps = {} if found is None else {step.step_no: step for step in found.steps}
            return [deepcopy(steps[number]) for number in reversed(chain[max(0, until - limit) : until])]

    async def advance(self, change: ProcessChange, *, conn: Any) -> None:
        """Write a move of a process that is locked."""
        async with self._joined(conn) as unit:
            if (found := self._seen(unit, change.process_id)) is not None:
                self._write(unit, found, change)

    async def get(self, process_id: UUID, *, with_steps: bool = True) -> ProcessMetadata | None:
        """A process with its steps and events, or without them."""
        found = self._state.processes.get(process_id)
        return deepcopy(found if found is None or with_steps else replace(found, steps=(), events=()))

    async def query(self, which: ProcessFilter, *, limit: int, offset: int) -> list[ProcessMetadata]:
        """Processes without their steps, newest first."""
        found = [
            deepcopy(replace(known, steps=(), events=()))
            for known in reversed(self._state.processes.values())
            if which.domain in (None, known.domain)
            and which.process_type in (None, known.process_type)
            and which.status in (None, known.status)
            and which.batch_id in (None, known.batch_id)
        ]
        return found[offset : offset + limit]

    async def audit_trail(self, process_id: UUID) -> list[ProcessEvent]:
        """What happened to a process, in order."""
        return [deepcopy(event) for event in self._state.process_audit if event.process_id == process_id]

    async def count(self, batch_id: UUID) -> dict[ProcessStatus, int]:
        """How many processes of a batch stand where."""
        return dict(Counter(known.status for known in self._state.processes.values() if known.batch_id == batch_id))

    def _seen(self, unit: Unit, process_id: UUID) -> ProcessMetadata | None:
        """A process as this unit sees it."""
        return self._written.get(unit, {}).get(process_id) or self._state.processes.get(process_id)

    def _chain(self, unit: Unit, process_id: UUID) -> tuple[int, ...]:
        """The numbers of the steps that may have to be undone, in the order in which they were done."""
        written = self._chained.get(unit, {})
        return written[process_id] if process_id in written else self._state.process_done.get(process_id, ())

    def _write(self, unit: Unit, found: ProcessMetadata, change: ProcessChange) -> None:
        steps = {step.step_no: step for step in found.steps}
        chain = self._chain(unit, found.process_id)
        for outcome in sorted(change.outcomes, key=lambda outcome: outcome.step_no):
            before = steps[outcome.step_no]
            is_done = outcome.status is StepStatus.SUCCESS and before.undoes is None
            if is_done and before.status is not StepStatus.SUCCESS and before.step_no not in chain:
                chain = (*chain, before.step_no)
            steps[outcome.step_no] = replace(
                steps[outcome.step_no],
                status=outcome.status,
                result=as_value(outcome.result),
                error_code=outcome.error_code,
                error_message=outcome.error_message,
                replied_at=unit.now,
            )
        for step in change.sent:
            command = step.command
            steps[step.step_no] = StepMetadata(
                step_no=step.step_no,
                name=step.name,
                domain=command.domain,
                command_type=command.command_type,
                command_id=command.command_id,
                data=as_value(command.data),
                status=StepStatus.SENT,
                sent_at=unit.now,
                undoes=step.undoes,
            )
            if step.undoes in chain:
                chain = chain[: chain.index(step.undoes)]
        written = replace(
            found,
            status=change.status,
            state=as_value(change.state),
            ends_as=change.ends_as,
            error_code=change.error_code,
            error_message=change.error_message,
            updated_at=unit.now,
            completed_at=unit.now if change.status in ENDED else None,
            steps=tuple(steps.values()),
            deadlines=dict(change.armed),
            events=found.events if change.event is None else (*found.events, replace(change.event, taken_at=unit.now)),
        )

        self._written.setdefault(unit, {})[written.process_id] = written
        self._chained.setdefault(unit, {})[written.process_id] = chain

        def commit() -> None:
            self._state.processes[written.process_id] = written
            self._state.process_done[written.process_id] = chain
            for told in change.told:
                number = len(self._state.process_audit) + 1
                event = ProcessEvent(number, written.process_id, told.event_type, unit.now, told.step_no, told.details)
                self._state.process_audit.append(deepcopy(event))

        unit.at_commit.append(commit)


def process_steps(state: State) -> Iterator[Finding]:
    """A step under way has a command or a reply on its way, and a process is under way as long as one of them."""
    for known in state.processes.values():
        under_way = [step for step in known.steps if step.status is StepStatus.SENT]
        if bool(under_way) is (known.status in _WITHOUT_STEPS):
            yield Finding("process_step", known.domain, None, {"process_id": known.process_id, "status": known.status})
        for step in under_way:
            row = state.rows.get((step.domain, step.command_id))
            answer = None if row is None else state.rows.get((known.reply_domain, reply_id(row.new)))
            if all(each is None or each.status in TERMINAL for each in (row, answer)):
                yield Finding("process_step", step.domain, step.command_id, {"process_id": known.process_id})


def process_trails(state: State) -> Iterator[Finding]:
    """The audit trail of a process tells each step and ends at its status."""
    for known in state.processes.values():
        trail = [event for event in state.process_audit if event.process_id == known.process_id]
        stands = [str(event.event_type) for event in trail if event.event_type in _STANDS]
        told = Counter(event.event_type for event in trail)
        answered = {event.step_no for event in trail if event.event_type in _ANSWERS}
        if (
            (stands or [str(ProcessStatus.WAITING_FOR_REPLY)])[-1] != _as_told(known.status)
            or told[ProcessEventType.EVENT_TAKEN] + told[ProcessEventType.EVENT_IGNORED] != len(known.events)
            or [event.event_type for event in trail[:1]] != [ProcessEventType.STARTED]
            or told[ProcessEventType.STEP_SENT] != len(known.steps)
            or answered != {step.step_no for step in known.steps if step.status is not StepStatus.SENT}
        ):
            yield Finding("process_audit", known.domain, None, {"process_id": known.process_id, "told": dict(told)})


def _as_told(status: ProcessStatus) -> ProcessStatus:
    """A process goes on until its audit trail says otherwise; for what it waits is not told."""
    return ProcessStatus.WAITING_FOR_REPLY if status is ProcessStatus.WAITING_FOR_EVENT else status


def _key(process_id: UUID) -> tuple[str, UUID]:
    """What a unit claims; no domain is called so."""
    return "process:", process_id
