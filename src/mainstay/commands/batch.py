"""Telling this process that a batch is complete.

The durable way is a completion *command*, which the store sends once. This is the convenience on top: a callable,
called in the process that created the batch, if it still runs then.
"""

import asyncio
import inspect
from uuid import UUID

from mainstay.commands.command import BatchCallback
from mainstay.commands.store import CommandStore
from mainstay.errors import StorageUnavailableError
from mainstay.telemetry import get_logger

_FIRST_LOOK = 0.05
_LONGEST_PAUSE = 1.0
_GROWTH = 1.5
_PATIENCE = 3600.0
"""Seconds to wait for a batch to appear whose transaction may still be open, or may have been rolled back."""

logger = get_logger(__name__)


class BatchWatcher:
    """Looks after batches until they are complete, then calls back, once each."""

    def __init__(self, store: CommandStore) -> None:
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, domain: str, batch_id: UUID, callback: BatchCallback) -> None:
        """Call back when the batch is complete."""
        task = asyncio.create_task(self._watch(domain, batch_id, callback), name=f"mainstay-batch-{batch_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Stop watching; nobody is called any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, domain: str, batch_id: UUID, callback: BatchCallback) -> None:
        pause = _FIRST_LOOK
        waited = 0.0
        while waited < _PATIENCE:
            await asyncio.sleep(pause)
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)
            try:
                batch = await self._store.get_batch(domain, batch_id)
            except StorageUnavailableError:
                continue
            if batch is None:
                waited += pause
                continue
            if not batch.is_complete:
                continue
            try:
                outcome = callback(batch)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:
                logger.exception("the callback of a batch failed", extra={"domain": domain, "batch_id": str(batch_id)})
            return
