"""The way from a thread without an event loop to one that has it, and back: what `mainstay.sync` stands on.

A portal is an event loop in a thread of its own. Any number of threads call coroutine functions there at once, each
waiting for its own. While a thread waits it can be lent: `on_callers_thread` runs a function on it, so that a statement
on the caller's own connection runs where that connection is at home, and a lock that it waits for holds up nobody else.

How it fails. A caller that is interrupted (Ctrl-C) cancels its call: whether that was carried out is unknown. A call
from inside a running event loop would block that loop, and is refused; unless the caller says that it may, because
nothing that the call needs runs there. In a portal's own loop it is always refused: it would wait for itself. When the
portal stops, calls under way are canceled, and their callers are told.

Forks. A forked child has neither the thread nor any right to the sockets, so it makes a portal of its own and touches
nothing of its parent's: whatever it closed there would be closed for both.
"""

import asyncio
import contextvars
import functools
import os
import queue
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar, cast

from mainstay.errors import ConfigurationError, PoolClosedError

T = TypeVar("T")


class _Caller:
    """A thread that waits for an answer, and runs meanwhile what it is asked to."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_gone = False
        self.thread = threading.current_thread()

    @property
    def is_waiting(self) -> bool:
        """Whether it still waits."""
        return not self._is_gone

    def lend(self, job: Callable[[], None]) -> bool:
        """Run this on the thread; False if it waits no longer."""
        with self._lock:
            if not self._is_gone:
                self._jobs.put(job)
            return not self._is_gone

    def release(self) -> None:
        """There is an answer."""
        self._jobs.put(None)

    def wait(self) -> None:
        """Wait for the answer."""
        try:
            while (job := self._jobs.get()) is not None:
                job()
        finally:
            with self._lock:
                self._is_gone = True


_caller: contextvars.ContextVar[_Caller | None] = contextvars.ContextVar("mainstay_caller", default=None)


def caller_waits() -> bool:
    """Whether a thread waits for this call, and can be lent."""
    caller = _caller.get()
    return caller is not None and caller.is_waiting


def calling_thread() -> threading.Thread | None:
    """The thread that waits for this call, if one does."""
    caller = _caller.get()
    return None if caller is None else caller.thread


async def on_callers_thread(function: Callable[[], T]) -> T:
    """Run a blocking function on the thread that waits for this call; in one of the loop's own if none does.

    Raises:
        Exception: What the function raised.
    """
    caller = _caller.get()
    loop = asyncio.get_running_loop()
    done: Future[T] = Future()

    def job() -> None:
        try:
            done.set_result(function())
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            done.set_exception(error)
        except BaseException:  # Ctrl-C is for this thread; an event loop would end of it
            done.cancel()
            raise

    if caller is None or not caller.lend(job):
        return await asyncio.to_thread(function)
    return await asyncio.wrap_future(done, loop=loop)


_here = threading.local()
"""What is so in one thread: whether it is a portal's."""


def refuse_in_event_loop(*, blocks_loop: bool = False) -> None:
    """Refuse a blocking call that would block a running event loop.

    Args:
        blocks_loop: It may, unless it is a portal's.

    Raises:
        ConfigurationError: This thread runs an event loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if blocks_loop and not getattr(_here, "is_portal", False):
        return
    raise ConfigurationError(
        "a blocking call inside a running event loop would block it: await the asynchronous class (CommandBus, Worker, "
        "TroubleshootingQueue) there, or call this from a thread (asyncio.to_thread)"
    )


async def _as_value(
    function: Callable[[], Coroutine[Any, Any, T]],
) -> tuple[T, None] | tuple[None, BaseException]:
    """What a call returned or raised, whatever that is: a task that raises SystemExit ends its event loop."""
    try:
        return await function(), None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        return None, error


class Portal:
    """An event loop in a thread of its own; it runs until `stop`, or the process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_stopped = False
        self._is_ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._run, name="mainstay-portal", daemon=True)
        self._thread.start()
        self._is_ready.wait()

    def call(
        self, function: Callable[[], Coroutine[Any, Any, T]], *, lends: bool = True, blocks_loop: bool = False
    ) -> T:
        """Call a coroutine function there, in this context, and wait for what it returns.

        Args:
            function: Called on the portal.
            lends: Whether it may borrow this thread.
            blocks_loop: Whether it may block an event loop of this thread.

        Raises:
            ConfigurationError: This thread runs an event loop.
            PoolClosedError: The portal is stopped, or was stopped meanwhile.
            Exception: What the function raised.
        """
        refuse_in_event_loop(blocks_loop=blocks_loop)
        caller = _Caller()
        context = contextvars.copy_context()
        context.run(_caller.set, caller if lends else None)
        tasks: list[asyncio.Task[tuple[T, None] | tuple[None, BaseException]]] = []

        def begin() -> None:
            task = self._loop.create_task(_as_value(function), context=context)
            tasks.append(task)
            task.add_done_callback(lambda _: caller.release())

        with self._lock:
            if self._is_stopped:
                raise PoolClosedError("this was closed; make another")
            self._loop.call_soon_threadsafe(begin)
        try:
            caller.wait()
        except BaseException:
            with self._lock:
                if not self._is_stopped:
                    self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
            raise
        (task,) = tasks
        if task.cancelled():
            raise PoolClosedError("this was closed while the call was under way: whether it was carried out is unknown")
        result, error = task.result()
        if error is not None:
            raise error
        return cast("T", result)

    def stop(self) -> None:
        """Cancel the calls under way, end the thread and wait for it; does nothing if it has ended."""
        with self._lock:
            if not self._is_stopped:
                self._is_stopped = True
                self._loop.call_soon_threadsafe(self._stop.set)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        _here.is_portal = True
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._is_ready.set()
        await self._stop.wait()


class Closable(Protocol):
    """What a process opens for itself, on a portal."""

    async def close(self) -> None:
        """Close it."""
        ...


OpenedT = TypeVar("OpenedT", bound=Closable)


class PerProcess(Generic[OpenedT]):
    """A portal and what was opened on it, made when first needed, anew in each process.

    Args:
        open_it: Called on the portal.
    """

    def __init__(self, open_it: Callable[[], Coroutine[Any, Any, OpenedT]]) -> None:
        self._open = open_it
        self._lock = threading.Lock()
        self._made: tuple[Portal, OpenedT] | None = None
        self._is_closed = False
        self._forgotten: weakref.finalize[Any, Any] | None = None
        _watch_forks()
        _everywhere.add(self)

    def call(
        self, function: Callable[[OpenedT], Coroutine[Any, Any, T]], *, lends: bool = True, blocks_loop: bool = False
    ) -> T:
        """Call a coroutine function with what is open, and wait for what it returns.

        Args:
            function: Called on the portal.
            lends: Whether it may borrow this thread.
            blocks_loop: Whether it may block an event loop of this thread.

        Raises:
            ConfigurationError: This thread runs an event loop.
            PoolClosedError: It was closed.
            Exception: What opening it, or the function, raised.
        """
        refuse_in_event_loop(blocks_loop=blocks_loop)
        portal, opened = self._made or self._make(blocks_loop=blocks_loop)
        return portal.call(lambda: function(opened), lends=lends, blocks_loop=blocks_loop)

    def open(self) -> None:
        """Open it now instead of at the first call."""
        refuse_in_event_loop()
        if self._made is None:
            self._make()

    def close(self, *, blocks_loop: bool = False) -> None:
        """Close it for good; does nothing if it is closed.

        Args:
            blocks_loop: Whether it may block an event loop of this thread.
        """
        refuse_in_event_loop(blocks_loop=blocks_loop)
        with self._lock:
            self._is_closed = True
            made, self._made = self._made, None
        if made is not None and self._forgotten is not None:
            self._forgotten.detach()
            _close(*made, blocks_loop=blocks_loop)

    def forget(self) -> None:
        """Begin anew in a forked child; what the parent opened stays as it is, and is never touched here."""
        self._lock = threading.Lock()
        if self._forgotten is not None:
            self._forgotten.detach()
        if self._made is not None:
            _left_to_parents.append(self._made)
        self._made = None

    def _make(self, *, blocks_loop: bool = False) -> tuple[Portal, OpenedT]:
        with self._lock:
            if self._is_closed:
                raise PoolClosedError("this was closed; make another")
            if self._made is None:
                portal = Portal()
                try:
                    opened = portal.call(self._open, blocks_loop=blocks_loop)
                except BaseException:
                    portal.stop()
                    raise
                self._made = portal, opened
                self._forgotten = weakref.finalize(self, _close, portal, opened)
                self._forgotten.atexit = False  # then the server sees that we are gone, and nothing is under way
            return self._made


def _close(portal: Portal, opened: Closable, *, blocks_loop: bool = False) -> None:
    try:
        refuse_in_event_loop(blocks_loop=blocks_loop)
    except ConfigurationError:  # nobody closed it, and the garbage is collected in a loop, which must not wait
        threading.Thread(target=_close, args=(portal, opened), daemon=True).start()
        return
    try:
        portal.call(opened.close, blocks_loop=blocks_loop)
    finally:
        portal.stop()


#: What must be told of a fork.
_everywhere: "weakref.WeakSet[PerProcess[Any]]" = weakref.WeakSet()
#: Kept so that nothing in it is ever closed or collected by a process that does not own it.
_left_to_parents: list[Any] = []


@functools.cache
def _watch_forks() -> None:
    """Tell everything of every fork; once in a process and its heirs."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    for each in list(_everywhere):
        each.forget()
