"""Running one handler and saying what became of the command.

Whatever a handler does ends in an outcome: it returns, raises one of our errors, raises anything else, returns what
JSON cannot hold, runs too long, or is canceled. None of these reaches the worker's loop.

A transactional handler's effects and its completion commit together. If that COMMIT breaks, nobody knows whether it
happened, so the outcome is a retry: the store applies it only if the command is still ours and unfinished, and answers
REPEATED if the COMMIT had happened.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any, cast

from mainstay.commands.aggregates import FIRST_PAUSE, TRIES, Aggregates, Opened, StreamHeldError, Target, check_all
from mainstay.commands.carried import said_by
from mainstay.commands.command import Failure, Success
from mainstay.commands.context import HandlerContext
from mainstay.commands.deciders import Consequence, Deciders
from mainstay.commands.ends import (
    CODE_LIMIT,
    PERMANENT,
    TRANSIENT,
    InvalidResultError,
    Why,
    about,
    answers_to,
    asked_delay,
    cleaned,
    decision_of,
    details_of,
    failure_of,
    outcome_of,
)
from mainstay.commands.grouped import Overtaken, Written
from mainstay.commands.grouping import Grouping
from mainstay.commands.handler import Handler, HandlerFn, HandlerRegistry
from mainstay.commands.sends import Sends
from mainstay.commands.store import CommandStore, Lease, NotBegunError, Outcome, Received, Verb
from mainstay.commands.threads import LeftBehindError, call_in_thread, limited
from mainstay.commands.tracing import Handling
from mainstay.commands.turns import Turns
from mainstay.errors import (
    BusinessRuleException,
    ConfigurationError,
    HandlerNotFoundError,
    MainstayError,
    OptimisticLockError,
    PermanentCommandError,
    PoolExhaustedError,
    StaleLeaseError,
    TransientCommandError,
    shown,
    tellable,
)
from mainstay.message import correlated
from mainstay.metrics import is_observed
from mainstay.positions import noting
from mainstay.retry import DEFAULT_RETRY_POLICY, RetryPolicy, checked_policy
from mainstay.telemetry import get_logger
from mainstay.tenancy import current_tenant, scope_of

NOT_BEGUN_PAUSE = 0.5
"""Seconds until a command is given back that found no connection for its handler."""
IN_HAND = 128
"""Commands that a worker has in hand at least, if all are for deciders in groups."""

logger = get_logger(__name__)


class Execution:
    """Runs handlers for a worker.

    Args:
        store: For transactional handlers and lease extensions.
        domain: Whose commands.
        registry: Who handles what.
        retry_policy: For handlers that bring none; the default if None.
        threads: Gives the executor for sync handlers; made when the first one runs.
        is_called_off: Whether the worker itself canceled this command's handler.
        on_stuck: Called with a command whose thread outlived its timeout: its lease must no longer be renewed.
        report: Takes what a handler tells of its progress.
        aggregates: For handlers on aggregates.
        deciders: For handlers that decide only, whose commands are then decided on in groups; None: one by one.
        on_parked: Called when one more command only waits for a stream that others append to.
    """

    def __init__(  # noqa: PLR0917 - wired once, by the worker
        self,
        store: CommandStore,
        domain: str,
        registry: HandlerRegistry,
        retry_policy: RetryPolicy | None,
        threads: Callable[[], Executor],
        is_called_off: Callable[[Received], bool],
        on_stuck: Callable[[Received], None],
        report: Callable[[Lease, bytes], None],
        aggregates: Aggregates | None = None,
        deciders: Deciders | None = None,
        on_parked: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._domain = domain
        if not isinstance(registry, HandlerRegistry):
            message = f"registry must be a HandlerRegistry, not {shown(registry)}"
            raise ConfigurationError(message)
        self._registry = registry
        self._retry_policy = checked_policy(retry_policy) or DEFAULT_RETRY_POLICY
        self._threads = threads
        self._is_called_off = is_called_off
        self._on_stuck = on_stuck
        self._report = report
        self._aggregates = aggregates
        self._turns = Turns(on_parked)
        self.grouping = None if deciders is None else Grouping(domain, store, deciders, self, on_parked)
        self._alone = asyncio.Semaphore()
        """For deciders that are to decide in transactions of their own."""

    @property
    def parked(self) -> int:
        """How many commands in hand only wait for streams that others append to."""
        return self._turns.parked + (0 if self.grouping is None else self.grouping.parked)

    def slots(self, concurrency: int) -> int:
        """How many commands to have in hand, where so many handlers may run at once.

        Deciders decide one after the other, in a moment; what their commands wait for is the COMMIT that they share. So
        where there is nothing else, more are in hand, and groups are not small because few handlers may run.
        """
        self._alone = asyncio.Semaphore(concurrency)
        at_once = self._store.handlers_at_once
        if at_once is not None and at_once < concurrency and self._begins_transactions():
            logger.warning(
                "%d handlers of domain %s may run at once, and the pool has connections for %d of those that are "
                "transactional; the others wait: raise its max_size by %d, or run fewer at once",
                concurrency,
                self._domain,
                at_once,
                concurrency - at_once,
                extra={"domain": self._domain},
            )
        only_groups = self.grouping is not None and self._registry.only_decides(self._domain)
        return max(concurrency, IN_HAND) if only_groups else concurrency

    def _begins_transactions(self) -> bool:
        """Whether a handler needs a transaction of its own, as far as is known."""
        return any(
            handler.options.transactional and not (handler.decides and self.grouping is not None)
            for handler in self._registry.handlers_of(self._domain)
        )

    def check(self) -> None:
        """Refuse handlers on aggregates that nobody can load.

        Raises:
            ConfigurationError: There is one.
        """
        check_all(self._registry.targets(self._domain), self._aggregates)

    async def run(self, received: Received) -> Outcome | None:
        """Handle a command.

        Returns:
            What to write, or None if nothing is left to write: it is written already, or it would be refused.

        Raises:
            asyncio.CancelledError: This task was canceled from outside; the command was not finished.
        """
        if is_observed():
            with Handling(received) as handling:
                end = await self.handle(received)
                handling.ended(end.outcome if isinstance(end, Written) else end)
        else:
            end = await self.handle(received)
        return end if isinstance(end, Outcome) else None

    async def handle(self, received: Received) -> Outcome | Written | Verb | None:
        """As `run`, unobserved; a verb, or what was written, if it is written already."""
        command = received.command
        try:
            handler = self._registry.find(self._domain, command.command_type)
        except HandlerNotFoundError as error:
            return self._troubleshoot(received, PERMANENT, "NO_HANDLER", str(error))
        try:
            tenant_id, actor_id = said_by(command)
        except PermanentCommandError as error:
            return self._troubleshoot(received, PERMANENT, error.code, error.error_message)
        with correlated(command.correlation_id, command.command_id, actor_id), scope_of(tenant_id), noting() as noted:
            end = await self._run(received, handler)
        if isinstance(end, Outcome) and noted.position is not None:
            return end._replace(position=noted.position)
        return end

    async def _run(self, received: Received, handler: Handler) -> Outcome | Written | Verb | None:
        """As `run`, inside everything that its events and commands are to carry."""
        try:
            if handler.reader is not None:
                received = received._replace(command=handler.opened(received.command))
            if handler.options.target is not None:
                if handler.decides and handler.options.timeout is not None:
                    async with limited(handler.options.timeout):
                        return await self._run_on_aggregate(received, handler)
                return await self._run_on_aggregate(received, handler)
            if handler.options.transactional:
                return await self._run_transactional(received, handler)
            context = self._context(received, None)
            result = await self._call(received, handler, handler.function, context)
            return outcome_of(received, result, context.sends.end())
        except LeftBehindError as left:
            await asyncio.wait({left.thread})
            logger.warning(
                "a handler's thread returned after its timeout; its result is refused", extra=about(received)
            )
            return None
        except _NotBegun as missed:
            return await self._not_begun(received, handler, missed.error)
        except asyncio.CancelledError:
            if self._is_called_off(received):
                raise
            return self._failed(received, handler, RuntimeError("the handler was canceled from within"))
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome
            return self._failed(received, handler, error)

    # -- calling ------------------------------------------------------------------------------------------------------
    async def _run_in_group(self, received: Received, handler: Handler, grouping: Grouping) -> Outcome | Written | None:
        """Decide on it together with others; None if it needs a transaction of its own."""
        target = cast("Target", handler.options.target)
        stream = grouping.deciders.stream_of(target.kind, target.id_of(received.command))
        end = await grouping.decide(received, handler, target.kind, stream)
        if isinstance(end, Written):
            return end
        return Outcome(received.lease, Verb.GIVE_BACK, details=Why.OVERTAKEN) if end is Overtaken else None

    async def _run_on_aggregate(self, received: Received, handler: Handler) -> Outcome | Written | Verb:
        """In a group if that can be, else by `_run_transactional`, again whenever somebody else was quicker.

        A decider is limited with all that it waits for: if that is done after all, the failure changes nothing.
        """
        if handler.decides and self.grouping is not None:
            grouped = await self._run_in_group(received, handler, self.grouping)
            if grouped is not None:
                return grouped
        stream = None
        if handler.decides:
            target = cast("Target", handler.options.target)
            stream = target.kind, str(target.id_of(received.command)), current_tenant()
        for pauses in range(TRIES):
            turn = self._turns.of(stream, parks=handler.options.timeout is None)
            async with turn as hold, self._alone if handler.decides else nullcontext():
                try:
                    return await self._run_transactional(received, handler, hold=hold)
                except (OptimisticLockError, StreamHeldError) as error:
                    logger.debug("handled again: %s", error, extra=about(received))
                    self._turns.contend(stream)
            await asyncio.sleep(random.uniform(0, FIRST_PAUSE * 2**pauses))  # noqa: S311 - spreads, guards nothing
        return Outcome(received.lease, Verb.GIVE_BACK, details=Why.OVERTAKEN)

    async def _run_transactional(self, received: Received, handler: Handler, *, hold: bool = False) -> Verb:
        """Effects and completion in one COMMIT."""
        target, ahead = handler.options.target, None
        if target is not None and self._aggregates is not None and not hold:
            ahead = self._aggregates.ahead(target.kind, target.id_of(received.command))
        with noting() as noted:  # apart from what is told outside: it is undone with the transaction
            async with self._transaction(ahead) as conn:
                context = self._context(received, conn)
                async with self._opened(received, handler, conn, ahead, hold=hold) as opened:
                    function = handler.function if opened is None else partial(handler.function, opened.aggregate)
                    try:
                        result = await self._call(received, handler, function, context)
                    except BusinessRuleException as error:
                        result = Failure(error.code, error.error_message, error.details)
                    if isinstance(result, Failure):
                        refusal = outcome_of(received, result, context.sends.end())
                        raise _Refused(refusal._replace(decision=decision_of(handler, opened, None)))
                if opened is not None and opened.left is None and result.value is None:
                    result = Success(opened.answer)
                outcome = outcome_of(received, result, context.sends.end())._replace(position=noted.position)
                if opened is not None:
                    outcome = outcome._replace(decision=decision_of(handler, opened, context.sends))
                await self._store.commit(conn, self._domain, outcome, None if opened is None else opened.left)
        await self._wake(received, context, outcome)
        if opened is not None:
            await opened.committed()
        return Verb.COMPLETE

    @asynccontextmanager
    async def _transaction(self, ahead: Any) -> AsyncIterator[Any]:
        """The transaction that a handler is to run in; if there is none for it, nothing of it has run."""
        is_begun = False
        try:
            async with self._store.transaction(ahead) as conn:
                is_begun = True
                yield conn
        except NotBegunError as error:
            if is_begun:
                raise
            raise _NotBegun(error) from error

    async def _wake(self, received: Received, context: HandlerContext, outcome: Outcome) -> None:
        """Wake whoever handles what was sent, or may start now."""
        wakes = [*context.sends.domains, *([self._domain] if received.lease.is_limited else [])]
        if outcome.answers is not None:
            wakes.append(outcome.answers)
        if wakes:
            with suppress(MainstayError):  # whoever sleeps on finds it when he polls
                await self._store.wake(wakes)

    @asynccontextmanager
    async def _opened(
        self, received: Received, handler: Handler, conn: Any, ahead: Any, *, hold: bool
    ) -> AsyncIterator[Opened | None]:
        """The aggregate that a handler is called with; None for one that is called with none."""
        target = handler.options.target
        if target is None:
            yield None
            return
        if self._aggregates is None:
            raise ConfigurationError("a handler on aggregates needs a store of events: Worker(..., event_store=...)")
        which = target.kind, target.id_of(received.command)
        async with self._aggregates.opened(*which, conn, ahead, hold=hold) as opened:
            yield opened

    async def _call(
        self, received: Received, handler: Handler, function: HandlerFn, context: HandlerContext
    ) -> Success[Any] | Failure:
        """The handler's result."""
        timeout = handler.options.timeout
        if handler.is_async and timeout is None:
            result = await function(received.command, context)
        elif handler.is_async:
            async with limited(cast("float", timeout)):
                result = await function(received.command, context)
        else:
            result, raised = await call_in_thread(
                function,
                received.command,
                context,
                threads=self._threads(),
                lent=self._store.lend(context.conn) if context.is_transactional else None,
                timeout=timeout,
                on_stuck=lambda: self._on_stuck(received),
            )
            if raised is not None:
                raise raised
        return result if isinstance(result, Success | Failure) else Success(result)

    def _context(self, received: Received, conn: Any) -> HandlerContext:
        async def extend(seconds: float) -> None:
            lost = await self._store.renew(self._domain, [received.lease], seconds)
            if any(not loss.is_canceled for loss in lost):
                message = f"the lease of command {received.lease.command_id} was lost to another worker"
                raise StaleLeaseError(message)

        return HandlerContext(
            command=received.command,
            attempt=received.attempt,
            max_attempts=received.max_attempts,
            msg_id=received.lease.msg_id,
            conn=conn,
            extend=extend,
            sends=Sends(received.command, self._store, conn),
            tell=lambda document: self._report(received.lease, document),
            open_session=self._store.session,
        )

    async def _not_begun(self, received: Received, handler: Handler, error: NotBegunError) -> Outcome | None:  # noqa: ARG002 - for who tries
        """Give a command back whose handler could not be begun; after a pause, as there is no connection just now."""
        which = f"{self._domain}.{received.command.command_type} {received.command.command_id}"
        logger.warning("given back, and no attempt is spent: %s: %s", which, error, extra=about(received))
        await asyncio.sleep(NOT_BEGUN_PAUSE)
        return Outcome(received.lease, Verb.GIVE_BACK, details=Why.NOT_BEGUN)

    # -- judging ------------------------------------------------------------------------------------------------------
    def decided(self, received: Received, handler: Handler, found: Consequence, sends: Sends) -> Outcome:
        """What is to be written of a command that was decided on in a group."""
        return Outcome(
            received.lease,
            Verb.COMPLETE,
            sends=sends.end(),
            answers=answers_to(received),
            decision=decision_of(handler, found, sends),
        )

    def refused(self, received: Received, handler: Handler, read: Consequence, error: BaseException) -> Outcome | None:
        """What is to be written of a command whose decider raised an error in a group."""
        outcome = self._failed(received, handler, error)
        if outcome is None or outcome.verb is not Verb.FAIL:
            return outcome
        return outcome._replace(decision=decision_of(handler, read, None))

    def _failed(self, received: Received, handler: Handler, error: BaseException) -> Outcome | None:
        """What an exception means for the command, also one that cannot be looked at."""
        try:
            return self._meaning(received, handler, error)
        except BaseException:  # noqa: BLE001 - SystemExit out of its __str__, for instance, is no end of ours
            return self._meaning(received, handler, tellable(error))

    def _meaning(self, received: Received, handler: Handler, error: BaseException) -> Outcome | None:
        if isinstance(error, _Refused):
            return error.outcome
        if isinstance(error, StaleLeaseError):
            logger.warning("lost the lease; another worker has the command", extra=about(received))
            return None
        if isinstance(error, BusinessRuleException):
            return failure_of(received, error.code, error.error_message, error.details)
        if isinstance(error, PermanentCommandError):
            return self._troubleshoot(received, PERMANENT, error.code, error.error_message, error.details)
        if isinstance(error, InvalidResultError):
            return self._troubleshoot(received, PERMANENT, "INVALID_RESULT", str(error.__cause__))
        if isinstance(error, TransientCommandError):
            code, text, details = error.code, error.error_message, error.details
        else:
            kind = PoolExhaustedError if isinstance(error, NotBegunError) else type(error)  # it has begun
            code, text, details = kind.__name__, cleaned(error), None
            if not isinstance(error, MainstayError):
                which = f"{self._domain}.{received.command.command_type} {received.command.command_id}"
                logger.warning("a handler failed: %s: %s: %s", which, code, text, exc_info=error, extra=about(received))
        if received.attempt >= received.max_attempts:
            return self._troubleshoot(received, TRANSIENT, code, text, details, exhausted=True)
        policy = handler.options.retry_policy or self._retry_policy
        return Outcome(
            lease=received.lease,
            verb=Verb.RETRY,
            error_type=TRANSIENT,
            error_code=cleaned(code, CODE_LIMIT),
            error_message=cleaned(text),
            details=details_of(details),
            delay=asked_delay(received, error, policy.delay_after(received.attempt)),
        )

    def _troubleshoot(
        self,
        received: Received,
        kind: str,
        code: str,
        text: str,
        details: dict[str, Any] | None = None,
        *,
        exhausted: bool = False,
    ) -> Outcome:
        return Outcome(
            lease=received.lease,
            verb=Verb.TROUBLESHOOT,
            error_type=kind,
            error_code=cleaned(code, CODE_LIMIT),
            error_message=cleaned(text),
            details=details_of(details),
            exhausted=exhausted,
        )


class _NotBegun(Exception):  # noqa: N818 - says that nothing of the handler has run
    def __init__(self, error: NotBegunError) -> None:
        self.error = error
        super().__init__(str(error))


class _Refused(Exception):  # noqa: N818 - carries an outcome out of a transaction
    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome.error_code)
