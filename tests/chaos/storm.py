"""Every fault, one after another, while one fleet works on: nothing is lost, and the rate comes back.

The rate is set by how long handlers take, not by the machine. It is measured over the seconds before a fault, and
looked at again from the moment the fault is over: how long until a window of `WINDOW` seconds has `SHARE` of it.
Commands that are a fault themselves are urgent, so that they do not wait behind the load until all else is over.
"""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import psycopg

from tests.chaos.field import DOMAIN, Field, within
from tests.chaos.fleet import Fleet
from tests.chaos.report import Recovery, Report
from tests.chaos.scenarios import BACKENDS, COMPLETED, PATIENCE, STRAYS, field_of
from tests.chaos.worker_process import Plan
from tests.support.proxy import Cut, Proxy
from tests.support.waiting import eventually

LEASE = 2.0
WINDOW = 2.0
SHARE = 0.9
LIMIT = 10.0
"""Seconds after a fault in which the rate must be back."""
ENOUGH_FOR_A_ROUND = 10_000
"""Commands that must be left for one more round of all faults."""
LEFT = "select count(*) from commandbus.command where status in ('PENDING', 'IN_PROGRESS')"
SUPPLIED = "Supplied"
FAILURES = 5
_LOOK = 0.25
_POISON = ["Strict", "Unspeakable", "Nobody", "UNKNOWN"]


@dataclass
class Storm:
    """What faults need."""

    field: Field
    fleet: Fleet
    behind_proxy: Fleet
    proxy: Proxy
    restart: Callable[[], None]

    # -- faults: each returns when it is over -------------------------------------------------------------------------
    async def worker_killed(self) -> None:
        await asyncio.to_thread(self.fleet.kill_one)

    async def server_restarted(self) -> None:
        await asyncio.to_thread(self.restart)

    async def backends_terminated(self) -> None:
        await self.field.ask(BACKENDS, [1000])

    async def cut_before_commit(self) -> None:
        await self._cut(self.proxy.cut_before)

    async def cut_after_commit(self) -> None:
        await self._cut(self.proxy.cut_after)

    async def worker_frozen(self) -> None:
        """For longer than its lease: another takes its commands, and what it says after that is refused."""
        victim = self.fleet.choose()
        victim.send_signal(signal.SIGSTOP)
        try:
            await _lasts(LEASE + 1.0)
        finally:
            victim.send_signal(signal.SIGCONT)

    async def clock_stepped(self) -> None:
        """Every worker's wall clock jumps, half of them forth and half back."""
        self.fleet.signal_all(signal.SIGUSR1)
        self.behind_proxy.signal_all(signal.SIGUSR2)

    async def transaction_left_idle(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.field.dsn) as idle:
            await self.field.bus.send_batch(self.field.load(20, mean=0.01), conn=idle)
            await _lasts(2.0)
            await idle.rollback()

    async def snapshot_held(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.field.dsn) as held:
            await held.execute("set transaction isolation level repeatable read")
            await held.execute("select count(*) from commandbus.command")
            await _lasts(5.0)

    async def pool_exhausted(self) -> None:
        await self.field.send_through_faults([self.field.urgent("Hog", takes=0.5) for _ in range(40)])

    async def handlers_hang(self) -> None:
        await self.field.send_through_faults([self.field.urgent("Hang") for _ in range(20)])

    async def handlers_raise_what_nobody_catches(self) -> None:
        await self.field.send_through_faults([self.field.urgent("Doom", kind=kind, times=2) for kind in range(12)])

    async def poison_sent(self) -> None:
        kinds = [kind for kind in ("Strict", "Unspeakable", "Nobody") for _ in range(5)]
        await self.field.send_through_faults([self.field.urgent(kind, amount="poison") for kind in kinds])
        for stray in STRAYS:
            await self.field.ask("select pgmq.send(%s, %s::jsonb)", [f"{DOMAIN}__commands", stray])

    async def supplier_down(self) -> None:
        """A breaker opens, and the worker that may be probing is killed: nothing goes to an operator, all come back."""
        await self.field.ask("insert into chaos_outage values (now())")
        try:
            await self.field.send_through_faults([self.field.urgent(SUPPLIED) for _ in range(40)])
            await within(PATIENCE, self._is_held)
            await asyncio.to_thread(self.fleet.kill_one)
            await _lasts(LEASE)
        finally:
            await self.field.ask("delete from chaos_outage")

    async def unique_keys_raced_for(self) -> None:
        """By senders, again and again, while a worker is killed that has some of them in hand."""
        for race in range(10):
            await self.field.race_for_unique_keys(keys=5, senders=4)
            if race == 5:
                await asyncio.to_thread(self.fleet.kill_one)
            await _lasts(0.1)

    async def _is_held(self) -> bool:
        found = await self.field.bus.breakers.list(DOMAIN)
        return any(each.parked >= FAILURES for each in found)

    async def _cut(self, order: Callable[[str], Cut]) -> None:
        for text in ("commit", "select command_id, verdict from commandbus.complete("):
            cut = order(text)
            await within(2.0, cut.happened.is_set)


FAULTS: tuple[Callable[[Storm], Awaitable[None]], ...] = (
    Storm.worker_killed,
    Storm.server_restarted,
    Storm.backends_terminated,
    Storm.cut_before_commit,
    Storm.cut_after_commit,
    Storm.worker_frozen,
    Storm.clock_stepped,
    Storm.transaction_left_idle,
    Storm.snapshot_held,
    Storm.pool_exhausted,
    Storm.handlers_hang,
    Storm.handlers_raise_what_nobody_catches,
    Storm.poison_sent,
    Storm.supplier_down,
    Storm.unique_keys_raced_for,
)


class Rate:
    """Commands that are completed in a second, looked at again and again."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._seen: deque[tuple[float, int]] = deque()

    async def look(self) -> None:
        """One more look; none while the database is away."""
        done = await self._field.number_if_up(COMPLETED)
        now = time.monotonic()
        if done is not None:
            self._seen.append((now, done))
        while self._seen and now - self._seen[0][0] > WINDOW + 2 * _LOOK:
            self._seen.popleft()

    def forget(self) -> None:
        self._seen.clear()

    @property
    def now(self) -> float | None:
        """Over the last window; None until there is one."""
        if not self._seen or self._seen[-1][0] - self._seen[0][0] < WINDOW:
            return None
        (begin, before), (end, after) = self._seen[0], self._seen[-1]
        return (after - before) / (end - begin)


async def _lasts(seconds: float) -> None:
    """A fault that is a state takes its time."""
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)


async def _watched(rate: Rate, done: Callable[[], bool], limit: float) -> float:
    """Look at the rate until something holds; the seconds that took, ``limit`` at most."""
    began = time.monotonic()
    while not done() and time.monotonic() - began < limit:
        await rate.look()
        await _lasts(_LOOK)
    return time.monotonic() - began


async def everything(dsn: str, commands: int, seed: int, restart: Callable[[], None], *, timed: bool) -> Report:
    """All faults in an order that is drawn, and again while there is much work left.

    Args:
        dsn: Where.
        commands: How many.
        seed: For all that is drawn.
        restart: Takes the server down `immediate` and brings it back.
        timed: Measure how long the rate takes to come back, and hold it against `LIMIT`.
    """
    recoveries: list[Recovery] = []
    async with field_of(dsn, seed, commands) as field:
        with (
            Proxy(dsn) as proxy,
            Fleet(Plan(dsn, DOMAIN, lease=LEASE), field.draw) as fleet,
            Fleet(Plan(proxy.dsn, DOMAIN, lease=LEASE), field.draw) as behind_proxy,
        ):
            storm = Storm(field, fleet, behind_proxy, proxy, restart)
            await field.bus.breakers.set(DOMAIN, SUPPLIED, failures=FAILURES, within=600, probe_after=0.2, drip=100)
            await field.send(field.load(commands, mean=0.1))
            fleet.start(3)
            behind_proxy.start(1)
            rate = Rate(field)
            faults = 0
            waiting = list(FAULTS)
            while field.left and (waiting or await _left(field) > ENOUGH_FOR_A_ROUND):
                waiting = waiting or list(FAULTS)
                fault = waiting.pop(field.draw.randrange(len(waiting)))
                fleet.check()
                behind_proxy.check()
                rate.forget()
                if timed:
                    await _watched(rate, lambda: rate.now is not None, LIMIT)
                before = rate.now or 0.0
                lasts = await _left(field) > before * 4 * LIMIT
                await fault(storm)
                faults += 1
                rate.forget()
                if before and lasts:
                    level = SHARE * before
                    seconds = await _watched(rate, lambda level=level: (rate.now or 0.0) >= level, 2 * LIMIT)
                    recoveries.append(Recovery(fault.__name__, before, max(0.0, seconds - WINDOW)))
            await field.settles(field.left)
            behind_proxy_died = await asyncio.to_thread(_ended, behind_proxy)
            return await field.report(
                "every fault in turn", fleet, faults, poison=_POISON, others_died=behind_proxy_died,
                recoveries=recoveries, limit=LIMIT,
            )  # fmt: skip


async def _left(field: Field) -> int:
    """Commands that have not ended, as soon as the database answers."""
    await eventually(field.is_up, timeout=max(LIMIT, field.left))
    return await field.number(LEFT)


def _ended(fleet: Fleet) -> int:
    fleet.stop()
    return fleet.ended_badly(may_die=False)
