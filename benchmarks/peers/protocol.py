"""What every peer script about commands shares: the requests it answers and the way it reports.

A peer script runs in an environment of its own, so this module imports only the standard library. The script is
started with one JSON request as its argument and writes JSON, one object a line, to standard output:

========  ===================================================================================  ======================
op        does                                                                                 answers
========  ===================================================================================  ======================
install   creates the peer's schema and queue                                                  settings
send      sends ``count`` commands, one call each, from ``senders`` tasks at once              seconds
batch     sends ``count`` commands in calls of ``chunk``, ``delay`` seconds ahead if given,     seconds
          in turn to ``keys`` keys, or of deposits to ``accounts`` accounts, if given
pace      sends ``count`` commands one by one, about ``gap`` seconds apart                      sent, each with times
request   the same, waiting for the reply to each                                              took, of each
work      says ready, waits for "go", works until "stop", telling on the way what was handled  handled, starts, memory
          and, if asked to ``weigh``, how much memory it holds
========  ===================================================================================  ======================

Times are ``time.monotonic()``, which on one machine is one clock for all processes, so that a start seen by the worker
can be set against a call made by the sender.
"""

import asyncio
import itertools
import json
import logging
import os
import random
import resource
import sys
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

DOMAIN = "bench"
COMMAND_TYPE = "Measure"
LARGEST_BALANCE = 10**9
DEPOSIT = "Deposit"  # what an aggregate decides on: {"account_id", "amount", "number"}
Operation = Callable[[Any, dict[str, Any]], Awaitable[None]]
REPORT_EVERY = 0.01  # seconds between two lines of progress


def peak_memory() -> int:
    """The most memory this process ever held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage, it does not count the process that started this one
        found = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(found.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_now() -> int:
    """The memory this process holds, in bytes; where the system does not tell, the most it ever held."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else peak_memory()


def emit(**message: Any) -> None:
    """Write one line of the answer."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class Work:
    """One worker's order and its tally.

    Args:
        concurrency: How many commands may be in hand at once.
        handler: ``noop``, ``sync`` (a plain function), ``transactional`` (writes one row), ``reply`` (answers with the
            number), ``refuse`` (fails for good), ``decide`` (an account decides on a deposit, which is appended to its
            stream) or ``group`` (the same, many in one COMMIT).
        record: Whether to keep the time at which each command's handler started.
    """

    def __init__(self, concurrency: int, handler: str, *, record: bool) -> None:
        self.concurrency = concurrency
        self.handler = handler
        self.handled = 0
        self.starts: dict[int, float] = {}
        self._record = record
        self._lock = threading.Lock()

    def mark(self, number: int) -> None:
        """Count a command whose handler has started, on the event loop."""
        if self._record:
            self.starts.setdefault(number, time.monotonic())
        self.handled += 1

    def mark_in_thread(self, number: int) -> None:
        """Count a command whose handler has started, in a thread."""
        with self._lock:
            self.mark(number)


class Peer(ABC):
    """One library under measurement.

    Args:
        dsn: Where its own fresh database is.
    """

    distributions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    @abstractmethod
    async def install(self) -> str:
        """Create the schema and the queue; say with which settings the peer is run."""

    @abstractmethod
    async def open(self, connections: int) -> None:
        """Connect, with at most so many connections where the peer has a pool."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def send(self, number: int) -> None:
        """Send one command whose payload is ``{"number": number}``."""

    async def send_to_idle(self, number: int) -> None:
        """Send one command to a worker that waits, waking it up if `send` does not."""
        await self.send(number)

    async def request(self, number: int) -> None:
        """Send one command to a worker that waits and answers, and wait for the answer."""
        raise NotImplementedError(f"{type(self).__name__} has no way to wait for an answer")

    @abstractmethod
    async def send_batch(self, numbers: range, delay: float | None) -> None:
        """Send these commands in one call, ``delay`` seconds ahead of their time if given."""

    async def send_keyed(self, numbers: range, keys: int) -> None:
        """Send these commands in one call, in turn to so many keys, of each of which one is handled after another."""
        raise NotImplementedError(f"{type(self).__name__} keeps no order per key")

    async def send_deposits(self, numbers: range, accounts: int) -> None:
        """Send these deposits in one call, in turn to so many accounts."""
        raise NotImplementedError(f"{type(self).__name__} knows no aggregates")

    @abstractmethod
    async def work(self, work: Work) -> None:
        """Handle commands and never return."""


def deposit(number: int, accounts: int) -> dict[str, Any]:
    """What a deposit says."""
    return {"account_id": str(account_id(number % accounts)), "amount": 1, "number": number}


def account_id(number: int) -> uuid.UUID:
    """The id of an account."""
    return uuid.UUID(int=(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)


async def _send(peer: Peer, request: dict[str, Any]) -> None:
    count, senders = request["count"], request["senders"]
    await peer.open(senders)
    await peer.send_batch(range(-1, 0), None)  # the first call pays for plans and caches
    numbers = itertools.count()

    async def sender() -> None:
        while (number := next(numbers)) < count:
            await peer.send(number)

    begin = time.monotonic()
    await asyncio.gather(*(sender() for _ in range(senders)))
    emit(seconds=time.monotonic() - begin)


async def _batch(peer: Peer, request: dict[str, Any]) -> None:
    count, chunk = request["count"], request["chunk"]
    await peer.open(1)
    begin = time.monotonic()
    for start in range(0, count, chunk):
        numbers = range(start, min(count, start + chunk))
        if keys := request.get("keys"):
            await peer.send_keyed(numbers, keys)
        elif accounts := request.get("accounts"):
            await peer.send_deposits(numbers, accounts)
        else:
            await peer.send_batch(numbers, request.get("delay"))
    emit(seconds=time.monotonic() - begin)


async def _pace(peer: Peer, request: dict[str, Any]) -> None:
    await peer.open(1)
    sent = []
    for number in range(request["count"]):
        await asyncio.sleep(random.uniform(0.5, 1.5) * request["gap"])  # noqa: S311  # out of step with polling
        called = time.monotonic()
        await peer.send_to_idle(number)
        sent.append((number, called, time.monotonic()))
    emit(sent=sent)


async def _request(peer: Peer, request: dict[str, Any]) -> None:
    await peer.open(1)
    took = []
    for number in range(request["count"]):
        await asyncio.sleep(random.uniform(0.5, 1.5) * request["gap"])  # noqa: S311  # as in _pace
        called = time.monotonic()
        await peer.request(number)
        took.append(time.monotonic() - called)
    emit(took=took)


async def _work(peer: Peer, request: dict[str, Any]) -> None:
    await peer.open(request["connections"])
    work = Work(request["concurrency"], request["handler"], record=request["record"])
    loop = asyncio.get_running_loop()
    go, stop = asyncio.Event(), asyncio.Event()

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe({"go": go, "stop": stop}[line.strip()].set)
        loop.call_soon_threadsafe(stop.set)  # the harness is gone

    async def report() -> None:
        told = 0
        while True:
            await asyncio.sleep(REPORT_EVERY)
            if work.handled != told:
                told = work.handled
                emit(handled=told, **({"holds": memory_now()} if request.get("weigh") else {}))

    threading.Thread(target=listen, daemon=True).start()
    emit(ready=True)
    await go.wait()
    reporting = asyncio.create_task(report())
    working = asyncio.create_task(peer.work(work))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    reporting.cancel()
    if working.done():
        working.result()
        raise RuntimeError("the worker ended by itself")
    emit(
        handled=work.handled,
        starts=list(work.starts.items()),
        memory=peak_memory(),
        finished=True,
    )
    os._exit(0)  # all is measured and committed; some workers take seconds to stop


async def install(peer: Any, _request: dict[str, Any]) -> None:
    """Answer ``install``."""
    settings = await peer.install()
    emit(settings=settings, versions={name: version(name) for name in peer.distributions})


async def _answer(peer: Any, operations: Mapping[str, Operation], request: dict[str, Any]) -> None:
    try:
        await operations[request["op"]](peer, request)
    finally:
        await peer.close()


def serve(kind: Callable[[str], Any], operations: Mapping[str, Operation]) -> None:
    """Answer the request given as this script's only argument."""
    logging.disable(logging.INFO)  # what a user would see at the default level, no more
    request = json.loads(sys.argv[1])
    asyncio.run(_answer(kind(request["dsn"]), operations, request))


def main(kind: type[Peer]) -> None:
    """Answer a request about commands."""
    serve(
        kind,
        {
            "install": install,
            "send": _send,
            "batch": _batch,
            "pace": _pace,
            "request": _request,
            "work": _work,
        },
    )
