"""The worker: receives commands of one domain, runs their handlers, writes what became of them.

Promises. Every received command ends in exactly one of: an outcome written under its lease, a give-back, or an expired
lease after which another receive takes it. A handler runs only while this worker holds the lease; a result under a lost
lease changes nothing. A worker survives what its handlers do and what its database does: it reconnects by itself and
repeats what it could not write.

How it moves. Three things go on at once, each at most once at a time::

    receive ──> backlog ──> slots (one handler each) ──> outcomes ──> flush
       ^                                                                │
       └─ when slots are free, and a little ahead      what finished during the flush before

No timer delays anything: one command alone is received, handled and completed at once; a thousand share their round
trips and commits. How far ahead it receives depends on how long handlers take: only what will start within `HORIZON`.

How it sleeps. It found nothing, so it commits that it will sleep, receives once more, and then waits for a wake-up, for
the next due time or for ``poll_interval``, whichever is first. A sender looks for sleepers after its commit, so one of
the two sees the other.

How it ends. `stop` gives back what has not started, waits for what has, cancels what takes longer than the timeout (and
gives it back), and flushes. A handler that ignores its cancellation is left behind, and its command runs again when its
lease ends, as after SIGKILL: then other workers take over within ``max_attempts``.

How it is held up. A thread that outlives its timeout, or a slow handler in every slot, costs slots and nothing else:
what was received ahead and waits behind them for longer than `STALL` is given back, for other workers.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

from mainstay.commands.aggregates import Aggregates
from mainstay.commands.checks import checked_concurrency, checked_interval
from mainstay.commands.deciders import Deciders
from mainstay.commands.ends import Why, unwritable
from mainstay.commands.execution import Execution
from mainstay.commands.gauges import Gauges
from mainstay.commands.hand import Hand, on_this_loop
from mainstay.commands.handler import HandlerRegistry
from mainstay.commands.health import Observed
from mainstay.commands.outcomes import BatchFolder, OutcomeWriter
from mainstay.commands.pace import STALL, Deadlines, Pace
from mainstay.commands.progress import ProgressReports
from mainstay.commands.reaching import FIRST_PAUSE, LONGEST_PAUSE, until_reached
from mainstay.commands.running import ForABlock
from mainstay.commands.schedules import Scheduler
from mainstay.commands.slots import Slots
from mainstay.commands.store import LONGEST_SLEEP, CommandStore, Lease, Loss, Outcome, Received, Verb, Wakeups
from mainstay.commands.threads import HandlerThreads
from mainstay.errors import (
    ConfigurationError,
    MainstayError,
    PoolClosedError,
    QueueNotFoundError,
    StorageUnavailableError,
)
from mainstay.message import checked_domain, checked_worker_name, worker_name
from mainstay.metrics import observed
from mainstay.retry import RetryPolicy, as_seconds
from mainstay.service import Service
from mainstay.telemetry import get_logger

MAX_RECEIVE = 500
MAX_UNWRITTEN = 2000
"""Outcomes that may wait for a flush before slots wait too."""
MIN_LEASE = 1.0

logger = get_logger(__name__)


class Worker(ForABlock, Observed):
    """Handles the commands of one domain.

    Args:
        store: Where commands live.
        domain: Whose commands.
        registry: Who handles what; more handlers may be registered until it runs.
        retry_policy: Delays between attempts, for handlers that bring no policy of their own.
        visibility_timeout: Seconds (or timedelta) until a command whose worker died is received again. Leases of a
            living worker renew themselves, so this says nothing about how long a handler may take.
        use_notify: Listen for wake-ups on a connection of its own; False behind a pooler that cannot.
        name: For the audit trail; drawn if None.
        services: Run as long as it does.
        aggregates: For handlers on aggregates.
        deciders: For deciders, whose commands are then committed in groups.

    Raises:
        ConfigurationError: A value out of range.
        InvalidDomainError: No queue can have this name.
    """

    def __init__(
        self,
        store: CommandStore,
        domain: str,
        registry: HandlerRegistry | None = None,
        visibility_timeout: timedelta | float = 30,
        retry_policy: RetryPolicy | None = None,
        *,
        use_notify: bool = True,
        name: str | None = None,
        services: Sequence[Service] = (),
        aggregates: Aggregates | None = None,
        deciders: Deciders | None = None,
    ) -> None:
        self.domain = checked_domain(domain)
        self.registry = registry if registry is not None else HandlerRegistry()
        self.name = worker_name() if name is None else checked_worker_name(name)
        self._is_running = False
        self._store = store
        self._services = services
        self._lease_seconds = as_seconds(visibility_timeout)
        if self._lease_seconds < MIN_LEASE:
            raise ConfigurationError(f"visibility_timeout must be at least {MIN_LEASE:g} s, not {visibility_timeout!r}")
        self._use_notify = use_notify
        self._running: dict[Lease, asyncio.Task[None]] = {}
        self._hand = Hand(self._running)
        self._progress = ProgressReports(store, self.domain)
        self._threads = HandlerThreads()
        self._execution = Execution(
            store,
            self.domain,
            self.registry,
            retry_policy,
            self._threads,
            lambda received: self._is_ending or self._hand.is_stopped(received.lease),
            self._on_stuck,
            self._progress.report,
            aggregates,
            deciders,
            self._on_parked,
        )
        self._folder = BatchFolder(store, self.domain)
        self._scheduler = Scheduler(self.domain, store.schedules.fire, store.wake)
        self._writer = OutcomeWriter(store, self.domain, self._hand.release, self._folder.touch)
        self._backlog: deque[Received] = deque()
        self._stuck: set[Lease] = set()
        self._pace = Pace()
        self._deadlines = Deadlines()
        self._is_ending = False
        self._is_draining = False
        self._slots = Slots(self._slot, lambda: self._execution.parked)
        self._handled = 0
        self._concurrency = 1
        self._stopping = asyncio.Event()
        self._nudge = asyncio.Event()
        self._room = asyncio.Event()
        self._work = asyncio.Event()
        self._finished = asyncio.Event()
        self._stop_timeout: float | None = None

    # -- what it is doing ---------------------------------------------------------------------------------------------
    @property
    def queue_name(self) -> str:
        """The queue it receives from."""
        return f"{self.domain}__commands"

    @property
    def is_running(self) -> bool:
        """Whether `run` is under way."""
        return self._is_running

    @property
    def in_flight_count(self) -> int:
        """Commands whose handlers are running."""
        return len(self._running)

    @property
    def handled_count(self) -> int:
        """Commands whose handlers have ended since the start, whatever the outcome."""
        return self._handled

    @property
    def stuck_count(self) -> int:
        """Slots occupied by threads that outlived their timeout; they free themselves when the thread returns."""
        return len(self._stuck)

    # -- running ------------------------------------------------------------------------------------------------------
    async def run(
        self, concurrency: int = 4, poll_interval: timedelta | float = 1.0, *, use_notify: bool | None = None
    ) -> None:
        """Work until `stop` is called or this task is canceled.

        Args:
            concurrency: Handlers that may run at once. Commands for deciders in groups only wait: more are in hand.
            poll_interval: Seconds (or timedelta) after which it looks even if nothing woke it.
            use_notify: Instead of the worker's setting.

        Raises:
            ConfigurationError: A value out of range, it is running already, or nobody can load a handler's aggregate.
            SchemaError: The database is not prepared.
            PermissionDeniedError: The role may not do this.
        """
        checked_concurrency(concurrency)
        poll = checked_interval(poll_interval, "poll_interval")
        if self._is_running:
            raise ConfigurationError("this worker is running already")
        self._execution.check()
        self._is_running = True
        self._threads.most = concurrency
        self._concurrency = self._execution.slots(concurrency)
        self._finished.clear()
        self._writer.give_up.clear()
        self._is_ending = self._is_draining = False
        if use_notify is not None:
            self._use_notify = use_notify
        try:
            async with self._store.dedicated():
                await self._run(poll)
        finally:
            self._forget()
            self._is_running = False
            self._stopping.clear()
            self._finished.set()

    async def _run(self, poll: float) -> None:
        self._keeper = keeper = self._store.lease_keeper(
            self.domain, self._hand.leases, on_this_loop(self._lost), self._lease_seconds
        )
        try:
            await until_reached(lambda: self._store.ensure_queue(self.domain), self._writer.give_up)
            keeper.start()
            async with AsyncExitStack() as stack:
                if self._use_notify:
                    wakeups = await stack.enter_async_context(self._store.wakeups(self.domain, self.name))
                    stack.callback(asyncio.create_task(self._listen(wakeups, keeper.hurry)).cancel)
                stack.enter_context(observed(Gauges(self).observe))
                for service in (self._folder, self._progress, self._scheduler, *self._services):
                    await stack.enter_async_context(service)
                self._slots.open(self._concurrency)
                await self._receive_until_stopped(poll)
                await self._wind_up()
        finally:
            self._give_back_backlog(Why.STOPPED)
            await self._end_slots()
            if self._execution.grouping is not None:
                await self._execution.grouping.close()
            with suppress(asyncio.CancelledError):
                await self._writer.finish(LONGEST_PAUSE)
            await asyncio.to_thread(keeper.stop)
            self._threads.leave()

    async def stop(self, timeout: timedelta | float | None = 30) -> None:
        """Stop: give back what has not started, wait for what has, and return when `run` has ended.

        Does nothing if it does not run.

        Args:
            timeout: Seconds (or timedelta) to wait for running handlers before they are canceled and given back; None:
                for ever.
        """
        if not self._is_running:
            return
        self._stop_timeout = None if timeout is None else as_seconds(timeout)
        self._stopping.set()
        self._nudge.set()
        self._room.set()
        await self._finished.wait()

    async def drain(self, timeout: timedelta | float | None = None) -> None:
        """Receive no more, finish what was received, and return when `run` has ended. It can be run again.

        Args:
            timeout: Seconds (or timedelta) after which it ends as by `stop`; None: however long handlers take.
        """
        self._is_draining = self._is_running
        await self.stop(timeout)

    # -- receiving ----------------------------------------------------------------------------------------------------
    async def _receive_until_stopped(self, poll: float) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                if self._backlog and self._is_stalled():
                    self._give_back_backlog(Why.STALLED)
                room = self._free()
                if room <= 0:
                    await self._wait_for_room()
                    continue
                self._nudge.clear()
                if await self._receive(room) or self._stopping.is_set():
                    pause = FIRST_PAUSE
                    continue
                due = await self._next_due()
                if await self._receive(room):
                    continue
                await self._rest(
                    min(poll, LONGEST_SLEEP, poll if due is None else due, STALL if self._backlog else poll)
                )
                pause = FIRST_PAUSE
            except PoolClosedError:
                raise
            except StorageUnavailableError as error:
                logger.warning("the database cannot be reached; trying again in %.2f s: %s", pause, error)
                await self._rest(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            except QueueNotFoundError:
                logger.warning("the queue of domain %s was dropped; creating it again", self.domain)
                await until_reached(lambda: self._store.ensure_queue(self.domain), self._writer.give_up)
            except Exception:
                logger.exception("could not receive; trying again in %.2f s", pause)
                await self._rest(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _next_due(self) -> float | None:
        """Ask to be woken; seconds until there may be more to receive."""
        return await self._store.about_to_sleep(self.domain, self.name) if self._use_notify else None

    async def _receive(self, room: int) -> int:
        """Receive up to this many; how many came."""
        asked = asyncio.get_running_loop().time()
        # Of commands with a limit what can start at once, and a share of what is held ahead: else a flood starves them.
        limit, slots = min(room, MAX_RECEIVE), self._slots.most - len(self._running) - len(self._backlog)
        at_once = max(slots, (room + 3) // 4)
        received = await self._store.receive(
            self.domain, limit=limit, lease_seconds=self._lease_seconds, worker=self.name, at_once=at_once
        )
        self._deadlines.note(received, asked)
        self._lost(self._hand.again(received))
        self._hand.take(received)
        self._backlog.extend(received)
        if received:
            self._pace.moved(asyncio.get_running_loop().time())
            self._work.set()
            await asyncio.sleep(0)  # handlers start before the next receive is prepared
        return len(received)

    def _free(self) -> int:
        """How many commands to receive now; 0 while enough wait to be started."""
        ahead, waiting = self._ahead(), self._store.waiting_handlers
        room = self._slots.most + ahead - len(self._running) - len(self._backlog)
        few = len(self._backlog) > ahead // 2 or (waiting > ahead // 2 and room < self._concurrency // 2)
        return 0 if ahead and few else room  # few at a time cost more than many

    def _ahead(self) -> int:
        """How many commands to hold beyond free slots: what will start within `HORIZON`."""
        return 0 if self._is_stalled() else self._pace.ahead(self._concurrency)

    def _is_stalled(self) -> bool:
        """Whether handlers run, and for long none has started and nothing has come."""
        return bool(self._running) and self._pace.is_stalled(asyncio.get_running_loop().time())

    async def _wait_for_room(self) -> None:
        """Wait until there may be room, or until what waits in the backlog has waited too long."""
        self._room.clear()
        if self._free() > 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(STALL if self._backlog or self._store.waiting_handlers else None):
                await self._room.wait()

    async def _rest(self, seconds: float) -> None:
        """Wait for a nudge, at most this long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._nudge.wait()

    async def _listen(self, wakeups: Wakeups, hurry: Callable[[], None]) -> None:
        while True:
            if await wakeups.wait(60.0):
                if wakeups.heard("cancel"):
                    hurry()
                self._nudge.set()
                if self._free() <= 0:  # meant for somebody with time
                    with suppress(MainstayError):
                        await self._store.wake([self.domain])

    # -- handling -----------------------------------------------------------------------------------------------------
    async def _slot(self) -> None:
        """Take commands from the backlog, one after another."""
        task = asyncio.current_task()
        if task is None:  # pragma: no cover - a coroutine runs in a task
            return
        while not self._is_ending:
            try:
                while not self._backlog or len(self._running) >= self._slots.most:
                    self._work.clear()
                    await self._work.wait()
                received = self._backlog.popleft()
                if self._deadlines.missed(received.lease, asyncio.get_running_loop().time()):
                    self._writer.submit(Outcome(received.lease, Verb.GIVE_BACK, details=Why.LATE))
                    continue
                self._running[received.lease] = task
                try:
                    await self._handle(received)
                except Exception:
                    logger.exception("could not handle a command; it runs again when its lease ends")
                    self._hand.release(received.lease)
                finally:
                    self._running.pop(received.lease, None)
                    self._hand.why_stopped(received.lease)
                    self._room.set()
            except asyncio.CancelledError:
                if self._is_ending:
                    raise
            while task.cancelling() and not self._is_ending:  # a handler canceled its own task, or was called off
                task.uncancel()

    async def _handle(self, received: Received) -> None:
        lease, loop = received.lease, asyncio.get_running_loop()
        started = loop.time()
        self._pace.moved(started)
        outcome: Outcome | None = None
        was_cancelled = False
        try:
            outcome = await self._execution.run(received)
        except asyncio.CancelledError:
            was_cancelled = True
        except BaseException as error:
            logger.exception("could not judge a handler's end; an operator must look", extra=self._about(lease))
            outcome = unwritable(Outcome(lease, Verb.RETRY), error)
        self._progress.forget(lease)
        self._handled += 1
        self._pace.took(loop.time() - started)
        is_canceled = self._hand.why_stopped(lease)
        if is_canceled is False:
            logger.warning("canceled a handler: another worker has its command", extra=self._about(lease))
        elif was_cancelled and lease not in self._stuck:
            outcome = Outcome(lease, Verb.GIVE_BACK, details=Why.CANCELED if is_canceled else Why.STOPPED)
        if outcome is None or lease in self._stuck:
            if received.command.key is not None:
                self._nudge.set()
            self._stuck.discard(lease)
            self._hand.release(lease)
            self._folder.touch([lease])
            return
        written = self._writer.submit(outcome, received.command.command_type)
        may_wait = outcome.verb is Verb.RETRY or outcome.exhausted
        if may_wait or received.command.key is not None or lease.is_limited:
            written.add_done_callback(lambda _: self._nudge.set())  # due when? and whose turn is it now?
        if len(self._writer) > MAX_UNWRITTEN:
            await asyncio.wait({written})

    def _on_parked(self) -> None:
        """One more only waits: another may be handled instead, and is to be received."""
        if not self._is_ending:
            self._slots.grow()
            self._work.set()
            self._room.set()

    def _on_stuck(self, received: Received) -> None:
        """A thread outlived its timeout: let its lease end."""
        self._stuck.add(received.lease)
        self._hand.release(received.lease)
        logger.error(
            "a handler's thread outlived its timeout: it occupies its slot until it returns, its result is refused",
            extra=self._about(received.lease),
        )
        self._room.set()

    def _about(self, lease: Lease) -> dict[str, str]:
        return {"domain": self.domain, "command_id": str(lease.command_id)}

    # -- leases -------------------------------------------------------------------------------------------------------
    def _lost(self, losses: Sequence[Loss]) -> None:
        """Stop what another worker has, or nobody shall have: that is given back, and so it ends."""
        self._hand.stop(losses)
        gone = {loss.command_id: loss.is_canceled for loss in losses}
        for one in self._backlog:
            if gone.get(one.lease.command_id):
                self._writer.submit(Outcome(one.lease, Verb.GIVE_BACK, details=Why.CANCELED))
        self._backlog = deque(one for one in self._backlog if one.lease.command_id not in gone)

    # -- ending -------------------------------------------------------------------------------------------------------
    async def _wind_up(self) -> None:
        """Give back what has not started (draining: finish it), wait, cancel what takes too long, write it all."""
        if not self._is_draining:
            self._give_back_backlog(Why.STOPPED)
        loop = asyncio.get_running_loop()
        deadline = None if self._stop_timeout is None else loop.time() + self._stop_timeout
        while (self._backlog or self._running.keys() - self._stuck) and (deadline is None or loop.time() < deadline):
            if self._backlog and self._is_stalled():  # behind threads that may never return
                self._give_back_backlog(Why.STALLED)
            self._room.clear()
            with suppress(TimeoutError):
                look = loop.time() + STALL if self._backlog else None
                async with asyncio.timeout_at(min(filter(None, (deadline, look)), default=None)):
                    await self._room.wait()
        if late := len(self._running.keys() - self._stuck):
            logger.warning("%d handlers did not end in time; they are canceled and their commands given back", late)
        await self._end_slots()
        await self._writer.finish(None if deadline is None else max(deadline - loop.time(), LONGEST_PAUSE))

    async def _end_slots(self) -> None:
        """Cancel the slots, and leave behind those whose handlers ignore it."""
        self._is_ending = True
        await self._slots.end()

    def _give_back_backlog(self, reason: bytes) -> None:
        while self._backlog:
            self._writer.submit(Outcome(self._backlog.popleft().lease, Verb.GIVE_BACK, details=reason))

    def _forget(self) -> None:
        """Begin anew: what handlers left behind do later is nobody's business."""
        self._running.clear()
        self._hand.clear()
        self._stuck.clear()
