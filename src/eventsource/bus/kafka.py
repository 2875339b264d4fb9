"""A bus of events on Kafka."""

from mainstay.event_bus import KafkaEventBus, KafkaEventBusConfig
from mainstay.extras import KAFKA_AVAILABLE

__all__ = [
    "KAFKA_AVAILABLE",
    "KafkaEventBus",
    "KafkaEventBusConfig",
]
