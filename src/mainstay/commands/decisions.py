"""Decisions on many commands: looked at first, carried out in parts, and taken back while that is possible.

Preview says what a decision would do and how many commands it is about. `begin` writes it down; with ``expect=`` only
if it still is about that many. `run` carries it out, a transaction for each part; whoever runs it may die, and
anybody can run it on. A retry can be handed out at a rate, through due times in the database: no process has to stay
alive for it. A retry can be taken back as long as no worker received the command since; a cancel or a completion is
final, because a sender may have its reply.
"""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

from mainstay.commands.actions import (
    ActionItem,
    ActionPlace,
    ActionState,
    ActionStep,
    NewAction,
    OperatorAction,
    OperatorRules,
    Preview,
    StepState,
    Undone,
)
from mainstay.commands.checks import checked_choice, checked_count, checked_list, checked_page, checked_text
from mainstay.commands.command import TroubleshootingItem
from mainstay.commands.edits import refuse_misfit
from mainstay.commands.failures import Selection, Waiting
from mainstay.commands.handler import HandlerRegistry
from mainstay.commands.store import Action, CommandStore
from mainstay.errors import ActionNotFoundError, CommandNotFoundError, InvalidInputError, InvalidOperationError, shown
from mainstay.message import checked_domain, checked_id, checked_type
from mainstay.serialization import from_json, object_to_json, to_json

CHUNK = 500
"""Commands that one transaction changes."""
_SAMPLE = 5
_SLOWEST, _FASTEST = 1 / 86_400, 100_000.0


class Decisions:
    """The part of `TroubleshootingQueue` that decides on many commands.

    Args:
        store: Where commands live.
        registry: The handlers, whose models an edited payload must fit.
    """

    def __init__(self, store: CommandStore, *, registry: HandlerRegistry | None = None) -> None:
        self._store = store
        self._registry = registry

    async def preview(self, which: Selection, *, sample: int = _SAMPLE) -> Preview:
        """What a decision would be about; nothing is changed.

        Args:
            which: The commands.
            sample: How many of them to show.

        Raises:
            InvalidInputError: An argument cannot be accepted.
        """
        checked_page(sample, 0)
        chosen = checked_selection(which)
        groups = await self._store.list_groups(chosen)
        commands = sum(group.commands for group in groups)
        above = (await self._store.get_rules()).approve_above
        return Preview(
            commands=commands,
            groups=groups,
            sample=await self._store.select_troubled(chosen, limit=sample),
            needs_approval=above is not None and commands > above,
        )

    async def list_selected(
        self, which: Selection, limit: int = 50, *, after: Waiting | None = None
    ) -> list[TroubleshootingItem]:
        """Commands that wait and meet all conditions, the longest waiting first.

        Args:
            which: The commands.
            limit: Rows at most.
            after: Begin after this one: `Waiting.of` the last of the page before.

        Raises:
            InvalidInputError: An argument cannot be accepted.
        """
        checked_page(limit, 0)
        return await self._store.select_troubled(checked_selection(which), limit=limit, after=after)

    async def begin(
        self,
        action: Action,
        which: Selection,
        *,
        operator: str | None = None,
        reason: str | None = None,
        data: dict[str, Any] | None = None,
        result_data: Any = None,
        rate: float | None = None,
        expect: int | None = None,
    ) -> OperatorAction:
        """Write a decision down with exactly the commands that fit now. `run` carries it out.

        Args:
            action: RETRY, CANCEL or COMPLETE.
            which: The commands. Those that are named by their ids and do not wait are refused one by one.
            operator: Who decides.
            reason: Why.
            data: Replaces the payload of every retried command. With a registry, all their models must take it.
            result_data: What completed commands reply.
            rate: Commands a second that a retry hands out; None: all at once.
            expect: How many commands it must be about, as seen in a preview.

        Returns:
            The action: RUNNING, or PROPOSED if the rules ask for a second operator.

        Raises:
            SelectionChangedError: Another number than expected; nothing was written.
            ReasonRequiredError: The rules ask for one.
            InvalidOperationError: The rules ask for a second operator, and the first has no name.
            InvalidPayloadError: The payload cannot be stored, or a handler's model refuses it.
            HandlerNotFoundError: There is a registry, and it does not know one of the commands.
            InvalidInputError: An argument cannot be accepted.
        """
        chosen = checked_choice(action, Action, "action")
        if rate is not None and (chosen is not Action.RETRY or not _is_rate(rate)):
            raise InvalidInputError(
                f"rate must be a number of commands a second from {_SLOWEST:.6f} to {_FASTEST:,.0f}, "
                f"for a RETRY, not {shown(rate)} for a {chosen}"
            )
        if data is not None and chosen is not Action.RETRY:
            raise InvalidInputError("data is for a RETRY")
        if result_data is not None and chosen is not Action.COMPLETE:
            raise InvalidInputError("result_data is for a COMPLETE")
        if expect is not None and (not isinstance(expect, int) or isinstance(expect, bool) or expect < 0):
            raise InvalidInputError(f"expect must be a number of commands, not {shown(expect)}")
        new = NewAction(
            action_id=uuid4(),
            action=chosen,
            selection=checked_selection(which),
            operator=checked_text(operator, "operator"),
            reason=checked_text(reason, "reason"),
            data=None if data is None else object_to_json(data),
            result=None if result_data is None else to_json(result_data, what="result_data"),
            rate=None if rate is None else float(rate),
            expect=expect,
        )
        if new.data is not None and self._registry is not None:
            for kind in await self._store.list_kinds(new.selection):
                refuse_misfit(self._registry, kind.domain, kind.command_type, from_json(new.data), kind.headers)
        await self._store.begin_action(new)
        return await self.get_action(new.action_id)

    async def run(
        self,
        action_id: UUID,
        *,
        chunk_size: int = CHUNK,
        on_progress: Callable[[Sequence[ActionItem]], None] | None = None,
    ) -> OperatorAction:
        """Carry an action out, or go on with one whose operator's process died; several at once take turns.

        Args:
            action_id: Which.
            chunk_size: Commands in a transaction.
            on_progress: Called after each part with what it did.

        Returns:
            The action as it is now.

        Raises:
            ActionNotFoundError: No such action.
            InvalidOperationError: It still waits for approval.
        """
        key = checked_id(action_id, "action_id")
        limit = checked_count(chunk_size, "chunk_size")
        found = await self.get_action(key)
        if found.state is ActionState.PROPOSED:
            raise InvalidOperationError(f"action {key} waits for the approval of a second operator")
        while steps := await self._store.run_action(key, limit):
            if found.action == Action.RETRY:
                ready = [step.domain for step in steps if step.applied]
                await self._store.wake(ready if found.rate is None else ready[:1])
            if on_progress:
                on_progress(steps)
        return await self.get_action(key)

    async def approve(self, action_id: UUID, operator: str) -> OperatorAction:
        """Let an action run that another operator proposed. `run` carries it out.

        Raises:
            ActionNotFoundError: No such action.
            InvalidOperationError: It is no proposal, or this operator's own.
        """
        key = checked_id(action_id, "action_id")
        await self._store.approve_action(key, checked_text(operator, "operator") or "")
        return await self.get_action(key)

    async def stop(self, action_id: UUID, operator: str | None = None, *, reason: str | None = None) -> OperatorAction:
        """Let an action come to no more commands; of a retry at a rate, take back what is not due yet.

        A proposal is refused thereby. What was changed before stays as it is; see `undo`.

        Raises:
            ActionNotFoundError: No such action.
        """
        key = checked_id(action_id, "action_id")
        who, why = checked_text(operator, "operator"), checked_text(reason, "reason")
        await self._store.stop_action(key, who)
        found = await self.get_action(key)
        if found.state is ActionState.STOPPED and found.rate is not None:
            await self._undo(key, who, why or "stopped", deferred=True)
        return await self.get_action(key)

    async def undo(self, action_id: UUID, operator: str | None = None, *, reason: str | None = None) -> list[Undone]:
        """Take a retry back: commands that no worker received since wait again, as they were before.

        Returns:
            What became of each command that the action had changed.

        Raises:
            ActionNotFoundError: No such action.
            InvalidOperationError: It is no retry; a cancel or a completion is final.
        """
        key = checked_id(action_id, "action_id")
        return await self._undo(key, checked_text(operator, "operator"), checked_text(reason, "reason"))

    async def undo_command(
        self, domain: str, command_id: UUID, operator: str | None = None, *, reason: str | None = None
    ) -> None:
        """Take the retry of one command back.

        Raises:
            CommandNotFoundError: No such command.
            InvalidOperationError: It was not retried, or a worker has received it since.
        """
        key = checked_id(command_id, "command_id")
        who, why = checked_text(operator, "operator"), checked_text(reason, "reason")
        retry = await self._store.last_retry(checked_domain(domain), key)
        if retry is not None:
            action_id, position = retry
            told = await self._store.undo(
                action_id, after=position - 1, limit=1, deferred=False, operator=who, reason=why
            )
            if any(each.undone and each.command_id == key for each in told):
                return
        found = await self._store.get(domain, key)
        if found is None:
            raise CommandNotFoundError(domain, key)
        problem = "no operator retried it" if retry is None else "its retry was received, and cannot be taken back"
        raise InvalidOperationError(f"command {key} is {found.status}: {problem}")

    async def _undo(
        self, key: UUID, operator: str | None, reason: str | None, *, deferred: bool = False
    ) -> list[Undone]:
        told: list[Undone] = []
        while part := await self._store.undo(
            key,
            after=told[-1].position if told else 0,
            limit=CHUNK,
            deferred=deferred,
            operator=operator,
            reason=reason,
        ):
            told.extend(part)
        return told

    async def get_action(self, action_id: UUID) -> OperatorAction:
        """One action.

        Raises:
            ActionNotFoundError: No such action.
        """
        key = checked_id(action_id, "action_id")
        found = await self._store.get_action(key)
        if found is None:
            raise ActionNotFoundError(key)
        return found

    async def list_actions(
        self,
        state: ActionState | None = None,
        limit: int = 50,
        offset: int = 0,
        *,
        after: ActionPlace | None = None,
    ) -> list[OperatorAction]:
        """What operators decided, newest first.

        Args:
            state: Only in this state: PROPOSED ones wait for a second operator.
            limit: Rows at most.
            offset: Rows to leave out.
            after: Begin after this one: `ActionPlace.of` the last of the page before.
        """
        checked_page(limit, offset)
        which = None if state is None else checked_choice(state, ActionState, "state")
        return await self._store.list_actions(which, limit=limit, offset=offset, after=after)

    async def list_steps(
        self, action_id: UUID, state: StepState | None = None, limit: int = 50, *, after: int = 0
    ) -> list[ActionStep]:
        """The commands of an action, in its order, and what became of each; none if they were pruned.

        Args:
            action_id: Which action.
            state: Only in this state: REFUSED ones were left alone.
            limit: Rows at most.
            after: Begin after the command at this position.
        """
        checked_page(limit, 0)
        which = None if state is None else checked_choice(state, StepState, "state")
        return await self._store.list_steps(checked_id(action_id, "action_id"), which, after=after, limit=limit)

    async def get_rules(self) -> OperatorRules:
        """What operators must keep to."""
        return await self._store.get_rules()

    async def set_rules(self, rules: OperatorRules, operator: str | None = None) -> None:
        """Change what operators must keep to, in every process and on every screen.

        Raises:
            InvalidInputError: An argument cannot be accepted.
        """
        above = rules.approve_above
        if above is not None and (not isinstance(above, int) or isinstance(above, bool) or not 0 <= above < 2**63):
            raise InvalidInputError(f"approve_above must be a whole number from 0, or None, not {shown(above)}")
        if not isinstance(rules.reason_required, bool):
            raise InvalidInputError(f"reason_required must be True or False, not {shown(rules.reason_required)}")
        await self._store.set_rules(rules, checked_text(operator, "operator"))


def checked_selection(which: Selection) -> Selection:
    """The selection itself.

    Raises:
        InvalidInputError: Something in it cannot be accepted.
    """
    if not isinstance(which, Selection):
        raise InvalidInputError(f"expected a Selection, not {type(which).__name__}")
    ids = which.command_ids
    if ids is not None and (which.command_type or which.error_code or which.group_id or which.batch_id):
        raise InvalidInputError("a Selection names commands by their ids or by what they have in common, not both")
    return Selection(
        domain=None if which.domain is None else checked_domain(which.domain),
        command_type=None if which.command_type is None else checked_type(which.command_type),
        error_code=checked_text(which.error_code, "error_code"),
        group_id=checked_text(which.group_id, "group_id"),
        batch_id=None if which.batch_id is None else checked_id(which.batch_id, "batch_id"),
        command_ids=None
        if ids is None
        else tuple(checked_id(key, "command_ids") for key in checked_list(ids, "command_ids")),
    )


def _is_rate(rate: object) -> bool:
    return isinstance(rate, int | float) and not isinstance(rate, bool) and _SLOWEST <= rate <= _FASTEST
