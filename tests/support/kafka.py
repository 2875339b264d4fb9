"""Kafka for tests: the mock cluster inside librdkafka, which speaks the real protocol over TCP.

It keeps everything in memory, and forgets it with its process; it can be taken down and brought up again with what it
has, which breaks every connection and refuses new ones. It neither makes topics when asked to, nor leaves out what an
idempotent producer sends again.
"""

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka

from mainstay.delivery.kafka import KafkaBus

TOPIC = "ledger"
PARTITIONS = 3
GROUPS = ("plain", "inbox")
_PRODUCER = 0
_BROKER = 1


def _library() -> ctypes.CDLL:
    """The library that the client itself uses: its wheel carries it, elsewhere the system does."""
    beside = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    carried = sorted(beside.glob("librdkafka*"))
    found = ctypes.CDLL(str(carried[0]) if carried else "librdkafka.so.1")
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in [
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
        ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", number, [pointer, ctypes.c_int32]),
    ]:
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found


class MockKafka:
    """A cluster of one broker, on a port of 127.0.0.1."""

    def __init__(self) -> None:
        self._library = _library()
        settings = self._library.rd_kafka_conf_new()
        said = ctypes.create_string_buffer(512)
        self._library.rd_kafka_conf_set(settings, b"log_level", b"2", said, 512)
        self._handle = self._library.rd_kafka_new(_PRODUCER, settings, said, 512)
        assert self._handle, said.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.servers: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def make(self, topic: str, partitions: int) -> None:
        """Make a topic."""
        assert self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1) == 0

    def stop(self) -> None:
        """Break every connection, and refuse new ones; what was published stays."""
        assert self._library.rd_kafka_mock_broker_set_down(self._cluster, _BROKER) == 0

    def start(self) -> None:
        """Answer again."""
        assert self._library.rd_kafka_mock_broker_set_up(self._cluster, _BROKER) == 0

    def close(self) -> None:
        """Forget everything."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)


class MockedKafkaBus(KafkaBus):
    """The bus, whose topics are made beside the protocol."""

    def __init__(self, mock: MockKafka, *arguments: Any, **settings: Any) -> None:
        super().__init__(mock.servers, *arguments, **settings)
        self._mock = mock

    def make(self, topic: str, partitions: int) -> None:
        """Make a topic."""
        self._mock.make(topic, partitions)


class KafkaBroker:
    """The mock cluster as a broker that goes away and comes back; however it goes, it has what it had."""

    def __init__(self, _: Path) -> None:
        self._mock = MockKafka()
        self._mock.make(TOPIC, PARTITIONS)
        for group in GROUPS:
            self._mock.make(f"{TOPIC}.{group}.dead", 1)
        self._is_down = False

    @property
    def place(self) -> dict[str, Any]:
        return {"kind": "kafka", "servers": self._mock.servers}

    def start(self) -> None:
        """Answer."""
        if self._is_down:
            self._mock.start()
        self._is_down = False

    def stop(self, *, hard: bool = False) -> None:
        """Break every connection, and refuse new ones."""
        if not self._is_down:
            self._mock.stop()
        self._is_down = True

    def stored(self) -> int | None:
        """The mock stores again what an idempotent producer sends again."""
        return None
