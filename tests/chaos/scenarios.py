"""What is broken, and how: each function is one scenario on a database of its own, and ends in a report.

The load is half plain, half transactional; a transactional handler inserts into a table without a unique constraint, so
that a second effect would be seen. Faults go on until everything is settled.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg

from mainstay import SendRequest
from tests.chaos.field import DOMAIN, Field, within
from tests.chaos.fleet import Fleet
from tests.chaos.report import DOUBLED, REFUSED, STALE_APPLIED, Report
from tests.chaos.worker_process import Plan
from tests.support.proxy import Proxy

NAIVE = (Path(__file__).parent / "naive_complete.sql").read_text(encoding="utf-8")
KILL_EVERY = 2.0
PER_RESTART = 150
"""Commands that are completed between two restarts, at least."""
PATIENCE = 240.0
"""Seconds, and some more for each command, after which a scenario is over in any case; most are over sooner."""

BACKENDS = """
    select pg_terminate_backend(pid) from (
        select pid from pg_stat_activity
        where application_name = 'chaos-worker' and datname = current_database() order by random() limit %s) as chosen
"""
IN_HAND = """
    select c.command_id from commandbus.command as c
    cross join lateral (
        select a.details ->> 'worker' as worker from commandbus.audit as a
        where a.subject_no = c.subject_no and a.event_type = 'RECEIVED' order by a.audit_id desc limit 1
    ) as last
    where c.status = 'IN_PROGRESS' and last.worker = %s
"""
WAITING = "select count(*) from commandbus.command where status = 'PENDING'"
COMPLETED = "select count(*) from commandbus.command where status = 'COMPLETED'"
BOTH_HARMS = f"select least(({DOUBLED}), ({STALE_APPLIED}))"
STUBBORN = ("Stubborn", "StubbornEffect")
TAKEOVER = 60.0
"""Seconds within which another worker must have what a frozen one had."""
STRAYS = ("[]", "null", '"text"', '{"no": "command"}', '{"command_id": "x"}', '{"command_id": 7, "data": []}')


def field_of(dsn: str, seed: int, commands: int) -> Field:
    """A place with patience for so many commands."""
    return Field(dsn, seed, PATIENCE + commands / 25)


async def workers_killed(dsn: str, commands: int, seed: int) -> Report:
    """Four worker processes; every two seconds one gets SIGKILL and another takes its place."""
    async with field_of(dsn, seed, commands) as field:
        with Fleet(Plan(dsn, DOMAIN, lease=2.0), field.draw) as fleet:
            await field.send(field.load(commands, mean=0.05))
            fleet.start(4)
            kills = 0
            while not await field.settles(KILL_EVERY):
                fleet.check()
                fleet.kill_one()
                kills += 1
            return await field.report("workers killed", fleet, kills)


async def server_restarted(dsn: str, commands: int, seed: int, restart: Callable[[], None]) -> Report:
    """PostgreSQL goes down `immediate` and comes back, while workers work and a sender sends."""
    async with field_of(dsn, seed, commands) as field:
        with Fleet(Plan(dsn, DOMAIN, lease=3.0), field.draw) as fleet:
            load = field.load(commands, mean=0.15)
            early = len(load) * 2 // 3
            step = max(1, min(PER_RESTART, commands // 4))
            await field.send(load[:early])
            fleet.start(3)
            sending = asyncio.create_task(field.send_through_faults(load[early:]))
            restarts = done = 0

            async def has_moved() -> bool:
                return (await field.number_if_up(COMPLETED) or 0) >= done + step

            async def moves() -> bool:
                while not await within(min(1.0, field.left), has_moved):
                    fleet.check()
                    if not field.left or (sending.done() and await field.is_settled()):
                        return False
                return True

            try:
                # By progress, not by the clock: a pool waits longer and longer before it connects anew, and a server
                # that goes down in the same rhythm would never be up at the right moment.
                while await moves():
                    done = await field.number(COMPLETED)
                    await asyncio.to_thread(restart)
                    restarts += 1
                await sending
                await field.settles(field.left)
            finally:
                sending.cancel()
            return await field.report("server restarted", fleet, restarts)


async def backends_terminated(dsn: str, commands: int, seed: int) -> Report:
    """Connections of workers are ended by the server, a few at a time, at random."""
    async with field_of(dsn, seed, commands) as field:
        with Fleet(Plan(dsn, DOMAIN), field.draw) as fleet:
            await field.send(field.load(commands, mean=0.08))
            fleet.start(3)
            ended = 0
            while not await field.settles(field.draw.uniform(0.1, 0.5)):
                fleet.check()
                ended += len(await field.ask(BACKENDS, [field.draw.randint(1, 3)]))
            return await field.report("backends terminated", fleet, ended)


async def commits_cut(dsn: str, commands: int, seed: int) -> Report:
    """The connection breaks just before and just after a COMMIT, of handlers and of flushes."""
    async with field_of(dsn, seed, commands) as field:
        with Proxy(dsn) as proxy, Fleet(Plan(proxy.dsn, DOMAIN), field.draw) as fleet:
            await field.send(field.load(commands, mean=0.1))
            fleet.start(1)
            cuts = 0
            kinds = [
                (order, text)
                for order in (proxy.cut_before, proxy.cut_after)
                for text in ("commit", "select command_id, verdict from commandbus.complete(")
            ]
            while not await field.settles(0.05):
                fleet.check()
                field.draw.shuffle(kinds)
                for order, text in kinds:
                    cut = order(text)
                    cuts += await within(2.0, cut.happened.is_set)
            return await field.report("commits cut", fleet, cuts)


async def workers_frozen(dsn: str, commands: int, seed: int, *, naive: bool = False) -> Report:
    """A worker is stopped for longer than its lease and goes on as if nothing had been: its outcomes come too late.

    Its handlers do not heed their cancellation, so that they come to an end under the lost lease.

    Args:
        dsn: Where.
        commands: How many.
        seed: For all that is drawn.
        naive: The control: outcomes are written without looking at the lease, on this database.
    """
    async with field_of(dsn, seed, commands) as field:
        if naive:
            await field.ask(NAIVE)
        late = BOTH_HARMS if naive else REFUSED
        with Fleet(Plan(dsn, DOMAIN, lease=1.5), field.draw) as fleet:
            await field.send(field.load(commands, mean=0.6, kinds=STUBBORN))
            fleet.start(2)
            frozen = 0
            # The last few commands would only go to and fro.
            while field.left and (await field.number(WAITING) or not await field.number(late)):
                fleet.check()
                if await field.is_settled():  # before anybody came too late
                    await field.send(field.load(commands, mean=0.6, kinds=STUBBORN))
                before = await field.number(late)
                if not await _freeze(field, fleet):
                    continue
                frozen += 1
                if await within(5.0, lambda before=before: _more(field, late, before)) and naive:
                    break
            await field.settles(5.0 if naive else PATIENCE)
            return await field.report("workers frozen" + (", no guard" if naive else ""), fleet, frozen)


async def _more(field: Field, query: str, before: int) -> bool:
    return await field.number(query) > before


async def _freeze(field: Field, fleet: Fleet) -> bool:
    """Stop a worker with handlers under way until another has its commands; False if it had none."""
    victim = fleet.choose()
    name = f"chaos-{victim.pid}"

    async def has_some() -> bool:
        return bool(await field.ask(IN_HAND, [name]))

    async def has_none() -> bool:
        return not await has_some()

    if not await within(2.0, has_some):
        return False
    victim.send_signal(signal.SIGSTOP)
    try:
        return await has_some() and await within(min(TAKEOVER, field.left), has_none)
    finally:
        victim.send_signal(signal.SIGCONT)


async def bad_neighbours(dsn: str, commands: int, seed: int) -> Report:
    """Handlers that exhaust the pool, raise what nobody catches or end the process; poison; sessions left open."""
    poison = ["Strict", "Unspeakable", "Die", "Nobody", "UNKNOWN"]
    async with field_of(dsn, seed, commands) as field, AsyncExitStack() as stack:
        snapshot = await stack.enter_async_context(await psycopg.AsyncConnection.connect(dsn))
        await snapshot.execute("set transaction isolation level repeatable read")
        await snapshot.execute("select count(*) from commandbus.command")
        with Fleet(Plan(dsn, DOMAIN, pool_size=4, pool_timeout=2.0), field.draw) as fleet:
            load = [*field.load(commands, mean=0.02), *_hostile(field)]
            field.draw.shuffle(load)
            await field.send(load)
            held = await stack.enter_async_context(await psycopg.AsyncConnection.connect(dsn))
            late = field.load(20, mean=0.01)
            await field.bus.send_batch(late, conn=held)
            for stray in STRAYS:
                await field.ask("select pgmq.send(%s, %s::jsonb)", [f"{DOMAIN}__commands", stray])
            fleet.start(2)
            while not await field.settles(0.2):
                fleet.replace_dead()
            in_time = await field.is_settled()  # though one session is still idle in its transaction
            await held.commit()
            field.sent += [request.command_id for request in late]
            await field.bus.wake()
            while in_time and not await field.settles(0.2):
                fleet.replace_dead()
            await snapshot.rollback()
            faults = len(STRAYS) + len(load) - commands + 2
            return await field.report("bad neighbours", fleet, faults, poison=poison, may_die=True)


def _hostile(field: Field) -> list[SendRequest]:
    died = [field.request("Die") for _ in range(2)]
    for request in died:
        object.__setattr__(request, "max_attempts", 2)  # each attempt costs a process
    return [
        *died,
        *(field.request("Hog", takes=0.3) for _ in range(20)),
        *(field.request("Doom", kind=kind, times=2) for kind in range(6)),
        *(field.request("DoomedEffect", kind=kind, times=2) for kind in range(6)),
        *(field.request("Strict", amount="poison") for _ in range(5)),
        *(field.request("Unspeakable") for _ in range(5)),
        *(field.request("Nobody") for _ in range(5)),
    ]
