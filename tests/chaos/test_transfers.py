"""Transfers between accounts while workers are killed and the server is: the sum of money is constant.

A transfer debits one account and sends the command that credits the other, in one COMMIT; nearly a third of them are
from one account. MAINSTAY_CHAOS_COMMANDS says how many; the long form is 50,000.
"""

import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from mainstay import AggregateRepository, CommandBus, CommandStatus, EventStore, MainstayError, PostgreSQLEventStore
from mainstay.commands.store import CommandFilter
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.embedded import EmbeddedServer
from tests.chaos.transfer_process import DOMAIN, Account, Credit, Credited, Debited, Open, Transfer
from tests.support.servers import open_pool
from tests.support.waiting import eventually

TRANSFERS = int(os.environ.get("MAINSTAY_CHAOS_COMMANDS", "300"))
SEED = int(os.environ.get("MAINSTAY_CHAOS_SEED", "1"))
ACCOUNTS = 20
WORKERS = 4
KILLS = max(3, TRANSFERS // 1_000)
CRASHES = max(1, TRANSFERS // 5_000)
HOT = 0.3
BEGINNING = 1_000
PATIENCE = 180.0
LEFT = "select count(*) from commandbus.command where status in ('PENDING', 'IN_PROGRESS')"
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(600 + TRANSFERS)


def start(dsn: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.chaos.transfer_process", dsn]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def end(fleet: "list[subprocess.Popen[bytes]]") -> None:
    for process in fleet:
        process.kill()
        process.wait()


class Bank:
    """What has become of the transfers."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.bus = CommandBus(pool)
        self.store = PostgresCommandStore(pool)
        self.events: EventStore = PostgreSQLEventStore(pool)
        self.accounts = [f"account-{n}" for n in range(ACCOUNTS)]
        self.sent: dict[UUID, Transfer | Open] = {}

    async def send(self, command: Transfer | Open) -> None:
        command_id = uuid4()
        await eventually(lambda: self._is_sent(command_id, command), timeout=PATIENCE, what="a command is sent")
        self.sent[command_id] = command

    async def _is_sent(self, command_id: UUID, command: Transfer | Open) -> bool:
        """Nobody knows whether it was, if the server is gone in the midst of it: it is sent again under its id."""
        with suppress(MainstayError):
            await self.bus.send(command, command_id=command_id, max_attempts=1000, idempotent=True)
            return True
        return False

    async def left(self) -> int:
        """How many commands have not ended."""
        async with self.pool.connection() as conn:
            found = await (await conn.execute(LEFT)).fetchone()
        return int(found[0])

    async def has_at_most(self, number: int) -> bool:
        """How many are left; not now, if the server is not there."""
        with suppress(psycopg.Error, PoolTimeout):
            return await self.left() <= number
        return False

    async def until_left(self, number: int) -> None:
        await eventually(
            lambda: self.has_at_most(number), timeout=PATIENCE + TRANSFERS / 10, what=f"{number} commands are left"
        )


async def test_the_sum_of_money_is_constant(restartable_server: EmbeddedServer, restartable_dsn: str) -> None:
    draw = random.Random(SEED)
    with ExitStack() as stack:
        async with open_pool(restartable_dsn) as pool:
            bank = Bank(pool)
            for account in bank.accounts:
                await bank.send(Open(account_id=account, amount=BEGINNING))
            fleet = [start(restartable_dsn) for _ in range(WORKERS)]
            stack.callback(end, fleet)
            await bank.until_left(0)

            crashes = set(draw.sample(range(KILLS), CRASHES))
            for number in range(KILLS):
                for _ in range(TRANSFERS // KILLS):
                    origin = bank.accounts[0] if draw.random() < HOT else draw.choice(bank.accounts)
                    await bank.send(
                        Transfer(account_id=origin, to=draw.choice(bank.accounts), amount=draw.randrange(1, 50))
                    )
                await bank.until_left(TRANSFERS // KILLS)
                victim = draw.randrange(WORKERS)
                fleet[victim].kill()
                fleet[victim].wait()
                if number in crashes:
                    restartable_server.restart("kill")
                fleet[victim] = start(restartable_dsn)
            await bank.until_left(0)
            await verify(bank)


async def verify(bank: Bank) -> None:
    """Every command has one end, every decision its events once, and the money is all there."""
    commands = await bank.store.query(CommandFilter(domain=DOMAIN), limit=10_000_000, offset=0)
    by_type = Counter((each.command_type, each.status) for each in commands)
    caused = [(each.event.causation_id, type(each.event)) async for each in bank.events.read_all()]
    repository = AggregateRepository(bank.events, Account)
    balances = [(await repository.load(account)).state.amount for account in bank.accounts]
    done = by_type[Transfer.__name__, CommandStatus.COMPLETED]
    spent = sum(each.attempts - 1 for each in commands)
    print(
        f"{len(bank.sent) - ACCOUNTS} transfers, {done} of them done, {KILLS} kills, {CRASHES} crashes of the server, "
        f"{sum(balances)} in all, {spent} attempts spent beyond the first"
    )

    assert set(by_type) <= {
        ("Open", CommandStatus.COMPLETED),
        ("Transfer", CommandStatus.COMPLETED),
        ("Transfer", CommandStatus.FAILED),
        ("Credit", CommandStatus.COMPLETED),
    }
    assert set(bank.sent) == {each.command_id for each in commands if each.command_type != Credit.__name__}
    assert by_type[Credit.__name__, CommandStatus.COMPLETED] == done
    assert len(set(caused)) == len(caused)
    assert Counter(kind for _, kind in caused) == Counter({Credited: ACCOUNTS + done, Debited: done})
    assert {cause for cause, _ in caused} == {
        each.command_id for each in commands if each.status is CommandStatus.COMPLETED
    }
    assert sum(balances) == ACCOUNTS * BEGINNING
    assert all(balance >= 0 for balance in balances)
    assert (await bank.store.fsck()).findings == ()
