"""A bus for ``mainstay relay``, on the Redis of the tests; TEST_TOPIC names its topic."""

import os

from mainstay.delivery.memory import MemoryBus
from mainstay.delivery.redis import RedisBus
from mainstay.relay import Relay

REDIS = os.environ.get("MAINSTAY_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")


def bus() -> RedisBus:
    return RedisBus(REDIS, os.environ.get("TEST_TOPIC", "orders"))


def away() -> RedisBus:
    return RedisBus("redis://127.0.0.1:1/0")


relay = Relay(MemoryBus("said"))
number = 7
