"""Processes with a subscription, made quickly: a process that has imported everything forks them.

`Ledger` writes one row for each event. `Watched` also tells, outside of any transaction, when it began with an event
and when it was done. `Picky` refuses one event, after it has written, and lays it apart. `Reacting` also sends two
commands for each event, and `Careless` sends them as one would without reactions. `Counting` is a process of each
stream, which notes every amount and sends a step for it.
"""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from pydantic import BaseModel

from mainstay.app import CommandBus
from mainstay.commands.process import Deadline, Step
from mainstay.events.handles import handles
from mainstay.events.store import EventStore
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.event_process import EventProcess, EventProcesses, on_event
from mainstay.projections.reaction import Reaction, ReactionContext
from mainstay.projections.subscription import SubscriptionManager
from mainstay.retry import RetryPolicy
from mainstay.storage.postgres.database import open_pool
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.support.ledger import Entered, Ledger

REFUSED = 1
"""The amount that `Picky` refuses."""
ONCE_MORE = RetryPolicy(max_attempts=2, backoff_schedule=[0.0])
SHORTEST = SubscriptionConfig(batch_size=2, poll=0.02, lease=1.0, retry_policy=ONCE_MORE)
SHARED = SubscriptionConfig(batch_size=5, poll=0.02, lease=1.0, shards=3)
VISITS = """
    create table visit (
        visit_no bigint generated always as identity primary key, pid int, stream text, amount int,
        began timestamptz default clock_timestamp(), ended timestamptz)
"""


class Watched(Ledger):
    name = "watched"

    def __init__(self, dsn: str) -> None:
        self._outside = psycopg.connect(dsn, autocommit=True)

    @handles(Entered)
    async def entered(self, event: Entered, conn: Any) -> None:
        began = self._outside.execute(
            "insert into visit (pid, stream, amount) values (%s, %s, %s) returning visit_no",
            [os.getpid(), str(event.aggregate_id), event.amount],
        ).fetchone()
        try:
            await conn.execute("select pg_sleep(0.005)")
            await super().entered(event, conn)
        finally:
            self._outside.execute("update visit set ended = clock_timestamp() where visit_no = %s", began)


class Picky(Ledger):
    name = "ledger"
    on_error = "dead_letter"

    @handles(Entered)
    async def entered(self, event: Entered, conn: Any) -> None:
        await super().entered(event, conn)
        if event.amount == REFUSED:
            raise ValueError("not this one")


class Reacting(Reaction):
    name = "ledger"

    @handles(Entered)
    async def entered(self, event: Entered, ctx: ReactionContext) -> None:
        await Ledger().entered(event, ctx.conn)
        await ctx.send("booking", "Book", {"amount": event.amount})
        await ctx.send("booking", "Tell", {"amount": event.amount}, name="tell")


class Careless(Ledger):
    name = "ledger"

    def __init__(self, bus: CommandBus) -> None:
        self._bus = bus

    @handles(Entered)
    async def entered(self, event: Entered, conn: Any) -> None:
        await super().entered(event, conn)
        for command_type in ("Book", "Tell"):
            await self._bus.send("booking", command_type, uuid4(), {"amount": event.amount})


class Counted(BaseModel):
    amounts: list[int] = []


class Counting(EventProcess[Counted]):
    process_type = "Counting"
    domain = "counting"
    state_class = Counted

    @on_event(Entered, begins=True)
    def entered(self, state: Counted, event: Entered) -> Any:
        state.amounts.append(event.amount)
        return [Step("booking", "Book", {"amount": event.amount}), Deadline("quiet", 3600)]


async def project(dsn: str, kind: str) -> None:
    async with open_pool(dsn, min_size=1, max_size=8) as pool:
        projection, config = {
            "ledger": (Ledger, SHORTEST),
            "picky": (Picky, SHORTEST),
            "watched": (lambda: Watched(dsn), SHARED),
            "reacting": (Reacting, SHORTEST),
            "counting": (lambda: EventProcesses(Counting(), name="ledger"), SHORTEST),
            "careless": (lambda: Careless(CommandBus(pool, use_notify=False)), SHORTEST),
        }[kind]
        manager = SubscriptionManager(EventStore(PostgresEventLog(pool)), PostgresProjectionStore(pool))
        await manager.subscribe(projection(), config)
        async with manager:
            await asyncio.Event().wait()


class Nursery:
    """Forks processes; all are gone when it is closed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._pids: list[int] = []

    def fork(self, dsn: str, kind: str) -> int:
        """A process with the subscription; its number."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"dsn": dsn, "kind": kind}) + "\n")
        self._process.stdin.flush()
        self._pids.append(int(self._process.stdout.readline()))
        return self._pids[-1]

    @contextmanager
    def projecting(self, dsn: str, kind: str = "ledger") -> Iterator[int]:
        """A process with the subscription, killed at the end of the block."""
        pid = self.fork(dsn, kind)
        try:
            yield pid
        finally:
            kill(pid)

    def close(self) -> None:
        for pid in self._pids:
            kill(pid)
        self._process.communicate()


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def thaw(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def main() -> None:
    """Fork a process for each line, and say its number."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nothing is left of those who were killed
    logging.disable(logging.CRITICAL)  # their connections are broken on purpose
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            asyncio.run(project(**json.loads(line)))
        print(pid, flush=True)


if __name__ == "__main__":
    main()
