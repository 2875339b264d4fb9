"""Taking messages in: one consumer of a group, from joining to leaving.

What it promises
----------------

Every message that the group is given is handed to the handler, those of a stream in order, and is acknowledged only
after the handler returned, or after it was laid apart. So what a handler does is done at least once; with an inbox
(`mainstay.inbox`) what it writes to its own database is there exactly once.

States of a partition
---------------------

::

    WORKING ──> RETRYING ──> WORKING, or STOPPED ──(resume)──> WORKING
       any ──> gone: lost to another consumer, or the broker is away, or asked to end

* WORKING: messages are received a batch at a time, handled one after another, and acknowledged when the batch is done.
* RETRYING: a handler failed. It is tried again by the policy; the partition waits meanwhile, for order. An error of the
  storage (`StorageUnavailableError`: the consumer's own database is away) counts as no attempt, and is tried until it
  is back.
* STOPPED: all attempts were made, and ``on_error`` says "stop". The partition stays ours, and waits for `resume`. With
  "dead_letter" the message is laid apart, with the reason, and the partition goes on: later messages of its stream are
  handled without it.

What it locks. Nothing of ours: the broker gives a partition to one consumer at a time.

How it fails. A crash leaves what was not acknowledged to whoever takes the partition next: messages of the batch in
hand are handled again. A broker that is away ends the membership; what is in a handler's hand is finished, its
acknowledgment is lost, and it comes again after the consumer has joined anew.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from mainstay.delivery.bus import Bus, Delivery, Member, Partition, Start, checked_group, checked_start
from mainstay.delivery.message import Message
from mainstay.delivery.tracing import consuming
from mainstay.errors import (
    BusUnavailableError,
    ConfigurationError,
    PartitionLostError,
    StorageUnavailableError,
    shown,
)
from mainstay.message import correlated
from mainstay.metrics import CONSUMED, record
from mainstay.retry import READING_POLICY, RetryPolicy, checked_policy
from mainstay.service import Service, cancel, first_of
from mainstay.telemetry import get_logger

log = get_logger(__name__)

MessageHandler = Callable[[Message], Awaitable[None]]
_LARGEST_BATCH = 10_000
_LOOKED_EVERY = 1.0
"""Seconds that a partition waits for a message before it is asked again."""
_ACKNOWLEDGED_EVERY = 1.0
"""Seconds after which what is done of a batch is acknowledged, if its handlers take long."""
_LONGEST_OUTAGE_PAUSE = 5.0


@dataclass(frozen=True)
class ConsumerConfig:
    """Settings of one consumer.

    Args:
        batch_size: Messages that are received, and acknowledged, at once; as many may come again after a crash.
        retry_policy: How often a message is tried, and how long to wait in between; its partition waits, too.
        on_error: What follows when all attempts were made. ``"stop"``: the partition stops there, until
            `Consumer.resume` or a new process. ``"dead_letter"``: the message is laid apart, and its partition goes on
            without it.
        start: Where a group begins that is new.

    Raises:
        ConfigurationError: A value out of range.
    """

    batch_size: int = 100
    retry_policy: RetryPolicy = field(default=READING_POLICY)
    on_error: Literal["stop", "dead_letter"] = "stop"
    start: Start = "beginning"

    def __post_init__(self) -> None:
        """Check every value once, here."""
        size = self.batch_size
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _LARGEST_BATCH:
            raise ConfigurationError(f"batch_size must be 1 to {_LARGEST_BATCH:,}, not {shown(size)}")
        if checked_policy(self.retry_policy) is None:
            raise ConfigurationError("retry_policy must be a RetryPolicy, not None")
        if self.on_error not in ("stop", "dead_letter"):
            raise ConfigurationError(f"on_error of a consumer is 'stop' or 'dead_letter', not {shown(self.on_error)}")
        checked_start(self.start)


class PartitionState(StrEnum):
    """Where a partition is; see the head of this module."""

    WORKING = "WORKING"
    RETRYING = "RETRYING"
    STOPPED = "STOPPED"


class Consumer(Service):
    """One consumer of a group, in this process.

    ::

        async with bus, Consumer(bus, "billing", handle):
            ...

    Args:
        bus: Where messages come from; open as long as this runs.
        group: Whose consumer it is. Stable: what is acknowledged is known under it.
        handler: Takes a message in, or raises.
        config: How to go about it.

    Raises:
        InvalidInputError: Not a group's name.
        ConfigurationError: The handler is no async function, or the bus is none.
    """

    def __init__(self, bus: Bus, group: str, handler: MessageHandler, config: ConsumerConfig | None = None) -> None:
        super().__init__()
        if not isinstance(bus, Bus):
            raise ConfigurationError(f"a consumer takes messages from a bus, not from {shown(bus)}")
        if not callable(handler):
            raise ConfigurationError(f"a consumer's handler is an async function, not {shown(handler)}")
        if config is not None and not isinstance(config, ConsumerConfig):
            raise ConfigurationError(f"config is a ConsumerConfig(...), not {shown(config)}")
        self.group = checked_group(group)
        self.config = config or ConsumerConfig()
        self.states: dict[int, PartitionState] = {}
        """Where each partition is that this process holds."""
        self.failures: dict[int, str] = {}
        """The last failure of each partition that this process holds."""
        self._bus = bus
        self._handler = handler
        self._resumed = asyncio.Event()
        self._ending = asyncio.Event()
        self._working: set[asyncio.Task[None]] = set()

    # -- the way to the broker -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        outage = 0
        while not self.stopping.is_set():
            try:
                async with self._bus.join(self.group, start=self.config.start) as member:
                    outage = 0
                    await self._follow(member)
            except Exception as error:
                outage += 1
                unknown = None if isinstance(error, BusUnavailableError) else error
                message = "group %s waits for its broker: %s"
                log.warning(message, self.group, error, extra=self._about(), exc_info=unknown)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), min(0.1 * 2**outage, _LONGEST_OUTAGE_PAUSE))

    async def _follow(self, member: Member) -> None:
        """Work on what becomes ours, until asked to end."""
        self._ending = asyncio.Event()
        stopping = asyncio.create_task(self.stopping.wait())
        claiming = asyncio.create_task(member.claimed())
        try:
            while not stopping.done():
                await asyncio.wait({stopping, claiming, *self._working}, return_when=asyncio.FIRST_COMPLETED)
                if claiming.done():
                    partition = claiming.result()
                    claiming = asyncio.create_task(member.claimed())
                    name = f"{self.group}[{partition.number}]"
                    self._working.add(asyncio.create_task(self._work(partition), name=name))
                for task in [task for task in self._working if task.done()]:
                    self._working.discard(task)
                    if not task.cancelled():
                        task.result()
        finally:
            await self._end({stopping, claiming})

    async def _end(self, waits: set[asyncio.Task[Any]]) -> None:
        """Let go of what is ours, when the message in hand is done."""
        self._ending.set()
        for task in waits:
            task.cancel()
        await asyncio.wait(waits | self._working)
        working, self._working = self._working, set()
        for task in working:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.warning("group %s left a partition: %s", self.group, error, extra=self._about())
        self.states.clear()

    async def stop(self, timeout: float | None = None) -> None:
        """Let the message in hand be done, and leave the group.

        Args:
            timeout: Seconds after which handlers that still run are canceled; their messages come again.

        Raises:
            Exception: What ended it before it was asked to.
        """
        stopping = asyncio.ensure_future(super().stop())
        done, _ = await asyncio.wait({stopping}, timeout=timeout)
        if not done:
            for task in self._working:
                task.cancel()
        await stopping

    def resume(self) -> None:
        """Let partitions that an error has stopped try its message again."""
        resumed, self._resumed = self._resumed, asyncio.Event()
        resumed.set()

    # -- a partition ---------------------------------------------------------------------------------------------------

    async def _work(self, partition: Partition) -> None:
        self.states[partition.number] = PartitionState.WORKING
        try:
            while not self._ending.is_set():
                deliveries = await self._received(partition)
                await self._take(partition, deliveries)
        except PartitionLostError:
            log.info("group %s: partition %d went to another", self.group, partition.number, extra=self._about())
        finally:
            self.states.pop(partition.number, None)
            self.failures.pop(partition.number, None)

    async def _received(self, partition: Partition) -> Sequence[Delivery]:
        """What comes next; nothing when it is time to end."""
        receiving = asyncio.create_task(self._receive(partition))
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({receiving, ending}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                return receiving.result()
        finally:
            await cancel(receiving, ending)
        return []

    async def _receive(self, partition: Partition) -> Sequence[Delivery]:
        return await partition.receive(self.config.batch_size, timeout=_LOOKED_EVERY)

    async def _take(self, partition: Partition, deliveries: Sequence[Delivery]) -> None:
        done: list[Delivery] = []
        due = time.monotonic() + _ACKNOWLEDGED_EVERY
        try:
            for delivery in deliveries:
                if self._ending.is_set():
                    return
                error, attempts = await self._insist(partition, delivery)
                if error is not None and done:
                    acknowledged, done = done, []
                    await partition.acknowledge(acknowledged)
                if error is not None:
                    await self._lay_apart(partition, delivery, error, attempts)
                    continue
                done.append(delivery)
                if time.monotonic() >= due:
                    acknowledged, done = done, []
                    await partition.acknowledge(acknowledged)
                    due = time.monotonic() + _ACKNOWLEDGED_EVERY
        except _EndingError:
            pass
        finally:
            if done:
                await partition.acknowledge(done)

    async def _insist(self, partition: Partition, delivery: Delivery) -> tuple[Exception | None, int]:
        """Try a message until it works; the error and the attempts, if it is to be laid apart."""
        policy, attempt = self.config.retry_policy, 0
        while True:
            error = await self._tried(delivery.message)
            if error is None:
                self.states[partition.number] = PartitionState.WORKING
                return None, attempt + 1
            attempt += 1
            self.failures[partition.number] = f"{type(error).__name__}: {error}"
            about = self._about() | _told(delivery.message) | {"attempts": attempt}
            where = f"{delivery.message.type} {delivery.message.id} of {delivery.message.stream}"
            log.warning("group %s: %s failed: %s", self.group, where, error, exc_info=error, extra=about)
            if policy.should_retry(attempt):
                self.states[partition.number] = PartitionState.RETRYING
                await self._pause(policy.delay_after(attempt))
            elif self.config.on_error == "dead_letter":
                return error, attempt
            else:
                self.states[partition.number] = PartitionState.STOPPED
                log.error("group %s stops at %s: %s", self.group, where, error, extra=about)
                await first_of(self._resumed.wait(), self._ending.wait())
                await self._pause(0.0)
                attempt = 0

    async def _tried(self, message: Message) -> Exception | None:
        outage = 0
        while True:
            try:
                await self._handle(message)
            except StorageUnavailableError as error:
                outage += 1
                log.warning("group %s waits for its storage: %s", self.group, error, extra=self._about())
                await self._pause(min(0.1 * 2**outage, _LONGEST_OUTAGE_PAUSE))
            except Exception as error:  # noqa: BLE001 - handlers are the user's
                return error
            else:
                return None

    async def _handle(self, message: Message) -> None:
        """Run the handler; one that cancels itself has failed, and does not end this partition."""
        try:
            with (
                consuming(self._bus.topic, self.group, message),
                correlated(message.headers.get("correlation-id"), message.id),
            ):
                await self._handler(message)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError("the handler was canceled from within") from error

    async def _lay_apart(self, partition: Partition, delivery: Delivery, error: Exception, attempts: int) -> None:
        await partition.lay_apart(delivery, error, attempts)
        record(CONSUMED, 1, self._bus.topic, self.group, "laid_apart")
        about = self._about() | _told(delivery.message) | {"attempts": attempts}
        log.error("group %s lays %s apart: %s", self.group, delivery.message.id, error, extra=about)

    async def _pause(self, seconds: float) -> None:
        """Wait before the next attempt.

        Raises:
            _EndingError: It is time to end.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
        if self._ending.is_set():
            raise _EndingError

    # -- dead letters --------------------------------------------------------------------------------------------------

    async def replay(self, *, most: int | None = None) -> int:
        """Handle what the group has laid apart, oldest first; gives how many are done now.

        Args:
            most: So many at most; all that is there unless given.

        Raises:
            PartitionLostError: Somebody else is at it.
            Exception: What a handler raised: its message stays apart, and so do those behind it.
        """
        handled = 0
        async with self._bus.dead_letters(self.group) as letters:
            while most is None or handled < most:
                found = await letters.receive(1, timeout=_LOOKED_EVERY)
                if not found:
                    break
                await self._handle(found[0].message.restored())
                await letters.acknowledge(found)
                handled += 1
        return handled

    def _about(self) -> dict[str, object]:
        return {"topic": self._bus.topic, "group": self.group}


class _EndingError(Exception):
    """It is time to end, between two attempts."""


def _told(message: Message) -> dict[str, object]:
    """What a log record says of a message."""
    return {
        "message_id": str(message.id),
        "message_type": message.type,
        "stream": message.stream,
        "position": message.position,
    }
