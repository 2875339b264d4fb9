"""Limits measured where they matter: inside the handlers, over four processes, with one of them killed on the way.

MAINSTAY_LIMIT_COMMANDS says how many commands of each type there are; 30 unless given, in CI.
"""

import os
import random
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from mainstay import CommandBus, CommandStatus, SendRequest
from tests.support.limited_worker import DOMAIN
from tests.support.runs import most_at_once, most_within, process_of, workers
from tests.support.waiting import eventually

COMMANDS = int(os.environ.get("MAINSTAY_LIMIT_COMMANDS", "30"))
PROCESSES = 4
MAX_RUNNING = 3
RATE = 20
CUSTOMERS = 5
PATIENCE = 60.0 + COMMANDS
TYPES = ("Few", "PerCustomer", "Rated", "Free")


def test_what_the_handlers_tell_is_counted_rightly() -> None:
    assert most_at_once([(0, 10, "a"), (10, 20, "a"), (5, 12, "a")]) == 2
    assert most_within([0, 1, 9, 10, 11], 10) == 3


@pytest.mark.thorough
async def test_limits_hold_over_four_processes_one_of_which_is_killed(
    dsn: str, pool: AsyncConnectionPool[Any], tmp_path: Path
) -> None:
    draw = random.Random(3)
    bus = CommandBus(pool, default_max_attempts=20)
    await bus.limits.set(DOMAIN, "Few", max_running=MAX_RUNNING)
    await bus.limits.set(DOMAIN, "PerCustomer", per="customer", max_running_per=1)
    await bus.limits.set(DOMAIN, "Rated", rate=RATE, per_seconds=1.0)
    requests = [
        SendRequest(
            DOMAIN,
            command_type,
            uuid4(),
            {"n": number, "customer": f"c{draw.randrange(CUSTOMERS)}", "takes": draw.uniform(0.005, 0.03)},
        )
        for number in range(1, COMMANDS + 1)
        for command_type in TYPES
    ]

    with workers(dsn, tmp_path / "runs", PROCESSES) as log:
        await bus.send_batch(requests)
        early = await eventually(lambda: log.started("Few")[3:], timeout=PATIENCE)
        os.kill(int(process_of(early[0])), signal.SIGKILL)

        async def all_completed() -> bool:
            completed = await bus.query_commands(CommandStatus.COMPLETED, DOMAIN, limit=10_000)
            return len(completed) == len(requests)

        await eventually(all_completed, timeout=PATIENCE)

    few, per_customer = list(log.runs("Few")), defaultdict(list)
    for run in log.runs("PerCustomer"):
        per_customer[run[2]].append(run)
    rated = [start for start, _, _ in log.runs("Rated")]

    assert most_at_once(few) <= MAX_RUNNING
    assert {customer: most_at_once(runs) for customer, runs in per_customer.items()} == dict.fromkeys(per_customer, 1)
    assert most_within(rated, 1_000_000_000) <= RATE
    assert len({run.partition("/")[0] for run in log.started("Free")}) == COMMANDS
    assert len(few) > COMMANDS  # some ran twice: they failed, or their worker was killed
