"""A bus on Redis Streams: the extra ``mainstay[redis]``. It needs Redis 7.0 or newer.

What there is in Redis, for a topic ``t``. All names share a hash tag, so that a cluster keeps a topic in one slot::

    mainstay:{t}                 hash    partitions: how many
    mainstay:{t}:N               stream  the messages of partition N; group G reads it as a consumer group G
    mainstay:{t}:sent            hash    how far each sender has come: "position id"
    mainstay:{t}:members:G       zset    the members of group G, by when their leases end
    mainstay:{t}:held:G:N        string  who holds partition N for group G; gone when the lease ends
    mainstay:{t}:dead:G          stream  dead letters of group G
    mainstay:{t}:unreadable:G    stream  what somebody else wrote there, and is no message

What it promises beyond `mainstay.delivery.bus`. What is published goes into the streams with the mark of its sender in
one step (``lua/publish.lua``), so nothing is stored twice, whoever was killed. A partition is read, acknowledged and
laid apart by scripts that look at the lease first: one who stalled beyond its lease gets nothing and changes nothing.
All consumers of a group read under one name, so what a dead one had in its hand is simply what its successor reads
first.

How safe a message is, Redis is told by its configuration: with ``appendonly yes`` and ``appendfsync always`` what was
confirmed outlives a crash of the machine; with ``everysec`` a crash of the process, but for a moment; without an
append-only file nothing outlives a restart. `RedisBus` says so in the log when it finds that. If messages are lost all
the same, their sender finds out (`BusForgotError`).

What it locks. Nothing for longer than a script runs: Redis runs one at a time.

How it fails. If the way to Redis breaks, a membership ends, and the consumer joins again; until its lease has ended,
the partitions wait for it, or for another.
"""

import asyncio
import math
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Self
from uuid import UUID

import orjson

from mainstay.delivery.bus import (
    Delivery,
    Sender,
    Sent,
    Start,
    checked_group,
    checked_partitions,
    checked_start,
    checked_topic,
    unsent,
)
from mainstay.delivery.message import Message, partition_of
from mainstay.errors import (
    BusUnavailableError,
    ConfigurationError,
    MissingDependencyError,
    PartitionLostError,
    shown,
)
from mainstay.message import worker_name
from mainstay.retry import as_seconds
from mainstay.service import cancel
from mainstay.telemetry import get_logger

try:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError, ResponseError
except ImportError as _error:
    raise MissingDependencyError("RedisBus needs the driver of Redis: pip install 'mainstay[redis]'") from _error

log = get_logger(__name__)

_CHUNK = 1_000
"""Messages that one script stores: Redis does nothing else meanwhile."""
_HOLDER = "holder"
_SHORTEST_LEASE = 1.0
_TENDED_EVERY = 1.0
_TRIMMED_EVERY = 60.0
_MILLISECONDS = 1_000
_URL = re.compile(r"(rediss?|unix)://")


class RedisBus:
    """A topic on Redis Streams.

    ::

        async with RedisBus("redis://localhost:6379", "orders", partitions=4) as bus:
            ...

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py takes it.
        topic: Its name.
        partitions: Into how many parts it is dealt out; stays as it is while the topic is there.
        lease: Time (or seconds) after which the partitions of a consumer that died go to another; at least 1 s.
        timeout: Time (or seconds) after which a Redis that does not answer is taken to be away.
        keep: Time (or seconds) that messages are kept at least; those that are older, and that every group has
            acknowledged, are removed while somebody consumes. None keeps everything; see `trim`.

    Raises:
        MissingDependencyError: redis-py is not installed; raised when this module is imported.
        InvalidInputError: Not a name.
        ConfigurationError: Not a URL, or a value out of range.
    """

    deduplicates = True

    def __init__(
        self,
        url: str,
        topic: str = "events",
        *,
        partitions: int = 1,
        lease: timedelta | float = 10.0,
        timeout: timedelta | float = 5.0,
        keep: timedelta | float | None = None,
    ) -> None:
        if not isinstance(url, str) or not _URL.match(url):
            raise ConfigurationError(f"a URL of Redis begins with redis://, rediss:// or unix://, not {shown(url)}")
        self.topic = checked_topic(topic)
        self.partitions = checked_partitions(partitions)
        self.lease = as_seconds(lease)
        if self.lease < _SHORTEST_LEASE:
            raise ConfigurationError(f"lease must be at least {_SHORTEST_LEASE:g} s, not {shown(lease)}")
        self.timeout = as_seconds(timeout)
        self.keep = None if keep is None else as_seconds(keep)
        self._url = url
        self._client: Redis | None = None
        self._marks: dict[str, str] = {}
        self._name = f"mainstay:{{{topic}}}"

    # -- the way to Redis ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Reach Redis, and make the topic; does nothing if it is open.

        Raises:
            BusUnavailableError: Redis is away.
            ConfigurationError: The topic has another number of partitions.
        """
        if self._client is not None:
            return self
        client = Redis.from_url(
            self._url,
            socket_timeout=self.timeout,
            socket_connect_timeout=self.timeout,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            with self.reaching():
                await self._make(client)
                await self._warn(client)
        except BaseException:
            await client.aclose()
            raise
        self._client = client
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections; does nothing if they are closed."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _make(self, client: Redis) -> None:
        await client.hsetnx(self._name, "partitions", str(self.partitions))
        found = int(await client.hget(self._name, "partitions") or 0)
        if found != self.partitions:
            message = f"topic {self.topic} has {found} partitions, not {self.partitions}: open it with {found}"
            raise ConfigurationError(message)

    async def _warn(self, client: Redis) -> None:
        """Say in the log what this Redis may lose."""
        with suppress(ResponseError):  # not everybody may ask
            said = await client.info("persistence") | await client.info("memory")
            if not said.get("aof_enabled"):
                log.warning("Redis keeps no append-only file: messages of topic %s are lost if it restarts", self.topic)
            if str(said.get("maxmemory_policy", "")).startswith("allkeys"):
                message = "Redis may evict topic %s: its maxmemory-policy is %s"
                log.warning(message, self.topic, said["maxmemory_policy"])

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """What Redis, or the way to it, raises inside the block is a `BusUnavailableError`."""
        try:
            yield
        except (RedisError, OSError, EOFError) as error:
            raise BusUnavailableError(f"Redis, for topic {self.topic}: {type(error).__name__}: {error}") from error

    @property
    def client(self) -> Redis:
        """The connections.

        Raises:
            BusUnavailableError: They are closed.
        """
        if self._client is None:
            raise BusUnavailableError(f"topic {self.topic} is closed: open it with 'async with bus'")
        return self._client

    def key(self, *parts: object) -> str:
        """The name of something of this topic."""
        return ":".join([self._name, *map(str, parts)])

    async def run(self, script: str, keys: Sequence[str], *arguments: Any) -> Any:
        """What a script of ``lua/`` gives.

        Raises:
            BusUnavailableError: Redis is away, or refuses.
        """
        with self.reaching():
            return await self.client.register_script(_lua(script))(list(keys), list(arguments))

    # -- publishing ----------------------------------------------------------------------------------------------------

    async def publish(self, messages: Sequence[Message], *, sender: Sender | None = None) -> None:
        """As `Bus.publish` says; at most 1,000 messages in one step."""
        for first in range(0, len(messages), _CHUNK):
            await self._publish(messages[first : first + _CHUNK], sender)

    async def _publish(self, messages: Sequence[Message], sender: Sender | None) -> None:
        keys = [self.key("sent"), *(self.key(number) for number in range(self.partitions))]
        if sender is None:
            await self.run("publish", keys, "", "", "", *self._fields(messages))
            return
        name = sender.name
        if name not in self._marks:
            with self.reaching():
                self._marks[name] = _text(await self.client.hget(keys[0], name) or b"")
        while True:
            believed = self._marks[name]
            new = await unsent(self.topic, _sent(believed), sender, messages)
            if not new:
                return
            mark = f"{new[-1].position} {new[-1].id}"
            try:
                found = await self.run("publish", keys, name, believed, mark, *self._fields(new))
            except BusUnavailableError:
                del self._marks[name]  # it may be stored, or not
                raise
            self._marks[name] = mark if found is None else found.decode()
            if found is None:
                return

    def _fields(self, messages: Sequence[Message]) -> Iterator[Any]:
        for message in messages:
            yield partition_of(message.stream, self.partitions)
            yield from _written(message).values()

    # -- groups --------------------------------------------------------------------------------------------------------

    async def declare(self, group: str, *, start: Start = "beginning") -> None:
        """As `Bus.declare` says."""
        at = "0" if checked_start(start) == "beginning" else "$"
        for number in range(self.partitions):
            await self._create(self.key(number), checked_group(group), at)

    async def _create(self, stream: str, group: str, at: str) -> None:
        with self.reaching():
            try:
                await self.client.xgroup_create(stream, group, at, mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    @asynccontextmanager
    async def join(self, group: str, *, start: Start = "beginning") -> AsyncIterator["_Member"]:
        """As `Bus.join` says; members hold about as many partitions each."""
        await self.declare(group, start=start)
        member = _Member(self, group)
        tending = asyncio.create_task(member.tend(), name=f"{group} at {self.topic}")
        try:
            yield member
        finally:
            await cancel(tending)
            with suppress(BusUnavailableError):  # the leases end by themselves
                await self.run("leave", member.leases, member.name, self.key("members", group))

    @asynccontextmanager
    async def dead_letters(self, group: str) -> AsyncIterator["_Partition"]:
        """As `Bus.dead_letters` says."""
        stream, lease = self.key("dead", checked_group(group)), self.key("held", group, "dead")
        await self._create(stream, group, "0")
        name = worker_name()
        with self.reaching():
            if not await self.client.set(lease, name, nx=True, px=math.ceil(self.lease * _MILLISECONDS)):
                raise PartitionLostError(None)
        letters = _Partition(self, group, name, 0, stream=stream, lease=lease, is_removed=True)
        renewing = asyncio.create_task(self._renew(lease))
        try:
            yield letters
        finally:
            await cancel(renewing)
            with suppress(BusUnavailableError):
                await self.run("leave", [lease], name, "")

    async def _renew(self, lease: str) -> None:
        while True:
            await asyncio.sleep(self.lease / 3)
            with suppress(BusUnavailableError), self.reaching():
                await self.client.pexpire(lease, math.ceil(self.lease * _MILLISECONDS))

    async def trim(self, *, older_than: timedelta | float) -> int:
        """Remove messages that every group has acknowledged; gives how many.

        A group that is declared later, from the beginning, does not see them.

        Args:
            older_than: Time (or seconds) since they were published, by the clock of Redis.
        """
        with self.reaching():
            seconds, _ = await self.client.time()
        before = max(0, math.floor((seconds - as_seconds(older_than)) * _MILLISECONDS))
        return sum([await self.run("trim", [self.key(number)], f"{before}-0") for number in range(self.partitions)])


@cache
def _lua(script: str) -> str:
    return (files("mainstay.delivery") / "lua" / f"{script}.lua").read_text(encoding="utf-8")


def _written(message: Message) -> dict[str, Any]:
    return {
        "id": str(message.id),
        "stream": message.stream,
        "version": message.version,
        "position": message.position,
        "type": message.type,
        "payload": message.payload,
        "headers": orjson.dumps(dict(message.headers)),
    }


def _read(entry: Sequence[bytes]) -> Message:
    found = {entry[at].decode(): entry[at + 1] for at in range(0, len(entry), 2)}
    return Message(
        UUID(found["id"].decode()),
        found["stream"].decode(),
        int(found["version"]),
        int(found["position"]),
        found["type"].decode(),
        found["payload"],
        orjson.loads(found["headers"]),
    )


def _text(answer: bytes | str) -> str:
    return answer if isinstance(answer, str) else answer.decode()


def _sent(mark: str) -> Sent | None:
    if not mark:
        return None
    position, written = mark.split(" ", 1)
    return Sent(int(position), UUID(written))


class _Member:
    """As `mainstay.delivery.bus.Member` says. `tend` runs beside it, and says what is ours."""

    def __init__(self, bus: RedisBus, group: str) -> None:
        self.name = f"{worker_name()}-{secrets.token_hex(4)}"
        self.leases = [bus.key("held", group, number) for number in range(bus.partitions)]
        self._bus = bus
        self._group = group
        self._held: dict[int, _Partition] = {}
        self._new: asyncio.Queue[_Partition | BusUnavailableError] = asyncio.Queue()
        self._trimmed_at = time.monotonic()

    async def claimed(self) -> "_Partition":
        found = await self._new.get()
        if isinstance(found, BusUnavailableError):
            raise found
        return found

    async def tend(self) -> None:
        """Keep our leases, take our share, and give back what is beyond it, until canceled."""
        lasts = math.ceil(self._bus.lease * _MILLISECONDS)
        members = self._bus.key("members", self._group)
        try:
            while True:
                share, mine = await self._bus.run("tend", [members, *self.leases], self.name, lasts)
                self._take(share, {number: holder.decode() for number, holder in mine})
                if self._bus.keep is not None and time.monotonic() >= self._trimmed_at + _TRIMMED_EVERY:
                    self._trimmed_at = time.monotonic()
                    await self._bus.trim(older_than=self._bus.keep)
                await asyncio.sleep(min(_TENDED_EVERY, self._bus.lease / 3))
        except BusUnavailableError as error:
            self._new.put_nowait(error)
        except Exception as error:
            log.exception("nobody tends the leases of group %s at %s any more", self._group, self._bus.topic)
            self._new.put_nowait(BusUnavailableError(f"{type(error).__name__}: {error}"))

    def _take(self, share: int, mine: dict[int, str]) -> None:
        for number, held in list(self._held.items()):
            if mine.get(number) != held.holder:
                del self._held[number]
        for number in sorted(mine.keys() - self._held.keys()):
            stream, lease = self._bus.key(number), self.leases[number]
            self._held[number] = _Partition(self._bus, self._group, mine[number], number, stream=stream, lease=lease)
            self._new.put_nowait(self._held[number])
        for number in sorted(self._held, reverse=True)[: max(0, len(self._held) - share)]:
            self._held[number].is_wanted = False


class _Partition:
    """As `mainstay.delivery.bus.Partition` says; dead letters are read likewise, and removed when acknowledged.

    What is in the group's hand is read first, from its beginning; then what is new. While there is nothing, a plain
    read waits for something: it takes nothing into anybody's hand, so it may be canceled, and need not hold the lease.
    """

    def __init__(
        self, bus: RedisBus, group: str, holder: str, number: int, *, stream: str, lease: str, is_removed: bool = False
    ) -> None:
        self.number = number
        self.holder = holder
        self.is_wanted = True
        """Whether it is within our share."""
        self._bus = bus
        self._group = group
        self._keys = [stream, lease]
        self._is_removed = is_removed
        self._after = "0-0"

    async def receive(self, most: int, *, timeout: float) -> Sequence[Delivery]:
        end = time.monotonic() + timeout
        while True:
            if not self.is_wanted:
                await self._give_back()
            entries, last = await self._entries(most)
            if entries:
                if deliveries := await self._deliveries(entries):
                    return deliveries
            elif self._after:
                self._after = ""
            elif self._is_removed or (left := end - time.monotonic()) <= 0:
                return []
            else:
                await self._something_after(last, left)

    async def _entries(self, most: int) -> tuple[list[Any], str]:
        answer = await self._bus.run("receive", self._keys, self.holder, self._group, most, self._after)
        if answer is None:
            raise PartitionLostError(self.number)
        return answer[0], answer[1].decode()

    async def _something_after(self, last: str, seconds: float) -> None:
        wait = max(1, math.ceil(min(seconds, 1.0, self._bus.timeout / 2) * _MILLISECONDS))
        with self._bus.reaching():
            await self._bus.client.xread({self._keys[0]: last}, count=1, block=wait)

    async def _deliveries(self, entries: list[Any]) -> list[Delivery]:
        """Messages of entries; what is none is laid apart, and what was removed is forgotten."""
        found = []
        is_again = bool(self._after)
        for number, entry in entries:
            if is_again:
                self._after = number.decode()
            try:
                found.append(Delivery(_read(entry), number, redelivered=is_again))
            except (KeyError, ValueError, TypeError) as error:
                log.exception("topic %s has an entry %s that is no message", self._bus.topic, number.decode())
                fields = [*(entry or []), "error", f"{type(error).__name__}: {error}"]
                await self._lay_apart(number, "unreadable", fields)
        return found

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        tags = [delivery.tag for delivery in deliveries]
        if not await self._bus.run("acknowledge", self._keys, self.holder, self._group, *tags):
            raise PartitionLostError(self.number)
        if self._is_removed and tags:
            with self._bus.reaching():
                await self._bus.client.xdel(self._keys[0], *tags)

    async def lay_apart(self, delivery: Delivery, error: BaseException, attempts: int) -> None:
        letter = _written(delivery.message.laid_apart(self._group, error, attempts))
        await self._lay_apart(delivery.tag, "dead", [part for field in letter.items() for part in field])

    async def _lay_apart(self, number: bytes, where: str, fields: Sequence[Any]) -> None:
        keys = [*self._keys, self._bus.key(where, self._group)]
        if not await self._bus.run("lay_apart", keys, self.holder, self._group, number, *fields):
            raise PartitionLostError(self.number)

    async def _give_back(self) -> None:
        """Let go of what is beyond our share: nothing of it is in our hand between two batches."""
        await self._bus.run("leave", self._keys[1:], self.holder, "")
        raise PartitionLostError(self.number)
