"""Members of a group at RabbitMQ; see `mainstay.delivery.rabbitmq`."""

import asyncio
import math
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, UUID, uuid5

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aiormq.exceptions import AMQPError, ChannelLockedResource

from mainstay.delivery.bus import Delivery
from mainstay.delivery.message import Message
from mainstay.errors import BusUnavailableError, PartitionLostError
from mainstay.service import cancel

if TYPE_CHECKING:
    from mainstay.delivery.rabbitmq import RabbitMQBus

BROKEN = (AMQPError, OSError, TimeoutError, RuntimeError)
"""What the client raises when the way to the broker is not there; its "closed" is a RuntimeError."""
_SHARED_OUT_EVERY = 0.5
"""Seconds after which a member looks again what is its share."""
_OURS = "mainstay-"
"""What the names of headers begin with that carry a message's own fields."""


class RabbitMQMember:
    """As `mainstay.delivery.bus.Member` says; see the head of this module for what it takes."""

    def __init__(self, bus: "RabbitMQBus", group: str, connection: AbstractConnection, prefetch: int) -> None:
        self._bus = bus
        self._group = group
        self._connection = connection
        self._prefetch = prefetch
        self._mine: dict[int, RabbitMQPartition] = {}
        self._claimed: asyncio.Queue[RabbitMQPartition] = asyncio.Queue()
        self._sharing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Be counted, and begin to take what is our share."""
        with self._bus.reaching():
            channel = await self._connection.channel()
            members = await channel.get_queue(self._bus.named(self._group, "members"))
            await members.consume(_nothing)
        self._sharing = asyncio.create_task(self._share_out(), name=f"sharing out {self._group}")

    async def close(self) -> None:
        """Leave: what is ours is free at once."""
        if self._sharing is not None:
            await cancel(self._sharing)
        await close(self._connection)

    async def claimed(self) -> "RabbitMQPartition":
        """As `mainstay.delivery.bus.Member.claimed` says."""
        assert self._sharing is not None  # noqa: S101  # it is open
        claiming = asyncio.create_task(self._claimed.get())
        try:
            await asyncio.wait({claiming, self._sharing}, return_when=asyncio.FIRST_COMPLETED)
            if claiming.done():
                return claiming.result()
        finally:
            claiming.cancel()
        with self._bus.reaching():
            self._sharing.result()
        raise BusUnavailableError("the member has left")

    async def _share_out(self) -> None:
        channel = await self._connection.channel()
        for turn in count():
            self._mine = {number: each for number, each in self._mine.items() if not each.is_gone}
            share = await self._share(channel)
            keeping = sorted(self._mine)[:share]
            for number, each in self._mine.items():
                each.is_wanted = number in keeping
            await self._take(channel, share - len(self._mine))
            await asyncio.sleep(_SHARED_OUT_EVERY)
            # One that was deleted is an error, and all are declared again.
            await consumers(channel, self._bus.named(self._group, str(turn % self._bus.partitions)))

    async def _share(self, channel: AbstractChannel) -> int:
        members = await consumers(channel, self._bus.named(self._group, "members"))
        return math.ceil(self._bus.partitions / max(members, 1))

    async def _take(self, channel: AbstractChannel, most: int) -> None:
        free = [number for number in range(self._bus.partitions) if number not in self._mine]
        for number in free:
            if most <= 0:
                return
            if await consumers(channel, self._bus.named(self._group, str(number))):
                continue
            taken = await RabbitMQPartition.taken(self._bus, self._group, str(number), self._connection, self._prefetch)
            if taken is not None:
                self._mine[number] = taken
                self._claimed.put_nowait(taken)
                most -= 1


class RabbitMQPartition:
    """As `mainstay.delivery.bus.Partition` says: a consumer of one queue, and the queue that says whose it is."""

    def __init__(self, bus: "RabbitMQBus", group: str, part: str, connection: AbstractConnection) -> None:
        self.number = int(part) if part.isdigit() else 0
        self.is_wanted = True
        """False: to be given up, as soon as nothing is in hand."""
        self.is_gone = False
        self._bus = bus
        self._group = group
        self._connection = connection
        self._channel: AbstractChannel | None = None
        self._dead = bus.named(group, "dead")
        self._queue = bus.named(group, part)
        self._waiting: deque[AbstractIncomingMessage] = deque()
        self._in_hand: deque[AbstractIncomingMessage] = deque()
        self._came = asyncio.Event()

    @classmethod
    async def taken(
        cls, bus: "RabbitMQBus", group: str, part: str, connection: AbstractConnection, prefetch: int
    ) -> "RabbitMQPartition | None":
        """The partition, if nobody else has it."""
        partition = cls(bus, group, part, connection)
        channel = await connection.channel()
        try:
            await channel.declare_queue(f"{partition._queue}/holder", exclusive=True)
        except ChannelLockedResource:
            return None
        partition._channel = channel
        await channel.set_qos(prefetch_count=prefetch)
        channel.close_callbacks.add(partition._on_close)
        queue = await channel.get_queue(partition._queue, ensure=False)
        await queue.consume(partition._on_message)
        return partition

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._waiting.append(message)
        self._came.set()

    def _on_close(self, *_: object) -> None:
        self.is_gone = True
        self._came.set()

    async def receive(self, most: int, *, timeout: float) -> Sequence[Delivery]:
        """As `mainstay.delivery.bus.Partition.receive` says."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not self._waiting:
                    self._check()
                    if not self.is_wanted:
                        break
                    self._came.clear()
                    await self._came.wait()
        self._check()
        if not self.is_wanted and not self._in_hand:
            await self._give_up()
            raise PartitionLostError(self.number)
        found = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._in_hand.extend(found)
        return [Delivery(decoded(each), each.delivery_tag, redelivered=bool(each.redelivered)) for each in found]

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """As `mainstay.delivery.bus.Partition.acknowledge` says."""
        self._check()
        last: AbstractIncomingMessage | None = None
        for _ in deliveries:
            last = self._in_hand.popleft()
        if last is not None:
            with self._bus.reaching():
                await last.ack(multiple=True)

    async def lay_apart(self, delivery: Delivery, error: BaseException, attempts: int) -> None:
        """As `mainstay.delivery.bus.Partition.lay_apart` says."""
        self._check()
        await self._bus.keep(self._dead, delivery.message.laid_apart(self._group, error, attempts))
        await self.acknowledge([delivery])

    def _check(self) -> None:
        if self._connection.is_closed:
            raise BusUnavailableError("RabbitMQ has closed the connection")
        if self.is_gone:
            raise PartitionLostError(self.number)

    async def _give_up(self) -> None:
        """Return what waits here to the head of its queue, and let another have it."""
        self.is_gone = True
        with self._bus.reaching():
            assert self._channel is not None  # noqa: S101  # it was taken
            await self._channel.close()
            async with self._connection.channel() as channel:
                await channel.queue_delete(f"{self._queue}/holder")


def encoded(message: Message) -> aio_pika.Message:
    """A message as AMQP has it."""
    own = {"stream": message.stream, "version": message.version, "position": message.position}
    headers: dict[str, Any] = {_OURS + name: value for name, value in own.items()}
    return aio_pika.Message(
        message.payload,
        headers={**message.headers, **headers},
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=str(message.id),
        type=message.type,
    )


def decoded(received: AbstractIncomingMessage) -> Message:
    """A message; what another program has published is taken as it is, with what can be told of it."""
    headers: Mapping[str, Any] = received.headers
    try:
        found = UUID(received.message_id or "")
    except ValueError:
        found = uuid5(NAMESPACE_OID, received.message_id or received.body.hex())
    return Message(
        found,
        str(headers.get(_OURS + "stream", received.routing_key or "")),
        _number(headers.get(_OURS + "version")),
        _number(headers.get(_OURS + "position")),
        received.type or "",
        received.body,
        {name: value for name, value in headers.items() if isinstance(value, str) and not name.startswith(_OURS)},
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


async def consumers(channel: AbstractChannel, queue: str) -> int:
    """How many consumers a queue has.

    Raises:
        AMQPError: It is not there.
    """
    found = await channel.get_queue(queue)
    return found.declaration_result.consumer_count or 0


async def _nothing(_: object) -> None:
    """The queue of the members is empty."""


async def close(connection: AbstractConnection | None) -> None:
    """Close a connection, if it is open; one that is broken is none."""
    if connection is not None:
        with suppress(*BROKEN):
            await connection.close()
