"""One stream that nearly a third of all commands are for: does it hold up the others, and is each of its own done?

``python -m tests.chaos.hot_stream [--commands N] [--rounds N] [--modes group single]`` measures, in turn, the same
commands with 30 % of them for one account, and with those spread as the rest is. What counts is how fast the other
70 % are done, as a ratio of the two runs of a round; of all rounds the median. Eight workers in four processes decide.
No run begins before the projections have followed the one before: else the second of a round would pay for the first.
"""

import argparse
import asyncio
import random
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from mainstay import CommandBus, SendRequest
from mainstay.storage.postgres.embedded import EmbeddedServer
from tests.chaos.test_transfers import end, start
from tests.chaos.transfer_process import DOMAIN, Mode, Open, Part
from tests.support.embedded import answers
from tests.support.servers import Server, open_pool, reachable_directory
from tests.support.waiting import eventually

HOT = 0.3
ACCOUNTS = 500
SNAPSHOTS = 100
PATIENCE = 300.0
LEFT = "select count(*) from commandbus.command where status in ('PENDING', 'IN_PROGRESS')"
FOLLOWED = """
    select coalesce(min(s.position), 0) >= (select max(e.position) from eventsource.event as e)
    from eventsource.shard as s
"""
ENDS = """
    select
        c.data ->> 'account_id' = %(hot)s as is_hot,
        extract(epoch from c.updated_at)::double precision,
        extract(epoch from c.updated_at - c.created_at)::double precision,
        c.attempts, c.status,
        (select count(*) from commandbus.audit as a where a.subject_no = c.subject_no and a.event_type = 'RECEIVED')
    from commandbus.command as c
    where c.command_id = any (%(ids)s)
"""


@dataclass(frozen=True)
class Found:
    """What became of the commands of one run.

    Args:
        rate: Of the 70 %, a second.
        unfinished: How many commands did not complete.
        attempts: The most that one was given.
        receipts: The most often that one was handed out: beyond the first because it was given back.
        longest: Seconds from the send to the end, of the slowest command of all.
        longest_hot: The same, of the slowest one for the hot stream.
    """

    rate: float
    unfinished: int
    attempts: int
    receipts: int
    longest: float
    longest_hot: float


class Bench:
    """Accounts and those who decide for them.

    Args:
        pool: Of the database.
        seed: Of what is drawn.
    """

    def __init__(self, pool: Any, seed: int) -> None:
        self._pool = pool
        self._bus = CommandBus(pool)
        self._draw = random.Random(seed)

    async def warm_up(self) -> None:
        """Until every process is likely to take part."""
        await self.run(1_000, heat=False)

    async def run(self, count: int, *, heat: bool) -> Found:
        """Send the commands and wait for their end."""
        run, draw = uuid4().hex[:8], self._draw
        hot = f"hot-{run}"
        requests, others = [], set()
        for _ in range(count):
            is_other = draw.random() >= HOT
            account = hot if heat and not is_other else f"{draw.randrange(ACCOUNTS)}-{run}"
            command = Open(account_id=account, amount=1)
            requests.append(SendRequest(DOMAIN, "Open", uuid4(), command.model_dump()))
            if is_other:
                others.add(requests[-1].command_id)
        begin = time.time()
        await self._bus.send_batch(requests)
        await eventually(self._is_done, timeout=PATIENCE, what="all commands have ended")
        ids = [each.command_id for each in requests]
        async with self._pool.connection() as conn:
            ends = await (await conn.execute(ENDS.encode(), {"hot": hot, "ids": ids})).fetchall()
            asked = {"hot": hot, "ids": list(others)}
            last = max(end for _, end, *_ in await (await conn.execute(ENDS.encode(), asked)).fetchall())
        await eventually(self._has_followed, timeout=PATIENCE, what="the projections have followed")
        return Found(
            len(others) / (last - begin),
            sum(status != "COMPLETED" for *_, status, _ in ends),
            max(attempts for _, _, _, attempts, *_ in ends),
            max(receipts for *_, receipts in ends),
            max(took for _, _, took, *_ in ends),
            max((took for is_hot, _, took, *_ in ends if is_hot), default=0.0),
        )

    async def _is_done(self) -> bool:
        async with self._pool.connection() as conn:
            ((left,),) = await (await conn.execute(LEFT)).fetchall()
        return bool(left == 0)

    async def _has_followed(self) -> bool:
        async with self._pool.connection() as conn:
            ((followed,),) = await (await conn.execute(FOLLOWED)).fetchall()
        return bool(followed)


async def measure(dsn: str, mode: Mode, *, commands: int, rounds: int, seed: int) -> None:
    with ExitStack() as stack:
        fleet = [start(Part(dsn, mode, SNAPSHOTS)) for _ in range(4)]
        stack.callback(end, fleet)
        async with open_pool(dsn) as pool:
            bench = Bench(pool, seed)
            await bench.warm_up()
            ratios = []
            for number in range(rounds):
                found = {}
                for heat in (True, False) if number % 2 else (False, True):
                    found[heat] = await bench.run(commands, heat=heat)
                hot, even = found[True], found[False]
                ratios.append(hot.rate / even.rate)
                print(
                    f"{mode}, round {number + 1}: others {hot.rate:,.0f}/s beside a hot stream, {even.rate:,.0f}/s "
                    f"without: {ratios[-1]:.2f}; {hot.unfinished} unfinished, attempts at most {hot.attempts}, handed "
                    f"out at most {hot.receipts} times; slowest of all {hot.longest:.1f} s, of the hot stream "
                    f"{hot.longest_hot:.1f} s, without {even.longest:.1f} s",
                    flush=True,
                )
            print(
                f"{mode}: median {statistics.median(ratios):.2f} of {rounds} rounds of {commands:,} commands",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.hot_stream", description="A hot stream and the others."
    )
    parser.add_argument("--commands", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--modes", nargs="+", choices=["group", "single"], default=["group", "single"])
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for mode in given.modes:
        with ExitStack() as stack:
            directory = stack.enter_context(reachable_directory())
            embedded = stack.enter_context(EmbeddedServer(directory / "data", port=0))
            assert answers(embedded.dsn("postgres"))
            server = Server("18", embedded.dsn("postgres"), is_ours=True)
            name = stack.enter_context(server.database())
            asyncio.run(measure(server.dsn(name), mode, commands=given.commands, rounds=given.rounds, seed=given.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
