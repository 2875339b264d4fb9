"""A worker that blocks, and is stopped by signals."""

import asyncio
import functools
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from mainstay.app import Worker
from mainstay.commands.handler import HandlerRegistry
from mainstay.errors import ConfigurationError
from mainstay.retry import RetryPolicy
from mainstay.sync.bridge import Bridge, Opened, Source
from mainstay.telemetry import get_logger

STOP_TIMEOUT = 30.0
"""Seconds that running handlers get when a worker is stopped."""
_TURN = 0.02
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

logger = get_logger(__name__)


class SyncWorker:
    """`Worker` for programs that block: plain handlers run in threads, async ones on the event loop behind them.

    Args:
        source: Connection string, function that returns one, command store, or a `SyncMainstay`, to share its pool.
        domain: Whose commands.
        registry: Who handles what.
        options: As those of `Worker`: ``visibility_timeout``, ``retry_policy``, ``use_notify``, ``retention``,
            ``snapshots``, ``group_commit``...
    """

    def __init__(
        self,
        source: Source,
        domain: str,
        registry: HandlerRegistry | None = None,
        visibility_timeout: timedelta | float = 30,
        retry_policy: RetryPolicy | None = None,
        **options: Any,
    ) -> None:
        self._is_owner = not isinstance(source, Bridge)
        self._home = source if isinstance(source, Bridge) else Bridge(source)
        self._make: Callable[[Any], Worker] = functools.partial(
            Worker,
            domain=domain,
            registry=registry,
            visibility_timeout=visibility_timeout,
            retry_policy=retry_policy,
            **options,
        )
        self._worker: Worker | None = None
        self._is_running = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether `run` is under way."""
        return self._is_running

    @property
    def in_flight_count(self) -> int:
        """Commands whose handlers are running."""
        return self._worker.in_flight_count if self._worker else 0

    @property
    def handled_count(self) -> int:
        """Commands whose handlers have ended since `run` began, whatever the outcome."""
        return self._worker.handled_count if self._worker else 0

    def run(
        self,
        concurrency: int = 4,
        poll_interval: timedelta | float = 1.0,
        *,
        stop_timeout: timedelta | float | None = STOP_TIMEOUT,
    ) -> None:
        """Work until `stop` is called or, in the main thread, until SIGTERM or SIGINT.

        The first signal stops it gently, a second one at once; what was running is given back then.

        Args:
            concurrency: Handlers that may run at once. The pool needs a connection for each transactional one, and
                four more.
            poll_interval: Seconds (or timedelta) after which it looks even if nothing woke it.
            stop_timeout: Seconds (or timedelta) that running handlers get after the first signal; None: for ever.

        Raises:
            ConfigurationError: A value out of range, it is running already, or this thread runs an event loop.
            SchemaError: The database is not prepared.
            PermissionDeniedError: The role may not do this.
            StorageUnavailableError: No connection could be had at the start; later it reconnects by itself.
        """
        if self._is_running:
            raise ConfigurationError("this worker is running already")
        self._is_running = True
        try:
            with _signals() as signals:
                self._home.per_process.call(
                    lambda opened: self._work(opened, signals, concurrency, poll_interval, stop_timeout), lends=False
                )
        finally:
            self._is_running = False
            self._task = None

    def stop(self, timeout: timedelta | float | None = STOP_TIMEOUT) -> None:
        """Stop, from another thread, and return when `run` has ended its work; does nothing if it does not run.

        Args:
            timeout: Seconds (or timedelta) to wait for running handlers before they are canceled and given back; None:
                for ever.
        """
        if self._is_running:
            self._home.per_process.call(lambda _: self._stop(timeout), lends=False)

    def drain(self, timeout: timedelta | float | None = None) -> None:
        """Receive no more, finish what was received, and return when `run` has ended; from another thread, as `stop`.

        Args:
            timeout: Seconds (or timedelta) after which it ends as by `stop`; None: however long handlers take.
        """
        if self._is_running:
            self._home.per_process.call(lambda _: self._stop(timeout, drains=True), lends=False)

    def close(self) -> None:
        """Close what this object opened; a pool shared with others stays open."""
        if self._is_owner:
            self._home.close()

    async def _work(
        self,
        opened: Opened,
        signals: "_Signals",
        concurrency: int,
        poll_interval: timedelta | float,
        stop_timeout: timedelta | float | None,
    ) -> None:
        self._worker = worker = self._make(opened.source)
        self._task = task = asyncio.create_task(worker.run(concurrency, poll_interval))
        stopping = asyncio.create_task(self._stop_when_signalled(signals, stop_timeout))
        signals.announce_to(asyncio.get_running_loop())
        try:
            await asyncio.wait({task})
        finally:
            signals.stop_announcing(asyncio.get_running_loop())
            stopping.cancel()
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def _stop_when_signalled(self, signals: "_Signals", timeout: timedelta | float | None) -> None:
        await signals.next()
        logger.info("stopping; a second signal stops at once", extra={"domain": self._worker and self._worker.domain})
        gently = asyncio.create_task(self._stop(timeout))
        await signals.next()
        logger.warning("stopping at once")
        gently.cancel()
        if self._task is not None:
            self._task.cancel()

    async def _stop(self, timeout: timedelta | float | None, *, drains: bool = False) -> None:
        """Stop or drain it, also if it is just about to begin."""
        while self._is_running and (self._task is None or not self._task.done()):
            if self._worker is not None:
                await (self._worker.drain(timeout) if drains else self._worker.stop(timeout))
            await asyncio.wait({self._task or asyncio.create_task(asyncio.sleep(_TURN))}, timeout=_TURN)


class _Signals:
    """Signals on their way to an event loop in another thread.

    Python runs signal handlers in the main thread, when that wakes up: it waits for a lock here, and a signal that the
    kernel gives to another thread wakes nobody. What is always done at once, in whatever thread, is a write to the
    wake-up descriptor, so the loop reads from its other end.
    """

    def __init__(self) -> None:
        self._reader, self.writer = socket.socketpair()
        self._reader.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self.writer.setblocking(False)  # noqa: FBT003 - as above
        self._arrived = asyncio.Semaphore(0)

    def announce_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on signals go there, and those that came before."""
        loop.add_reader(self._reader, self._hand_over)

    def stop_announcing(self, loop: asyncio.AbstractEventLoop) -> None:
        """No more."""
        loop.remove_reader(self._reader)

    async def next(self) -> None:
        """Wait for a signal."""
        await self._arrived.acquire()

    def close(self) -> None:
        self._reader.close()
        self.writer.close()

    def _hand_over(self) -> None:
        for number in self._reader.recv(4096):
            if number in _SIGNALS:
                self._arrived.release()


@contextmanager
def _signals() -> Iterator[_Signals]:
    """SIGTERM and SIGINT for the length of a block, in the main thread; elsewhere none ever comes."""
    signals = _Signals()
    try:
        if threading.current_thread() is not threading.main_thread():
            yield signals
            return
        other = signal.set_wakeup_fd(signals.writer.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        try:
            yield signals
        finally:
            signal.set_wakeup_fd(other)
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
    finally:
        signals.close()
