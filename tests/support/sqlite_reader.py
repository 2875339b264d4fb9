"""A process with a subscription on a SQLite file.

``python -m tests.support.sqlite_reader PATH SHARDS [WHEN NTH STATEMENT]``

It says ``reading``, and goes on until it is killed. With WHEN (``before``, ``after``) it kills itself around the NTH
statement that begins so, in the thread that executes it: nothing of ours gets to clean up. With ``frozen`` it stops
there, with all that it holds, until it gets a SIGCONT.
"""

import asyncio
import os
import signal
import sqlite3
import sys
from functools import partial
from itertools import count

from mainstay import (
    DatabaseProjection,
    DomainEvent,
    SQLiteEventStore,
    SubscriptionConfig,
    SubscriptionManager,
    handles,
)


def config(shards: int = 1) -> SubscriptionConfig:
    return SubscriptionConfig(batch_size=10, poll=0.05, lease=1.0, shards=shards)


class Paid(DomainEvent, aggregate_type="TestPayer", event_type="TestPaidOnSQLite"):
    amount: int


class Seen(DatabaseProjection):
    """One row for each event that was handled: what happened twice is there twice."""

    @handles(Paid)
    async def paid(self, event, conn):
        row = (str(event.aggregate_id), event.amount, os.getpid())
        await conn.execute("insert into seen (account, amount, process) values (?, ?, ?)", row)


def deadly(when: str, nth: int, statement: str) -> type[sqlite3.Connection]:
    """A connection that ends the process."""
    times = count(1)

    def kill(now: str, text: str) -> None:
        if when == "frozen" and now == "after" and text.lstrip().startswith(statement) and next(times) == nth:
            os.kill(os.getpid(), signal.SIGSTOP)
        if now == when and text.lstrip().startswith(statement) and next(times) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    class Deadly(sqlite3.Connection):
        def execute(self, text, *parameters):
            kill("before", text)
            done = super().execute(text, *parameters)
            kill("after", text)
            return done

        def executemany(self, text, rows):
            kill("before", text)
            done = super().executemany(text, rows)
            kill("after", text)
            return done

        def commit(self):
            kill("before", "commit")
            super().commit()
            kill("after", "commit")

    return Deadly


async def main(path: str, shards: str, *death: str) -> None:
    if death:
        when, nth, statement = death
        sqlite3.connect = partial(sqlite3.connect, factory=deadly(when, int(nth), statement))
    async with SQLiteEventStore(path) as store:
        manager = SubscriptionManager(store)
        await manager.subscribe(Seen(), config(int(shards)))
        async with manager:
            sys.stdout.write("reading\n")
            sys.stdout.flush()
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
