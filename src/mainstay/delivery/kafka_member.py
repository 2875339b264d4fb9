"""Members of Kafka's consumer groups; see `mainstay.delivery.kafka`."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self
from uuid import NAMESPACE_OID, UUID, uuid5

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from mainstay.delivery.bus import Delivery
from mainstay.delivery.message import Message
from mainstay.errors import BusUnavailableError, PartitionLostError
from mainstay.telemetry import get_logger

if TYPE_CHECKING:
    from mainstay.delivery.kafka import KafkaBus

log = get_logger(__name__)

_BUSY_TURN = 0.01
"""Seconds for which a member's thread waits for records while somebody may want to acknowledge."""
_IDLE_TURN = 0.1
_TRIED_AGAIN_AFTER = 0.1
_LARGEST_TURN = 500
_OURS = "mainstay-"
"""What the names of headers begin with that carry a message's own fields."""


class KafkaMember:
    """As `mainstay.delivery.bus.Member` says: a consumer, and the only thread that touches it."""

    def __init__(self, bus: "KafkaBus", group: str, topic: str, name: str) -> None:
        self.bus = bus
        self.group = group
        self.topic = topic
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._claimed: asyncio.Queue[KafkaPartition | None] = asyncio.Queue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._mine: dict[int, KafkaPartition] = {}
        self._is_leaving = False
        self._thread = threading.Thread(target=self._run, name=f"{name} at Kafka", daemon=True)

    async def __aenter__(self) -> Self:
        """Join."""
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave: what is ours is free at once."""
        self._is_leaving = True
        await asyncio.to_thread(self._thread.join)
        with suppress(BaseException):  # whoever asked was told
            self._ended.result()

    # -- asked from the event loop -------------------------------------------------------------------------------------

    async def claimed(self) -> "KafkaPartition":
        """As `mainstay.delivery.bus.Member.claimed` says."""
        while (partition := await self._next()) is None:
            pass
        return partition

    async def only(self) -> "KafkaPartition":
        """The partition of a topic that has one.

        Raises:
            PartitionLostError: Somebody else has it.
        """
        with self.bus.reaching():
            partition = await asyncio.wait_for(self._next(), self.bus.timeout)
        if partition is None:
            raise PartitionLostError(0)
        return partition

    async def _next(self) -> "KafkaPartition | None":
        """What is ours since the last look, or None: a rebalance gave us nothing."""
        claiming = asyncio.create_task(self._claimed.get())
        try:
            await _first_of(claiming, self._ended)
            if claiming.done():
                return claiming.result()
        finally:
            claiming.cancel()
        with self.bus.reaching():
            self._ended.result()
        raise BusUnavailableError("the member has left")

    async def commit(self, partition: "KafkaPartition", offset: int) -> None:
        """Commit that a partition is done up to an offset.

        A commit that meets a rebalance is refused although the partition stays ours (its generation is another), so no
        refusal says that it is lost: only a revocation does, and until then it is tried again.

        Raises:
            PartitionLostError: It is not ours any more.
            BusUnavailableError: It was refused for too long.
        """
        until = time.monotonic() + self.bus.timeout
        while True:
            error = await self._committed(partition, offset)
            if error is None:
                return
            if time.monotonic() > until or error.fatal():
                raise BusUnavailableError(f"Kafka: {error.str()}")
            await asyncio.sleep(_TRIED_AGAIN_AFTER)

    async def _committed(self, partition: "KafkaPartition", offset: int) -> KafkaError | None:
        told: Future[KafkaError | None] = Future()

        def job() -> None:
            if partition.is_gone:
                told.set_exception(PartitionLostError(partition.number))
                return
            try:
                self._consumer.commit(
                    offsets=[TopicPartition(self.topic, partition.number, offset)], asynchronous=False
                )
            except KafkaException as error:
                told.set_result(error.args[0])
            else:
                told.set_result(None)

        self._jobs.put(job)
        waiting = asyncio.wrap_future(told)
        await _first_of(waiting, self._ended)
        if not waiting.done():
            raise PartitionLostError(partition.number)
        return waiting.result()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            settings = self.bus.connecting() | self.bus.consuming(self._name)
            if self.topic != self.bus.topic:  # dead letters: nobody has said where they begin
                settings["auto.offset.reset"] = "earliest"
            self._consumer = Consumer(settings, logger=log)
            try:
                self._consumer.subscribe(
                    [self.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
                )
                while not self._is_leaving:
                    self._turn()
            finally:
                self._is_leaving = True
                self._consumer.close()
        except BaseException as error:  # noqa: BLE001  # told to whoever asks
            failure = error
        for partition in self._mine.values():
            self._tell(partition.lose)
        self._tell(self._end, failure)

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(what, *arguments)

    def _end(self, failure: BaseException | None) -> None:
        if failure is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(failure)

    def _turn(self) -> None:
        self._work()
        self._keep_pace()
        is_busy = any(partition.is_busy for partition in self._mine.values())
        first = self._consumer.poll(_BUSY_TURN if is_busy else _IDLE_TURN)
        if first is None:
            return
        came: dict[int, list[Record]] = {}
        for record in [first, *self._consumer.consume(_LARGEST_TURN, timeout=0)]:
            error = record.error()
            if error is None:
                came.setdefault(record.partition() or 0, []).append(record)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - so it is called
                self._begin_again(record.partition() or 0)
            elif error.fatal():
                raise KafkaException(error)
            else:
                log.info("group %s: %s", self.group, error.str())
        for number, records in came.items():
            partition = self._mine.get(number)
            if partition is not None:
                partition.given += len(records)
                self._tell(partition.take, records)

    def _begin_again(self, number: int) -> None:
        """What comes next is not at the broker any more: go on with the first that is."""
        message = (
            "group %s: what comes next in partition %d of %s is gone, by its retention; going on with what is left"
        )
        log.error(message, self.group, number, self.topic)
        self._consumer.incremental_unassign([TopicPartition(self.topic, number)])
        self._consumer.incremental_assign([TopicPartition(self.topic, number, OFFSET_BEGINNING)])

    def _work(self, seconds: float = 0) -> None:
        """Do what was asked for, and wait so long for the first one."""
        with suppress(Empty):
            job = self._jobs.get(timeout=seconds) if seconds else self._jobs.get_nowait()
            while True:
                job()
                job = self._jobs.get_nowait()

    def _keep_pace(self) -> None:
        """Fetch no more of a partition than is handled."""
        for number, partition in self._mine.items():
            waiting = partition.given - partition.handed_out
            if not partition.is_paused and waiting >= self.bus.prefetch:
                self._consumer.pause([TopicPartition(self.topic, number)])
                partition.is_paused = True
            elif partition.is_paused and waiting <= self.bus.prefetch // 2:
                self._consumer.resume([TopicPartition(self.topic, number)])
                partition.is_paused = False

    def _on_assign(self, _: Consumer, assigned: list[TopicPartition]) -> None:
        for each in assigned:
            partition = self._mine[each.partition] = KafkaPartition(self, each.partition)
            self._tell(self._claimed.put_nowait, partition)
        if not self._mine:
            self._tell(self._claimed.put_nowait, None)

    def _on_revoke(self, _: Consumer, revoked: list[TopicPartition]) -> None:
        """Wait until what was handed out is acknowledged; the rebalance waits with us, and heartbeats go on."""
        leaving = [self._mine.pop(each.partition) for each in revoked if each.partition in self._mine]
        if not self._is_leaving:
            for partition in leaving:
                self._tell(partition.give_up)
            until = time.monotonic() + self.bus.lease
            while not all(partition.is_gone for partition in leaving) and time.monotonic() < until:
                if self._is_leaving:
                    break
                self._work(_BUSY_TURN)
        for partition in leaving:
            partition.is_gone = True
            self._tell(partition.lose)

    def _on_lost(self, _: Consumer, lost: list[TopicPartition]) -> None:
        for each in lost:
            if (partition := self._mine.pop(each.partition, None)) is not None:
                partition.is_gone = True
                self._tell(partition.lose)


class KafkaPartition:
    """As `mainstay.delivery.bus.Partition` says. Used by the event loop, but for what `KafkaMember`'s thread counts."""

    def __init__(self, member: KafkaMember, number: int) -> None:
        self.number = number
        self.is_gone = False
        self.given = 0
        """Written by the thread, as is the next."""
        self.is_paused = False
        self.handed_out = 0
        """Read by the thread."""
        self._member = member
        self._is_wanted = True
        self._waiting: deque[Record] = deque()
        self._in_hand: deque[int] = deque()
        self._came = asyncio.Event()

    @property
    def is_busy(self) -> bool:
        """Whether somebody may be about to acknowledge something."""
        return bool(self._in_hand)

    def take(self, records: Sequence[Record]) -> None:
        """These came."""
        self._waiting.extend(records)
        self._came.set()

    def give_up(self) -> None:
        """It is to be another's, when what was handed out is acknowledged."""
        self._is_wanted = False
        self._came.set()
        self._settle()

    def lose(self) -> None:
        """It is another's."""
        self.is_gone = True
        self._came.set()

    def _settle(self) -> None:
        if not self._is_wanted and not self._in_hand:
            self.is_gone = True

    async def receive(self, most: int, *, timeout: float) -> Sequence[Delivery]:
        """As `mainstay.delivery.bus.Partition.receive` says."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._is_wanted and not self._waiting:
                    self._check()
                    self._came.clear()
                    await self._came.wait()
        self._settle()
        self._check()
        if not self._is_wanted:
            return []
        found = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._in_hand.extend(record.offset() or 0 for record in found)
        self.handed_out += len(found)
        return [Delivery(decoded(record), record.offset()) for record in found]

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """As `mainstay.delivery.bus.Partition.acknowledge` says."""
        self._check()
        if not deliveries:
            return
        await self._member.commit(self, self._in_hand[len(deliveries) - 1] + 1)
        for _ in deliveries:
            self._in_hand.popleft()
        self._settle()

    async def lay_apart(self, delivery: Delivery, error: BaseException, attempts: int) -> None:
        """As `mainstay.delivery.bus.Partition.lay_apart` says."""
        self._check()
        bus, group = self._member.bus, self._member.group
        await bus.keep(f"{bus.named(group)}.dead", delivery.message.laid_apart(group, error, attempts))
        await self.acknowledge([delivery])

    def _check(self) -> None:
        if self.is_gone:
            raise PartitionLostError(self.number)


async def _first_of(*futures: "asyncio.Future[Any]") -> None:
    """Wait until one of several is done, and cancel none."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def encoded(message: Message) -> tuple[bytes, bytes, list[tuple[str, str | bytes | None]]]:
    """A message as key, value and headers of a record."""
    own = {"id": message.id, "type": message.type, "version": message.version, "position": message.position}
    headers: list[tuple[str, str | bytes | None]] = [(_OURS + name, str(value).encode()) for name, value in own.items()]
    headers += [(name, value.encode()) for name, value in message.headers.items()]
    return message.stream.encode(), message.payload, headers


def decoded(record: Record) -> Message:
    """A message; what another program has published is taken as it is, with what can be told of it."""
    headers = {name: _text(value) for name, value in dict(record.headers() or ()).items()}
    own = {name: headers.pop(_OURS + name, "") for name in ("id", "type", "version", "position")}
    try:
        found = UUID(own["id"])
    except ValueError:
        found = uuid5(NAMESPACE_OID, f"{record.topic()}/{record.partition()}/{record.offset()}")
    version, position = _number(own["version"]), _number(own["position"])
    return Message(found, _text(record.key()), version, position, own["type"], _bytes(record.value()), headers)


def _number(value: str) -> int:
    return int(value) if value.isdecimal() else 0


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value or "").encode()
