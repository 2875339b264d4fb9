"""The troubleshooting queue: what an operator sees and does.

A command comes here when retrying cannot help or has been tried enough. It leaves by an operator's decision: retry
(also with edited data), complete by hand, or cancel. Decisions are audited with who and why; of several at once, the
first is obeyed.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from mainstay.commands.checks import (
    checked_choice,
    checked_list,
    checked_page,
    checked_text,
    domain_filter,
    type_filter,
)
from mainstay.commands.command import TroubleshootingItem
from mainstay.commands.decisions import Decisions
from mainstay.commands.edits import Edit, diff, refuse_misfit
from mainstay.commands.failures import FailureGroup, Selection
from mainstay.commands.handler import HandlerRegistry
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.store import Action, ActionVerdict, CommandStore, OperatorRequest
from mainstay.errors import CommandNotFoundError, InvalidOperationError
from mainstay.message import checked_domain, checked_id
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT, from_json, object_to_json, to_json


class TroubleshootingQueue(Decisions):
    """Lists the commands that wait for an operator, and carries out decisions; on many, see `Decisions`.

    Args:
        store: Where commands live.
        registry: The handlers, whose models an edited payload must fit.
    """

    def __init__(self, store: CommandStore, *, registry: HandlerRegistry | None = None) -> None:
        super().__init__(store, registry=registry)

    async def list_troubleshooting(
        self, domain: str | None = None, command_type: str | None = None, limit: int = 50, offset: int = 0
    ) -> list[TroubleshootingItem]:
        """Commands that wait, the longest waiting first.

        Args:
            domain: Only of this domain.
            command_type: Only of this type.
            limit: Rows at most.
            offset: Rows to leave out.

        Raises:
            InvalidInputError: An argument cannot be accepted.
        """
        checked_page(limit, offset)
        return await self._store.list_troubleshooting(
            domain_filter(domain), type_filter(command_type), limit=limit, offset=offset
        )

    async def count_troubleshooting(self, domain: str | None = None, command_type: str | None = None) -> int:
        """How many wait."""
        return await self._store.count_troubleshooting(domain_filter(domain), type_filter(command_type))

    count = count_troubleshooting

    async def list_groups(
        self,
        domain: str | None = None,
        command_type: str | None = None,
        error_code: str | None = None,
        group_id: str | None = None,
        batch_id: UUID | None = None,
    ) -> list[FailureGroup]:
        """What waits, by what went wrong, the largest group first.

        Args:
            domain: Only of this domain.
            command_type: Only of this type.
            error_code: Only with this error code.
            group_id: Only this group.
            batch_id: Only of this batch.

        Raises:
            InvalidInputError: An argument cannot be accepted.
        """
        code, group = checked_text(error_code, "error_code"), checked_text(group_id, "group_id")
        batch = None if batch_id is None else checked_id(batch_id, "batch_id")
        which = Selection(domain_filter(domain), type_filter(command_type), code, group, batch)
        return await self._store.list_groups(which)

    async def get(self, domain: str, command_id: UUID) -> TroubleshootingItem | None:
        """One command that waits; None if it does not, or does not exist."""
        found = await self._store.get(checked_domain(domain), checked_id(command_id, "command_id"))
        if found is None or found.status is not CommandStatus.IN_TROUBLESHOOTING_QUEUE:
            return None
        return TroubleshootingItem(
            domain=found.domain,
            command_id=found.command_id,
            command_type=found.command_type,
            attempts=found.attempts,
            max_attempts=found.max_attempts,
            last_error_type=found.last_error_type,
            last_error_code=found.last_error_code,
            last_error_msg=found.last_error_msg,
            payload=found.data,
            correlation_id=found.correlation_id,
            reply_to=found.reply_to,
            created_at=found.created_at,
            updated_at=found.updated_at,
            batch_id=found.batch_id,
            headers=found.headers,
        )

    async def preview_edit(self, domain: str, command_id: UUID, data: dict[str, Any]) -> Edit:
        """What a retry with another payload would change, and what its handler's model refuses; nothing is changed.

        Raises:
            CommandNotFoundError: No such command.
            InvalidOperationError: It does not wait here.
            InvalidPayloadError: The payload cannot be stored.
            HandlerNotFoundError: There is a registry, and it does not know the command.
        """
        edited = from_json(object_to_json(data))
        found = await self.get(domain, command_id)
        if found is None:
            known = await self._store.get(domain, command_id)
            if known is None:
                raise CommandNotFoundError(domain, command_id)
            raise InvalidOperationError(f"command {command_id} is {known.status}, not in the troubleshooting queue")
        problems = (
            self._registry.problems(domain, found.command_type, edited, found.headers or {}) if self._registry else []
        )
        return Edit(diff(found.payload or {}, edited), problems)

    async def operator_retry(
        self,
        domain: str,
        command_id: UUID,
        operator: str | None = None,
        *,
        data: dict[str, Any] | None = None,
        base: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> int:
        """Start a command over: attempts from 1 again, errors cleared.

        Args:
            domain: Whose command.
            command_id: Which.
            operator: Who decides.
            data: Replaces its payload.
            base: The payload that was edited, so that nobody else's edit is lost; None: the one that it has now.
            reason: Why.

        Returns:
            The id of its new message.

        Raises:
            CommandNotFoundError: No such command.
            InvalidOperationError: It does not wait here, or somebody edited its payload meanwhile.
            ReasonRequiredError: The operators' rules ask for one.
            ApprovalRequiredError: They ask for a second operator.
            InvalidPayloadError: The payload cannot be stored, or its handler's model refuses it.
            HandlerNotFoundError: There is a registry, and it does not know the command.
            InvalidInputError: An argument cannot be accepted.
        """
        who, why = checked_text(operator, "operator"), checked_text(reason, "reason")
        request = OperatorRequest(Action.RETRY, who, why)
        if data is not None:
            edited = object_to_json(data)
            known = await self._store.get(checked_domain(domain), checked_id(command_id, "command_id"))
            if known is not None:
                refuse_misfit(self._registry, domain, known.command_type, from_json(edited), known.headers)
                old = (known.data or {}) if base is None else base
                change = to_json(diff(old, from_json(edited)), what="the edit", limit=4 * DEFAULT_PAYLOAD_LIMIT)
                request = replace(request, data=edited, base=to_json(old, limit=DEFAULT_PAYLOAD_LIMIT * 4), diff=change)
        verdict = await self._one(domain, command_id, request)
        await self._store.wake([domain])
        if verdict.msg_id is None:  # pragma: no cover - the store's contract
            raise InvalidOperationError(str(verdict))
        return verdict.msg_id

    async def operator_cancel(
        self, domain: str, command_id: UUID, reason: str | None = None, operator: str | None = None
    ) -> None:
        """Give a command up: CANCELED, and a reply CANCELED if one was asked for.

        Raises:
            CommandNotFoundError: No such command.
            InvalidOperationError: It does not wait here.
        """
        request = OperatorRequest(Action.CANCEL, checked_text(operator, "operator"), checked_text(reason, "reason"))
        await self._one(domain, command_id, request)

    async def operator_complete(
        self,
        domain: str,
        command_id: UUID,
        result_data: dict[str, Any] | None = None,
        operator: str | None = None,
        *,
        reason: str | None = None,
    ) -> None:
        """Complete a command by hand: COMPLETED with this result, and a reply SUCCESS if one was asked for.

        Raises:
            CommandNotFoundError: No such command.
            InvalidOperationError: It does not wait here.
            InvalidPayloadError: The result cannot be stored.
        """
        result = None if result_data is None else to_json(result_data, what="result_data")
        request = OperatorRequest(
            Action.COMPLETE, checked_text(operator, "operator"), checked_text(reason, "reason"), result=result
        )
        await self._one(domain, command_id, request)

    async def act(
        self,
        domain: str,
        command_ids: Sequence[UUID],
        action: Action,
        *,
        operator: str | None = None,
        reason: str | None = None,
        result_data: dict[str, Any] | None = None,
    ) -> list[ActionVerdict]:
        """One decision on many commands; those that do not wait here are left alone and reported.

        Raises:
            InvalidInputError: An argument cannot be accepted.
        """
        keys = [checked_id(key, "command_ids") for key in checked_list(command_ids, "command_ids")]
        result = None if result_data is None else to_json(result_data, what="result_data")
        request = OperatorRequest(
            checked_choice(action, Action, "action"),
            checked_text(operator, "operator"),
            checked_text(reason, "reason"),
            result=result,
        )
        verdicts = await self._store.act(checked_domain(domain), keys, request)
        if request.action is Action.RETRY:
            await self._store.wake([domain] * sum(verdict.applied for verdict in verdicts))
        return verdicts

    async def _one(self, domain: str, command_id: UUID, request: OperatorRequest) -> ActionVerdict:
        key = checked_id(command_id, "command_id")
        (verdict,) = await self._store.act(checked_domain(domain), [key], request)
        if verdict.status is None:
            raise CommandNotFoundError(domain, key)
        if not verdict.applied and verdict.status is CommandStatus.IN_TROUBLESHOOTING_QUEUE:
            raise InvalidOperationError(f"somebody edited the payload of command {key} meanwhile; look again")
        if not verdict.applied:
            message = f"command {key} is {verdict.status}, not in the troubleshooting queue; nothing was changed"
            raise InvalidOperationError(message)
        return verdict
