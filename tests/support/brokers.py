"""Brokers of a test's own, which it may stop, kill and start again: one class for each kind.

Processes open a bus on one by what `Broker.place` gave. Where a program is missing, tests are skipped with the reason,
but fail if CI is set.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Protocol

import pytest
from redis import Redis
from redis.exceptions import RedisError

from mainstay.delivery.bus import Bus
from mainstay.delivery.kafka import KafkaBus
from mainstay.delivery.rabbitmq import RabbitMQBus
from mainstay.delivery.redis import RedisBus
from tests.support.kafka import KafkaBroker
from tests.support.rabbitmq import RabbitMQBroker
from tests.support.waiting import eventually_sync

PARTITIONS = 3
TOPIC = "ledger"


class Broker(Protocol):
    """One broker. It keeps its address."""

    def start(self) -> None:
        """Start it, and wait until it answers."""

    def stop(self, *, hard: bool = False) -> None:
        """Stop it, if it runs; hard is a crash."""

    @property
    def place(self) -> dict[str, Any]:
        """What `open_bus` takes."""

    def stored(self) -> int | None:
        """How many messages of the topic it has; None if it does not tell."""


def open_bus(place: dict[str, Any]) -> Bus:
    """A bus on a broker, not opened yet."""
    match place["kind"]:
        case "redis":
            return RedisBus(place["url"], TOPIC, partitions=PARTITIONS, lease=1.0)
        case "rabbitmq":
            return RabbitMQBus(place["url"], TOPIC, partitions=PARTITIONS, lease=4.0)
        case "kafka":
            options = {"compression.type": "zstd"}  # the mock keeps 5 MB of a partition, and drops what is older
            return KafkaBus(place["servers"], TOPIC, partitions=PARTITIONS, lease=3.0, options=options)
        case kind:
            raise ValueError(kind)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def program(name: str) -> str:
    """The path of a program; skips or fails the test where there is none."""
    found = shutil.which(name)
    if found is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed")
    pytest.skip(f"{name} is not installed")


class RedisBroker:
    """A Redis that keeps every confirmed write.

    Args:
        directory: For its append-only file.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> dict[str, Any]:
        return {"kind": "redis", "url": f"redis://127.0.0.1:{self._port}/0"}

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(program("redis-server"), "--port", str(self._port), "--bind", "127.0.0.1"),
                *("--dir", str(self._directory), "--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            ],
            stdout=subprocess.DEVNULL,
        )
        eventually_sync(self._answers, what="Redis answers")

    def stop(self, *, hard: bool = False) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
            self._process.wait()
            self._process = None

    def stored(self) -> int | None:
        bus = RedisBus(self.place["url"], TOPIC, partitions=PARTITIONS)
        with Redis.from_url(self.place["url"]) as client:
            return sum(int(client.xlen(bus.key(number))) for number in range(PARTITIONS))

    def _answers(self) -> bool:
        with Redis.from_url(self.place["url"]) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False


BROKERS = {"kafka": KafkaBroker, "rabbitmq": RabbitMQBroker, "redis": RedisBroker}


async def opened(bus: Bus) -> Bus:
    """Open a bus, as soon as its broker is there."""
    while True:
        try:
            return await bus.__aenter__()
        except Exception:  # noqa: BLE001 - it is started again meanwhile
            await asyncio.wait({asyncio.ensure_future(asyncio.Event().wait())}, timeout=0.1)
