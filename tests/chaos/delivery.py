"""Delivery under a storm: relays are killed, a broker is restarted, and nobody may miss an event.

``python -m tests.chaos.delivery [--broker NAME] [--events N]`` is the long form. Writers append to many streams while
two relays publish, and two processes take messages in, each for two groups: one writes what it is given, one behind an
inbox. On the way relays and a process of consumers are killed, and the broker is stopped and killed. Then each group is
held against the log.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import psycopg

from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId
from mainstay.storage.postgres.database import open_pool
from mainstay.storage.postgres.embedded import EmbeddedServer
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.inbox import PostgresInbox
from tests.chaos.delivery_process import GROUPS
from tests.support.brokers import BROKERS, Broker, open_bus
from tests.support.ledger import Entered
from tests.support.servers import Server, reachable_directory
from tests.support.waiting import eventually_sync

Step = tuple[float, Callable[[], None]]
"""What is done when so many events were delivered."""

ROOT = Path(__file__).parents[2]
AT_ONCE = 10
"""Events in one append."""
TABLE = """
    create table taken (
        number bigint generated always as identity primary key,
        taker text not null, event_id uuid not null, stream text not null, version int not null)
"""
COUNT = "select count(distinct event_id) from taken where taker = %s"
ROWS = "select taker, count(*) from taken group by taker"
LOOKED_EVERY = 0.5
"""Seconds between two looks at how far it is."""
FIRSTS = """
    select stream, version, row_number() over (partition by stream order by min(number))
    from taken where taker = %s group by event_id, stream, version
"""


@dataclass(frozen=True)
class Given:
    """What one group was given."""

    group: str
    lost: int
    doubled: int
    out_of_order: int


@dataclass(frozen=True)
class Storm:
    """What came of it."""

    broker: str
    events: int
    seconds: float
    killed: int
    restarted: int
    stored_twice: int | None
    groups: list[Given]

    @property
    def holds(self) -> bool:
        return all((each.lost, each.out_of_order) == (0, 0) for each in self.groups) and all(
            each.doubled == 0 for each in self.groups if each.group == "inbox"
        )


class Crew:
    """Processes of one part."""

    def __init__(self, stack: ExitStack, part: str, dsn: str, place: dict[str, Any], size: int) -> None:
        self._argument = json.dumps({"part": part, "dsn": dsn, "place": place})
        self._processes: list[subprocess.Popen[bytes]] = []
        stack.callback(self._end)
        for _ in range(size):
            self._start()
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"

    def _start(self) -> None:
        command = [sys.executable, "-m", "tests.chaos.delivery_process", self._argument]
        self._processes.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))

    def kill_one(self) -> None:
        """Kill a process, and start another one in its place."""
        self._kill(self._processes.pop(0))
        self._start()

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.communicate()

    def _end(self) -> None:
        for process in self._processes:
            self._kill(process)


def storm(
    dsn: str,
    broker: Broker,
    *,
    name: str,
    events: int,
    streams: int = 50,
    kills: int = 5,
    restarts: int = 2,
    consuming: int = 2,
    patience: float = 120.0,
    counted: Callable[[int], None] = lambda _: None,
) -> Storm:
    """Let it rage until so many events were delivered; fails if nothing moves for so many seconds (patience)."""
    began = time.monotonic()
    with ExitStack() as stack:
        conn = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        conn.execute(TABLE)
        asyncio.run(_prepare(dsn, broker.place))
        relays = Crew(stack, "relay", dsn, broker.place, 2)
        consumers = Crew(stack, "consume", dsn, broker.place, consuming)
        steps = _killing(events, kills, relays) + _restarting(events, restarts, broker)
        if consuming > 1:
            steps.append((0.9 * events, consumers.kill_one))
        steps.sort(key=lambda step: step[0])
        writing = stack.enter_context(_Writing(dsn, events, streams))

        progress = _Progress(conn)
        moved = time.monotonic()
        while not progress.reached(events):
            due = time.monotonic() + LOOKED_EVERY
            eventually_sync(lambda due=due: time.monotonic() >= due, what="the next look")
            if progress.has_moved():
                moved = time.monotonic()
                counted(progress.least)
            assert time.monotonic() < moved + patience, f"nothing moves at {progress.least}"
            while steps and progress.least >= steps[0][0]:
                steps.pop(0)[1]()
        writing.join()
        seconds = time.monotonic() - began
        stored = broker.stored()
        groups = [_held_against_the_log(conn, group) for group in GROUPS]
        twice = None if stored is None else stored - events
        return Storm(name, events, seconds, kills + (consuming > 1), restarts, twice, groups)


class _Progress:
    """How many rows each group has written; what comes twice is in it until the end."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn
        self._rows = dict.fromkeys(GROUPS, 0)

    @property
    def least(self) -> int:
        return min(self._rows.values())

    def has_moved(self) -> bool:
        before = dict(self._rows)
        self._rows.update(self._conn.execute(ROWS).fetchall())
        return self._rows != before

    def reached(self, events: int) -> bool:
        return self.least >= events and all(
            self._conn.execute(COUNT, [group]).fetchall() == [(events,)] for group in GROUPS
        )


def _killing(events: int, kills: int, relays: Crew) -> list[Step]:
    return [(events * (at + 1) / (kills + 1), relays.kill_one) for at in range(kills)]


def _restarting(events: int, restarts: int, broker: Broker) -> list[Step]:
    """By turns after a crash and after an orderly end."""

    def restart(*, hard: bool) -> None:
        broker.stop(hard=hard)
        broker.start()

    return [(events * (at + 0.7) / (restarts + 1), partial(restart, hard=at % 2 == 0)) for at in range(restarts)]


class _Writing:
    """Appends all events, in a process beside the storm."""

    def __init__(self, dsn: str, events: int, streams: int) -> None:
        argument = json.dumps({"dsn": dsn, "events": events, "streams": streams})
        command = [sys.executable, "-m", "tests.chaos.delivery", "--write", argument]
        self._process = subprocess.Popen(command, cwd=ROOT)

    def join(self) -> None:
        assert self._process.wait() == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


async def _write(dsn: str, events: int, streams: int) -> None:
    async with open_pool(dsn, min_size=1, max_size=4) as pool:
        store = EventStore(PostgresEventLog(pool))
        left = iter(range(0, events, AT_ONCE))

        async def write() -> None:
            for first in left:
                some = [Entered(amount=number) for number in range(first, min(first + AT_ONCE, events))]
                await store.append(StreamId("Ledger", str(first // AT_ONCE % streams)), some)

        await asyncio.gather(*(write() for _ in range(4)))


async def _prepare(dsn: str, place: dict[str, Any]) -> None:
    async with open_pool(dsn, min_size=1) as pool, open_bus(place) as bus:
        await PostgresInbox(pool, "inbox").prepare()
        for group in GROUPS:
            await bus.declare(group)


def _held_against_the_log(conn: psycopg.Connection[Any], group: str) -> Given:
    ((written,),) = conn.execute("select count(*) from eventsource.event").fetchall()
    ((known, rows),) = conn.execute(
        "select count(distinct t.event_id), count(*) from taken as t join eventsource.event using (event_id) "
        "where taker = %s",
        [group],
    ).fetchall()
    firsts = conn.execute(FIRSTS, [group]).fetchall()
    return Given(group, written - known, rows - known, sum(version != place for _, version, place in firsts))


def show(result: Storm) -> None:
    print(
        f"{result.broker}: {result.events:,} events in {result.seconds:.0f} s; {result.killed} processes killed, the "
        f"broker restarted {result.restarted} time(s); stored twice: {result.stored_twice}"
    )
    for each in result.groups:
        print(f"group {each.group}: {each.lost:,} lost, {each.doubled:,} doubled, {each.out_of_order:,} out of order")


def long_storm(name: str, events: int) -> Storm:
    """The long form, on servers of its own."""
    with ExitStack() as stack:
        directory = stack.enter_context(reachable_directory())
        embedded = stack.enter_context(EmbeddedServer(directory / "data", port=0, durable=False))
        server = Server("18", embedded.dsn("postgres"), is_ours=True)
        database = stack.enter_context(server.database())
        home = directory / "broker"
        home.mkdir()
        broker = BROKERS[name](home)
        stack.callback(broker.stop, hard=True)
        broker.start()
        tenths = 0

        def counted(found: int) -> None:
            nonlocal tenths
            if 10 * found // events > tenths:
                tenths = 10 * found // events
                print(f"{found:,} events", flush=True)

        return storm(server.dsn(database), broker, name=name, events=events, counted=counted)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.delivery", description="Delivery under a storm.")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--broker", choices=sorted(BROKERS), default="redis")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        asyncio.run(_write(**json.loads(given.write)))
        return 0
    result = long_storm(given.broker, given.events)
    show(result)
    return 0 if result.holds else 1


if __name__ == "__main__":
    sys.exit(main())
