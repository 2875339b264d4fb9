"""What operators decided on many commands, carried out in the background by this console.

A decision is written down before it is carried out, with the commands that it is about, and carried out in parts. So
nothing here has to last: if the console ends, the action stays RUNNING where it is, and anybody can go on with it, from
its page or a terminal; several that do take turns, and no command is decided on twice.

Only some actions are carried out at once: each takes a connection for as long as a part of it lasts, and the pages need
the others.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from mainstay.errors import InvalidOperationError, MainstayError
from mainstay.operations.operator import Operator
from mainstay.telemetry import get_logger

PATIENCE: Final = 0.5
"""Seconds for which whoever asked waits for the end; most actions are short."""
AT_ONCE: Final = 2

logger = get_logger(__name__)


class Errand(StrEnum):
    """What is being done about an action."""

    CARRYING_OUT = "CARRYING_OUT"
    STOPPING = "STOPPING"
    TAKING_BACK = "TAKING_BACK"


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What came of taking a retry back: commands that wait again, and those that a worker had received."""

    undone: int
    too_late: int


class Carrying:
    """Carries actions out.

    Args:
        operator: Does it.
    """

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._tasks: dict[tuple[UUID, Errand], asyncio.Task[None]] = {}
        self._problems: dict[UUID, str] = {}
        self._taken_back: dict[UUID, TakenBack] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def errand(self, action_id: UUID) -> Errand | None:
        """What this console is doing about an action."""
        return next((errand for errand in Errand if (action_id, errand) in self._tasks), None)

    def problem(self, action_id: UUID) -> str | None:
        """Why this console could not go on with an action."""
        return self._problems.get(action_id)

    def taken_back(self, action_id: UUID) -> TakenBack | None:
        """What came of taking an action back that this console did last."""
        return self._taken_back.get(action_id)

    async def carry_out(self, action_id: UUID) -> None:
        """Carry an action out, or go on with it; returns when it is done, or after a while while it goes on.

        Raises:
            ActionNotFoundError: No such action.
            InvalidOperationError: It waits for approval, or is being taken back.
        """
        self._refuse_beside(action_id, Errand.TAKING_BACK, "it is being taken back")
        await self._do(action_id, Errand.CARRYING_OUT, lambda: self._operator.carry_out(action_id))

    async def stop(self, action_id: UUID, operator: str, reason: str | None) -> None:
        """Let an action come to no more commands, and take back what is not due of a retry at a rate.

        Raises:
            ActionNotFoundError: No such action.
        """
        decisions = self._operator.decisions
        await self._do(action_id, Errand.STOPPING, lambda: decisions.stop(action_id, operator, reason=reason))

    async def take_back(self, action_id: UUID, operator: str, reason: str) -> None:
        """Take back what no worker has received of a retry.

        Raises:
            ActionNotFoundError: No such action.
            InvalidOperationError: It is no retry, or still being carried out.
        """
        self._refuse_beside(action_id, Errand.CARRYING_OUT, "it is being carried out: stop it first")
        await self._do(action_id, Errand.TAKING_BACK, lambda: self._undo(action_id, operator, reason))

    def close(self) -> None:
        """Let go of everything; a part that is under way is not done."""
        for task in self._tasks.values():
            task.cancel()

    async def _undo(self, action_id: UUID, operator: str, reason: str) -> None:
        found = await self._operator.decisions.undo(action_id, operator, reason=reason)
        undone = sum(each.undone for each in found)
        self._taken_back[action_id] = TakenBack(undone, len(found) - undone)

    def _refuse_beside(self, action_id: UUID, errand: Errand, why: str) -> None:
        if (action_id, errand) in self._tasks:
            raise InvalidOperationError(f"action {action_id}: {why}")

    async def _do(self, action_id: UUID, errand: Errand, work: Callable[[], Awaitable[Any]]) -> None:
        key = (action_id, errand)
        task = self._tasks.get(key)
        if task is None:
            self._problems.pop(action_id, None)
            task = self._tasks[key] = asyncio.create_task(self._in_turn(work))
            task.add_done_callback(lambda done: self._note(key, done))
        await asyncio.wait({task}, timeout=PATIENCE)
        if task.done() and not task.cancelled():
            task.result()

    async def _in_turn(self, work: Callable[[], Awaitable[Any]]) -> None:
        async with self._turns:
            await work()

    def _note(self, key: tuple[UUID, Errand], task: asyncio.Task[None]) -> None:
        del self._tasks[key]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            known = isinstance(error, MainstayError)
            logger.warning("action %s was interrupted: %s", key[0], error, exc_info=None if known else error)
            self._problems[key[0]] = str(error) if known else "Something went wrong in the console; its log says what."
