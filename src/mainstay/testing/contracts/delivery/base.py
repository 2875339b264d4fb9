"""What the parts of the suite share."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay.delivery.bus import Bus, Sent
from mainstay.delivery.consumer import Consumer, ConsumerConfig
from mainstay.delivery.message import Message
from mainstay.retry import RetryPolicy
from mainstay.testing.waiting import eventually

PARTITIONS = 3
AT_ONCE = RetryPolicy(max_attempts=2, backoff_schedule=(0.0,))
STOPPING = ConsumerConfig(batch_size=4, retry_policy=AT_ONCE)
LAYING_APART = ConsumerConfig(batch_size=4, retry_policy=AT_ONCE, on_error="dead_letter")


def message(number: int, *, stream: str = "Order/1", **changes: Any) -> Message:
    """A message that can be told from others by its number, which is its version and its position."""
    fields: dict[str, Any] = {
        "id": uuid4(),
        "stream": stream,
        "version": number,
        "position": number,
        "type": "OrderPlaced",
        "payload": b'{"number":%d}' % number,
        "headers": {"category": "Order", "actor-id": "Zoë, at the counter"},
    }
    return Message(**fields | changes)


def spread(streams: int, each: int) -> list[Message]:
    """Messages of several streams, one after another."""
    return [
        message(number * streams + index + 1, stream=f"Order/{index}", version=number + 1)
        for number in range(each)
        for index in range(streams)
    ]


@dataclass
class FromLog:
    """A sender that has these messages in its log."""

    messages: Iterable[Message]
    name: str = field(default_factory=lambda: f"relay {uuid4()}")
    confirmed: int = 0

    async def wrote(self, sent: Sent) -> bool:
        """Whether it is one of them."""
        return sent in [(each.position, each.id) for each in self.messages]


@dataclass
class Taken:
    """A handler that remembers, and fails where it is told to."""

    messages: list[Message] = field(default_factory=list)
    fails: Callable[[Message], bool] = lambda _: False

    async def __call__(self, taken: Message) -> None:
        """Take one in."""
        if self.fails(taken):
            raise ValueError("not this one")
        self.messages.append(taken)

    @property
    def ids(self) -> set[UUID]:
        """Of those that were taken in."""
        return {each.id for each in self.messages}

    @property
    def numbers(self) -> list[int]:
        """Positions, in the order in which they were taken in."""
        return [each.position for each in self.messages]

    def versions(self, stream: str) -> list[int]:
        """Of one stream, in the order in which they were taken in."""
        return [each.version for each in self.messages if each.stream == stream]

    async def has(self, messages: Sequence[Message]) -> None:
        """Wait until all these were taken in."""
        wanted = {each.id for each in messages}
        await eventually(lambda: wanted <= self.ids, what=f"{len(wanted)} messages are taken in")


class BusSuite(ABC):
    """What a subclass gives, and the words that the tests are written in."""

    @abstractmethod
    def opened(self, topic: str, partitions: int) -> AbstractAsyncContextManager[Bus]:
        """A topic; opened again under the same name, it is the same topic, as another process has it."""

    @pytest.fixture
    def topic(self) -> str:
        """A name that no other test has."""
        return f"orders-{uuid4().hex[:12]}"

    @pytest.fixture
    async def bus(self, topic: str) -> AsyncIterator[Bus]:
        """A topic with three partitions."""
        async with self.opened(topic, PARTITIONS) as opened:
            yield opened

    @pytest.fixture
    async def beside(self, topic: str, bus: Bus) -> AsyncIterator[Bus]:
        """The same topic, as another process has it."""
        async with self.opened(topic, bus.partitions) as opened:
            yield opened

    async def taken(self, bus: Bus, group: str, messages: Sequence[Message]) -> Taken:
        """What a group takes in until it has all these."""
        handler = Taken()
        async with Consumer(bus, group, handler, STOPPING):
            await handler.has(messages)
        return handler
