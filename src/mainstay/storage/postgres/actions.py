"""Operators' actions on PostgreSQL."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

import orjson

from mainstay.commands.actions import (
    ActionItem,
    ActionPlace,
    ActionState,
    ActionStep,
    NewAction,
    OperatorAction,
    OperatorRules,
    StepState,
    Undone,
)
from mainstay.commands.command import TroubleshootingItem
from mainstay.commands.failures import Selection, Waiting
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.store import ActionVerdict, OperatorRequest
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.command_rows import troubleshooting_item_from
from mainstay.storage.postgres.database import (
    Connection,
    Pool,
    autocommit,
    execute,
    fetch_all,
    fetch_one,
    fetch_value,
    sealed,
)
from mainstay.storage.postgres.failures import selection_fields
from mainstay.storage.postgres.replies import tell
from mainstay.storage.postgres.trail import deciding


class PostgresActions:
    """`ActionStore` on PostgreSQL; each call is one function and one transaction."""

    pool: Pool

    def _actions(self) -> AbstractAsyncContextManager[Connection]:
        return sealed(autocommit(self.pool))

    async def act(self, domain: str, command_ids: Sequence[UUID], request: OperatorRequest) -> list[ActionVerdict]:
        """Carry out an operator's decision; one round trip."""
        fields = _request(request.operator, request.reason, request.data, request.result) | {"action": request.action}
        fields |= {name: orjson.Fragment(each) for name in ("base", "diff") if (each := getattr(request, name))}
        asked = {"domain": domain, "command_ids": list(command_ids), "request": orjson.dumps(fields).decode()}
        async with self._actions() as conn:
            rows = await fetch_all(conn, queries.load("troubleshooting")["decide"], asked)
            await tell(conn, [(domain, row["command_id"]) for row in rows if row["applied"]])
        found = {row["command_id"]: ActionVerdict(**row | {"status": CommandStatus(row["status"])}) for row in rows}
        return [
            found.get(asked_for, ActionVerdict(asked_for, applied=False, status=None, msg_id=None))
            for asked_for in command_ids
        ]

    async def select_troubled(
        self, which: Selection, *, limit: int, after: Waiting | None = None
    ) -> list[TroubleshootingItem]:
        """Commands of the troubleshooting queue that meet all conditions, the longest waiting first; after a place."""
        since, after_id, after_domain = after or (None, None, None)
        asked = selection_fields(which) | {"limit": limit}
        asked |= {"after_since": since, "after_id": after_id, "after_domain": after_domain}
        async with self._actions() as conn:
            return [
                troubleshooting_item_from(row)
                for row in await fetch_all(conn, queries.load("troubleshooting")["select_troubled"], asked)
            ]

    async def begin_action(self, new: NewAction) -> ActionState:
        """Write a decision down with exactly the commands it is about."""
        selection = {name: value for name, value in selection_fields(new.selection).items() if value is not None}
        asked = {
            "action_id": new.action_id,
            "action": new.action,
            "selection": orjson.dumps(selection).decode(),
            "request": orjson.dumps(
                _request(new.operator, new.reason, new.data, new.result) | ({"running": True} if new.running else {})
            ).decode(),
            "rate": new.rate,
            "expect": new.expect,
        }
        async with self._actions() as conn:
            return ActionState(await fetch_value(conn, queries.load("troubleshooting")["begin_action"], asked))

    async def run_action(self, action_id: UUID, limit: int) -> list[ActionItem]:
        """Carry out the next part."""
        async with self._actions() as conn:
            rows = await fetch_all(
                conn, queries.load("troubleshooting")["run_action"], {"action_id": action_id, "limit": limit}
            )
            await tell(conn, [(row["domain"], row["command_id"]) for row in rows if row["applied"]])
        return [ActionItem(**row | {"status": CommandStatus(row["status"])}) for row in rows]

    async def approve_action(self, action_id: UUID, operator: str) -> None:
        """Let a proposal run."""
        async with self._actions() as conn:
            await execute(
                conn, queries.load("troubleshooting")["approve_action"], {"action_id": action_id, "operator": operator}
            )

    async def stop_action(self, action_id: UUID, operator: str | None) -> None:
        """Let an action come to no more commands."""
        async with self._actions() as conn:
            await execute(
                conn, queries.load("troubleshooting")["stop_action"], {"action_id": action_id, "operator": operator}
            )

    async def undo(
        self, action_id: UUID, *, after: int, limit: int, deferred: bool, operator: str | None, reason: str | None
    ) -> list[Undone]:
        """Take back a part of a retry."""
        asked = {"action_id": action_id, "after": after, "limit": limit, "deferred": deferred}
        async with self._actions() as conn:
            rows = await fetch_all(
                conn, queries.load("troubleshooting")["undo"], asked | {"operator": operator, "reason": reason}
            )
        return [Undone(**row | {"status": CommandStatus(row["status"])}) for row in rows]

    async def last_retry(self, domain: str, command_id: UUID) -> tuple[UUID, int] | None:
        """The newest retry of a command that was applied, and the command's position in it."""
        async with self._actions() as conn:
            row = await fetch_one(
                conn, queries.load("troubleshooting")["last_retry"], {"domain": domain, "command_id": command_id}
            )
        return (row["action_id"], row["position"]) if row else None

    async def get_action(self, action_id: UUID) -> OperatorAction | None:
        """One action."""
        async with self._actions() as conn:
            row = await fetch_one(conn, queries.load("troubleshooting")["get_action"], {"action_id": action_id})
        return _action_from(row) if row else None

    async def list_actions(
        self, state: ActionState | None, *, limit: int, offset: int, after: ActionPlace | None = None
    ) -> list[OperatorAction]:
        """Actions, newest first; after a place."""
        at, after_id = after or (None, None)
        asked = {"state": state, "limit": limit, "offset": offset, "after_time": at, "after_id": after_id}
        async with self._actions() as conn:
            return [
                _action_from(row)
                for row in await fetch_all(conn, queries.load("troubleshooting")["list_actions"], asked)
            ]

    async def list_steps(self, action_id: UUID, state: StepState | None, *, after: int, limit: int) -> list[ActionStep]:
        """The commands of an action after a position, in their order."""
        asked = {"action_id": action_id, "state": state, "after": after, "limit": limit}
        async with self._actions() as conn:
            rows = await fetch_all(conn, queries.load("troubleshooting")["list_steps"], asked)
        return [
            ActionStep(**row | {"state": StepState(row["state"]), "status": CommandStatus(row["status"])})
            for row in rows
        ]

    async def get_rules(self) -> OperatorRules:
        """What operators must keep to."""
        async with self._actions() as conn:
            row = await fetch_one(conn, queries.load("troubleshooting")["get_rules"])
        return OperatorRules(**row) if row else OperatorRules()

    async def set_rules(self, rules: OperatorRules, operator: str | None) -> None:
        """Change what operators must keep to."""
        asked = {"approve_above": rules.approve_above, "reason_required": rules.reason_required, "operator": operator}
        async with deciding(self.pool, operator) as conn:
            await execute(conn, queries.load("troubleshooting")["set_rules"], asked)


def _request(operator: str | None, reason: str | None, data: bytes | None, result: bytes | None) -> dict[str, Any]:
    """What commandbus.act is asked: only what is set."""
    fields: dict[str, Any] = {"operator": operator, "reason": reason}
    fields |= {"data": data and orjson.Fragment(data), "result": result and orjson.Fragment(result)}
    return {name: value for name, value in fields.items() if value is not None}


def _action_from(row: dict[str, Any]) -> OperatorAction:
    return OperatorAction(**row | {"state": ActionState(row["state"])})
