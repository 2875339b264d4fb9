"""The place of a scenario: a database, a bus, what was sent, and the questions at the end."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool

from mainstay import CommandBus, SendRequest
from mainstay.commands.lifecycle import AUDIT_PATH, CommandStatus
from mainstay.errors import DuplicateCommandError, StorageUnavailableError
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.chaos import report
from tests.chaos.fleet import Fleet
from tests.chaos.report import Recovery, Report
from tests.support.waiting import eventually

DOMAIN = "chaos"
EFFECTS = "create table if not exists chaos_effect (command_id uuid, worker text, attempt int)"
OUTAGES = "create table if not exists chaos_outage (since timestamptz)"
UNSETTLED = "select exists (select from commandbus.command where status in ('PENDING', 'IN_PROGRESS'))"
MAX_ATTEMPTS = 1000
"""So many that a machine on which leases expire by themselves exhausts no command."""
_CHUNK = 500


async def within(seconds: float, condition: Callable[[], Any | Awaitable[Any]]) -> bool:
    """Whether a condition comes to hold in so many seconds."""
    try:
        await eventually(condition, timeout=seconds)
    except AssertionError:
        return False
    return True


class Field:
    """Where a scenario takes place.

    Args:
        dsn: A database with the schema, of this scenario's own.
        seed: Everything that is drawn follows from it.
        patience: Seconds after which what is not settled counts as lost.
    """

    def __init__(self, dsn: str, seed: int, patience: float) -> None:
        self.dsn = dsn
        self.draw = random.Random(seed)
        self.pool: AsyncConnectionPool[Any] = AsyncConnectionPool(dsn, min_size=1, max_size=4, open=False)
        self.store = PostgresCommandStore(self.pool)
        self.bus = CommandBus(self.store, default_max_attempts=MAX_ATTEMPTS)
        self.sent: list[UUID] = []
        self.shared = self.skipped = 0
        self._asking: psycopg.AsyncConnection[Any] | None = None
        self._began = time.monotonic()
        self._end = self._began + patience

    async def __aenter__(self) -> Self:
        await self.pool.open()
        await self.ask(EFFECTS)
        await self.ask(OUTAGES)
        await self.store.ensure_queue(DOMAIN)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._asking is not None:
            await self._asking.close()
        await self.bus.close()
        await self.pool.close()

    # -- sending ------------------------------------------------------------------------------------------------------
    def request(self, command_type: str, **data: Any) -> SendRequest:
        return SendRequest(DOMAIN, command_type, self._next_id(), data)

    def urgent(self, command_type: str, **data: Any) -> SendRequest:
        """One that is handled now, whatever waits."""
        return SendRequest(DOMAIN, command_type, self._next_id(), data, priority=9)

    def _next_id(self) -> UUID:
        return UUID(int=self.draw.getrandbits(128), version=4)

    def load(self, count: int, mean: float, kinds: tuple[str, str] = ("Plain", "Effect")) -> list[SendRequest]:
        """Half plain, half transactional commands, whose handlers take ``mean`` seconds on average."""
        return [self.request(kinds[number % 2], takes=self.draw.uniform(0, 2 * mean)) for number in range(count)]

    async def send(self, requests: Sequence[SendRequest]) -> None:
        for start in range(0, len(requests), _CHUNK):
            await self.bus.send_batch(requests[start : start + _CHUNK])
        self.sent += [request.command_id for request in requests]

    async def send_through_faults(self, requests: Sequence[SendRequest]) -> None:
        """One by one, each until it is in: a repeated send of a known id is told apart by the database."""
        for request in requests:
            self.sent.append(request.command_id)

            async def is_in(request: SendRequest = request) -> bool:
                try:
                    await self.bus.send(
                        request.domain,
                        request.command_type,
                        request.command_id,
                        request.data,
                        priority=request.priority,
                    )
                except DuplicateCommandError:
                    return True
                except StorageUnavailableError:
                    return False
                return True

            await eventually(is_in, timeout=max(1.0, self.left))

    async def race_for_unique_keys(self, keys: int, senders: int) -> None:
        """Several senders want each key at once."""
        racing = [
            self.bus.send(
                DOMAIN,
                "Plain",
                self._next_id(),
                {"takes": 0.1},
                unique_key=f"key-{number}",
                on_conflict="skip",
                priority=9,
            )
            for number in range(keys)
            for _ in range(senders)
        ]
        told = await asyncio.gather(*racing)
        self.sent += [each.command_id for each in told if not each.skipped]
        self.shared += await self.number(report.SHARED)
        self.skipped += sum(each.skipped for each in told)

    # -- asking -------------------------------------------------------------------------------------------------------
    async def ask(self, query: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Rows of a query, on a connection kept for it."""
        if self._asking is None or self._asking.closed:
            self._asking = await psycopg.AsyncConnection.connect(self.dsn, autocommit=True)
        cursor = await self._asking.execute(query, parameters)
        return await cursor.fetchall() if cursor.description else []

    async def number(self, query: Any, parameters: Any = None) -> int:
        return int((await self.ask(query, parameters))[0][0])

    async def number_if_up(self, query: Any) -> int | None:
        """The answer of a query, None while the database is away."""
        try:
            return await self.number(query)
        except psycopg.OperationalError:
            if self._asking is not None:
                await self._asking.close()
            return None

    async def is_up(self) -> bool:
        """Whether the database answers."""
        return await self.number_if_up("select 1") == 1

    async def is_settled(self) -> bool:
        """Whether everything has ended or waits for an operator; False while the database is away."""
        return await self.number_if_up(UNSETTLED) == 0

    @property
    def left(self) -> float:
        """Seconds of patience that are left."""
        return max(self._end - time.monotonic(), 0)

    async def settles(self, seconds: float) -> bool:
        """Wait for that, at most so many seconds; True also when the patience of the whole scenario is over."""
        left = self.left
        return await within(min(seconds, left), self.is_settled) or left <= seconds

    # -- judging ------------------------------------------------------------------------------------------------------
    async def report(
        self,
        scenario: str,
        fleet: Fleet,
        faults: int,
        *,
        poison: Sequence[str] = (),
        may_die: bool = False,
        others_died: int = 0,
        recoveries: Sequence[Recovery] = (),
        limit: float = 0.0,
    ) -> Report:
        """End the workers and look at everything.

        Args:
            scenario: Its name.
            fleet: Its workers.
            faults: How many there were.
            poison: Types of commands that belong before an operator.
            may_die: Handlers ended workers on purpose.
            others_died: Workers of other fleets that ended by themselves.
            recoveries: How the rate came back.
            limit: Seconds in which it must.
        """
        await asyncio.to_thread(fleet.stop)
        await self.pool.check()  # the server may have been away
        by_status: dict[str, int] = dict(await self.ask(report.BY_STATUS))
        found = {
            "lost": await self.number(report.LOST, [self.sent]),
            "doubled": await self.number(report.DOUBLED),
            "torn": await self.number(report.TORN),
            "stale_applied": await self.number(report.STALE_APPLIED),
            "illegal_trails": await self._illegal_trails(),
            "fsck_findings": len((await self.store.fsck()).findings),
            "misplaced": await self.number(report.MISPLACED, {"poison": list(poison), "may_give_up": not poison}),
            "shared": self.shared,
            "skipped": self.skipped,
            "opened": await self.number(report.OPENED),
            "refused": await self.number(report.REFUSED),
            "died": fleet.ended_badly(may_die=may_die) + others_died,
        }
        return Report(
            scenario=scenario,
            commands=sum(by_status.values()),
            completed=by_status.get("COMPLETED", 0),
            troubleshooting=by_status.get("IN_TROUBLESHOOTING_QUEUE", 0),
            faults=faults,
            seconds=time.monotonic() - self._began,
            recoveries=tuple(recoveries),
            slow=sum(each.seconds > limit for each in recoveries),
            log=fleet.log_tail(),
            **found,
        )

    async def _illegal_trails(self) -> int:
        """Trails that are no path through the table of allowed steps, or do not end at the command's status."""
        illegal = 0
        for status, events in await self.ask(report.TRAILS):
            now: CommandStatus | None = None
            try:
                for event in events:
                    now = AUDIT_PATH[now, event]
            except KeyError:
                now = None
            illegal += now != status
        return illegal
