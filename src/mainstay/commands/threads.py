"""Plain functions as handlers: what they are given, and the threads that they run in.

Promises. A plain handler gets a `SyncHandlerContext`: the names of `HandlerContext`, as calls that block. What it asks
for is done on the worker's event loop, while its thread waits. In a transactional one ``ctx.conn`` is a blocking
connection on the transaction whose COMMIT completes the command.

How it fails. A thread cannot be stopped. When its time is over (a timeout, a lost lease, a worker that is stopped),
what it has been given is taken back instead: whatever it still asks for raises `InvalidOperationError`, a statement
that is under way is canceled, and only then is the transaction rolled back. So nothing that such a thread does
afterwards can reach the connection, which is somebody else's by then.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar, Unpack, overload
from uuid import UUID

from mainstay.commands.command import Command, SendOptions, SendResult
from mainstay.commands.context import HandlerContext, no_transaction
from mainstay.commands.lending import Lent
from mainstay.commands.model import CommandModel
from mainstay.errors import InvalidOperationError, TransientCommandError
from mainstay.portal import refuse_in_event_loop

T = TypeVar("T")

_LOOK = 1.0
"""Seconds after which a waiting thread looks whether the event loop is still there."""


class HandlerThreads:
    """The threads of one worker's plain handlers, made when the first one runs."""

    def __init__(self) -> None:
        self.most = 1
        self._executor: ThreadPoolExecutor | None = None

    def __call__(self) -> Executor:
        """What runs functions in them."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.most, thread_name_prefix="mainstay-handler")
        return self._executor

    def leave(self) -> None:
        """Wait for none of them; what has not started does not start."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


class LeftBehindError(Exception):
    """A plain handler's timeout was over before its thread returned.

    Attributes:
        thread: Ends when it does.
    """

    def __init__(self, thread: "asyncio.Future[Any]") -> None:
        self.thread = thread
        super().__init__("the handler's thread outlived its timeout")


class Errands:
    """What a handler's thread has done for it on the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_over = False

    def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine function on the loop, in this thread's context, and wait for what it returns.

        Raises:
            InvalidOperationError: The handler's time is over.
            ConfigurationError: This thread runs an event loop.
            Exception: What the function raised.
        """
        refuse_in_event_loop()
        errand = self._errand(function)
        try:
            future = asyncio.run_coroutine_threadsafe(errand, self._loop)
        except RuntimeError as error:
            errand.close()
            raise _over() from error
        while True:
            try:
                return future.result(_LOOK)
            except CancelledError as error:
                raise _over() from error
            except TimeoutError:
                if future.done():
                    raise
                if self._loop.is_closed():
                    raise _over() from None

    def end(self) -> bool:
        """Take no more, and cancel what is under way; whether anything is."""
        self._is_over = True
        for task in self._tasks:
            task.cancel()
        return bool(self._tasks)

    async def ended(self) -> None:
        """Wait until nothing is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _errand(self, function: Callable[[], Awaitable[T]]) -> T:
        if self._is_over:
            raise _over()
        task = asyncio.current_task()
        if task is None:  # pragma: no cover - a coroutine on a loop is a task
            raise _over()
        self._tasks.add(task)
        try:
            return await function()
        finally:
            self._tasks.discard(task)


class SyncHandlerContext:
    """What a plain handler may know and do besides its command: as `HandlerContext`, in calls that block.

    Args:
        context: What it does everything through.
        run: Runs a coroutine function of it and waits.
        lent: For a transactional handler: the transaction.
    """

    def __init__(
        self, context: HandlerContext, run: Callable[[Callable[[], Awaitable[Any]]], Any], lent: Lent | None = None
    ) -> None:
        self._context = context
        self._run = run
        self._lent = lent
        self.command: Command[Any] = context.command
        self.attempt = context.attempt
        self.max_attempts = context.max_attempts
        self.msg_id = context.msg_id
        self.sends = context.sends

    @property
    def conn(self) -> Any:
        """For a transactional handler: the connection whose COMMIT completes the command.

        Raises:
            InvalidOperationError: The handler is not transactional.
        """
        if self._lent is None:
            raise no_transaction("ctx.conn")
        return self._lent.conn

    @property
    def is_transactional(self) -> bool:
        """Whether there is a ``conn``."""
        return self._lent is not None

    @property
    def correlation_id(self) -> UUID | None:
        """The conversation that this command belongs to."""
        return self._context.correlation_id

    def extend_visibility(self, seconds: timedelta | float) -> None:
        """As `HandlerContext.extend_visibility`."""
        self._run(lambda: self._context.extend_visibility(seconds))

    @overload
    def send(
        self,
        domain: str,
        command_type: str,
        data: dict[str, Any] | None = None,
        *,
        command_id: UUID | None = None,
        name: str | None = None,
        **options: Any,
    ) -> SendResult: ...
    @overload
    def send(
        self,
        command: CommandModel,
        /,
        *,
        command_id: UUID | None = None,
        name: str | None = None,
        idempotent: bool = False,
        **options: Unpack[SendOptions],
    ) -> SendResult: ...
    def send(
        self,
        domain: str | CommandModel,
        command_type: str | None = None,
        data: dict[str, Any] | None = None,
        *,
        command_id: UUID | None = None,
        name: str | None = None,
        **options: Any,
    ) -> SendResult:
        """As `HandlerContext.send`."""
        send = self._context.sends.send
        result: SendResult = self._run(
            lambda: send(domain, command_type, data, command_id=command_id, name=name, options=options)
        )
        return result

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """As `HandlerContext.progress`."""
        self._context.progress(done, total, note)

    def session(self) -> AbstractContextManager[Any]:
        """A SQLAlchemy ``Session`` in the transaction of ``ctx.conn``, as `HandlerContext.session`.

        Raises:
            InvalidOperationError: The handler is not transactional; or, at the end of the block, it rolled back.
        """
        if self._lent is None:
            raise no_transaction("ctx.session()")
        return self._lent.session()


def at_once(function: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function that waits for nothing, as those of a context without a worker.

    Raises:
        InvalidOperationError: It would wait.
        Exception: What it raised.
    """
    waiting = function().__await__()
    try:
        next(waiting)
    except StopIteration as end:
        result: T = end.value
        return result
    raise InvalidOperationError("this context belongs to no worker, and there is nothing to wait for")


async def call_in_thread(
    function: Callable[..., Any],
    command: Command[Any],
    context: HandlerContext,
    *,
    threads: Executor,
    lent: Lent | None,
    timeout: float | None,
    on_stuck: Callable[[], None],
) -> tuple[Any, BaseException | None]:
    """Run a plain handler in a thread.

    Args:
        function: The handler.
        command: Its first argument.
        context: What its second is made of.
        threads: Where it runs.
        lent: For a transactional handler: the transaction.
        timeout: Seconds after which it gets no more of anything.
        on_stuck: Called then.

    Returns:
        Its result or its error, as a value: a future cannot carry every exception (StopIteration).

    Raises:
        LeftBehindError: The timeout was over; nothing that the thread still does has any effect here.
    """
    errands = Errands()
    plain = SyncHandlerContext(context, errands.run, lent)
    run = contextvars.copy_context().run
    future = asyncio.get_running_loop().run_in_executor(threads, run, _call_plainly, function, command, plain)
    try:
        done, _ = await asyncio.wait({future}, timeout=timeout)
        if done:
            return future.result()
        on_stuck()
    finally:
        if errands.end() or lent is not None:
            await _uninterrupted(_take_back(errands, lent))
    raise LeftBehindError(future)


async def _take_back(errands: Errands, lent: Lent | None) -> None:
    await errands.ended()
    if lent is not None:
        await lent.take_back()


async def _uninterrupted(ending: Coroutine[Any, Any, None]) -> None:
    """See it through, whoever cancels meanwhile; the connection must not go elsewhere before."""
    task = asyncio.ensure_future(ending)
    canceled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            canceled = error
    task.result()
    if canceled is not None:
        raise canceled


def _call_plainly(
    function: Callable[..., Any], command: Command[Any], context: SyncHandlerContext
) -> tuple[Any, BaseException | None]:
    try:
        return function(command, context), None
    except BaseException as error:  # noqa: BLE001 - raised where it is judged
        return None, error


def _over() -> InvalidOperationError:
    return InvalidOperationError("the handler that this context belonged to has ended, or its time is over")


@asynccontextmanager
async def limited(seconds: float) -> AsyncIterator[None]:
    """What takes longer is canceled: a `TransientCommandError` with the code TIMEOUT."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if limit.expired():
            raise TransientCommandError("TIMEOUT", f"the handler took longer than {seconds:g} s") from error
        raise
