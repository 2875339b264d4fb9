"""The idempotency certifier: does a handler keep its promise when its worker dies in the worst moment?

It runs the handler on a real database, undisturbed, and keeps what is in the tables then. After that, once for every
boundary between two SQL statements, before and after each COMMIT too, it makes the database as new and lets

- the process die there: its connections are cut, nothing of it runs any more, the command is delivered again;
- the connection be terminated there, while the handler goes on, with the error that it gets;
- the handler stall there for longer than its lease: another worker handles the command, then the first one goes on;

and before the completion is written, which is how a command is delivered twice. What is in the tables at the end must
be the same each time. What differs is reported with the boundary.

It sees the statements of the connections of the pool that it gives. Effects outside of the database count too, if the
state function tells of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from mainstay.app import PostgreSQLEventStore
from mainstay.commands.bus import CommandBus
from mainstay.commands.execution import Execution
from mainstay.commands.handler import HandlerRegistry
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.store import Received
from mainstay.deciding import EventAggregates
from mainstay.errors import ConfigurationError, MainstayError, shown
from mainstay.retry import RetryPolicy
from mainstay.storage.postgres.boundaries import Attempt, Fault, Laboratory, Place, current_attempt
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.groups import group_deciders

Make = Callable[[Any], HandlerRegistry]
"""Given a pool, the handlers; those that need connections of their own take them from it."""
Prepare = Callable[[Any], Awaitable[None]]
State = Callable[[Any], Awaitable[Any]]

_COMMAND_ID = uuid5(UUID(int=0), "mainstay.testing.certifier")
_LEASE = 0.05
_TURN = 0.01
_HELD_UP = 0.25
"""Seconds after which a second worker is taken to wait for a lock of the first, which is then let go on."""
_PATIENCE = 30.0
_DELIVERIES = 1000
_COMPLETION = "(the completion)"
_OVER = frozenset({CommandStatus.PENDING, CommandStatus.IN_PROGRESS})


@dataclass(frozen=True, slots=True)
class Difference:
    """A fault after which the end is not the same.

    Args:
        when: Before or after which statement.
        fault: What happened there.
        what: How the end differs.
    """

    when: str
    fault: str
    what: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the certifier found; its text is a table.

    Args:
        boundaries: The statements of an undisturbed run, in order.
        runs: How often the handler was put to the test.
        differences: None of them, if the handler may be delivered again at any time.
    """

    boundaries: tuple[str, ...]
    runs: int
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """Whether the end was the same each time."""
        return not self.differences

    def __str__(self) -> str:
        head = (
            f"{self.runs} runs with a fault, at {len(self.boundaries)} statements: "
            f"{len(self.differences)} ended differently"
        )
        if self.passed:
            return head
        rows = [("when", "fault", "what differs"), *((one.when, one.fault, one.what) for one in self.differences)]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows]
        return "\n".join(
            [head, "", lines[0], "  ".join("-" * width for width in (*widths, len(rows[0][2]))), *lines[1:]]
        )


class IdempotencyCertifier:
    """Puts handlers to the test.

    Args:
        dsn: A database with mainstay's schema, for this purpose only: every row in it is removed before each run.
        prepare: Called before each run with a connection: inserts what the handler expects to find.
        state: Called after each run with a connection: what must be the same; the rows of all tables unless given.
        ignore: Columns that may differ from run to run. Those that the database fills by itself, with a number, a time
            or a random id, are ignored anyway.
    """

    def __init__(
        self, dsn: str, *, prepare: Prepare | None = None, state: State | None = None, ignore: Sequence[str] = ()
    ) -> None:
        self._laboratory = Laboratory(dsn, ignore)
        self._prepare = prepare
        self._state = state or self._laboratory.state

    async def certify(
        self, make: Make, domain: str, command_type: str, data: dict[str, Any] | None = None
    ) -> Certificate:
        """Put one handler to the test.

        Args:
            make: Given a pool, gives the registry with the handler.
            domain: Whose command.
            command_type: Which.
            data: Its payload.

        Raises:
            ConfigurationError: Two undisturbed runs end differently, so nothing can be said; or it did not end at all.
        """
        case = _Case(self._laboratory, self._prepare, self._state, make, domain, command_type, data or {})
        expected, statements = await case.run(None, None)
        again, _ = await case.run(None, None)
        if difference := _difference(expected, again):
            message = f"two undisturbed runs end differently; name columns that may differ in `ignore`: {difference}"
            raise ConfigurationError(message)
        runs = 0
        found: list[Difference] = []
        for fault, place in _plans(statements):
            runs += 1
            end, _ = await case.run(fault, place)
            if difference := _difference(expected, end):
                side = "after" if place.is_after else "before"
                found.append(Difference(f"{side} {place.number + 1}. {statements[place.number]}", fault, difference))
        return Certificate(tuple(statements), runs, tuple(found))


def _plans(statements: Sequence[str]) -> list[tuple[Fault, Place]]:
    plans = []
    for index, statement in enumerate(statements):
        plans += [(Fault.DIES, Place(index, is_after=False)), (Fault.STALLS, Place(index, is_after=False))]
        if statement != _COMPLETION:
            plans += [(Fault.DIES, Place(index, is_after=True)), (Fault.LOSES_CONNECTION, Place(index, is_after=False))]
    return plans


@dataclass(frozen=True, slots=True)
class _Case:
    """One handler, and how to see what it did."""

    laboratory: Laboratory
    prepare: Prepare | None
    state: State
    make: Make
    domain: str
    command_type: str
    data: dict[str, Any]

    async def run(self, fault: Fault | None, place: Place | None) -> tuple[Any, list[str]]:
        """Let the command be handled, with one fault; the end, and the statements of the first attempt."""
        async with self.laboratory.connection() as conn:
            await self.laboratory.empty(conn)
            if self.prepare is not None:
                await self.prepare(conn)
            async with self.laboratory.pool() as mortal, self.laboratory.pool() as pool:
                store = PostgresCommandStore(pool)
                await CommandBus(store).send(
                    self.domain, self.command_type, _COMMAND_ID, self.data, max_attempts=_DELIVERIES
                )
                victim = _Hand(PostgresCommandStore(mortal), self.make(mortal), self.domain)
                in_group = victim.decides(self.command_type)
                attempt = Attempt(fault, place, self.laboratory.terminate, outside=in_group)
                other = _Hand(store, self.make(pool), self.domain)
                first = asyncio.create_task(victim.deliver(attempt))
                try:
                    async with asyncio.timeout(_PATIENCE):
                        status = await self._finish(other, attempt, first, fault)
                except TimeoutError as error:
                    message = f"{self.command_type} did not end within {_PATIENCE:g} s of being disturbed"
                    raise ConfigurationError(message) from error
                finally:
                    end = await self.state(conn)
                    first.cancel()
                    with suppress(BaseException):
                        await first
        return (status, end), attempt.statements

    async def _finish(self, other: "_Hand", attempt: Attempt, first: "asyncio.Task[None]", fault: Fault | None) -> str:
        """Deliver until the command has ended."""
        struck = asyncio.create_task(attempt.struck.wait())
        await asyncio.wait({first, struck}, return_when=asyncio.FIRST_COMPLETED)
        struck.cancel()
        if fault is Fault.STALLS and attempt.struck.is_set():
            second = asyncio.create_task(other.deliver(Attempt()))
            await asyncio.wait({second}, timeout=_HELD_UP)
            attempt.resumed.set()
            await asyncio.wait({first, second})
        while (status := await other.status()) in _OVER:
            await other.deliver(Attempt())
        return str(status)


class _Hand:
    """What a worker does with one command, one step after another."""

    def __init__(self, store: PostgresCommandStore, registry: HandlerRegistry, domain: str) -> None:
        self._store = store
        self._registry = registry
        self._domain = domain

    def decides(self, command_type: str) -> bool:
        """Whether the handler is a decider's, whose statements are transactions of their own."""
        has_handler = self._registry.has_handler(self._domain, command_type)
        return has_handler and self._registry.find(self._domain, command_type).decides

    def _execution(self) -> Execution:
        """What handles it: as in a worker, deciders decide in groups. What it starts runs in this call's context."""
        events = PostgreSQLEventStore(self._store.pool)
        return Execution(
            self._store,
            self._domain,
            self._registry,
            RetryPolicy(backoff_schedule=[0], jitter=0),
            _no_threads,
            lambda _: False,
            lambda _: None,
            lambda *_: None,
            EventAggregates(events, joins=True),
            group_deciders(self._store, events, None),
        )

    async def status(self) -> CommandStatus:
        """Where the command stands."""
        found = await self._store.get(self._domain, _COMMAND_ID)
        if found is None:  # pragma: no cover - it was sent
            raise ConfigurationError("the command is gone")
        return found.status

    async def deliver(self, attempt: Attempt) -> None:
        """Receive the command as soon as it can be had, handle it, write what became of it."""
        received = await self._receive()
        if received is None:
            return
        token = current_attempt.set(attempt)
        execution = self._execution()
        try:
            outcome = await execution.run(received)
            if outcome is None:
                return
            await attempt.before(None, _COMPLETION)
        finally:
            current_attempt.reset(token)
            if execution.grouping is not None:
                await execution.grouping.close()
        with suppress(MainstayError):
            await self._store.complete(self._domain, [outcome._replace(delay=0.0)])

    async def _receive(self) -> Received | None:
        while await self.status() in _OVER:
            for received in await self._store.receive(self._domain, limit=1, lease_seconds=_LEASE, worker="certifier"):
                return received
            await asyncio.sleep(_TURN)
        return None


def _no_threads() -> Any:
    return None  # the loop's own executor


def _difference(expected: Any, found: Any) -> str:
    """How two ends differ, in words; empty if they do not."""
    if expected == found:
        return ""
    (status, state), (other_status, other) = expected, found
    if status != other_status:
        return f"the command ends {other_status} instead of {status}"
    if not (isinstance(state, dict) and isinstance(other, dict)):
        return f"{shown(other)} instead of {shown(state)}"
    parts = []
    for name in sorted(state.keys() | other.keys(), key=str):
        was, now = state.get(name), other.get(name)
        if was == now:
            continue
        if isinstance(was, list) and isinstance(now, list):
            missing, extra = _without(was, now), _without(now, was)
            said = [f"{len(missing)} missing, such as {missing[0]}"] if missing else []
            said += [f"{len(extra)} too many, such as {extra[0]}"] if extra else []
            parts.append(f"{name}: {'; '.join(said) or 'another order'}")
        else:
            parts.append(f"{name}: {shown(now)} instead of {shown(was)}")
    return " / ".join(parts)


def _without(these: list[Any], those: list[Any]) -> list[Any]:
    left = list(those)
    missing = []
    for one in these:
        if one in left:
            left.remove(one)
        else:
            missing.append(one)
    return missing
