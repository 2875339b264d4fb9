"""Event buses: handlers by class of event, in front of a `Bus` or without any.

For code that publishes events by hand and subscribes handlers to classes, as users of eventsource do. What must not be
lost is published by a `mainstay.relay.Relay`, and taken in by a `Consumer` or a bus of this module that consumes.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

from mainstay.delivery.bus import Bus
from mainstay.delivery.consumer import Consumer, ConsumerConfig
from mainstay.delivery.message import Message
from mainstay.errors import ConfigurationError, shown
from mainstay.event_messages import EventMessages
from mainstay.events.event import DomainEvent
from mainstay.events.registry import EventRegistry
from mainstay.projections.subscriber import FlexibleEventHandler, FlexibleEventSubscriber
from mainstay.retry import RetryPolicy
from mainstay.telemetry import get_logger

log = get_logger(__name__)

EventHandlerFunc: TypeAlias = Callable[[DomainEvent], Awaitable[None] | None]
AnyHandler: TypeAlias = FlexibleEventHandler | EventHandlerFunc


class EventBus:
    """Base of event buses: knows who wants which events."""

    def __init__(self) -> None:
        self._handlers: list[tuple[type[DomainEvent], AnyHandler]] = []

    def subscribe(self, event_type: type[DomainEvent], handler: AnyHandler) -> None:
        """Let a handler have the events of a class, and of those derived from it.

        Args:
            event_type: The class.
            handler: Has ``handle(event)``, or is a function of the event; async or not.

        Raises:
            ConfigurationError: Not a class of events, or no handler.
        """
        if not isinstance(event_type, type) or not issubclass(event_type, DomainEvent):
            raise ConfigurationError(f"subscribe() takes a class of events, not {shown(event_type)}")
        if not callable(handler) and not isinstance(handler, FlexibleEventHandler):
            raise ConfigurationError(f"a handler has handle(event), or is a function, not {shown(handler)}")
        self._handlers.append((event_type, handler))

    def unsubscribe(self, event_type: type[DomainEvent], handler: AnyHandler) -> bool:
        """Take a subscription back; says whether there was one."""
        found = (event_type, handler) in self._handlers
        if found:
            self._handlers.remove((event_type, handler))
        return found

    def subscribe_all(self, subscriber: FlexibleEventSubscriber) -> None:
        """Let a subscriber have the events of all classes that its ``subscribed_to()`` names."""
        for kind in subscriber.subscribed_to():
            self.subscribe(kind, subscriber)

    def subscribe_to_all_events(self, handler: AnyHandler) -> None:
        """Let a handler have every event."""
        self.subscribe(DomainEvent, handler)

    def unsubscribe_from_all_events(self, handler: AnyHandler) -> bool:
        """Take that back; says whether there was such a subscription."""
        return self.unsubscribe(DomainEvent, handler)

    async def publish(self, events: Sequence[DomainEvent], background: bool = False) -> None:  # noqa: FBT001, FBT002 - as users write it
        """Hand events over, in order.

        Args:
            events: What happened.
            background: Do not wait for it; what goes wrong then is logged.
        """
        raise NotImplementedError

    async def _dispatch(self, event: DomainEvent) -> list[Exception]:
        """Give an event to all who want it, one after another; what they raised."""
        errors = []
        for kind, handler in [*self._handlers]:
            if isinstance(event, kind):
                take: Any = handler.handle if isinstance(handler, FlexibleEventHandler) else handler
                try:
                    outcome = take(event)
                    if inspect.isawaitable(outcome):
                        await outcome
                except Exception as error:
                    log.exception("a handler of %s failed", event.event_type)
                    errors.append(error)
        return errors


class InMemoryEventBus(EventBus):
    """Hands events to handlers in this process, before `publish` returns.

    What a handler raises is logged, and hinders no other. An event is gone if the process dies: a subscription of a
    `SubscriptionManager` is not given it once more, but again until it is handled.
    """

    def __init__(self) -> None:
        super().__init__()
        self._under_way: set[asyncio.Task[None]] = set()

    async def publish(self, events: Sequence[DomainEvent], background: bool = False) -> None:  # noqa: FBT001, FBT002 - as users write it
        """Hand events to all handlers, in order."""
        if not background:
            await self._publish(events)
            return
        task = asyncio.create_task(self._publish(events))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def shutdown(self, timeout: float = 30.0) -> None:
        """Wait for what is published in the background, for so many seconds at most; then cancel it."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=timeout)
            for task in late:
                task.cancel()

    async def _publish(self, events: Sequence[DomainEvent]) -> None:
        for event in events:
            await self._dispatch(event)


class BrokerEventBus(EventBus):
    """Publishes events to a broker, and hands those of a group to handlers.

    ::

        bus = BrokerEventBus(RedisBus("redis://localhost"), group="billing")
        bus.subscribe(OrderPlaced, bill)
        async with bus:
            await bus.start_consuming()
            await bus.publish([OrderPlaced(...)])

    Handlers get an event at least once, those of a stream in order; if one raises, all are given it again, and after
    all attempts it is laid apart.

    Args:
        bus: A topic.
        group: Whose handlers they are.
        registry: Which class a type belongs to; all classes unless given.
        config: How to consume.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        group: str = "default",
        registry: EventRegistry | None = None,
        config: ConsumerConfig | None = None,
    ) -> None:
        super().__init__()
        self.bus = bus
        self._messages = EventMessages(registry, unknown="skip")
        self._consumer = Consumer(bus, group, self._take, config or ConsumerConfig(on_error="dead_letter"))
        self._under_way: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Reach the broker; does nothing if it is reached.

        Raises:
            BusUnavailableError: It is away.
        """
        await self.bus.__aenter__()
        await self.bus.declare(self._consumer.group, start=self._consumer.config.start)

    async def disconnect(self) -> None:
        """Stop consuming, and let go of the broker."""
        await self.stop_consuming()
        if self._under_way:
            await asyncio.wait(self._under_way)
        await self.bus.__aexit__()

    async def shutdown(self, timeout: float = 30.0) -> None:
        """As `disconnect`; handlers that still run after so many seconds are canceled, and get their events again."""
        await self._consumer.stop(timeout)
        await self.disconnect()

    async def start_consuming(self) -> None:
        """Begin to hand events to handlers, in the background; does nothing if it has begun."""
        await self.connect()
        await self._consumer.start()

    async def stop_consuming(self) -> None:
        """Let the event in hand be handled, and stop."""
        await self._consumer.stop()

    async def publish(self, events: Sequence[DomainEvent], background: bool = False) -> None:  # noqa: FBT001, FBT002 - as users write it
        """Publish events, in order, and wait until the broker has them.

        Raises:
            BusUnavailableError: The broker is away; some may have arrived.
            InvalidInputError: An event does not say which stream it is of.
        """
        messages = self._messages.messages(list(events))
        await self.connect()
        if not background:
            await self.bus.publish(messages)
            return
        task = asyncio.create_task(self._publish(messages))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _publish(self, messages: Sequence[Message]) -> None:
        try:
            await self.bus.publish(messages)
        except Exception:
            log.exception("%d events were not published", len(messages))

    async def _take(self, message: Message) -> None:
        for event in self._messages.events(message):
            for error in await self._dispatch(event):
                raise error

    async def __aenter__(self) -> Self:
        """Reach the broker."""
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop consuming, and let go of the broker."""
        await self.disconnect()


@dataclass(frozen=True, kw_only=True)
class _Consuming:
    """What the settings of all buses on brokers share."""

    consumer_group: str = "default"
    partitions: int = 1
    batch_size: int = 100
    max_retries: int = 3
    retry_base_delay: float = 1.0
    retry_max_delay: float = 60.0
    retry_jitter: float = field(default=0.1)

    def consuming(self) -> ConsumerConfig:
        """The half that is about consuming.

        Raises:
            ConfigurationError: A value out of range.
        """
        policy = RetryPolicy.exponential(
            max_attempts=self.max_retries + 1,
            base=self.retry_base_delay,
            maximum=self.retry_max_delay,
            jitter=self.retry_jitter,
        )
        return ConsumerConfig(batch_size=self.batch_size, retry_policy=policy, on_error="dead_letter")


@dataclass(frozen=True)
class RedisEventBusConfig(_Consuming):
    """Settings of a `RedisEventBus`.

    Args:
        redis_url: As `RedisBus` takes it.
        stream_prefix: The topic.
        consumer_group: Whose handlers they are.
        partitions: Into how many parts the topic is dealt out.
        batch_size: Messages that are received at once.
        max_retries: Attempts after the first.
        retry_base_delay: Seconds before the second attempt; each later pause is twice as long.
        retry_max_delay: Seconds at most.
        retry_jitter: Share by which a pause is randomly lengthened or shortened.
    """

    redis_url: str = "redis://localhost:6379"
    stream_prefix: str = "events"


@dataclass(frozen=True)
class RabbitMQEventBusConfig(_Consuming):
    """Settings of a `RabbitMQEventBus`; those of consuming are as of `RedisEventBusConfig`.

    Args:
        rabbitmq_url: As `RabbitMQBus` takes it.
        exchange_name: The topic.
        prefetch_count: So many messages of each partition wait in this process.
        heartbeat: Seconds; a consumer that is silent for two of them loses its partitions.
    """

    rabbitmq_url: str = "amqp://guest:guest@localhost:5672/"
    exchange_name: str = "events"
    prefetch_count: int = 10
    heartbeat: int = 60


@dataclass(frozen=True)
class KafkaEventBusConfig(_Consuming):
    """Settings of a `KafkaEventBus`; those of consuming are as of `RedisEventBusConfig`.

    Args:
        bootstrap_servers: As `KafkaBus` takes it.
        topic_prefix: What the topic's name begins with; ``.stream`` follows.
        session_timeout_ms: Milliseconds; a consumer that is silent for so long loses its partitions.
        security_protocol: ``"PLAINTEXT"``, ``"SSL"``, ``"SASL_PLAINTEXT"`` or ``"SASL_SSL"``.
        sasl_mechanism: ``"PLAIN"``, ``"SCRAM-SHA-256"`` or ``"SCRAM-SHA-512"``.
        sasl_username: Who.
        sasl_password: How it is known; not shown.
        ssl_cafile: File of the authorities that are trusted.
        ssl_certfile: File of our certificate.
        ssl_keyfile: File of its key.
    """

    bootstrap_servers: str = "localhost:9092"
    topic_prefix: str = "events"
    session_timeout_ms: int = 30_000
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    @property
    def topic_name(self) -> str:
        """The topic."""
        return f"{self.topic_prefix}.stream"

    def options(self) -> dict[str, str]:
        """What the client calls those about security."""
        said = {
            "security.protocol": self.security_protocol,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.sasl_username,
            "sasl.password": self.sasl_password,
            "ssl.ca.location": self.ssl_cafile,
            "ssl.certificate.location": self.ssl_certfile,
            "ssl.key.location": self.ssl_keyfile,
        }
        return {name: value for name, value in said.items() if value is not None}


class RedisEventBus(BrokerEventBus):
    """A `BrokerEventBus` on Redis Streams.

    Args:
        config: Where, and how.
        event_registry: Which class a type belongs to; all classes unless given.

    Raises:
        MissingDependencyError: The extra ``redis`` is not installed.
        ConfigurationError: A value out of range.
    """

    def __init__(self, config: RedisEventBusConfig | None = None, event_registry: EventRegistry | None = None) -> None:
        from mainstay.delivery.redis import RedisBus  # noqa: PLC0415 - an extra, which others do without

        settings = config or RedisEventBusConfig()
        super().__init__(
            RedisBus(settings.redis_url, settings.stream_prefix, partitions=settings.partitions),
            group=settings.consumer_group,
            registry=event_registry,
            config=settings.consuming(),
        )


class RabbitMQEventBus(BrokerEventBus):
    """A `BrokerEventBus` on RabbitMQ.

    Args:
        config: Where, and how.
        event_registry: Which class a type belongs to; all classes unless given.

    Raises:
        MissingDependencyError: The extra ``rabbitmq`` is not installed.
        ConfigurationError: A value out of range.
    """

    def __init__(
        self, config: RabbitMQEventBusConfig | None = None, event_registry: EventRegistry | None = None
    ) -> None:
        from mainstay.delivery.rabbitmq import RabbitMQBus  # noqa: PLC0415 - an extra, which others do without

        settings = config or RabbitMQEventBusConfig()
        super().__init__(
            RabbitMQBus(
                settings.rabbitmq_url,
                settings.exchange_name,
                partitions=settings.partitions,
                lease=2 * settings.heartbeat,
                prefetch=settings.prefetch_count,
            ),
            group=settings.consumer_group,
            registry=event_registry,
            config=settings.consuming(),
        )


class KafkaEventBus(BrokerEventBus):
    """A `BrokerEventBus` on Kafka.

    Args:
        config: Where, and how.
        event_registry: Which class a type belongs to; all classes unless given.

    Raises:
        MissingDependencyError: The extra ``kafka`` is not installed.
        ConfigurationError: A value out of range.
    """

    def __init__(self, config: KafkaEventBusConfig | None = None, event_registry: EventRegistry | None = None) -> None:
        from mainstay.delivery.kafka import KafkaBus  # noqa: PLC0415 - an extra, which others do without

        settings = config or KafkaEventBusConfig()
        super().__init__(
            KafkaBus(
                settings.bootstrap_servers,
                settings.topic_name,
                partitions=settings.partitions,
                lease=settings.session_timeout_ms / 1_000,
                options=settings.options(),
            ),
            group=settings.consumer_group,
            registry=event_registry,
            config=settings.consuming(),
        )
