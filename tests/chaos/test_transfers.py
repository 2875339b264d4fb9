"""Transfers between accounts while workers are killed and the server is: the sum of money is constant.

A transfer debits one account and sends the command that credits the other, in one COMMIT; nearly a third of them are
from one account. Eight workers in four processes (the short form has half of them) decide, in groups or one by one;
projections and a reader of the feed follow. MAINSTAY_CHAOS_COMMANDS says how many transfers; the long form is 50,000.
"""

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from mainstay import (
    AggregateRepository,
    CommandBus,
    CommandStatus,
    EventStore,
    MainstayError,
    PostgreSQLEventStore,
    ReadModels,
    SendRequest,
    SubscriptionManager,
)
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.embedded import EmbeddedServer
from tests.chaos.transfer_process import (
    DOMAIN,
    FOLLOWING,
    TABLE,
    WORKERS,
    Account,
    Balances,
    BalanceView,
    Credited,
    Debited,
    Mode,
    Open,
    Part,
    Transfer,
)
from tests.support.servers import open_pool
from tests.support.waiting import eventually

TRANSFERS = int(os.environ.get("MAINSTAY_CHAOS_COMMANDS", "240"))
SEED = int(os.environ.get("MAINSTAY_CHAOS_SEED", "1"))
ACCOUNTS = 20
PROCESSES = 4 if TRANSFERS >= 1_000 else 2
KILLS = max(2, TRANSFERS // 1_000)
CRASHES = max(1, TRANSFERS // 5_000)
HOT = 0.3
SNAPSHOTS = 100 if TRANSFERS >= 1_000 else 0
BEGINNING = 1_000
PATIENCE = 180.0
LOG_TAIL = 6_000
REPLIES = "bank_replies"
LEFT = "select count(*) from commandbus.command where status in ('PENDING', 'IN_PROGRESS')"
KEPT = "select c.command_type, c.status, count(*) from commandbus.command as c group by 1, 2"
DECIDED = """
    select c.command_type, c.status, count(d.command_id), count(distinct d.command_id), sum(d.events)::bigint
    from commandbus.command as c
    left join commandbus.decision as d on d.command_id = c.command_id and d.domain = c.domain
    group by 1, 2
"""
ANSWERED = "select (q.message ->> 'command_id')::uuid, count(*) from pgmq.q_bank_replies as q group by 1"
SPENT = "select coalesce(sum(c.attempts - 1), 0)::bigint from commandbus.command as c"
TRUTH = "select e.position, e.event_id from eventsource.event as e order by e.position"
CAUSED = """
    select count(*), count(distinct (e.causation_id, k.event_type)), count(c.command_id)
    from eventsource.event as e
    join eventsource.kind as k on k.kind_no = e.kind_no
    left join commandbus.command as c on c.command_id = e.causation_id and c.status = 'COMPLETED'
"""
ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600 + TRANSFERS)]


def start(part: Part, log: Any = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.chaos.transfer_process", part.to_json()]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log)


def end(fleet: "list[subprocess.Popen[bytes]]") -> None:
    for process in fleet:
        process.kill()
        process.wait()


class Reader:
    """Reads the feed on and on, whatever happens, and keeps what it met."""

    def __init__(self, events: EventStore) -> None:
        self._events = events
        self._after = 0
        self.met: list[tuple[int, UUID]] = []
        self.interrupted = 0

    async def read_on(self) -> None:
        while True:
            try:
                page = await self._events.read_page(after=self._after)
            except MainstayError:
                self.interrupted += 1
                continue
            self._after = page.position
            self.met += [(each.position, each.event.event_id) for each in page.events]
            if not page.events:
                with suppress(MainstayError):
                    await self._events.wait(self._after, timeout=1.0)


class Bank:
    """What has become of the transfers."""

    def __init__(self, pool: Any, log: Any) -> None:
        self.pool = pool
        self.log = log
        self.bus = CommandBus(pool)
        self.store = PostgresCommandStore(pool)
        self.events: EventStore = PostgreSQLEventStore(pool)
        self.reader = Reader(self.events)
        self.accounts = [f"account-{n}" for n in range(ACCOUNTS)]
        self.sent: set[UUID] = set()
        self.fleet: list[subprocess.Popen[bytes]] = []

    async def prepare(self) -> None:
        async with self.pool.connection() as conn:
            await conn.execute(TABLE)
            await conn.execute("select pgmq.create(%s)", [REPLIES])

    async def send(self, commands: list[Transfer | Open]) -> None:
        requests = [
            SendRequest(DOMAIN, type(each).__name__, uuid4(), each.model_dump(), reply_to=REPLIES, max_attempts=1_000)
            for each in commands
        ]
        await eventually(lambda: self._is_sent(requests), timeout=PATIENCE, what="commands are sent")
        self.sent |= {each.command_id for each in requests}

    async def _is_sent(self, requests: list[SendRequest]) -> bool:
        """One transaction, so all or none; the server may not be there yet."""
        with suppress(MainstayError):
            if not await self.bus.get_command(DOMAIN, requests[0].command_id):
                await self.bus.send_batch(requests)
            return True
        return False

    async def ask(self, question: str) -> list[Any]:
        async with self.pool.connection() as conn:
            return await (await conn.execute(question.encode())).fetchall()

    async def has_at_most(self, number: int) -> bool:
        """How many have not ended; not now, if the server is not there."""
        if any(process.poll() is not None for process in self.fleet):
            self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - LOG_TAIL))
            raise RuntimeError(f"a worker process ended by itself:\n{self.log.read().decode(errors='replace')}")
        with suppress(psycopg.Error, PoolTimeout):
            ((left,),) = await self.ask(LEFT)
            return bool(left <= number)
        return False

    async def until_left(self, number: int) -> None:
        await eventually(
            lambda: self.has_at_most(number), timeout=PATIENCE + TRANSFERS / 10, what=f"{number} commands are left"
        )


@pytest.mark.parametrize("mode", ["group", "single", "inline"])
async def test_the_sum_of_money_is_constant(
    restartable_server: EmbeddedServer, restartable_dsn: str, mode: Mode
) -> None:
    draw, part = random.Random(SEED), Part(restartable_dsn, mode, SNAPSHOTS)
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        async with open_pool(restartable_dsn) as pool:
            bank = Bank(pool, log)
            await bank.prepare()
            reading = asyncio.create_task(bank.reader.read_on())
            await bank.send([Open(account_id=account, amount=BEGINNING) for account in bank.accounts])
            bank.fleet = fleet = [start(part, log) for _ in range(PROCESSES)]
            stack.callback(end, fleet)
            await bank.until_left(0)

            began = time.monotonic()
            crashes = set(draw.sample(range(KILLS), CRASHES))
            each = TRANSFERS // KILLS
            for number in range(KILLS):
                await bank.send(
                    [
                        Transfer(
                            account_id=bank.accounts[0] if draw.random() < HOT else draw.choice(bank.accounts),
                            to=draw.choice(bank.accounts),
                            amount=draw.randrange(1, 50),
                        )
                        for _ in range(each)
                    ]
                )
                await bank.until_left(draw.randrange(each // 2, each))
                victim = draw.randrange(PROCESSES)
                fleet[victim].kill()
                fleet[victim].wait()
                if number in crashes:
                    restartable_server.restart("kill")
                fleet[victim] = start(part, log)
            await bank.until_left(0)
            seconds = time.monotonic() - began
            await verify(bank, mode, seconds)
            reading.cancel()


async def verify(bank: Bank, mode: Mode, seconds: float) -> None:
    """Every command has one end, one decision and one reply, each decision its events once; the money is all there."""
    manager = SubscriptionManager(bank.events)
    await manager.subscribe(Balances(), FOLLOWING)
    await manager.wait_until((await bank.events.horizon()).position, timeout=PATIENCE)
    kept = {(kind, status): count for kind, status, count in await bank.ask(KEPT)}
    done = kept["Transfer", CommandStatus.COMPLETED]
    refused = kept.get(("Transfer", CommandStatus.FAILED), 0)
    ((spent,),) = await bank.ask(SPENT)
    truth = await bank.ask(TRUTH)
    repository = AggregateRepository(bank.events, Account)
    accounts = [await repository.load(account) for account in bank.accounts]
    balances = {str(each.aggregate_id): (each.state.amount, each.version) for each in accounts}
    print(
        f"{mode}: {done + refused} transfers by {PROCESSES * WORKERS} workers in {seconds:.0f} s, {done} done, "
        f"{refused} refused, {KILLS} kills, {CRASHES} crashes of the server; {sum(a for a, _ in balances.values())} in "
        f"all, {spent} attempts spent beyond the first, reader interrupted {bank.reader.interrupted} times"
    )

    assert kept == Counter(
        {
            ("Open", CommandStatus.COMPLETED): ACCOUNTS,
            ("Transfer", CommandStatus.COMPLETED): done,
            ("Credit", CommandStatus.COMPLETED): done,
        }
    ) + Counter({("Transfer", CommandStatus.FAILED): refused})
    assert done + refused == len(bank.sent) - ACCOUNTS

    decided = {(kind, status): counts for kind, status, *counts in await bank.ask(DECIDED)}
    for (kind, status), counts in decided.items():
        written = 0 if status == CommandStatus.FAILED else kept[kind, status]
        assert counts == [kept[kind, status], kept[kind, status], written], (kind, status)
    assert dict(await bank.ask(ANSWERED)) == dict.fromkeys(bank.sent, 1)

    events = ACCOUNTS + 2 * done
    assert await bank.ask(CAUSED) == [(events, events, events)]
    kinds = Counter([type(each.event) async for each in bank.events.read_all()])
    assert kinds == Counter({Credited: ACCOUNTS + done, Debited: done})

    assert sum(amount for amount, _ in balances.values()) == ACCOUNTS * BEGINNING
    assert all(amount >= 0 for amount, _ in balances.values())
    views = ReadModels(bank.pool).of(BalanceView)
    rows = {account: await views.get(account) for account in bank.accounts}
    assert {account: row and (row.amount, row.events) for account, row in rows.items()} == balances
    if mode == "inline":
        at_once = await bank.ask("select account, amount, events from balance_at_once")
        assert {account: (amount, count) for account, amount, count in at_once} == balances

    async def has_met_all() -> bool:
        return len(bank.reader.met) >= len(truth)

    await eventually(has_met_all, timeout=PATIENCE, what="the reader has met all events")
    assert bank.reader.met == truth
    assert (await bank.store.fsck()).findings == ()
