"""How far handlers are, for those who watch.

A report is a help for people. It costs the handler nothing: what it tells is noted here, the newest report of each
command goes to the store with those of all the others, at most once in `PAUSE`, and if that fails, the next one tells
more. Neither a report nor its loss changes what becomes of a command.
"""

import asyncio
import math
from contextlib import suppress
from typing import Any

from mainstay.commands.checks import checked_text
from mainstay.commands.store import CommandStore, Lease
from mainstay.errors import InvalidInputError, MainstayError, shown
from mainstay.serialization import to_json
from mainstay.service import Service
from mainstay.telemetry import get_logger

PAUSE = 0.5
"""Seconds between two writes of a worker's reports."""

logger = get_logger(__name__)


def progress_document(done: float, total: float | None, note: str | None) -> bytes:
    """A report as JSON.

    Args:
        done: How much is done, in whatever unit the handler counts; not negative.
        total: How much there is, in the same unit, if it is known.
        note: For people.

    Raises:
        InvalidInputError: Not numbers, or not such a text.
    """
    told: dict[str, Any] = {"done": _checked_amount(done, "done")}
    if total is not None:
        told["total"] = _checked_amount(total, "total")
    if note is not None:
        told["note"] = checked_text(note, "note")
    return to_json(told, what="progress")


def _checked_amount(value: float, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        message = f"{name} must be a number of at least 0, not {shown(value)}"
        raise InvalidInputError(message)
    return value


class ProgressReports(Service):
    """Writes the reports of one worker's handlers.

    Args:
        store: Where commands live.
        domain: Whose commands.
    """

    def __init__(self, store: CommandStore, domain: str) -> None:
        super().__init__()
        self._store = store
        self._domain = domain
        self._newest: dict[Lease, bytes] = {}
        self._told = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Begin; does nothing if begun."""
        self._loop = asyncio.get_running_loop()
        await super().start()

    async def stop(self) -> None:
        """End; what was not written is of no use any more."""
        self.stopping.set()
        self._told.set()
        await super().stop()

    def report(self, lease: Lease, document: bytes) -> None:
        """Note a report; may be called from any thread."""
        self._newest[lease] = document
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody watches any more
                self._loop.call_soon_threadsafe(self._told.set)

    def forget(self, lease: Lease) -> None:
        """The handler has ended: what it told last is not worth a write."""
        if self._newest:
            self._newest.pop(lease, None)

    async def _run(self) -> None:
        while True:
            await self._told.wait()
            if self.stopping.is_set():
                return
            self._told.clear()
            newest, self._newest = self._newest, {}
            if newest:
                try:
                    await self._store.report(self._domain, list(newest.items()))
                except MainstayError as error:
                    logger.warning("could not note how far commands are: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE):
                    await self.stopping.wait()
