"""A process that works: a worker for each domain, stopped by signals.

Promises. The first SIGTERM or SIGINT drains: running handlers get their grace, everything else is given back, and the
process ends when all is written. A second one cancels the handlers; their commands are given back, too. A third one, or
a database that is gone while the process should end, does not keep it alive: leases end by themselves, and other
workers take over.

A thread cannot be stopped. If sync handlers still run when the workers have stopped, `leave` names them and ends the
process without waiting for them, as the interpreter otherwise would, for ever if need be. Their commands run again
elsewhere; what the threads had begun ends with the process, wherever it was.

With ``stops_at_eof`` the end of standard input counts as a SIGTERM: a program that starts workers gives each a pipe,
and however that program ends, the workers do not outlive it.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from mainstay.app import Worker
from mainstay.commands.command import Command
from mainstay.commands.handler import HandlerRegistry
from mainstay.errors import ConfigurationError
from mainstay.events.snapshot import SnapshotPolicy
from mainstay.message import checked_domain
from mainstay.operations.probes import HealthServer
from mainstay.storage.postgres.pruner import EVERY
from mainstay.storage.postgres.retention import Retention
from mainstay.telemetry import get_logger

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SPARE_CONNECTIONS = 4
_PATIENCE = 3.0
"""Seconds beyond the grace after which a worker that does not end is canceled."""
_TURN = 0.05
_HANDLER_THREADS = "mainstay-handler"
_LAST_PATIENCE = 3.0
"""Seconds after which one that was canceled is given up, and the process with it."""

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a process works.

    Args:
        concurrency: Handlers that may run at once, in each domain.
        poll_interval: Seconds after which a worker looks even if nothing woke it.
        visibility_timeout: Seconds after which the commands of a worker that died run elsewhere.
        grace: Seconds that running handlers get when the process is stopped.
        group_commit: Decide on the commands of deciders many at a time, and commit them together.
        snapshots: Events after which a stream leaves a snapshot of its aggregate; None: never.
        listens: Wake up by notifications, on a connection of its own for each domain.
        report_every: Seconds between two lines that say how much was handled.
        stops_at_eof: The end of standard input counts as a SIGTERM.
        metrics_port: Where to answer Prometheus and probes; None: nowhere.
        metrics_host: On which address.
        retention: What to keep of what has ended, if one worker of all shall prune; None: everything.
        prune_every: Time between the end of a run and the next.
    """

    concurrency: int = 10
    poll_interval: float = 1.0
    visibility_timeout: float = 30.0
    grace: float = 30.0
    group_commit: bool = True
    snapshots: int | None = None
    listens: bool = True
    report_every: float = 10.0
    stops_at_eof: bool = False
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    retention: Retention | None = None
    prune_every: timedelta = EVERY


def connections_for(registry: HandlerRegistry, domains: Sequence[str], concurrency: int) -> int:
    """How many pool connections a process needs: one for each transactional handler that may run, and some to spare."""
    transactional = {
        domain
        for domain, command_type in registry.registered_handlers()
        if (domain in domains or not domains) and registry.find(domain, command_type).options.transactional
    }
    return _SPARE_CONNECTIONS + len(transactional) * concurrency


class WorkerGroup:
    """A worker for each domain, in one process.

    Args:
        pool: Open.
        registry: Who handles what.
        domains: Which of its domains; empty means all.
        plan: How.

    Raises:
        ConfigurationError: A domain has no handler, or a value is out of range.
        InvalidDomainError: No queue can have this name.
    """

    def __init__(self, pool: Any, registry: HandlerRegistry, domains: Sequence[str], plan: Plan) -> None:
        known = list(dict.fromkeys(domain for domain, _ in registry.registered_handlers()))
        for domain in domains:
            if checked_domain(domain) not in known:
                raise ConfigurationError(
                    f"the registry has no handler for domain {domain!r}; it has some for: {', '.join(known)}"
                )
        self.domains = list(dict.fromkeys(domains)) or known
        self._plan = plan
        snapshots = None if plan.snapshots is None else SnapshotPolicy.every(plan.snapshots)
        self._workers = [
            Worker(
                pool,
                domain,
                registry,
                visibility_timeout=plan.visibility_timeout,
                use_notify=plan.listens,
                retention=None if index else plan.retention,
                prune_every=plan.prune_every,
                group_commit=plan.group_commit,
                snapshots=snapshots,
            )
            for index, domain in enumerate(self.domains)
        ]
        self._signals = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._signalled = asyncio.Event()
        self._end: asyncio.TimerHandle | None = None

    async def run(self) -> bool:
        """Work until a signal comes; True if everything that ran could finish.

        Raises:
            ConfigurationError: Its metrics port cannot be listened on.
            MissingDependencyError: Metrics without ``prometheus-client``.
            MainstayError: A worker could not go on.
        """
        async with self._probes():
            return await self._work()

    def _probes(self) -> AbstractAsyncContextManager[object]:
        if self._plan.metrics_port is None:
            return nullcontext()
        return HealthServer(self._workers, host=self._plan.metrics_host, port=self._plan.metrics_port)

    async def _work(self) -> bool:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        if self._plan.stops_at_eof:
            threading.Thread(target=_wait_for_eof, args=(loop, self._on_signal), daemon=True).start()
        self._tasks = [
            asyncio.create_task(worker.run(self._plan.concurrency, self._plan.poll_interval), name=worker.domain)
            for worker in self._workers
        ]
        reports = asyncio.create_task(self._report())
        stopping = asyncio.create_task(self._stop_when_signalled())
        try:
            for worker in self._workers:
                logger.info("started", extra={"domain": worker.domain, "worker": worker.name})
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
            if not self._signals:  # one could not go on; the others end gently
                self._signalled.set()
            await asyncio.wait(self._tasks)
        finally:
            for task in (reports, stopping, *self._tasks):
                task.cancel()
            if self._end:
                self._end.cancel()
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
        errors = [task.exception() for task in self._tasks if not task.cancelled() and task.exception()]
        if errors and errors[0]:
            raise errors[0]
        self._say_how_much(None)
        return not any(task.cancelled() for task in self._tasks)

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            running = sum(worker.in_flight_count for worker in self._workers)
            logger.info("stopping, with %d running; a second signal stops at once", running)
            self._signalled.set()
        elif self._signals == 2:  # noqa: PLR2004 - the second signal
            logger.warning("stopping at once")
            self._cancel()
        else:
            os._exit(1)

    async def _stop_when_signalled(self) -> None:
        await self._signalled.wait()
        grace = self._plan.grace
        with suppress(TimeoutError):
            async with asyncio.timeout(grace + _PATIENCE):
                while not all(task.done() for task in self._tasks):  # one that has not begun yet cannot be stopped yet
                    await asyncio.gather(*(worker.stop(grace) for worker in self._workers))
                    await asyncio.wait(self._tasks, timeout=_TURN)
                return
        logger.warning("could not finish in time; giving back what runs")
        self._cancel()

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._end is None:
            self._end = asyncio.get_running_loop().call_later(_LAST_PATIENCE, self._give_up)

    def _give_up(self) -> None:
        """End the process: what cannot be written now is done again elsewhere."""
        logger.error("the database does not answer; commands run elsewhere when their leases end")
        logging.shutdown()
        os._exit(1)

    # -- saying how much ----------------------------------------------------------------------------------------------
    async def _report(self) -> None:
        before = time.monotonic()
        numbers: list[int] = [-1] * len(self._workers)
        while True:
            await asyncio.sleep(self._plan.report_every)
            now = time.monotonic()
            new = [worker.handled_count for worker in self._workers]
            if new != numbers:
                rates = [(b - max(a, 0)) / (now - before) for a, b in zip(numbers, new, strict=True)]
                self._say_how_much(rates)
            before, numbers = now, new

    def _say_how_much(self, rates: list[float] | None) -> None:
        for index, worker in enumerate(self._workers):
            fields = {
                "domain": worker.domain,
                "handled": worker.handled_count,
                "in_flight": worker.in_flight_count,
            }
            if rates is None:
                logger.info("stopped", extra=fields)
            else:
                logger.info("working", extra=fields | {"per_second": round(rates[index], 1)})


def left_behind() -> list[Command]:
    """The commands whose handlers still run in threads.

    A thread of a worker that stopped belongs to nobody any more, so only its stack tells what it is doing.
    """
    frames = sys._current_frames()  # noqa: SLF001 - public in all but name: documented, for exactly this
    found = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0) if thread.name.startswith(_HANDLER_THREADS) else None
        commands = []
        while frame is not None:
            commands += [value for value in frame.f_locals.values() if isinstance(value, Command)]
            frame = frame.f_back
        found += commands[-1:]  # the outermost is the one that the worker gave it
    return found


def leave(running: Sequence[Command]) -> NoReturn:
    """End the process although handlers run in threads: say which, write out all logs, exit with 1.

    Args:
        running: What `left_behind` found.
    """
    for command in running:
        logger.error(
            "a handler's thread still runs and ends with the process; its command runs again elsewhere",
            extra={
                "domain": command.domain, "command_type": command.command_type, "command_id": str(command.command_id),
            },
        )  # fmt: skip
    logging.shutdown()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(1)


def _wait_for_eof(loop: asyncio.AbstractEventLoop, on_end: Any) -> None:
    """Read standard input to its end; in a thread."""
    with suppress(OSError, ValueError):
        while sys.stdin.buffer.read(4096):
            pass
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(on_end)
