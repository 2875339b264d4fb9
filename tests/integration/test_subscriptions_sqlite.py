"""Subscriptions on SQLite: exactly once, wherever the process is killed, and however many processes have the file."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mainstay import DeclarativeProjection, SQLiteEventStore, StreamId, SubscriptionConfig, SubscriptionManager, handles
from mainstay.errors import DatabaseLockedError
from mainstay.events.store import EventStore
from mainstay.storage.sqlite.events import SQLiteEventLog
from mainstay.storage.sqlite.projections import SQLiteProjectionStore
from tests.support.sqlite_reader import Paid, Seen, config
from tests.support.waiting import eventually

PATIENCE = 90.0
TABLE = "create table seen (number integer primary key autoincrement, account text, amount integer, process integer)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.sqlite"


@pytest.fixture
async def store(path):
    async with SQLiteEventStore(path) as opened:
        async with opened.transaction() as tx:
            await tx.connection.execute(TABLE)
        yield opened


async def pay(store, *amounts, account="a") -> int:
    done = None
    for amount in amounts:
        done = await store.append(StreamId("TestPayer", account), [Paid(amount=amount)])
    assert done is not None
    return done.position


async def seen(store) -> list[tuple[str, int]]:
    async with store.transaction() as tx:
        return list(await tx.connection.execute_fetchall("select account, amount from seen order by number"))


async def finish(store, last, shards=1) -> None:
    manager = SubscriptionManager(store)
    await manager.subscribe(Seen(), config(shards))
    async with manager:
        await manager.wait_until(last, timeout=PATIENCE)


@contextlib.asynccontextmanager
async def reading(path, shards, *death):
    """A process with the subscription, killed at the end."""
    command = [sys.executable, "-m", "tests.support.sqlite_reader", str(path), str(shards), *death]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_what_is_appended_is_handled_once_and_in_order(store) -> None:
    manager = SubscriptionManager(store)
    await pay(store, *range(25))
    await manager.subscribe(Seen(), config())
    async with manager:
        await manager.wait_until(await pay(store, *range(25, 40)), timeout=PATIENCE)

    assert await seen(store) == [("a", amount) for amount in range(40)]


@pytest.mark.thorough
@pytest.mark.parametrize(
    # commits: that of the name, that of its types, that of the claim, those of the batches
    ("nth", "statement", "left"),
    [
        (4, "begin immediate", (0, 0)),
        (2, "select position", (10, 10)),
        (1, "insert into seen", (0, 0)),
        (15, "insert into seen", (10, 10)),
        (2, "update mainstay_shard\nset position", (10, 10)),
        (4, "commit", (0, 10)),
        (5, "commit", (10, 20)),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_process_killed_at_any_statement_of_a_batch_is_gone_on_from(  # noqa: PLR0917 - what pytest fills in
    path, store, when, nth, statement, left
) -> None:
    last = await pay(store, *range(25))
    async with reading(path, 1, when, str(nth), statement) as process:
        assert await asyncio.wait_for(process.wait(), PATIENCE) == -signal.SIGKILL
    assert await seen(store) == [("a", amount) for amount in range(left[when == "after"])]

    await finish(store, last)

    assert await seen(store) == [("a", amount) for amount in range(25)]


@pytest.mark.thorough
async def test_processes_killed_one_after_another_handle_each_event_once_and_in_order(path, store) -> None:
    accounts = [f"account {number}" for number in range(6)]
    for amount in range(20):
        for account in accounts:
            last = await pay(store, amount, account=account)
    for when, statement in (("before", "commit"), ("after", "insert into seen"), ("after", "commit")):
        async with reading(path, 3, when, "7", statement) as process:
            assert await asyncio.wait_for(process.wait(), PATIENCE) == -signal.SIGKILL

    await finish(store, last, 3)

    found = await seen(store)
    for account in accounts:
        assert [amount for mine, amount in found if mine == account] == list(range(20))


def is_stopped(process) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux whether a process is stopped")
@pytest.mark.thorough
async def test_a_process_frozen_in_a_batch_beyond_its_lease_is_not_joined_and_goes_on(path, store) -> None:
    last = await pay(store, *range(25))
    async with (
        SQLiteEventLog(path, patience=0.2) as log,
        reading(path, 1, "frozen", "12", "insert into seen") as process,
    ):
        await eventually(lambda: is_stopped(process), timeout=PATIENCE)
        await eventually(lambda: leases_ended(log), timeout=PATIENCE)
        manager = SubscriptionManager(EventStore(log), log.projections())
        await manager.subscribe(Seen(), config())
        async with manager:
            with pytest.raises(TimeoutError, match="is at 10, not at 25"):
                await manager.wait_until(last, timeout=1.0)
            with pytest.raises(DatabaseLockedError):
                await log.projections().pause("Seen", actor="ann")
            process.send_signal(signal.SIGCONT)
            await manager.wait_until(last, timeout=PATIENCE)

    assert await seen(store) == [("a", amount) for amount in range(25)]


async def leases_ended(log) -> bool:
    (state,) = await log.projections().states()
    return state.leased_until < datetime.now(UTC)


@pytest.mark.thorough
async def test_processes_on_one_file_share_a_subscription_and_handle_each_event_once(path, store) -> None:
    accounts = [f"account {number}" for number in range(6)]
    async with reading(path, 3) as first, reading(path, 3) as second:
        for process in (first, second):
            assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"reading\n"
        for amount in range(15):
            for account in accounts:
                last = await pay(store, amount, account=account)
        manager = SubscriptionManager(store)
        await manager.subscribe(Seen(), config(3))
        await manager.wait_until(last, timeout=PATIENCE)

    found = await seen(store)
    for account in accounts:
        assert [amount for mine, amount in found if mine == account] == list(range(15))


class Slow(DeclarativeProjection):
    """What it does is not in the database: only a lock keeps two from doing it at the same time."""

    name = "slow"
    inside = 0
    most = 0

    def __init__(self, handled) -> None:
        self._handled = handled

    @handles(Paid)
    async def paid(self, event):
        Slow.inside += 1
        Slow.most = max(Slow.most, Slow.inside)
        await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=0.02)
        Slow.inside -= 1
        self._handled.append(event.amount)


class Late(SQLiteProjectionStore):
    """Of owners that do not come to renew their leases."""

    async def renew(self, claims, *, seconds):
        del seconds
        return {claim.shard for claim in claims}


async def test_two_with_one_subscription_never_handle_at_the_same_time_even_when_a_lease_ends(path, store) -> None:
    handled: list[int] = []
    last = await pay(store, *range(80))
    long_batch = SubscriptionConfig(batch_size=100, poll=0.05, lease=1.0)
    async with SQLiteEventStore(path) as other:
        managers = [
            SubscriptionManager(each, Late(each.projections().database), owner=f"owner of {number}")
            for number, each in enumerate((store, other))
        ]
        for manager in managers:
            await manager.subscribe(Slow(handled), long_batch)
        async with managers[0], managers[1]:
            for manager in managers:
                await manager.wait_until(last, timeout=PATIENCE)

    assert (Slow.most, handled) == (1, list(range(80)))


class Echo(Seen):
    """Appends what follows from an event, in the transaction of the checkpoint."""

    name = "echo"

    def __init__(self, store) -> None:
        self._store = store

    @handles(Paid)
    async def paid(self, event, conn):
        if event.aggregate_id == "a":
            await self._store.append(StreamId("TestPayer", "echo"), [Paid(amount=event.amount)], conn=conn)
        await super().paid(event, conn)


async def test_events_that_a_handler_appends_are_in_the_transaction_of_the_checkpoint(store) -> None:
    await pay(store, *range(12))
    manager = SubscriptionManager(store)
    await manager.subscribe(Echo(store), config())
    async with manager:
        await manager.wait_until(24, timeout=PATIENCE)

    found = await seen(store)
    assert sorted(found) == sorted([(account, amount) for account in ("a", "echo") for amount in range(12)])
