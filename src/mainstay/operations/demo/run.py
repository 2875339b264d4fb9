"""Directing a run of the demo: what happens in which order, and what is measured meanwhile.

The order: workers start; commands are sent in every way there is while the workers already work; when a good part is
done, the busiest worker gets SIGKILL and another one is started; when nothing is under way any more, stock is taken; an
operator decides on part of what is in troubleshooting; idle workers are probed; everything is checked.

However a run ends, with its last line, an error or Ctrl-C, it stops its workers first.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol, TypeVar

from mainstay.commands.command import BatchCommand, SendRequest
from mainstay.commands.lifecycle import CommandStatus
from mainstay.errors import MainstayError
from mainstay.operations.demo.decisions import decide
from mainstay.operations.demo.figures import Killed, Report, check_replies, compare, first_pass
from mainstay.operations.demo.handlers import DOMAIN, REPORTS
from mainstay.operations.demo.processes import Crew, WorkerView
from mainstay.operations.demo.workload import BATCH_NAME, REPLIES, Planned, Way, Workload
from mainstay.operations.operator import Operator
from mainstay.storage.postgres.demo import DemoStore
from mainstay.storage.postgres.pgmq import PgmqClient

T = TypeVar("T")

LOOK_INTERVAL = 0.2
PROBES = 100
_PROBE_PAUSE = 0.015
_BULK = 500
_SINGLES = 50
_KILL_AT = 0.3
_PATIENCE = 60.0
"""Seconds without any change after which a run is given up."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run shall be.

    Args:
        commands: How many.
        seed: Of the dice.
        workers: Processes.
        concurrency: Handlers that may run at once in each.
        lease: Seconds after which the commands of a killed worker run elsewhere.
        kill: Whether one is killed.
        run: Makes the ids of this run differ from those of others in the same database.
    """

    commands: int = 10_000
    seed: int = 1
    workers: int = 3
    concurrency: int = 8
    lease: float = 3.0
    kill: bool = True
    run: str = ""


@dataclass(slots=True)
class Situation:
    """How far a run is, for the screen.

    Args:
        total: Commands that will be sent.
        sent: Commands that were sent.
        ready: Wait to be received.
        deferred: Wait for their time.
        in_progress: Are being handled.
        completed: Ended well.
        failed: Refused by a business rule.
        canceled: Given up.
        troubleshooting: Wait for an operator.
        workers: How the processes are doing.
    """

    total: int
    sent: int = 0
    ready: int = 0
    deferred: int = 0
    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    canceled: int = 0
    troubleshooting: int = 0
    workers: list[WorkerView] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Commands that nobody is going to handle now."""
        return self.completed + self.failed + self.canceled + self.troubleshooting


class Screen(Protocol):
    """Where a run shows what it does."""

    def begin(self, phase: str) -> None:
        """Something begins; what began before it has ended."""
        ...

    def update(self, situation: Situation) -> None:
        """How far it is."""
        ...

    def note(self, text: str) -> None:
        """Something happened."""
        ...


class DemoError(MainstayError):
    """A run that cannot go on."""


class Run:
    """One run on one database.

    Args:
        operator: Connected; the schema is current.
        dsn: For the worker processes.
        settings: What it shall be.
        screen: Where to show it.
    """

    def __init__(self, operator: Operator, dsn: str, settings: Settings, screen: Screen) -> None:
        self._operator = operator
        self._dsn = dsn
        self._settings = settings
        self._screen = screen
        self._workload = Workload(settings.commands, settings.seed, settings.run or f"seed {settings.seed}")
        self._store = DemoStore(operator.pool, DOMAIN)
        self._crew = Crew(dsn, concurrency=settings.concurrency, lease=settings.lease)
        self._situation = Situation(settings.commands)
        self._pace: list[tuple[float, int]] = []
        self._send_seconds = 0.0

    async def run(self) -> Report:
        """Do it all, and stop the workers in any case.

        Raises:
            MainstayError: It cannot go on; the message says why.
        """
        settings = self._settings
        began = time.monotonic()
        await self._store.begin()
        await PgmqClient(self._operator.pool).create_queue(REPLIES)
        report = Report(settings.commands, settings.seed, settings.workers, settings.concurrency, self._store.version)
        try:
            self._screen.begin(f"Start {settings.workers} worker processes")
            await self._started(self._crew.start(settings.workers))
            self._screen.begin(f"Send {settings.commands:,} commands and handle them")
            report.killed = await self._main_part()
            await self._take_stock(report)
            self._screen.begin("Decide on commands in troubleshooting, as an operator would")
            await self._operate(report)
            self._screen.begin("Measure how soon an idle worker starts a command")
            await self._probe(report)
        finally:
            self._screen.begin("Stop the workers")
            await self._crew.stop()
            self._situation.workers = self._crew.views
            self._screen.update(self._situation)
        self._screen.begin("Check everything")
        await self._check(report)
        report.seconds = time.monotonic() - began
        return report

    @staticmethod
    async def _started(starting: Awaitable[None]) -> None:
        """Wait until processes work; what keeps one of them from it is the error."""
        try:
            await starting
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    # -- sending and handling -----------------------------------------------------------------------------------------
    async def _main_part(self) -> Killed | None:
        sending = asyncio.create_task(self._send())
        replacement: asyncio.Task[None] | None = None
        killed: Killed | None = None
        try:
            async for situation in self._watch():
                if sending.done():
                    sending.result()
                due = self._settings.kill and killed is None
                if due and situation.done >= _KILL_AT * situation.total:
                    killed = self._kill()
                    replacement = asyncio.create_task(self._started(self._crew.start(1)))
                elif sending.done() and not due and situation.done >= situation.total:
                    break
            if replacement:
                await replacement
        finally:
            for task in (sending, replacement):
                if task:
                    task.cancel()
        return killed

    async def _send(self) -> None:
        """Send the batch first, the others in chunks, those that go one by one in between."""
        began = time.monotonic()
        workload = self._workload
        planned = iter(workload)
        await self._send_batch(list(islice(planned, workload.batch_size)))
        for chunk in _chunks(planned, _BULK):
            single = [each.request for each in chunk if each.way is Way.SINGLE]
            await self._operator.send([each.request for each in chunk if each.way is not Way.SINGLE])
            self._situation.sent += len(chunk) - len(single)
            for few in _chunks(single, _SINGLES):
                await asyncio.gather(*(self._send_one(request) for request in few))
                self._situation.sent += len(few)
        self._send_seconds = time.monotonic() - began

    async def _send_batch(self, commands: list[Planned]) -> None:
        if not commands:
            return
        await self._operator.bus.create_batch(
            DOMAIN,
            [
                BatchCommand(
                    each.request.command_type,
                    each.request.command_id,
                    each.request.data,
                    max_attempts=each.request.max_attempts,
                )
                for each in commands
            ],
            batch_id=self._workload.batch_id,
            name=BATCH_NAME,
            on_complete=self._workload.batch_report,
        )
        self._situation.sent += len(commands)

    async def _send_one(self, request: SendRequest) -> None:
        await self._operator.bus.send(
            request.domain,
            request.command_type,
            request.command_id,
            request.data,
            max_attempts=request.max_attempts,
        )

    async def _watch(self) -> AsyncIterator[Situation]:
        """Look at the commands again and again; the caller decides when it has seen enough.

        Raises:
            DemoError: Nothing has changed for a long time.
            WorkerProcessError: A worker ended by itself.
        """
        changed, last = time.monotonic(), (-1, -1)
        while True:
            looked = time.monotonic()
            situation = await self._look()
            yield situation
            self._crew.check()
            now = time.monotonic()
            if (situation.sent, situation.done) != last:
                changed, last = now, (situation.sent, situation.done)
            elif now - changed > _PATIENCE:
                raise DemoError(f"nothing has changed for {_PATIENCE:g} s: {situation}")
            await asyncio.sleep(max(LOOK_INTERVAL, 3 * (now - looked)))

    async def _look(self) -> Situation:
        now = self._situation
        states = await self._store.states()
        counts = dict.fromkeys(CommandStatus, 0)
        now.deferred = 0
        for status, deferred, commands in states:
            if deferred:
                now.deferred += commands
            else:
                counts[status] += commands
        now.ready = counts[CommandStatus.PENDING]
        now.in_progress = counts[CommandStatus.IN_PROGRESS]
        now.completed = counts[CommandStatus.COMPLETED]
        now.failed = counts[CommandStatus.FAILED]
        now.canceled = counts[CommandStatus.CANCELED]
        now.troubleshooting = counts[CommandStatus.IN_TROUBLESHOOTING_QUEUE]
        now.workers = self._crew.views
        self._pace.append((time.monotonic(), now.done))
        self._screen.update(now)
        return now

    def _kill(self) -> Killed:
        victim = self._crew.victim()
        victim.kill()
        self._screen.note(f"Killed worker {victim.number} (process {victim.view.pid}) with SIGKILL; starting another")
        return Killed(victim.number, victim.view.pid, victim.handled, 0, 0, 0)

    # -- taking stock -------------------------------------------------------------------------------------------------
    async def _take_stock(self, report: Report) -> None:
        """Everything that must be counted before an operator changes it."""
        first = await first_pass(self._store, self._workload)
        events = await self._store.events()
        report.outcomes, report.ways = compare(self._workload, first, events)
        report.send_seconds = self._send_seconds
        report.sent_per_second = self._settings.commands / max(self._send_seconds, 0.001)
        report.worked_per_second = self._pace_between(0.05, 0.9)
        since = self._store.since or datetime.now(UTC)
        for each in await self._operator.latencies([DOMAIN], since):
            report.latencies[f"backlog {each.span}"] = each
        if report.killed:
            expired, again = await self._store.taken_over()
            killed = report.killed
            report.killed = Killed(killed.worker, killed.pid, killed.handled, expired, again, expired - again)
        report.check("commands lost", f"{first.lost:,} of {self._settings.commands:,}", holds=not first.lost)
        report.check(
            "each command ended as its dice say",
            f"{self._settings.commands - first.lost - first.strayed:,} of {self._settings.commands:,}",
            holds=not first.strayed,
        )

    def _pace_between(self, start: float, end: float) -> float:
        """Commands that came to an end per second, between two shares of them all."""
        total = self._settings.commands
        part = [(moment, done) for moment, done in self._pace if start * total <= done <= end * total]
        if len(part) < 2:  # noqa: PLR2004 - a span has two ends; so few commands have none, so take it all
            part = self._pace
        seconds = part[-1][0] - part[0][0]
        return (part[-1][1] - part[0][1]) / seconds if seconds else 0.0

    # -- the operator -------------------------------------------------------------------------------------------------
    async def _operate(self, report: Report) -> None:
        async def settled() -> None:
            async for situation in self._watch():
                if situation.done >= situation.total:
                    return

        report.decisions = await decide(self._operator, self._store, settled)
        wrong = sum(each.commands - each.as_expected for each in report.decisions)
        taken = sum(each.commands for each in report.decisions)
        report.check("decisions of the operator had effect", f"{taken - wrong:,} of {taken:,}", holds=not wrong)

    async def _probe(self, report: Report) -> None:
        """Send commands into silence, one at a time."""
        await self._until(self._report_was_made, 10)
        begun = await self._store.now()
        for request in self._workload.probes(PROBES):
            await self._send_one(request)
            await asyncio.sleep(_PROBE_PAUSE)

        async def all_started() -> bool:
            found = await self._operator.latencies([DOMAIN], begun)
            for each in found:
                report.latencies[f"idle {each.span}"] = each
            return len(found) > 1 and all(each.samples == PROBES for each in found)

        if not await self._until(all_started, 10):
            report.check("idle workers handle what is sent", "not all probes within 10 s", holds=False)

    @staticmethod
    async def _until(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
        """Whether a condition comes true in time."""
        end = time.monotonic() + seconds
        while not (holds := await condition()):
            if time.monotonic() > end:
                break
            await asyncio.sleep(LOOK_INTERVAL)
        return holds

    # -- checking -----------------------------------------------------------------------------------------------------
    async def _report_was_made(self) -> bool:
        request = self._workload.batch_report
        found = await self._operator.bus.get_command(REPORTS, request.command_id)
        return not self._workload.batch_size or (found is not None and found.status is CommandStatus.COMPLETED)

    async def _check(self, report: Report) -> None:
        effects = await self._store.effects("LedgerCommand")
        report.check(
            "transactional effects: exactly once",
            f"{effects.lines:,} of {effects.completed:,}, {effects.doubled:,} doubled, {effects.missing:,} missing",
            holds=effects.exactly_once,
        )
        if self._workload.batch_size:
            reports = await self._store.effects("BatchReport", REPORTS)
            batch = await self._operator.batch(self._workload.batch_id, DOMAIN)
            whole = batch.is_complete and batch.total_count == self._workload.batch_size
            report.check(
                "batch completion command sent once",
                f"{reports.lines:,} for {batch.total_count:,} commands",
                holds=whole and reports.lines == 1 and await self._report_was_made(),
            )
        await check_replies(report, self._operator.pool, self._store, self._workload)
        found = await self._operator.fsck()
        report.check(
            "fsck",
            "clean" if found.clean else f"{len(found.findings):,} findings: {found.findings[0].invariant}",
            holds=found.clean,
        )


@asynccontextmanager
async def directed(dsn: str, settings: Settings, screen: Screen) -> AsyncIterator[Run]:
    """A run on a database: connects, and brings the schema up to date.

    Raises:
        MainstayError: The database cannot be reached or prepared.
    """
    screen.begin("Prepare the database")
    async with Operator.connect(dsn, check_schema=False, max_size=8) as operator:
        await operator.upgrade_schema()
        yield Run(operator, dsn, settings, screen)


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk
