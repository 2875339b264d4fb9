"""An outage, seen where it matters: inside the handlers, over four processes, with the probing one of them killed."""

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from mainstay import Breaker, CommandBus, CommandStatus, SendRequest, TroubleshootingQueue
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.support.limited_worker import DOMAIN, outage_of
from tests.support.runs import Log, most_at_once, process_of, workers
from tests.support.waiting import eventually

pytestmark = pytest.mark.thorough

TYPE = "Supplied"
COMMANDS = 40
PROCESSES = 4
DRIP = 20.0
A_SECOND = 1_000_000_000
PATIENCE = 120.0


def under_way(log: Log) -> list[str]:
    """Runs that have begun and not ended, of processes that live."""
    begun = Counter(log.started(TYPE))
    begun.subtract(name for _, name, _, _, _ in log.lines("end"))
    dead = {name for _, name, _, _, _ in log.lines("dead")}
    return [run for run, times in begun.items() if times > 0 and process_of(run) not in dead]


async def kill_one_in_a_probe(log: Log) -> str:
    """Kill a process in the middle of its handler; the run."""
    while True:
        run = (await eventually(lambda: under_way(log), timeout=PATIENCE))[0]
        os.kill(int(process_of(run)), signal.SIGKILL)
        await eventually(
            lambda run=run: process_of(run) in {name for _, name, _, _, _ in log.lines("dead")}, timeout=PATIENCE
        )
        names = Counter(name for _, name, _, _, _ in log.lines("end"))
        if log.started(TYPE).count(run) > names[run]:
            return run


async def test_an_outage_exhausts_no_command_and_one_at_a_time_probes_also_when_its_worker_is_killed(
    dsn: str, pool: AsyncConnectionPool[Any], tmp_path: Path
) -> None:
    bus = CommandBus(pool, default_max_attempts=20)
    await bus.breakers.set(DOMAIN, TYPE, failures=5, within=600, probe_after=0.2, drip=DRIP)
    outage = outage_of(str(tmp_path / "runs"))
    outage.touch()
    requests = [SendRequest(DOMAIN, TYPE, uuid4(), {"n": n, "customer": "c", "takes": 0.2}) for n in range(COMMANDS)]

    async def breaker() -> Breaker:
        (found,) = await bus.breakers.list(DOMAIN)
        return found

    async def all_held() -> int:
        held = (await breaker()).parked == COMMANDS
        return held and time.monotonic_ns()

    with workers(dsn, tmp_path / "runs", PROCESSES) as log:
        await bus.send_batch(requests)
        begun = await eventually(lambda: _or_none(all_held), timeout=PATIENCE)
        killed = await kill_one_in_a_probe(log)
        after = len(log.started(TYPE))
        await eventually(lambda: len(log.started(TYPE)) > after + 3, timeout=PATIENCE)
        for_operators = await TroubleshootingQueue(pool).count_troubleshooting(DOMAIN)
        outage.unlink()
        ended = time.monotonic_ns()

        async def all_completed() -> bool:
            completed = await bus.query_commands(CommandStatus.COMPLETED, DOMAIN, limit=10_000)
            return len(completed) == COMMANDS

        await eventually(all_completed, timeout=PATIENCE)

    runs = sorted(log.runs(TYPE))
    probes = [run for run in runs if begun < run[0] < ended]
    back = [start - ended for start, _, _ in runs if start > ended]
    attempts = {each.attempts for each in await bus.query_commands(None, DOMAIN, limit=10_000)}

    assert len(probes) >= 3
    assert most_at_once(probes) == 1
    assert killed in log.started(TYPE)
    assert for_operators == 0
    # Counted from the end of the outage, since those that a stalled process may start come late and all at once: one is
    # the probe, one is the first, and what drips in a second may be let go at once.
    assert [n for n, after in enumerate(back) if after / A_SECOND < (n - 2) / DRIP - 1] == []
    assert len(back) >= COMMANDS - 1
    assert max(attempts) < 20
    assert (await PostgresCommandStore(pool).fsck()).findings == ()


async def _or_none(ask: Any) -> Any:
    """The answer; None while there is nothing to ask about."""
    try:
        return await ask()
    except ValueError:
        return None
