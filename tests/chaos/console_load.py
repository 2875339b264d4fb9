"""What it costs that many look: streams open on pages that follow what happens, beside workers at full speed.

``python -m tests.chaos.console_load --viewers 50 --seconds 5`` prints it. The console is a process of its own. Its
processor time, and that of its connections to the server, are measured beside the rate of the worker, because the rate
alone says more about the machine. It falls by itself while the tables grow: so every other round begins with the
viewers, and what all rounds say together is what counts; ``--viewers 0`` shows how far that is to be believed. What
else the machine does is left out of the last figure: how many commands fewer the same processor time brings.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil

from mainstay import CommandBus, HandlerRegistry, SendRequest, Worker
from mainstay.storage.postgres.database import open_pool
from tests.support.cli import PROGRAM
from tests.support.console import VIEWER
from tests.support.servers import Servers
from tests.support.waiting import eventually

DOMAIN = "load"
PARTS = (
    "dashboard", "troubleshooting", "actions", "trail", "batches",
    "processes", "schedules", "limits", "events", "projections",
)  # fmt: skip
"""Those that are there without an id of something."""
CONNECTIONS = """
select pid from pg_stat_activity
where datname = current_database() and application_name = 'mainstay' and backend_type = 'client backend'
"""
ENOUGH = 20_000
CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stretch of time has cost.

    Args:
        rate: Commands a second.
        python: Seconds of processor time of the console's process in each second.
        server: The same of its connections' processes.
        work: The same of the worker, and of all else that the server does.
        bytes_read: What all viewers together were sent.
    """

    rate: float
    python: float
    server: float
    work: float
    bytes_read: int

    @property
    def yields(self) -> float:
        """Commands for each second of processor time, of the worker, the server and the console together."""
        return self.rate / (self.python + self.server + self.work)


@asynccontextmanager
async def console_process(dsn: str) -> AsyncIterator[tuple[str, psutil.Process]]:
    """The console as people start it."""
    environ = {**os.environ, "TOKENS": f"Vera:viewer:{VIEWER}"}
    command = [*PROGRAM, "console", "--dsn", dsn, "--port", "0", "--token-env", "TOKENS"]
    program = await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.PIPE, text=True, env=environ)
    try:
        assert program.stdout is not None
        told = await asyncio.to_thread(program.stdout.readline)
        found = re.search(r"http://\S+", told)
        assert found, told
        yield found[0], psutil.Process(program.pid)
    finally:
        program.terminate()
        program.communicate(timeout=30)


class Viewers:
    """Browsers that follow: each reads one stream, and begins again where it ends.

    Args:
        url: Of the console.
        many: How many there are.
    """

    def __init__(self, url: str, many: int) -> None:
        place = urlsplit(url)
        self._place = place.hostname, place.port
        self._many = many
        self.bytes_read = 0
        self.connected = 0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """All of them, once each has been answered, for the length of a block."""
        self.connected = 0
        tasks = [asyncio.create_task(self._watch(PARTS[number % len(PARTS)])) for number in range(self._many)]
        try:
            await eventually(lambda: self.connected >= self._many, what="all viewers are answered")
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, part: str) -> None:
        reader, writer = await asyncio.open_connection(*self._place)
        try:
            head = f"GET /live/{part} HTTP/1.1\r\nHost: console\r\nAuthorization: Bearer {VIEWER}\r\n\r\n"
            writer.write(head.encode())
            assert (await reader.readline()).split()[1] == b"200", part
            self.connected += 1
            while read := await reader.read(65_536):
                self.bytes_read += len(read)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


class Load:
    """A worker that always has something to do.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.handled = 0
        self._sent = 0

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """It works for the length of a block."""
        registry = HandlerRegistry()

        @registry.handler(DOMAIN, "Nothing")
        async def nothing(_command: Any, _context: Any) -> None:
            self.handled += 1

        bus, worker = CommandBus(self._pool), Worker(self._pool, DOMAIN, registry)
        await self._send(bus, ENOUGH)
        running = asyncio.create_task(worker.run(concurrency=50, poll_interval=0.1))
        feeding = asyncio.create_task(self._feed(bus))
        try:
            await eventually(lambda: self.handled > 100)
            yield
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await worker.stop()
            await running
            await bus.close()

    async def _feed(self, bus: CommandBus) -> None:
        while True:
            await eventually(lambda: self._sent - self.handled < ENOUGH - CHUNK, timeout=3_600)
            await self._send(bus, CHUNK)

    async def _send(self, bus: CommandBus, many: int) -> None:
        self._sent += many
        await bus.send_batch([SendRequest(DOMAIN, "Nothing", uuid4(), {}) for _ in range(many)])


def _processor_time(process: psutil.Process, otherwise: float = 0.0) -> float:
    """Seconds; what was known of it before, if it has ended, as sessions do that a pool needs no longer."""
    with suppress(psutil.NoSuchProcess):
        spent = process.cpu_times()
        return float(spent.user + spent.system)
    return otherwise


async def _measured(
    load: Load, console: list[psutil.Process], work: list[psutil.Process], viewers: Viewers, seconds: float
) -> Cost:
    began, handled, read = time.monotonic(), load.handled, viewers.bytes_read
    all_of_them = [*console, *work]
    spent = [_processor_time(each) for each in all_of_them]
    await eventually(lambda: time.monotonic() - began >= seconds, timeout=seconds + 60)
    took = time.monotonic() - began
    each_took = [
        (_processor_time(each, before) - before) / took for each, before in zip(all_of_them, spent, strict=True)
    ]
    python, *server = each_took[: len(console)]
    rate, shown = (load.handled - handled) / took, viewers.bytes_read - read
    return Cost(rate, python, sum(server), sum(each_took[len(console) :]), shown)


async def measure(dsn: str, *, viewers: int, seconds: float, rounds: int) -> list[tuple[Cost, Cost]]:
    """What each round cost, without viewers and with them; every other round is measured in the other order."""
    found = []
    async with open_pool(dsn, max_size=8) as pool, console_process(dsn) as (url, process):
        load, who = Load(pool), Viewers(url, viewers)

        async def measured() -> Cost:
            async with pool.connection() as conn:
                server = psutil.Process(conn.info.backend_pid).parent()
                pids = {pid for (pid,) in await (await conn.execute(CONNECTIONS)).fetchall()}
            assert server is not None
            sessions = server.children()
            behind = [process, *(each for each in sessions if each.pid in pids)]
            work = [psutil.Process(), *(each for each in sessions if each.pid not in pids)]
            return await _measured(load, behind, work, who, seconds)

        async def watched() -> Cost:
            async with who.watching():
                return await measured()

        async with load.working():
            for number in range(rounds):
                if number % 2:
                    with_them = await watched()
                    found.append((await measured(), with_them))
                else:
                    found.append((await measured(), await watched()))
    return found


def told(alone: Cost, watched: Cost, viewers: int) -> str:
    """What viewers cost, in a line."""
    return (
        f"{alone.rate:8,.0f} commands/s without, {watched.rate:8,.0f} with {viewers} viewers "
        f"({100 * (watched.rate / alone.rate - 1):+.0f} %); the console takes {100 * watched.python:.1f} % of a "
        f"processor, its connections {100 * watched.server:.1f} %; the same processor time brings "
        f"{100 * (watched.yields / alone.yields - 1):+.0f} %; {watched.bytes_read / 1_000:,.0f} kB"
    )


def together(costs: list[Cost]) -> Cost:
    """What several stretches of the same length cost on the average."""
    many = len(costs)
    return Cost(
        sum(each.rate for each in costs) / many,
        sum(each.python for each in costs) / many,
        sum(each.server for each in costs) / many,
        sum(each.work for each in costs) / many,
        sum(each.bytes_read for each in costs) // many,
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.console_load", description=__doc__)
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    servers = Servers()
    try:
        server = servers.get("18")
        with server.database() as name:
            asked = {"viewers": given.viewers, "seconds": given.seconds, "rounds": given.rounds}
            found = asyncio.run(measure(server.dsn(name), **asked))
        for alone, watched in found:
            print(told(alone, watched, given.viewers))
        print("together:")
        print(told(together([each for each, _ in found]), together([each for _, each in found]), given.viewers))
    finally:
        servers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
