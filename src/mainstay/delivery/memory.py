"""The protocol of a bus in memory: its plainest reading, for one process, and for tests.

What it locks. Nothing: every step is one of the event loop's. A partition belongs to the member that took it; what a
member does with a partition that is another's by now is refused.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

from mainstay.delivery.bus import (
    Delivery,
    Sender,
    Sent,
    Start,
    checked_group,
    checked_partitions,
    checked_start,
    checked_topic,
    unsent,
)
from mainstay.delivery.message import Message, partition_of
from mainstay.errors import PartitionLostError


@dataclass(slots=True)
class _Share:
    """One group's view of one partition."""

    done: int
    holder: object | None = None


@dataclass(slots=True)
class _Group:
    name: str
    shares: list[_Share]
    dead: deque[Message] = field(default_factory=deque)
    dead_holder: object | None = None


@dataclass(slots=True)
class _Topic:
    """What everybody shares."""

    messages: list[list[Message]]
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Let everybody look again who waits."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class MemoryBus:
    """A topic in memory.

    Args:
        topic: Its name.
        partitions: Into how many parts it is dealt out.

    Raises:
        InvalidInputError: Not a name.
        ConfigurationError: Not a number of partitions.
    """

    deduplicates = True

    def __init__(self, topic: str = "events", *, partitions: int = 1) -> None:
        self.topic = checked_topic(topic)
        self.partitions = checked_partitions(partitions)
        self._there = _Topic([[] for _ in range(partitions)])
        self._groups: dict[str, _Group] = {}
        self._sent: dict[str, Sent] = {}

    async def __aenter__(self) -> Self:
        """Nothing is to be reached."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is to be let go of."""

    @property
    def published(self) -> list[Message]:
        """All that is there: of each stream in order."""
        return [message for part in self._there.messages for message in part]

    async def publish(self, messages: Sequence[Message], *, sender: Sender | None = None) -> None:
        """As `Bus.publish` says."""
        new = messages if sender is None or not messages else await self._unsent(messages, sender)
        for message in new:
            self._there.messages[partition_of(message.stream, self.partitions)].append(message)
        self._there.wake()

    async def _unsent(self, messages: Sequence[Message], sender: Sender) -> Sequence[Message]:
        while True:
            known = self._sent.get(sender.name)
            new = await unsent(self.topic, known, sender, messages)
            if self._sent.get(sender.name) == known:
                break
        if new:
            self._sent[sender.name] = Sent(new[-1].position, new[-1].id)
        return new

    async def declare(self, group: str, *, start: Start = "beginning") -> None:
        """As `Bus.declare` says."""
        at_end = checked_start(start) == "now"
        if checked_group(group) not in self._groups:
            shares = [_Share(len(part) if at_end else 0) for part in self._there.messages]
            self._groups[group] = _Group(group, shares)

    @asynccontextmanager
    async def join(self, group: str, *, start: Start = "beginning") -> AsyncIterator["_Member"]:
        """As `Bus.join` says."""
        await self.declare(group, start=start)
        member = _Member(self._there, self._groups[group])
        try:
            yield member
        finally:
            for share in self._groups[group].shares:
                if share.holder is member:
                    share.holder = None
            self._there.wake()

    @asynccontextmanager
    async def dead_letters(self, group: str) -> AsyncIterator["_DeadLetters"]:
        """As `Bus.dead_letters` says."""
        await self.declare(group)
        mine = self._groups[group]
        if mine.dead_holder is not None:
            raise PartitionLostError(None)
        mine.dead_holder = held = _DeadLetters(mine.dead)
        try:
            yield held
        finally:
            mine.dead_holder = None


class _Member:
    """As `mainstay.delivery.bus.Member` says: takes whatever is free."""

    def __init__(self, there: _Topic, group: _Group) -> None:
        self._there = there
        self._group = group

    async def claimed(self) -> "_Partition":
        while True:
            changed = self._there.changed
            for number, share in enumerate(self._group.shares):
                if share.holder is None:
                    share.holder = self
                    return _Partition(self._there, self._group, number)
            await changed.wait()


class _Partition:
    """As `mainstay.delivery.bus.Partition` says."""

    def __init__(self, there: _Topic, group: _Group, number: int) -> None:
        self.number = number
        self._there = there
        self._group = group
        self._share = group.shares[number]
        self._holder = self._share.holder
        self._messages = there.messages[number]
        self._read_to = self._share.done

    async def receive(self, most: int, *, timeout: float) -> Sequence[Delivery]:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while len(self._messages) == self._read_to:
                    self._check()
                    await self._there.changed.wait()
        self._check()
        first = self._read_to
        found = self._messages[first : first + most]
        self._read_to += len(found)
        return [Delivery(message, first + index) for index, message in enumerate(found)]

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self._check()
        self._share.done += len(deliveries)

    async def lay_apart(self, delivery: Delivery, error: BaseException, attempts: int) -> None:
        self._check()
        self._group.dead.append(delivery.message.laid_apart(self._group.name, error, attempts))
        self._share.done += 1

    def _check(self) -> None:
        if self._share.holder is not self._holder:
            raise PartitionLostError(self.number)


class _DeadLetters:
    """As `mainstay.delivery.bus.DeadLetters` says."""

    def __init__(self, dead: deque[Message]) -> None:
        self._dead = dead
        self._read_to = 0

    async def receive(self, most: int, *, timeout: float) -> Sequence[Delivery]:
        del timeout
        found = list(self._dead)[self._read_to : self._read_to + most]
        self._read_to += len(found)
        return [Delivery(message, redelivered=True) for message in found]

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        for _ in deliveries:
            self._dead.popleft()
        self._read_to -= len(deliveries)
