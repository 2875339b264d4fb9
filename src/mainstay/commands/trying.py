"""Running a handler of which nothing is to stay.

Promises. The real handler is called, with its payload validated, its aggregate loaded, its context and its connection;
what it raises is appended, inline projections run, what it sends is sent: in one transaction, which is rolled back.
Nobody is woken, no queue is made, no snapshot is left, no lease is renewed, no progress is told. Numbers that were
drawn from sequences stay drawn: positions of the feed have gaps, as they do after any rollback.

What it locks is what the handler would lock, until it has ended: the row of its stream, rows that it writes.

What it cannot undo: what a handler does outside of its transaction. So only transactional handlers are tried, and one
that ends its transaction by itself is told of.
"""

from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any, cast
from uuid import UUID

from mainstay.commands.aggregates import Aggregates, Tried
from mainstay.commands.command import Command, Failure, SendResult
from mainstay.commands.context import HandlerContext
from mainstay.commands.dry_run import DryRun, TriedSend
from mainstay.commands.ends import outcome_of
from mainstay.commands.execution import Execution
from mainstay.commands.handler import Handler, HandlerRegistry
from mainstay.commands.lending import Watch
from mainstay.commands.sends import Sends, sent
from mainstay.commands.store import (
    CommandStore,
    Lease,
    NewCommand,
    NotBegunError,
    Outcome,
    Received,
    Refusal,
    Verb,
)
from mainstay.errors import BusinessRuleException, InvalidOperationError, MainstayError, StorageUnavailableError
from mainstay.serialization import from_json

_ATTEMPTS = 3


class _UndoneError(Exception):
    """Ends a transaction of which nothing is to stay."""


@asynccontextmanager
async def undone(store: CommandStore) -> AsyncIterator[Any]:
    """A transaction that is rolled back at the end of the block."""
    with suppress(_UndoneError):
        async with store.transaction() as conn:
            yield conn
            raise _UndoneError


class _TriedSends(Sends):
    """The sends of a handler that is tried: in its transaction, or, without one, only noted."""

    def __init__(self, command: Command[Any], store: CommandStore, conn: Any) -> None:
        super().__init__(command, store, conn)
        self.tried: list[TriedSend] = []

    async def _get_ready(self, domain: str) -> None:
        """A queue that is missing would be made; here it is not."""

    async def _put(self, new: NewCommand) -> SendResult:
        is_known = False
        result = SendResult(new.command_id, None)
        if self.store is not None and self._conn is not None:
            (answer,) = await self.store.send([new], conn=self._conn)
            if answer is not Refusal.QUEUE_NOT_FOUND:
                result = sent(new, answer)
            is_known = answer is Refusal.DUPLICATE
        if not result.skipped:
            data = from_json(new.data)
            self.tried.append(TriedSend(new.domain, new.command_type, new.command_id, data, is_known))
        return result


class Trial(Execution):
    """Tries one command; see above.

    Args:
        store: Where commands live.
        domain: The command's.
        registry: Who handles it.
        aggregates: For handlers on aggregates.
        version: Decide at this version of the stream, and append nothing; None: as it is now.
    """

    def __init__(
        self,
        store: CommandStore,
        domain: str,
        registry: HandlerRegistry,
        aggregates: Aggregates | None,
        *,
        version: int | None = None,
    ) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._version = version
        self._found: DryRun | None = None
        self._error: MainstayError | None = None
        super().__init__(
            store,
            domain,
            registry,
            None,
            threads=self._thread,
            is_called_off=lambda received: True,  # noqa: ARG005 - whoever cancels us means it
            on_stuck=lambda received: None,  # noqa: ARG005 - there is no lease
            report=lambda lease, document: None,  # noqa: ARG005 - nobody watches
            aggregates=aggregates,
        )

    async def run_dry(self, command: Command[Any]) -> DryRun:
        """What the command would do.

        Raises:
            InvalidOperationError: Its handler is not transactional, or has ended its transaction by itself.
            HandlerNotFoundError: There is none.
            StorageUnavailableError: The database cannot be reached.
        """
        handler = self._registry.find(command.domain, command.command_type)
        if not handler.options.transactional:
            raise InvalidOperationError(
                f"the handler of {command.domain}.{command.command_type} is not transactional: what it does cannot be "
                "undone, so it cannot be tried; register it with transactional=True, or with aggregate="
            )
        received = Received(command, Lease(command.command_id, 0, 0), 1, _ATTEMPTS)
        self._found = DryRun(command.domain, command.command_id, command.command_type, Verb.RETRY)
        try:
            end = await self.handle(received)
        finally:
            if self._executor is not None:
                self._executor.shutdown(wait=False)
        if self._error is not None:
            raise self._error
        if not isinstance(end, Outcome):
            return replace(self._found, error_code="TIMEOUT", error_message="its thread took longer than it may")
        if end.verb is Verb.COMPLETE:
            return replace(self._found, verb=end.verb, reply=None if end.result is None else from_json(end.result))
        return replace(
            self._found,
            verb=Verb.RETRY if end.verb is Verb.GIVE_BACK else end.verb,
            error_code=end.error_code or end.verb,
            error_message=end.error_message,
            events=(),
            sends=(),
            changes=(),
        )

    def _thread(self) -> Executor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="mainstay-trial")
        return self._executor

    async def _run_transactional(self, received: Received, handler: Handler, *, hold: bool = False) -> Any:  # noqa: ARG002 - a trial races nobody
        """As that of a worker, up to the COMMIT."""
        found = cast("DryRun", self._found)
        watch: Watch | None = None
        async with self._connection(handler) as conn:
            if conn is not None and self._version is None:
                watch = await self._store.watch(conn)
            elif conn is not None:
                await self._store.make_read_only(conn)
            sends = _TriedSends(received.command, self._store, conn if self._version is None else None)
            context = HandlerContext(
                command=received.command,
                attempt=received.attempt,
                max_attempts=received.max_attempts,
                msg_id=received.lease.msg_id,
                conn=conn,
                sends=sends,
                open_session=self._store.session,
            )
            async with self._tried(received, handler, conn) as tried:
                function = handler.function if tried is None else partial(handler.function, tried.aggregate)
                if tried is not None:
                    found = replace(found, stream=tried.stream, version_read=tried.version_read)
                    self._found = found
                try:
                    result = await self._call(received, handler, function, context)
                except BusinessRuleException as error:
                    result = Failure(error.code, error.error_message, error.details)
                outcome = outcome_of(received, result, sends.end())
                if isinstance(result, Failure):
                    return outcome
                if tried is not None:
                    found = replace(found, events=tried.raised())
                    if self._version is None:
                        await tried.append_tried()
                    found = replace(found, replies_itself=result.value is not None)
                    if result.value is None:
                        outcome = outcome._replace(result=b'{"version":%d}' % tried.aggregate.version)
                if watch is not None:
                    await self._look(watch)
        changes = () if watch is None else await watch.changes()
        self._found = replace(found, sends=tuple(sends.tried), changes=changes)
        return outcome

    async def _look(self, watch: Watch) -> None:
        try:
            await watch.look()
        except InvalidOperationError as error:
            self._error = error
            raise

    def _failed(self, received: Received, handler: Handler, error: BaseException) -> Outcome | None:
        """As of a worker; but nobody tries again when the database can be reached."""
        if isinstance(error, StorageUnavailableError):
            self._error = error
        return super()._failed(received, handler, error)

    async def _not_begun(self, received: Received, handler: Handler, error: NotBegunError) -> Outcome | None:
        """Nobody has it to be given back."""
        return self._failed(received, handler, error)

    def _connection(self, handler: Handler) -> AbstractAsyncContextManager[Any]:
        """The transaction of a handler; a decider that is to append nothing needs none."""
        return nullcontext() if handler.decides and self._version is not None else undone(self._store)

    @asynccontextmanager
    async def _tried(self, received: Received, handler: Handler, conn: Any) -> AsyncIterator[Tried | None]:
        target = handler.options.target
        if target is None or self._aggregates is None:
            yield None
            return
        aggregate_id: UUID | str = target.id_of(received.command)
        async with self._aggregates.tried(target.kind, aggregate_id, conn, version=self._version) as tried:
            yield tried
