"""What operators decided, written down: who, on which commands, why, and how far it is.

An action is a decision with its items, one for each command. They are written down when it begins, and never grow: a
group of failures that gets larger meanwhile does not change what was agreed to. It is carried out in parts, a
transaction each, and says after each how far it is; so if the operator's process dies in the middle, anybody can go on
with it, and nothing is done twice.

::

    begin ──> RUNNING ──run──> DONE
      │          │ └──stop──> STOPPED     what was not come to is left alone
      v          │
    PROPOSED ──approve, by another operator
      └──stop──> STOPPED                  a proposal that was refused
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from mainstay.commands.command import TroubleshootingItem
from mainstay.commands.failures import FailureGroup, Selection, Waiting
from mainstay.commands.lifecycle import CommandStatus

CANCEL_BATCH: Final = "CANCEL_BATCH"
"""What is noted where others have an `Action`: canceling what waits of a batch."""


class ActionState(StrEnum):
    """How far an action is."""

    PROPOSED = "PROPOSED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    STOPPED = "STOPPED"


@dataclass(frozen=True, slots=True)
class OperatorAction:
    """A decision and how far it is.

    Args:
        action_id: Its id.
        action: RETRY, CANCEL, COMPLETE or CANCEL_BATCH.
        state: How far it is.
        operator: Who decided.
        reason: Why.
        selection: Which commands, as they were asked for.
        rate: Commands a second that a retry hands out; None: all at once.
        total: Commands that it is about.
        position: How many of them it has come to.
        applied: How many it changed.
        refused: How many it left alone: they did not wait any more.
        undone: How many of the changed were taken back.
        last_due_at: When the last one handed out at a rate is due.
        approved_by: The second operator.
        stopped_by: Who stopped it.
        created_at: When it was decided.
        ended_at: When it was done or stopped.
    """

    action_id: UUID
    action: str
    state: ActionState
    operator: str | None
    reason: str | None
    selection: dict[str, Any]
    rate: float | None
    total: int
    position: int
    applied: int
    refused: int
    undone: int
    last_due_at: datetime | None
    approved_by: str | None
    stopped_by: str | None
    created_at: datetime
    ended_at: datetime | None


class ActionPlace(NamedTuple):
    """Where an action stands among all, newest first: what comes after it is a page that never moves."""

    created_at: datetime
    action_id: UUID

    @classmethod
    def of(cls, action: OperatorAction) -> "ActionPlace":
        """That of an action."""
        return cls(action.created_at, action.action_id)


@dataclass(frozen=True, slots=True)
class NewAction:
    """A checked decision on its way in.

    ``running`` is for CANCEL_BATCH: also ask for the end of what is being handled.
    """

    action_id: UUID
    action: str
    selection: Selection
    operator: str | None
    reason: str | None
    data: bytes | None = None
    result: bytes | None = None
    rate: float | None = None
    expect: int | None = None
    running: bool = False


@dataclass(frozen=True, slots=True)
class Preview:
    """What a decision would do, before it is made.

    Args:
        commands: How many commands it is about: what to give as ``expect``.
        groups: The same by what went wrong.
        sample: Some of them, the longest waiting first.
        needs_approval: A second operator would have to approve it.
    """

    commands: int
    groups: list[FailureGroup] = field(repr=False)
    sample: list[TroubleshootingItem] = field(repr=False)
    needs_approval: bool


@dataclass(frozen=True, slots=True)
class OperatorRules:
    """What all operators of a database must keep to.

    Args:
        approve_above: A decision on more commands than this needs a second operator; 0: every one; None: none.
        reason_required: Every decision says why.
    """

    approve_above: int | None = None
    reason_required: bool = False


class ActionItem(NamedTuple):
    """What an action did to one command: whether it changed it, and the status it found."""

    domain: str
    command_id: UUID
    applied: bool
    status: CommandStatus


class StepState(StrEnum):
    """What became of one command of an action."""

    WAITING = "WAITING"
    """The action has not come to it."""
    APPLIED = "APPLIED"
    REFUSED = "REFUSED"
    """It was left alone: it did not wait any more."""
    UNDONE = "UNDONE"


@dataclass(frozen=True, slots=True)
class ActionStep:
    """One command of an action: its place in it, what became of it, and where the command stands now."""

    position: int
    domain: str
    command_id: UUID
    state: StepState
    status: CommandStatus


class Undone(NamedTuple):
    """What became of taking one retry back: whether it could be, and where the command stands now."""

    position: int
    domain: str
    command_id: UUID
    undone: bool
    status: CommandStatus


class ActionStore(Protocol):
    """What operators' actions ask of a database."""

    async def select_troubled(
        self, which: Selection, *, limit: int, after: Waiting | None = None
    ) -> list[TroubleshootingItem]:
        """Commands of the troubleshooting queue that meet all conditions, the longest waiting first; after a place."""
        ...

    async def begin_action(self, new: NewAction) -> ActionState:
        """Write a decision down with exactly the commands it is about; nothing is done to them yet.

        Raises:
            SelectionChangedError: Another number than expected. Nothing was written.
            ReasonRequiredError: The rules ask for one.
            InvalidOperationError: It needs approval, and who decides has no name.
        """
        ...

    async def run_action(self, action_id: UUID, limit: int) -> list[ActionItem]:
        """Carry out the next part; nothing is left to do if the answer is empty.

        Raises:
            ActionNotFoundError: No such action.
        """
        ...

    async def approve_action(self, action_id: UUID, operator: str) -> None:
        """Let a proposal run.

        Raises:
            ActionNotFoundError: No such action.
            InvalidOperationError: It is no proposal, or this operator's own.
        """
        ...

    async def stop_action(self, action_id: UUID, operator: str | None) -> None:
        """Let an action come to no more commands.

        Raises:
            ActionNotFoundError: No such action.
        """
        ...

    async def undo(
        self, action_id: UUID, *, after: int, limit: int, deferred: bool, operator: str | None, reason: str | None
    ) -> list[Undone]:
        """Take back a part of a retry: applied items after a position; with ``deferred`` those not due yet.

        Raises:
            ActionNotFoundError: No such action.
            InvalidOperationError: It is no retry.
        """
        ...

    async def last_retry(self, domain: str, command_id: UUID) -> tuple[UUID, int] | None:
        """The newest retry of a command that was applied, and the command's position in it."""
        ...

    async def get_action(self, action_id: UUID) -> OperatorAction | None:
        """One action."""
        ...

    async def list_actions(
        self, state: ActionState | None, *, limit: int, offset: int, after: ActionPlace | None = None
    ) -> list[OperatorAction]:
        """Actions, newest first; after a place."""
        ...

    async def list_steps(self, action_id: UUID, state: StepState | None, *, after: int, limit: int) -> list[ActionStep]:
        """The commands of an action after a position, in their order; none if they were pruned."""
        ...

    async def get_rules(self) -> OperatorRules:
        """What operators must keep to."""
        ...

    async def set_rules(self, rules: OperatorRules, operator: str | None) -> None:
        """Change what operators must keep to."""
        ...
