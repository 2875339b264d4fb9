"""The handlers of the demo. `registry` is what ``mainstay worker mainstay.operations.demo.handlers:registry`` runs."""

import asyncio
import time
from typing import Any, Final

from mainstay.commands.command import Command
from mainstay.commands.context import HandlerContext
from mainstay.commands.handler import HandlerRegistry, handler
from mainstay.errors import BusinessRuleException, PermanentCommandError, TransientCommandError
from mainstay.operations.demo.behaviours import CommandBehavior, Fate, Roll, roll
from mainstay.retry import RetryPolicy
from mainstay.storage.postgres.demo import write_ledger

DOMAIN: Final = "e2e"
REPORTS: Final = "reporting"
HANDLER_TIMEOUT: Final = 0.5
"""Seconds an attempt may take."""
BACKOFF: Final = RetryPolicy(max_attempts=3, backoff_schedule=[0.4, 0.8], jitter=0.1)


class DemoHandlers:
    """Every way in which a handler can be written, with the same dice in each."""

    @handler(DOMAIN, "TestCommand", retry_policy=BACKOFF, timeout=HANDLER_TIMEOUT)
    async def test_command(self, command: Command, context: HandlerContext) -> dict[str, Any]:
        """An async handler: runs at least once."""
        return await _act_out(command, context)

    @handler(DOMAIN, "ThreadCommand", retry_policy=BACKOFF)
    def thread_command(self, command: Command, context: HandlerContext) -> dict[str, Any]:
        """A plain function: runs in a thread."""
        rolled = _rolled(command, context)
        if rolled.fate is not Fate.TIMEOUT:  # a thread cannot be stopped, so it just takes long
            _fail(rolled)
        time.sleep(HANDLER_TIMEOUT if rolled.fate is Fate.TIMEOUT else rolled.seconds)
        return _result(context, rolled)

    @handler(DOMAIN, "LedgerCommand", retry_policy=BACKOFF, timeout=HANDLER_TIMEOUT, transactional=True)
    async def ledger_command(self, command: Command, context: HandlerContext) -> dict[str, Any]:
        """A transactional handler: its line in the ledger and its completion are one commit.

        The line is written first, so that a failure, a timeout or a kill has something to undo.
        """
        await write_ledger(context.conn, command.domain, command.command_id, context.attempt)
        return await _act_out(command, context)

    @handler(DOMAIN, "NoOp")
    async def no_op(self, command: Command, context: HandlerContext) -> None:
        """Nothing: shows what the machinery itself takes."""

    @handler(REPORTS, "BatchReport", transactional=True)
    async def batch_report(self, command: Command, context: HandlerContext) -> dict[str, Any]:
        """Sent by the database when the batch is done, once."""
        await write_ledger(context.conn, command.domain, command.command_id, context.attempt)
        return {"reported": command.data.get("batch")}


def registry() -> HandlerRegistry:
    """The handlers, registered."""
    made = HandlerRegistry()
    made.register_instance(DemoHandlers())
    return made


def _rolled(command: Command, context: HandlerContext) -> Roll:
    behavior = CommandBehavior.from_data(command.data)
    return roll(behavior, int(command.data.get("seed", 0)), command.command_id, context.attempt)


async def _act_out(command: Command, context: HandlerContext) -> dict[str, Any]:
    """Do what the dice say."""
    rolled = _rolled(command, context)
    if rolled.fate is Fate.TIMEOUT:
        await asyncio.sleep(2 * HANDLER_TIMEOUT)
    _fail(rolled)
    if rolled.seconds:
        await asyncio.sleep(rolled.seconds)
    return _result(context, rolled)


def _fail(rolled: Roll) -> None:
    if rolled.fate is Fate.PERMANENT:
        raise PermanentCommandError("INVALID_ACCOUNT", "the account does not exist")
    if rolled.fate is Fate.TRANSIENT:
        raise TransientCommandError("SERVICE_BUSY", "the other service is busy")
    if rolled.fate is Fate.BUSINESS_RULE:
        raise BusinessRuleException("LIMIT_EXCEEDED", "the limit of the account is exceeded")


def _result(context: HandlerContext, rolled: Roll) -> dict[str, Any]:
    return {"attempt": context.attempt, "duration_ms": round(rolled.seconds * 1000, 2)}
