"""Order per key under eight workers that fail, dawdle and are killed: never out of order, each command once.

MAINSTAY_CHAOS_COMMANDS says how many; the long form is 100,000 commands over 1,000 keys.
"""

import os
import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from mainstay import CommandBus, SendRequest
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.chaos.order_process import DOMAIN
from tests.support.waiting import eventually

COMMANDS = int(os.environ.get("MAINSTAY_CHAOS_COMMANDS", "1500"))
SEED = int(os.environ.get("MAINSTAY_CHAOS_SEED", "1"))
KEYS = max(50, COMMANDS // 100)
WORKERS = 8
ROOT = Path(__file__).parents[2]
KILLS = max(3, COMMANDS // 2_500)
PATIENCE = 120.0
CHUNK = 500

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600 + COMMANDS / 5)]

TABLE = (
    "create table noted (seq bigserial primary key, key text not null, n integer not null, attempt integer not null)"
)
#: Commands that were handled out of turn: before one of their key that was sent earlier, or twice.
WRONG = """
select count(*) from (
    select key, n, row_number() over (partition by key order by seq) - 1 as place from noted
) as handled where n <> place
"""


def start(dsn: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.chaos.order_process", dsn]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def test_a_key_is_never_out_of_order_when_workers_fail_and_are_killed(dsn, pool):
    draw = random.Random(SEED)
    async with pool.connection() as conn:
        await conn.execute(TABLE)
    bus = CommandBus(pool)

    async def ask(question: str) -> int:
        async with pool.connection() as conn:
            return (await (await conn.execute(question)).fetchone())[0]

    async def send(numbers: range) -> None:
        requests = [
            SendRequest(DOMAIN, "Note", uuid4(), {"n": n // KEYS}, key=f"key-{n % KEYS}", max_attempts=1000)
            for n in numbers
        ]
        for begin in range(0, len(requests), CHUNK):
            await bus.send_batch(requests[begin : begin + CHUNK])

    async def done(goal: int) -> None:
        await eventually(
            lambda: at_least(ask, goal), timeout=PATIENCE + COMMANDS / 20, what=f"{goal} commands are done"
        )

    with ExitStack() as stack:
        fleet = [start(dsn) for _ in range(WORKERS)]
        stack.callback(lambda: [process.kill() for process in fleet])
        part = COMMANDS // (KILLS + 1)
        for number in range(KILLS):  # by progress, with a part of the commands still to do
            await send(range(number * part, (number + 1) * part))
            await done(number * part + 1)
            victim = draw.randrange(WORKERS)
            fleet[victim].kill()
            fleet[victim].wait()
            fleet[victim] = start(dsn)
        await send(range(KILLS * part, COMMANDS))
        await done(COMMANDS)
    for process in fleet:
        process.wait()

    wrong, retried = await ask(WRONG), await ask("select count(*) from noted where attempt > 1")
    print(
        f"{COMMANDS} commands, {KEYS} keys, {KILLS} kills, {retried} took more than one attempt, {wrong} out of order"
    )

    assert await ask("select count(*) from noted") == COMMANDS
    assert wrong == 0
    assert retried > 0
    assert (await PostgresCommandStore(pool).fsck()).findings == ()


async def at_least(ask, goal: int) -> bool:
    return await ask("select count(*) from noted") >= goal
