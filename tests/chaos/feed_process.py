"""A process of the feed's storm: writers that append in all the ways there are, or a reader that reads on.

``python -m tests.chaos.feed_process PLAN``, with a `Part` as JSON. Ends on SIGTERM: a writer after what it is doing, a
reader when nothing is left, whereupon it compares what it has met with what is there and prints a `Seen` as JSON.
"""

import asyncio
import json
import logging
import signal
import sys
from array import array
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import psycopg

from mainstay.errors import StorageError
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.events.stream import StreamId
from mainstay.storage.postgres.events import PostgresEventLog
from tests.support.servers import open_pool

STREAMS = 64
APPLICATION = "feed-writer"
OPTIONS = {"application_name": APPLICATION, "options": "-c deadlock_timeout=50ms"}
TRUTH = "select e.position from eventsource.event as e order by e.position"
NAIVE = """
    select e.position, s.category, s.stream_id, s.tenant_id, e.version, e.payload::text
    from eventsource.event as e join eventsource.stream as s using (stream_no)
    where e.position > %s order by e.position limit %s
"""


@dataclass(frozen=True)
class Part:
    """What a process does: ``writers`` tasks that write, or, with none, one reader."""

    dsn: str
    seed: int
    writers: int = 0
    naive: bool = False
    longest_delay: float = 0.003

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Seen:
    """What a reader met, and what was wrong with it."""

    events: int
    resumed: int
    missed: int
    doubled: int
    stream_inverted: int
    cause_inverted: int


class OnPurposeError(Exception):
    """Rolls back."""


class Writer:
    """Appends 1 to 5 events at a time to streams that all writers share."""

    def __init__(self, log: PostgresEventLog, part: Part, seed: int) -> None:
        self._log = log
        self._chance = Random(seed)
        self._delay = part.longest_delay

    async def write(self) -> None:
        """One transaction."""
        chance = self._chance
        if chance.random() < 0.3:
            await self._append(None, await self._last_seen(None))
            return
        async with self._log.transaction() as tx:
            if chance.random() < 0.5:
                await tx.execute("select pg_current_xact_id()")
            await self._pause(tx)
            saw = await self._last_seen(tx)
            if chance.random() < 0.25:
                await tx.execute("savepoint here")
                await self._append(tx, saw)
                await self._pause(tx)
                await tx.execute("rollback to here" if chance.random() < 0.6 else "release here")
            await self._append(tx, saw)
            await self._pause(tx)
            if chance.random() < 0.22:  # of those in a transaction of their own, 15 % of all
                raise OnPurposeError

    async def _append(self, conn: Any, saw: int) -> None:
        streams = sorted(self._chance.sample(range(STREAMS), 2 if self._chance.random() < 0.1 else 1))
        await self._log.append(
            [
                StreamAppend(
                    StreamId("Feed", str(number)), tuple(self._event(saw) for _ in range(self._chance.randint(1, 5)))
                )
                for number in streams
            ],
            conn=conn,
        )

    def _event(self, saw: int) -> NewEvent:
        event_id = UUID(int=self._chance.getrandbits(128), version=4)
        return NewEvent(event_id, "Written", b'{"saw": %d}' % saw, datetime.now(UTC))

    async def _last_seen(self, conn: Any) -> int:
        """An event that was there before: what is appended now may have been caused by it."""
        question = "select coalesce(max(position), 0) from eventsource.event"
        if conn is None:
            async with self._log.pool.connection() as own:
                return await self._last_seen(own)
        ((position,),) = await (await conn.execute(question)).fetchall()
        return int(position)

    async def _pause(self, conn: Any) -> None:
        await conn.execute("select pg_sleep(%s)", [self._chance.random() * self._delay])


class Reader:
    """Reads on, and now and then goes on from where it was before."""

    def __init__(self, log: PostgresEventLog, part: Part) -> None:
        self._log = log
        self._chance = Random(part.seed)
        self._naive = part.naive
        self._positions, self._versions, self._streams, self._causes = array("q"), array("q"), array("q"), array("q")
        self._places = [(0, 0)]
        self._resumed = 0

    async def read(self) -> int:
        """One page; how many events it had."""
        after, count = self._places[-1]
        limit = self._chance.choice((1, 10, 100, 1000, 5000))
        for kept in (self._positions, self._versions, self._streams, self._causes):
            del kept[count:]
        if self._naive:
            after = await self._page_of_a_naive_reader(after, limit)
        else:
            page = await self._log.read_feed(after=after, limit=limit)
            for event in page.events:
                self._meet(event.position, str(event.stream.id), event.version, event.event.payload)
            after = page.position
        self._places.append((after, len(self._positions)))
        met = len(self._positions) - count
        if self._chance.random() < 0.02 and not self._naive:
            self._resumed += 1
            del self._places[-self._chance.randint(1, min(50, len(self._places) - 1)) :]
        elif len(self._places) > 1000:
            del self._places[1:500]
        return met

    async def _page_of_a_naive_reader(self, after: int, limit: int) -> int:
        async with self._log.pool.connection() as conn:
            rows = await (await conn.execute(NAIVE, [after, limit])).fetchall()
        for position, _, stream_id, _, version, payload in rows:
            self._meet(position, stream_id, version, payload)
        return int(rows[-1][0]) if rows else after

    def _meet(self, position: int, stream: str, version: int, payload: bytes | str) -> None:
        self._positions.append(position)
        self._streams.append(int(stream))
        self._versions.append(version)
        self._causes.append(json.loads(payload)["saw"])

    async def compare(self) -> Seen:
        """What was wrong with what was met."""
        async with self._log.pool.connection() as conn:
            truth = [position for (position,) in await (await conn.execute(TRUTH)).fetchall()]
        met = set(self._positions)
        last = [0] * STREAMS
        inverted = 0
        for stream, version in zip(self._streams, self._versions, strict=True):
            inverted += version != last[stream] + 1
            last[stream] = version
        before = cause_inverted = 0
        for position, cause in zip(self._positions, self._causes, strict=True):
            cause_inverted += cause >= position or position <= before
            before = position
        return Seen(
            len(self._positions),
            self._resumed,
            len(set(truth) - met),
            len(self._positions) - len(met) + len(met - set(truth)),
            inverted,
            cause_inverted,
        )


async def write(part: Part, stopping: asyncio.Event) -> None:
    async with open_pool(part.dsn, max_size=part.writers, kwargs=OPTIONS) as pool:
        log = PostgresEventLog(pool)

        async def work(seed: int) -> None:
            writer = Writer(log, part, seed)
            while not stopping.is_set():
                with suppress(OnPurposeError, StorageError, psycopg.Error):  # killed, or a deadlock
                    await writer.write()

        await asyncio.gather(*(work(part.seed * 1000 + number) for number in range(part.writers)))


async def read(part: Part, stopping: asyncio.Event) -> Seen:
    async with open_pool(part.dsn, max_size=2) as pool:
        reader = Reader(PostgresEventLog(pool), part)
        while True:
            last = stopping.is_set()
            met = 0
            with suppress(StorageError, psycopg.Error):
                met = await reader.read()
            if last and not met:
                return await reader.compare()
            if not met:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), 0.005)


async def main(part: Part) -> None:
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # its connections are killed on purpose
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    print("ready", flush=True)
    if part.writers:
        await write(part, stopping)
    else:
        print(json.dumps(asdict(await read(part, stopping))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Part(**json.loads(sys.argv[1]))))
