"""A bus on Kafka: ``pip install "mainstay[kafka]"``.

What is at the broker
---------------------

A topic of the bus's name, with as many partitions; the consumer group ``topic.group`` for each group, whose committed
offsets say what is acknowledged; and the topic ``topic.group.dead``, of one partition, with what the group has laid
apart, which the consumer group of the same name reads. Topics are made when they are missing, with the broker's own
replication and retention: **what is older than the topic's retention is gone, acknowledged or not**. A member that
finds it gone says so in the log, as an error, and goes on with what is left.

A record's key is the stream, its value the payload; id, type, version and position are headers that begin with
``mainstay-``. The partition is the CRC-32 of the key, which librdkafka's other clients call the partitioner
``consistent``.

What it promises
----------------

*Confirmed.* ``acks=all``: `publish` returns when all replicas that are in sync have the records.

*In order.* The producer is idempotent: however often it has to send something again, a partition has it once, and in
order. It never gives one record up and goes on with the next: a batch that is not confirmed in time is given up with
its producer (``enable.gapless.guarantee``), and the next `publish` begins with a new one.

*At least once.* Offsets are committed after messages were handled, never by themselves. A record that was confirmed to
a relay that was killed then is published twice: a producer is idempotent for as long as it lives, and no longer.

How partitions are shared out
-----------------------------

By Kafka's own groups, cooperatively: a rebalance takes from a member only what another is to have. A member that has to
give something up hands nothing more of it out, and waits, up to its lease, until what was handed out is acknowledged;
so a rebalance repeats nothing, but for a handler that takes longer than that.

How it fails. librdkafka mends connections by itself. An outage shorter than the lease is not noticed but as waiting; a
longer one costs the partitions (`PartitionLostError`), and they are claimed again when the broker is back. A failed
commit is tried again until ``timeout``.

Threads. librdkafka has its own; each member has one more, which is the only one that touches its consumer, and each bus
one that hears confirmations. Neither runs code of yours.
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, Self

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
    shown,
)
from mainstay.retry import as_seconds
from mainstay.telemetry import get_logger

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # its stub forgets NewTopic
except ImportError as _error:
    raise MissingDependencyError("KafkaBus needs the driver of Kafka: pip install 'mainstay[kafka]'") from _error

from mainstay.delivery.kafka_member import KafkaMember, KafkaPartition, encoded

log = get_logger(__name__)

_LEGAL_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SHORTEST_LEASE = 1.0
"""Seconds."""
_HEARD_EVERY = 0.1
"""Seconds after which the thread that hears confirmations looks whether it is to end."""
_REFUSED = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD)
_KNOWN_ALREADY = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS)


class KafkaBus:
    """A topic at Kafka.

    Args:
        servers: Where to find the brokers: ``host:9092``, or several, with commas.
        topic: Its name: letters, digits, ``.``, ``_`` and ``-``.
        partitions: Into how many parts it is dealt out, for ever.
        lease: Time (or seconds) after which the partitions of a consumer that died without a word go to another.
            Brokers refuse less than 6 s, unless they are told otherwise (``group.min.session.timeout.ms``).
        prefetch: So many messages of each partition wait in this process.
        timeout: Time (or seconds) that the broker may take to answer, or to confirm.
        options: Settings of librdkafka for every connection, such as ``{"security.protocol": "SASL_SSL", ...}``.

    Raises:
        MissingDependencyError: confluent-kafka is not installed; raised when this module is imported.
        InvalidInputError: Not a name, or none that Kafka takes.
        ConfigurationError: Another value out of range, or a setting that this bus decides itself.
    """

    deduplicates = False

    def __init__(
        self,
        servers: str,
        topic: str = "events",
        *,
        partitions: int = 1,
        lease: timedelta | float = 15.0,
        prefetch: int = 500,
        timeout: timedelta | float = 30.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(servers, str) or not servers.strip():
            raise ConfigurationError(f"Kafka's brokers are a text like host:9092, not {shown(servers)}")
        self.lease = as_seconds(lease)
        if self.lease < _SHORTEST_LEASE:
            raise ConfigurationError(f"lease must be at least {_SHORTEST_LEASE:g} s, not {shown(lease)}")
        if isinstance(prefetch, bool) or not isinstance(prefetch, int) or prefetch < 1:
            raise ConfigurationError(f"prefetch must be a whole number above 0, not {shown(prefetch)}")
        self.topic = _legal(checked_topic(topic))
        self.partitions = checked_partitions(partitions)
        self.prefetch = prefetch
        self.timeout = as_seconds(timeout)
        self._is_open = False
        self._options = dict(options or {})
        self._servers = servers
        self._publisher: _Publisher | None = None
        if own := sorted(self._options.keys() & (self._producing().keys() | self.consuming("").keys())):
            raise ConfigurationError(f"a bus decides these itself: {', '.join(own)}")

    # -- the way to the broker -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Reach the broker, and make the topic; does nothing if it is open.

        Raises:
            BusUnavailableError: It does not answer.
            ConfigurationError: The topic is there with another number of partitions.
        """
        if self._is_open:
            return self
        with self.reaching():
            await asyncio.to_thread(self._have, self.topic, self.partitions)
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of the producer; members have their own connections, for the length of their blocks."""
        self._is_open = False
        await self._let_go()

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """What the client raises inside, in our words.

        Raises:
            BusUnavailableError: The broker is not there, or refuses; or the bus is closed.
        """
        try:
            yield
        except (KafkaException, TimeoutError) as error:
            raise BusUnavailableError(f"Kafka at {self._servers}: {told(error)}") from error

    def _check_open(self) -> None:
        if not self._is_open:
            raise BusUnavailableError(f"topic {self.topic} is closed: open it with 'async with bus'")

    def connecting(self) -> dict[str, Any]:
        """Settings of every connection."""
        return {"bootstrap.servers": self._servers, "client.id": "mainstay", **self._options}

    def consuming(self, group: str) -> dict[str, Any]:
        """Settings of a consumer, but for those of `connecting`."""
        return {
            "group.id": group,
            "auto.offset.reset": "error",  # told in the log by who is given it
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": int(self.lease * 1_000),
            "heartbeat.interval.ms": int(self.lease * 1_000 / 6),
            "allow.auto.create.topics": False,
        }

    @staticmethod
    def _producing() -> dict[str, Any]:
        return {
            "acks": "all",
            "enable.idempotence": True,
            "enable.gapless.guarantee": True,
            "message.timeout.ms": 0,  # a batch is given up as a whole, by us
            "partitioner": "consistent",
        }

    def _have(self, topic: str, partitions: int) -> None:
        """See that a topic is there."""
        found = AdminClient(self.connecting(), logger=log).list_topics(timeout=self.timeout).topics.get(topic)
        if found is None or found.error is not None:
            self.make(topic, partitions)
        elif len(found.partitions) != partitions:
            there = len(found.partitions)
            message = f"topic {topic} has {there} partitions, not {partitions}: open it with {there}"
            raise ConfigurationError(message)

    def make(self, topic: str, partitions: int) -> None:
        """Make a topic, with as many replicas as the broker makes unless it is told; blocks.

        Raises:
            KafkaException: The broker does not.
        """
        wanted = NewTopic(topic, num_partitions=partitions, replication_factor=-1)
        making = AdminClient(self.connecting(), logger=log).create_topics([wanted], operation_timeout=self.timeout)
        try:
            making[topic].result(self.timeout)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def named(self, group: str) -> str:
        """A group's name at the broker, where groups of all topics share their names."""
        return f"{self.topic}.{_quoted(checked_group(group))}"

    # -- publishing ----------------------------------------------------------------------------------------------------

    async def publish(self, messages: Sequence[Message], *, sender: Sender | None = None) -> None:
        """As `Bus.publish` says."""
        del sender
        records = [(message, partition_of(message.stream, self.partitions)) for message in messages]
        await self._confirmed(self.topic, records)

    async def keep(self, topic: str, message: Message) -> None:
        """Put one message into a topic of one partition."""
        await self._confirmed(topic, [(message, 0)])

    async def _confirmed(self, topic: str, records: Sequence[tuple[Message, int]]) -> None:
        """Publish, and wait until all of it is confirmed.

        Raises:
            MessageRefusedError: One will never be taken.
            BusUnavailableError: Not confirmed in time.
        """
        self._check_open()
        if not records:
            return
        publisher = self._publisher
        if publisher is None:
            settings = self.connecting() | self._producing()
            publisher = self._publisher = _Publisher(settings)
        try:
            failed = await asyncio.wait_for(publisher.publish(topic, records), self.timeout)
        except TimeoutError:
            await self._let_go()
            raise BusUnavailableError(f"Kafka at {self._servers} has not confirmed in {self.timeout:g} s") from None
        if not failed:
            return
        await self._let_go()  # it would go on behind the gap
        for message, error in failed:
            if error.code() in _REFUSED:
                raise MessageRefusedError(message.id, error.str())
        raise BusUnavailableError(f"Kafka at {self._servers}: {failed[0][1].str()}")

    async def _let_go(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await asyncio.to_thread(publisher.close)

    # -- groups --------------------------------------------------------------------------------------------------------

    async def declare(self, group: str, *, start: Start = "beginning") -> None:
        """As `Bus.declare` says. Kafka forgets a group after ``offsets.retention.minutes`` without a member."""
        checked_start(start)
        name = self.named(group)
        self._check_open()
        with self.reaching():
            await asyncio.to_thread(self._declare, name, start)

    def _declare(self, name: str, start: Start) -> None:
        self._have(_legal(f"{name}.dead"), 1)
        consumer = Consumer(self.connecting() | self.consuming(name), logger=log)
        try:
            parts = [TopicPartition(self.topic, number) for number in range(self.partitions)]
            unknown = [part for part in consumer.committed(parts, timeout=self.timeout) if part.offset < 0]
            for part in unknown:
                first, end = consumer.get_watermark_offsets(part, timeout=self.timeout)
                part.offset = end if start == "now" else first
            if unknown:
                consumer.commit(offsets=unknown, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in _KNOWN_ALREADY:
                raise
        finally:
            consumer.close()

    @asynccontextmanager
    async def join(self, group: str, *, start: Start = "beginning") -> AsyncIterator[KafkaMember]:
        """As `Bus.join` says."""
        await self.declare(group, start=start)
        name = self.named(group)
        async with KafkaMember(self, group, self.topic, name) as member:
            yield member

    @asynccontextmanager
    async def dead_letters(self, group: str) -> AsyncIterator[KafkaPartition]:
        """As `Bus.dead_letters` says."""
        await self.declare(group)
        name = f"{self.named(group)}.dead"
        async with KafkaMember(self, group, name, name) as member:
            yield await member.only()


class _Publisher:
    """A producer, and the thread that hears what it has confirmed."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._producer = Producer(dict(settings), logger=log)
        self._is_closing = False
        self._hearing = threading.Thread(target=self._hear, name="Kafka's confirmations", daemon=True)
        self._hearing.start()

    def _hear(self) -> None:
        while not self._is_closing:
            self._producer.poll(_HEARD_EVERY)
        self._producer.purge()
        self._producer.poll(0)

    def close(self) -> None:
        """Give up what is not confirmed yet; blocks until the thread has ended."""
        self._is_closing = True
        self._hearing.join()

    async def publish(self, topic: str, records: Sequence[tuple[Message, int]]) -> list[tuple[Message, KafkaError]]:
        """Hand records over, and wait for what comes of each; those that failed.

        Raises:
            MessageRefusedError: One is larger than this client's limit (``message.max.bytes``).
        """
        loop = asyncio.get_running_loop()
        waiting = len(records)
        failed: list[tuple[Message, KafkaError]] = []
        all_told = loop.create_future()

        def tell(message: Message, error: KafkaError | None, _: object) -> None:
            nonlocal waiting
            waiting -= 1  # in one thread
            if error is not None:
                failed.append((message, error))
            if waiting == 0:
                with suppress(RuntimeError):  # the loop is closed: nobody waits
                    loop.call_soon_threadsafe(_done, all_told)

        for message, partition in records:
            key, value, headers = encoded(message)
            record = partial(
                self._producer.produce,
                *(topic, value, key, partition),
                on_delivery=partial(tell, message),
                headers=headers,
            )
            await self._taken(message, record)
        await all_told
        return failed

    async def _taken(self, message: Message, produce: Callable[[], None]) -> None:
        """Hand one record over, when there is room for it."""
        while True:
            try:
                produce()
            except BufferError:
                await asyncio.sleep(_HEARD_EVERY / 10)
            except KafkaException as error:
                if error.args[0].code() not in _REFUSED:
                    raise BusUnavailableError(told(error)) from error
                raise MessageRefusedError(message.id, told(error)) from error
            else:
                return


def told(error: BaseException) -> str:
    """What an error of the client says."""
    inner = error.args[0] if error.args else error
    return inner.str() if isinstance(inner, KafkaError) else str(inner) or type(error).__name__


def _done(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _legal(topic: str) -> str:
    """The name itself, if Kafka takes it.

    Raises:
        InvalidInputError: It does not.
    """
    if not _LEGAL_TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise InvalidInputError(f"Kafka's names are 1 to 249 letters, digits, '.', '_' and '-'; {shown(topic)} is not")
    return topic


def _quoted(group: str) -> str:
    """A group's name as part of a topic's: what a topic's may not have, and dots, are written ``_x2e_``."""
    return re.sub(r"[^A-Za-z0-9_-]|_(?=x)", lambda found: f"_x{ord(found[0]):x}_", group)
