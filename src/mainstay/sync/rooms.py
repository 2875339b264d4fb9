"""The rooms, blocking: a line for each method, derived from the asynchronous one."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from mainstay.app import CommandBus, TroubleshootingQueue
from mainstay.commands.breaking import Breakers
from mainstay.commands.command import BatchMetadata, CreateBatchResult
from mainstay.commands.limits import Limits
from mainstay.commands.schedules import Schedules
from mainstay.retry import DEFAULT_MAX_ATTEMPTS
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT
from mainstay.sync.batches import BlockingBatches
from mainstay.sync.bridge import Blocking, Bridge, Source, blocking


class _Bus(CommandBus):
    """A bus whose callers do not know its event loop: it calls them back in threads, where they may block."""

    async def create_batch(self, *args: Any, **options: Any) -> CreateBatchResult:
        callback = options.get("on_complete")
        if callable(callback) and not inspect.iscoroutinefunction(callback):
            call: Callable[[BatchMetadata], Any] = callback

            async def in_thread(batch: BatchMetadata) -> None:
                await asyncio.to_thread(call, batch)

            options["on_complete"] = in_thread
        return await super().create_batch(*args, **options)


class SyncLimits(Blocking[Limits]):
    """`Limits` for code that blocks; ``SyncCommandBus.limits``.

    Args:
        source: As that of `SyncCommandBus`.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source, lambda pool: CommandBus(pool).limits)

    set = blocking(Limits.set)
    remove = blocking(Limits.remove)
    list = blocking(Limits.list)


class SyncBreakers(Blocking[Breakers]):
    """`Breakers` for code that blocks; ``SyncCommandBus.breakers``.

    Args:
        source: As that of `SyncCommandBus`.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source, lambda pool: CommandBus(pool).breakers)

    set = blocking(Breakers.set)
    remove = blocking(Breakers.remove)
    rules = blocking(Breakers.rules)
    list = blocking(Breakers.list)
    history = blocking(Breakers.history)
    force_open = blocking(Breakers.force_open)
    force_close = blocking(Breakers.force_close)


class SyncSchedules(Blocking[Schedules]):
    """`Schedules` for code that blocks: the same calls, arguments, results and errors.

    Args:
        home: Whose pool to use.
        make: Makes what is asked, from a pool or store.
    """

    def __init__(self, home: Bridge, make: Callable[[Any], Schedules]) -> None:
        super().__init__(home, make)

    set = blocking(Schedules.set)
    preview = blocking(Schedules.preview)
    remove = blocking(Schedules.remove)
    pause = blocking(Schedules.pause)
    resume = blocking(Schedules.resume)
    get = blocking(Schedules.get)
    list = blocking(Schedules.list)
    run_now = blocking(Schedules.run_now)


class SyncCommandBus(Blocking[CommandBus], BlockingBatches):
    """`CommandBus` for code that blocks: the same calls, arguments, results and errors; ``schedules``, too.

    Args:
        source: Connection string, function that returns one, command store, or a `SyncMainstay`, to share its pool.
        default_max_attempts: For commands that do not say themselves.
        payload_limit: Bytes of JSON that one command's data may have.
    """

    def __init__(
        self,
        source: Source,
        default_max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        *,
        payload_limit: int = DEFAULT_PAYLOAD_LIMIT,
    ) -> None:
        def make(pool: Any) -> CommandBus:
            return _Bus(pool, default_max_attempts, payload_limit=payload_limit)

        super().__init__(source, make)
        self.schedules = SyncSchedules(self._home, lambda pool: make(pool).schedules)
        self.limits = SyncLimits(self._home)
        self.breakers = SyncBreakers(self._home)

    send = blocking(CommandBus.send)
    send_batch = blocking(CommandBus.send_batch)
    wake = blocking(CommandBus.wake)
    cancel = blocking(CommandBus.cancel)
    create_batch = blocking(CommandBus.create_batch)
    get_batch = blocking(CommandBus.get_batch)
    seal_batch = blocking(CommandBus.seal_batch)
    begin_cancel_batch = blocking(CommandBus.begin_cancel_batch)
    cancel_batch = blocking(CommandBus.cancel_batch)
    list_batches = blocking(CommandBus.list_batches)
    list_batch_commands = blocking(CommandBus.list_batch_commands)
    request = blocking(CommandBus.request)
    wait_for = blocking(CommandBus.wait_for)
    get_result = blocking(CommandBus.get_result)
    get_command = blocking(CommandBus.get_command)
    command_exists = blocking(CommandBus.command_exists)
    query_commands = blocking(CommandBus.query_commands)
    get_audit_trail = blocking(CommandBus.get_audit_trail)
    get_decision = blocking(CommandBus.get_decision)
    list_decisions = blocking(CommandBus.list_decisions)
    pause = blocking(CommandBus.pause)
    resume = blocking(CommandBus.resume)
    paused = blocking(CommandBus.paused)


class SyncTroubleshootingQueue(Blocking[TroubleshootingQueue]):
    """`TroubleshootingQueue` for code that blocks: the same calls, arguments, results and errors.

    Args:
        source: Connection string, function that returns one, command store, or a `SyncMainstay`, to share its pool.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source, TroubleshootingQueue)

    list_troubleshooting = blocking(TroubleshootingQueue.list_troubleshooting)
    count_troubleshooting = blocking(TroubleshootingQueue.count_troubleshooting)
    count = count_troubleshooting
    get = blocking(TroubleshootingQueue.get)
    preview_edit = blocking(TroubleshootingQueue.preview_edit)
    operator_retry = blocking(TroubleshootingQueue.operator_retry)
    operator_cancel = blocking(TroubleshootingQueue.operator_cancel)
    operator_complete = blocking(TroubleshootingQueue.operator_complete)
    list_groups = blocking(TroubleshootingQueue.list_groups)
    act = blocking(TroubleshootingQueue.act)
    preview = blocking(TroubleshootingQueue.preview)
    list_selected = blocking(TroubleshootingQueue.list_selected)
    begin = blocking(TroubleshootingQueue.begin)
    run = blocking(TroubleshootingQueue.run)
    approve = blocking(TroubleshootingQueue.approve)
    stop = blocking(TroubleshootingQueue.stop)
    undo = blocking(TroubleshootingQueue.undo)
    undo_command = blocking(TroubleshootingQueue.undo_command)
    get_action = blocking(TroubleshootingQueue.get_action)
    list_actions = blocking(TroubleshootingQueue.list_actions)
    list_steps = blocking(TroubleshootingQueue.list_steps)
    get_rules = blocking(TroubleshootingQueue.get_rules)
    set_rules = blocking(TroubleshootingQueue.set_rules)
