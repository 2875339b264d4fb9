"""Batches in memory."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any
from uuid import UUID

from mainstay.commands import memory_decisions as decisions
from mainstay.commands import memory_questions as questions
from mainstay.commands.command import BatchMetadata, SendResult
from mainstay.commands.lifecycle import BatchStatus
from mainstay.commands.memory_unit import BatchRow, State, Unit, claimed_by
from mainstay.commands.store import Answer, NewBatch, NewCommand, NotUnique, Refusal
from mainstay.errors import (
    BatchNotFoundError,
    DuplicateBatchError,
    DuplicateCommandError,
    InvalidOperationError,
    QueueNotFoundError,
)
from mainstay.message import command_queue


class MemoryBatches:
    """The part of `CommandStore` that is about batches, in memory."""

    _state: State
    _unit: Callable[..., AbstractAsyncContextManager[Unit]]
    wake: Callable[[Sequence[str]], Any]

    async def create_batch(self, batch: NewBatch, commands: Sequence[NewCommand], *, conn: Any = None) -> list[Answer]:
        """Create a batch and send its commands, or, if any is refused, nothing at all.

        Raises:
            DuplicateBatchError: There is a batch of this id.
            DuplicateCommandError: The id of the completion command was used.
            QueueNotFoundError: The completion command, or its reply, would have no queue.
        """
        key = batch.domain, batch.batch_id
        if batch.on_complete is not None:
            self._check_completion(batch.on_complete)
        async with self._unit(conn) as unit:
            await unit.claim([key, *claimed_by(commands)])
            self._check_parent(unit, batch)
            if unit.batch(key) is not None:
                raise DuplicateBatchError(batch.domain, batch.batch_id)
            answers = refusals(unit, [replace(new, batch_id=None) for new in commands])
            if any(isinstance(answer, Refusal | NotUnique) for answer in answers):
                return answers
            unit.add_batch(BatchRow(batch, self._state.next(), created_at=unit.now, sealed=batch.sealed))
            answers = [decisions.send_unless_refused(unit, replace(new, batch_id=batch.batch_id)) for new in commands]
        if conn is None:
            await self.wake([new.domain for new in commands])
        return answers

    def _check_completion(self, new: NewCommand) -> None:
        if new.domain not in self._state.domains:
            raise QueueNotFoundError(command_queue(new.domain))
        if new.reply_to is not None and not self._state.takes_replies(new.reply_to):
            raise QueueNotFoundError(new.reply_to)
        if (new.domain, new.command_id) in self._state.rows:
            raise DuplicateCommandError(new.domain, new.command_id)

    async def get_batch(self, domain: str, batch_id: UUID) -> BatchMetadata | None:
        """One batch, its counts exact."""
        batch = self._state.batches.get((domain, batch_id))
        return questions.batch_metadata(self._state, batch) if batch else None

    async def list_batches(
        self,
        domain: str | None,
        *,
        status: BatchStatus | None,
        parent_id: UUID | None = None,
        limit: int,
        offset: int,
    ) -> list[BatchMetadata]:
        """Batches, newest first; of one parent, if it is given."""
        found = questions.batches(self._state, domain, status)
        return [batch for batch in found if parent_id in (None, batch.parent_id)][offset : offset + limit]

    async def send_to_batch(self, domain: str, batch_id: UUID, commands: Sequence[NewCommand]) -> list[Answer]:
        """Send a chunk into an open batch, or, if any is refused, nothing of it."""
        async with self._unit() as unit:
            await unit.claim([(domain, batch_id), *claimed_by(commands)])
            batch = unit.batch((domain, batch_id))
            if batch is None:
                raise BatchNotFoundError(domain, batch_id)
            if batch.sealed:
                raise InvalidOperationError(
                    f"batch {batch_id} was sealed or canceled: nothing more can be sent into it"
                )
            answers = refusals(unit, commands)
            if any(isinstance(answer, Refusal | NotUnique) for answer in answers):
                return answers
            answers = [decisions.send_unless_refused(unit, new) for new in commands]
        await self.wake([domain] * len(commands))
        return answers

    async def seal_batch(self, domain: str, batch_id: UUID) -> None:
        """Let a batch end with what it has; waits for chunks on their way."""
        async with self._unit() as unit:
            await unit.claim([(domain, batch_id)])
            batch = unit.batch((domain, batch_id))
            if batch is None:
                raise BatchNotFoundError(domain, batch_id)
            unit.write_batch(batch).sealed = True
        await self.wake([domain])

    @staticmethod
    def _check_parent(unit: Unit, batch: NewBatch) -> None:
        if batch.parent_id is None:
            return
        parent = unit.batch((batch.domain, batch.parent_id))
        if parent is None:
            raise BatchNotFoundError(batch.domain, batch.parent_id)
        if parent.completed_at is not None:
            raise InvalidOperationError(f"batch {batch.parent_id} has ended, and can get no more parts")

    async def fold_batches(self, domain: str) -> list[UUID]:
        """Finish batches that are done, then those whose last part that was, and send their completion commands."""
        finished: list[UUID] = []
        while more := await self._fold(domain):
            finished += more
        return finished

    async def _fold(self, domain: str) -> list[UUID]:
        """Those that are done now."""
        finished: list[UUID] = []
        candidates = [
            key for key, batch in self._state.batches.items() if key[0] == domain and batch.completed_at is None
        ]
        for key in candidates:
            end = self._state.batches[key].new.on_complete
            async with self._unit() as unit:
                await unit.claim([key, *([(end.domain, end.command_id)] if end else [])])
                if decisions.fold(unit, self._state.batches[key]):
                    finished.append(key[1])
        return finished


def refusals(unit: Unit, commands: Sequence[NewCommand]) -> list[Answer]:
    """What a send would answer, with nothing sent."""
    seen: set[UUID] = set()
    holders: dict[tuple[str, str], UUID] = {}
    answers: list[Answer] = []
    for new in commands:
        refused = decisions.refusal(unit, new) or (Refusal.DUPLICATE if new.command_id in seen else None)
        seen.add(new.command_id)
        if refused is None and new.unique_key is not None:
            holder = holders.setdefault((new.domain, new.unique_key), new.command_id)
            refused = None if holder == new.command_id else NotUnique(holder)
        answers.append(SendResult(new.command_id, None) if refused is None else decisions.answer(new, refused))
    return answers
