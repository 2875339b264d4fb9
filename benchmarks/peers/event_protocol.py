"""What every peer script about events shares: the requests it answers, as in ``protocol.py``, and the events.

=======  ====================================================================================  ========
op       does                                                                                  answers
=======  ====================================================================================  ========
install  creates the peer's schema                                                             settings
fill     appends ``events`` to each of ``streams``; of these, the last ``after_snapshot`` come  seconds
         after a snapshot, if that is not 0
append   ``writers`` at once make ``calls`` each, of ``size`` events, in a transaction with     seconds
         other work of ``work`` seconds if that is not 0
stream   reads ``streams``, of ``events`` each, into typed events                               seconds
feed     reads all ``events`` into typed events                                                seconds
project  adds up the quantities of all ``events``, in a row for each stream                    seconds
load     loads the first aggregate ``times`` times, with ``snapshots`` or without               seconds
=======  ====================================================================================  ========

An event says that an item was put into a cart: ``sku``, ``quantity`` (1), ``price`` (a decimal) and ``note``, about 120
bytes of JSON. A cart's state is how many items are in it, and their price. Other work in a transaction is ``pg_sleep``.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from decimal import Decimal
from typing import Any, ClassVar, TypedDict
from uuid import UUID

from protocol import emit, install, serve

IN_A_STREAM = 10  # appends, before a writer takes up another stream
WARM_UP = 10  # calls of each writer before the clock starts: connections, plans, caches
PAGE = 1_000  # events, for those who read the feed a page at a time
BATCH = 100  # events that are projected in one transaction, for those who have a choice
SNAPSHOT_EVERY = 1_000_000  # events: none is taken but where it is asked for
UPSERT = (
    "insert into total (stream, quantity) values ({}, {}) "
    "on conflict (stream) do update set quantity = total.quantity + excluded.quantity"
)
_LARGE_PART = 1_000


class Item(TypedDict):
    """What an event says."""

    sku: str
    quantity: int
    price: Decimal
    note: str


def item(number: int) -> Item:
    """The fields of an event."""
    return {
        "sku": f"sku-{number:06d}",
        "quantity": 1,
        "price": Decimal(number % 10_000) / 100,
        "note": "put into the cart by the customer, to be sent as a present",
    }


def stream_id(number: int) -> UUID:
    """The id of a stream."""
    return UUID(int=(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)


class EventPeer(ABC):
    """One library under measurement.

    Args:
        dsn: Where its own fresh database is.
    """

    distributions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    @abstractmethod
    async def install(self) -> str:
        """Create the schema; say with which settings the peer is run."""

    @abstractmethod
    async def open(self, connections: int) -> None:
        """Connect, with so many connections."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def append(self, stream: UUID, version: int, size: int, work: float) -> None:
        """Append so many events to a stream that has so many; with other work in the transaction, if it is not 0."""

    async def write(self, first: int, calls: int, size: int, writers: int, work: float) -> None:
        """Let writers append at once, each to streams of its own, numbered from ``first`` on."""

        async def writer(number: int) -> None:
            for stream, version in plan(first, number, calls, size):
                await self.append(stream, version, size, work)

        await asyncio.gather(*(writer(number) for number in range(writers)))

    @abstractmethod
    async def read_stream(self, stream: UUID) -> int:
        """Read a stream into typed events; how many."""

    @abstractmethod
    async def read_feed(self) -> int:
        """Read all events into typed events, in their one order; how many."""

    @abstractmethod
    async def project(self, events: int) -> None:
        """Run a subscription until it has added up the quantities of so many events."""

    @abstractmethod
    async def load(self, stream: UUID, *, snapshots: bool) -> int:
        """Load an aggregate; how many items are in it."""

    async def take_snapshot(self, stream: UUID) -> None:
        """Leave a snapshot of an aggregate as it is."""
        raise NotImplementedError(f"{type(self).__name__} has no snapshots")


def plan(first: int, writer: int, calls: int, size: int) -> list[tuple[UUID, int]]:
    """To which stream, and at which version of it, a writer's calls append."""
    base = first + writer * 1_000_000
    return [(stream_id(base + call // IN_A_STREAM), call % IN_A_STREAM * size) for call in range(calls)]


async def _fill(peer: EventPeer, request: dict[str, Any]) -> None:
    await peer.open(1)
    begin = time.monotonic()
    whole = request["events"]
    before = whole - request["after_snapshot"]
    for number in range(request["streams"]):
        stream = stream_id(number)
        for version in range(0, before, _LARGE_PART):
            await peer.append(stream, version, min(_LARGE_PART, before - version), 0.0)
        if before < whole:
            await peer.take_snapshot(stream)
            await peer.append(stream, before, whole - before, 0.0)
    emit(seconds=time.monotonic() - begin)


async def _append(peer: EventPeer, request: dict[str, Any]) -> None:
    size, writers, work = request["size"], request["writers"], request["work"]
    await peer.open(writers)
    await peer.write(-1_000_000_000, WARM_UP, size, writers, work)
    begin = time.monotonic()
    await peer.write(0, request["calls"], size, writers, work)
    emit(seconds=time.monotonic() - begin)


async def _stream(peer: EventPeer, request: dict[str, Any]) -> None:
    await peer.open(1)
    await peer.read_stream(stream_id(0))
    begin = time.monotonic()
    for number in range(request["streams"]):
        _expect(await peer.read_stream(stream_id(number)), request["events"])
    emit(seconds=time.monotonic() - begin)


async def _feed(peer: EventPeer, request: dict[str, Any]) -> None:
    await peer.open(1)
    await peer.read_stream(stream_id(0))
    begin = time.monotonic()
    _expect(await peer.read_feed(), request["events"])
    emit(seconds=time.monotonic() - begin)


async def _project(peer: EventPeer, request: dict[str, Any]) -> None:
    await peer.open(4)
    begin = time.monotonic()
    await peer.project(request["events"])
    emit(seconds=time.monotonic() - begin)


async def _load(peer: EventPeer, request: dict[str, Any]) -> None:
    await peer.open(1)
    stream, snapshots = stream_id(0), request["snapshots"]
    await peer.load(stream, snapshots=snapshots)
    begin = time.monotonic()
    for _ in range(request["times"]):
        _expect(await peer.load(stream, snapshots=snapshots), request["events"])
    emit(seconds=time.monotonic() - begin)


def _expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise RuntimeError(f"{found} instead of {wanted}")


def main(kind: type[EventPeer]) -> None:
    """Answer a request about events."""
    serve(
        kind,
        {
            "install": install,
            "fill": _fill,
            "append": _append,
            "stream": _stream,
            "feed": _feed,
            "project": _project,
            "load": _load,
        },
    )
