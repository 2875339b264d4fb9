"""A bus on RabbitMQ (3.10 or newer): ``pip install "mainstay[rabbitmq]"``.

What is declared at the broker
------------------------------

All of it is durable, and made when it is missing. The client takes letters and digits of ASCII, spaces and ``-_.:@#,``
in names; what else yours have is written as in URLs, with ``+`` for ``%``.

========================  ==============================================================================================
``topic``                 a direct exchange; a message's routing key is the number of its partition
``topic/partitions``      an empty queue whose greatest length is the number of partitions, so that nobody differs
``topic/group/0`` ...     one quorum queue for each group and partition, with a single active consumer
``topic/group/dead``      what the group has laid apart, and whatever the broker itself gives up on: a quorum queue
``topic/group/members``   an empty queue that every member of the group consumes from, so that they can be counted
``.../holder``            an exclusive queue for as long as its connection lives: whose has the partition
========================  ==============================================================================================

What it promises
----------------

*Confirmed.* Messages are persistent, and every one is confirmed by the broker, that is by a majority of each queue's
replicas. One that reaches no queue (nobody has declared a group) is given back, and `publish` fails: nothing is
published into the void.

*In order.* Of each stream one message is under way at a time: the next one is published when the one before it is
confirmed. So whatever breaks in between, a stream's messages arrive in order; those of different streams go together.
A queue has one active consumer, and what that one did not acknowledge returns to the head.

*At least once.* AMQP confirms no acknowledgment: one that was written when the connection broke may be lost. So
whatever breaks connections (a broker that is restarted, too) may make messages come again. RabbitMQ keeps no positions
of senders: what is published twice comes twice.

How partitions are shared out
-----------------------------

A member counts the members, and takes as many partitions as are its share, rounded up: it declares the partition's
``holder``, which only one connection can, and then consumes. A member with more than its share gives up what it has no
unacknowledged message of. The broker frees what a dead member had when the connection is closed, or after two missed
heartbeats; that is the lease.

How it fails. A connection is never mended, but made anew, by whoever sees it broken: what publishes, at the next
`publish`; a member, by joining again. (aio-pika's robust connections restore consumers in the background, and have
left queues without any; see docs/decisions.)
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import Any, Self
from urllib.parse import quote, urlsplit

from mainstay.delivery.bus import (
    Sender,
    Start,
    checked_group,
    checked_partitions,
    checked_start,
    checked_topic,
)
from mainstay.delivery.message import Message, partition_of
from mainstay.errors import (
    BusUnavailableError,
    ConfigurationError,
    InvalidInputError,
    MessageRefusedError,
    MissingDependencyError,
    PartitionLostError,
    shown,
)
from mainstay.retry import as_seconds

try:
    import aio_pika
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
    from aiormq.exceptions import ChannelPreconditionFailed, PublishError
except ImportError as _error:
    raise MissingDependencyError(
        "RabbitMQBus needs the driver of RabbitMQ: pip install 'mainstay[rabbitmq]'"
    ) from _error

from mainstay.delivery.rabbitmq_member import BROKEN, RabbitMQMember, RabbitMQPartition, close, encoded

_LONGEST_NAME = 255
"""Bytes of a name in AMQP."""
_SAFE = "-_.:@#, "
_SHORTEST_LEASE = 2.0
_MOST_PREFETCHED = 65_535


class RabbitMQBus:
    """A topic at RabbitMQ.

    Args:
        url: Of the broker: ``amqp://user:password@host:5672/vhost``, or ``amqps://``.
        topic: Its name.
        partitions: Into how many parts it is dealt out, for ever.
        lease: Time (or seconds) after which the partitions of a consumer that died without a word go to another: two
            heartbeats; at least 2 s.
        prefetch: So many messages of each partition wait in this process.
        timeout: Time (or seconds) that the broker may take to answer, or to confirm.

    Raises:
        MissingDependencyError: aio-pika is not installed; raised when this module is imported.
        InvalidInputError: Not a name.
        ConfigurationError: Not a URL, or a value out of range.
    """

    deduplicates = False

    def __init__(
        self,
        url: str,
        topic: str = "events",
        *,
        partitions: int = 1,
        lease: timedelta | float = 30.0,
        prefetch: int = 200,
        timeout: timedelta | float = 30.0,
    ) -> None:
        if not isinstance(url, str) or not url.startswith(("amqp://", "amqps://")):
            raise ConfigurationError("a URL of RabbitMQ is a text like amqp://user:password@host:5672/vhost")
        self.topic = checked_topic(topic)
        self.partitions = checked_partitions(partitions)
        self._url = url
        if (seconds := as_seconds(lease)) < _SHORTEST_LEASE:
            raise ConfigurationError(f"lease must be at least {_SHORTEST_LEASE:g} s, not {shown(lease)}")
        if isinstance(prefetch, bool) or not isinstance(prefetch, int) or not 1 <= prefetch <= _MOST_PREFETCHED:
            raise ConfigurationError(f"prefetch must be 1 to {_MOST_PREFETCHED:,}, not {shown(prefetch)}")
        self._heartbeat = int(seconds / 2)
        self._prefetch = prefetch
        self._timeout = as_seconds(timeout)
        self._is_open = False
        self._opening = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._exchange: AbstractExchange | None = None

    # -- the way to the broker -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Reach the broker, and make the topic.

        Raises:
            BusUnavailableError: It does not answer.
            ConfigurationError: The topic is there with another number of partitions.
        """
        self._is_open = True
        await self._reached()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection that publishes; members have their own, for the length of their blocks."""
        self._is_open = False
        connection, self._connection = self._connection, None
        await close(connection)

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """What the client raises inside, in our words.

        Raises:
            BusUnavailableError: The way to the broker broke, or was not there.
        """
        try:
            yield
        except BROKEN as error:
            raise BusUnavailableError(f"RabbitMQ at {self._place}: {str(error) or type(error).__name__}") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise BusUnavailableError(f"RabbitMQ at {self._place} closed the connection") from error

    @property
    def _place(self) -> str:
        parts = urlsplit(self._url)
        return f"{parts.hostname}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}"

    async def connected(self) -> AbstractConnection:
        """A connection of its own.

        Raises:
            BusUnavailableError: The broker does not answer, or the bus is closed.
        """
        if not self._is_open:
            raise BusUnavailableError(f"topic {self.topic} is closed: open it with 'async with bus'")
        with self.reaching():
            return await aio_pika.connect(self._url, timeout=self._timeout, heartbeat=self._heartbeat)

    async def _reached(self) -> AbstractExchange:
        """The exchange, on a channel that works."""
        async with self._opening:
            if not self._is_open or self._exchange is None or _is_closed(self._connection) or _is_closed(self._channel):
                await close(self._connection)
                self._connection = await self.connected()
                with self.reaching():
                    self._channel, self._exchange = await self._made(self._connection)
            return self._exchange

    async def _made(self, connection: AbstractConnection) -> tuple[AbstractChannel, AbstractExchange]:
        channel = await connection.channel(on_return_raises=True)
        try:
            arguments: dict[str, Any] = {"x-max-length": self.partitions}
            await channel.declare_queue(self.named("partitions"), durable=True, arguments=arguments)
        except ChannelPreconditionFailed as error:
            await close(connection)
            raise ConfigurationError(
                f"topic {self.topic} has another number of partitions, not {self.partitions}: {error}"
            ) from error
        return channel, await channel.declare_exchange(self.named(), aio_pika.ExchangeType.DIRECT, durable=True)

    def named(self, *parts: str) -> str:
        """The name of something of this topic at the broker.

        Raises:
            InvalidInputError: It is too long for AMQP.
        """
        name = "/".join(quote(part, safe=_SAFE).replace("%", "+") for part in (self.topic, *parts))
        if len(name.encode()) > _LONGEST_NAME - len("/holder"):
            raise InvalidInputError(f"RabbitMQ's names have {_LONGEST_NAME} bytes at most; {shown(name)} has more")
        return name

    # -- publishing ----------------------------------------------------------------------------------------------------

    async def publish(self, messages: Sequence[Message], *, sender: Sender | None = None) -> None:
        """As `Bus.publish` says.

        Raises:
            BusUnavailableError: The broker is away, or no group is declared that would be given them.
        """
        del sender
        for wave in waves(messages):
            exchange = await self._reached()
            keys = (str(partition_of(message.stream, self.partitions)) for message in wave)
            await self._confirmed(exchange, list(zip(wave, keys, strict=True)))

    async def keep(self, queue: str, message: Message) -> None:
        """Put one message into a queue."""
        await self._reached()
        assert self._channel is not None  # noqa: S101  # it was reached
        await self._confirmed(self._channel.default_exchange, [(message, queue)])

    async def _confirmed(self, exchange: AbstractExchange, messages: Sequence[tuple[Message, str]]) -> None:
        """Publish messages at once, and wait until each is confirmed.

        Raises:
            MessageRefusedError: One will never be taken.
        """
        under_way = [exchange.publish(encoded(message), key, timeout=self._timeout) for message, key in messages]
        outcomes = await asyncio.gather(*under_way, return_exceptions=True)
        for (message, _), outcome in zip(messages, outcomes, strict=True):
            if isinstance(outcome, PublishError):
                raise BusUnavailableError(f"nobody is given {self.topic}: declare a group first")
            if isinstance(outcome, ValueError | TypeError):
                raise MessageRefusedError(message.id, str(outcome)) from outcome
            if isinstance(outcome, ChannelPreconditionFailed):  # closes the channel: all of them fail
                largest = max((each for each, _ in messages), key=lambda each: len(each.payload))
                raise MessageRefusedError(largest.id, str(outcome)) from outcome
            if isinstance(outcome, BaseException):
                if isinstance(outcome, TimeoutError):
                    await close(self._connection)  # a late confirmation is nobody's
                with self.reaching():
                    raise outcome

    # -- groups --------------------------------------------------------------------------------------------------------

    async def declare(self, group: str, *, start: Start = "beginning") -> None:
        """As `Bus.declare` says; the group is given what is published from now on, wherever it is to begin."""
        checked_start(start)
        name = checked_group(group)
        connection = await self.connected()
        try:
            with self.reaching():
                await self._declare(connection, name)
        finally:
            await close(connection)

    async def _declare(self, connection: AbstractConnection, group: str) -> None:
        dead = self.named(group, "dead")
        unlimited = _never_given_up(connection)
        await _queue(connection, dead, unlimited)
        await _queue(connection, self.named(group, "members"), {"x-queue-type": "classic"})
        given_up = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        async with connection.channel() as channel:
            for number in range(self.partitions):
                queue = self.named(group, str(number))
                await _queue(connection, queue, unlimited | given_up)
                bound = await channel.get_queue(queue, ensure=False)
                await bound.bind(self.named(), str(number))

    @asynccontextmanager
    async def join(self, group: str, *, start: Start = "beginning") -> AsyncIterator[RabbitMQMember]:
        """As `Bus.join` says."""
        await self.declare(group, start=start)
        member = RabbitMQMember(self, group, await self.connected(), self._prefetch)
        try:
            await member.open()
            yield member
        finally:
            await member.close()

    @asynccontextmanager
    async def dead_letters(self, group: str) -> AsyncIterator[RabbitMQPartition]:
        """As `Bus.dead_letters` says."""
        await self.declare(group)
        connection = await self.connected()
        try:
            with self.reaching():
                letters = await RabbitMQPartition.taken(self, group, "dead", connection, self._prefetch)
            if letters is None:
                raise PartitionLostError(0)
            yield letters
        finally:
            await close(connection)


def waves(messages: Sequence[Message]) -> list[list[Message]]:
    """Messages that may be under way together: of each stream the first ones, then the second ones, and so on."""
    found: list[list[Message]] = []
    heights: dict[str, int] = {}
    for message in messages:
        height = heights.get(message.stream, 0)
        heights[message.stream] = height + 1
        if height == len(found):
            found.append([])
        found[height].append(message)
    return found


def _never_given_up(connection: AbstractConnection) -> dict[str, Any]:
    """Arguments of a queue that keeps a message however often it returns: RabbitMQ 4 would drop it the 20th time."""
    transport = connection.transport
    properties = {} if transport is None else transport.connection.server_properties
    version = str(properties.get("version", "3")).partition(".")[0]
    limit = {"x-delivery-limit": -1} if version.isdigit() and int(version) >= 4 else {}  # noqa: PLR2004  # as above
    return {"x-queue-type": "quorum", "x-single-active-consumer": True, **limit}


async def _queue(connection: AbstractConnection, name: str, arguments: Mapping[str, Any]) -> None:
    """A durable queue; one that is there with other arguments is somebody's choice."""
    async with connection.channel() as channel:
        with suppress(ChannelPreconditionFailed):
            await channel.declare_queue(name, durable=True, arguments=dict(arguments))
            return
    async with connection.channel() as channel:
        await channel.get_queue(name)


def _is_closed(opened: AbstractConnection | AbstractChannel | None) -> bool:
    return opened is None or opened.is_closed
