"""The load generator of the demo: many commands with dice in them, sent as one batch in a stream, in the background."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from mainstay.commands.bus import CommandBus
from mainstay.commands.command import BatchCommand
from mainstay.errors import InvalidInputError, InvalidOperationError, MainstayError
from mainstay.operations.demo.behaviours import CommandBehavior
from mainstay.operations.demo.calculator import Outcomes, calculate
from mainstay.operations.demo.handlers import DOMAIN, HANDLER_TIMEOUT
from mainstay.operations.demo.workload import MAX_ATTEMPTS
from mainstay.telemetry import get_logger
from mainstay.tenancy import actor_scope

MOST: Final = 1_000_000
"""Commands of one load."""
KEPT: Final = 5
"""Loads that are remembered."""
_CHUNK: Final = 500
_TYPE: Final = "TestCommand"
logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be sent.

    Args:
        count: How many commands.
        behavior: How each is likely to end.
        seed: Of the dice.

    Raises:
        InvalidInputError: The number, or a duration, is out of range.
    """

    count: int
    behavior: CommandBehavior
    seed: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= self.count <= MOST:
            raise InvalidInputError(f"count must be a number from 1 to {MOST:,}, not {self.count!r}")
        longest = 1000 * HANDLER_TIMEOUT
        if self.behavior.max_duration_ms > longest:
            raise InvalidInputError(f"max_duration_ms: handlers of the demo may take {longest:.0f} ms at most")

    def expected(self) -> Outcomes:
        """What must come of it, but for chance."""
        return calculate(Counter({(self.behavior, MAX_ATTEMPTS): self.count}))


@dataclass(frozen=True, slots=True)
class Generated:
    """A load that is being sent, or was.

    Args:
        batch_id: Its batch, in the domain of the demo.
        load: What it is.
        by: Who asked for it.
        begun_at: When.
        sent: Commands that are stored.
        seconds: For how long it has been sent.
        ended_at: When the last was sent; None while it goes on.
        problem: Why it ended early.
    """

    batch_id: UUID
    load: Load
    by: str
    begun_at: datetime
    sent: int = 0
    seconds: float = 0.0
    ended_at: datetime | None = None
    problem: str | None = None

    @property
    def rate(self) -> float:
        """Commands sent a second."""
        return self.sent / self.seconds if self.seconds else 0.0


class Generator:
    """Sends loads, one at a time.

    Args:
        bus: Sends.
    """

    def __init__(self, bus: CommandBus) -> None:
        self._bus = bus
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self.loads: list[Generated] = []
        """The newest first."""

    def begin(self, load: Load, by: str) -> Generated:
        """Begin to send a load.

        Raises:
            InvalidOperationError: One is being sent.
        """
        if self._task is not None and not self._task.done():
            raise InvalidOperationError("a load is being sent: stop it, or wait for its end")
        begun = Generated(uuid4(), load, by, datetime.now(UTC))
        self.loads = [begun, *self.loads[: KEPT - 1]]
        self._stopped = False
        self._task = asyncio.create_task(self._send(begun), name="mainstay-load")
        return begun

    async def stop(self) -> Generated:
        """Send no more of the load that is being sent; what was sent is handled, and its batch ends.

        Raises:
            InvalidOperationError: None is being sent.
        """
        if self._task is None or self._task.done():
            raise InvalidOperationError("no load is being sent")
        self._stopped = True
        await asyncio.wait([self._task])
        return self.loads[0]

    def close(self) -> None:
        """Send no more; does not wait."""
        self._stopped = True

    async def _send(self, begun: Generated) -> None:
        started, problem = time.monotonic(), None
        try:
            with actor_scope(begun.by):
                name = f"Load of {begun.load.count:,}"
                async with self._bus.open_batch(DOMAIN, batch_id=begun.batch_id, name=name) as stream:
                    for first in range(0, begun.load.count, _CHUNK):
                        if self._stopped:
                            problem = "it was stopped"
                            break
                        await stream.send(*_commands(begun.load, first))
                        self._note(begun, sent=stream.sent, seconds=time.monotonic() - started)
            sent = stream.sent
        except MainstayError as error:
            logger.warning("a load could not be sent: %s", error)
            problem, sent = str(error), self.loads[0].sent
        self._note(begun, sent=sent, seconds=time.monotonic() - started, ended_at=datetime.now(UTC), problem=problem)

    def _note(self, begun: Generated, **news: object) -> None:
        self.loads = [replace(each, **news) if each.batch_id == begun.batch_id else each for each in self.loads]  # type: ignore[arg-type]  # its fields


def _commands(load: Load, first: int) -> list[BatchCommand]:
    behavior = load.behavior.to_data()
    return [
        BatchCommand(_TYPE, uuid4(), {"n": n, "seed": load.seed, "behavior": behavior}, max_attempts=MAX_ATTEMPTS)
        for n in range(first, min(first + _CHUNK, load.count))
    ]
