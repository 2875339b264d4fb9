"""From a blocking object to the asynchronous one behind it."""

import functools
import weakref
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Self, TypeAlias, TypeVar

from mainstay.app import CommandBus, Mainstay, SubscriptionManager
from mainstay.commands.store import CommandStore
from mainstay.errors import ConfigurationError
from mainstay.events.store import EventStore
from mainstay.portal import PerProcess
from mainstay.sync.opening import opened_here

P = ParamSpec("P")
T = TypeVar("T")
RoomT = TypeVar("RoomT")

Dsn: TypeAlias = str | Callable[[], str]
"""A connection string, or a function that returns it, called in each process when it is first needed."""


class Opened:
    """What one process has open: a pool or a store, and the rooms on it."""

    def __init__(self, stack: AsyncExitStack, source: Any) -> None:
        self.source = source
        self._stack = stack
        self._rooms: weakref.WeakKeyDictionary[object, Any] = weakref.WeakKeyDictionary()

    def room(self, owner: object, make: Callable[[Any], RoomT]) -> RoomT:
        """The room of a blocking object, made at its first call."""
        room: RoomT | None = self._rooms.get(owner)
        if room is None:
            room = self._rooms[owner] = make(self.source)
        return room

    async def close_room(self, owner: object) -> None:
        """Close the room of a blocking object, if it has one."""
        room = self._rooms.pop(owner, None)
        if isinstance(room, CommandBus):
            await room.close()
        elif isinstance(room, SubscriptionManager):
            await room.stop()

    async def close(self) -> None:
        """Close the rooms, then the pool."""
        try:
            for owner in list(self._rooms):
                await self.close_room(owner)
        finally:
            await self._stack.aclose()


class Bridge:
    """What blocking objects share: an event loop and a pool, for each process, opened at the first call.

    Args:
        dsn: libpq connection string or URL; a function that returns one; or a store.
        min_size: Connections kept open, in each process.
        max_size: Connections at most, in each process.
        check_schema: Refuse a database that is not prepared.
        store: Which kind of store is taken instead: in unit tests, one for commands.
    """

    def __init__(
        self,
        dsn: "Dsn | CommandStore | EventStore | Callable[[], EventStore]",
        *,
        min_size: int = 1,
        max_size: int = 10,
        check_schema: bool = True,
        store: type[CommandStore | EventStore] = CommandStore,
    ) -> None:
        if not isinstance(dsn, (str, store)) and not callable(dsn):
            kind = "a command store" if store is CommandStore else "an event store"
            raise ConfigurationError(
                f"expected a connection string, a function that returns one, or {kind}, "
                f"not {type(dsn).__name__}; a pool cannot be shared with blocking code"
            )
        self._source = dsn
        self._pool_options: dict[str, Any] = {
            "min_size": min_size,
            "max_size": max_size,
            "check_schema": check_schema,
        }
        self.per_process = PerProcess(self._open)

    def close(self) -> None:
        """Close everything for good; does nothing if it is closed."""
        self.per_process.close()

    def __enter__(self) -> Self:
        """Open nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    async def _open(self) -> Opened:
        async with AsyncExitStack() as stack:
            source: Any = self._source
            if not isinstance(source, str | CommandStore | EventStore):
                source = source()
            if isinstance(source, EventStore):
                await stack.enter_async_context(opened_here(source))
            elif not isinstance(source, CommandStore):
                app = await stack.enter_async_context(Mainstay.connect(source, **self._pool_options))
                source = app.pool
            return Opened(stack.pop_all(), source)


Source: TypeAlias = Dsn | CommandStore | Bridge
"""What blocking objects stand on: a database, a store, or what they share."""


class Blocking(Generic[RoomT]):
    """The blocking face of a room.

    Args:
        source: As `Bridge` takes it, or a `SyncMainstay`, to share its pool.
        make: Makes the room from a pool or store.
        is_owner: Whether to close what it stands on; unless given, if it is no `Bridge`.
    """

    _blocks_loop: ClassVar[bool] = False
    """Whether its calls may block an event loop of the thread that calls."""

    def __init__(self, source: Source, make: Callable[[Any], RoomT], *, is_owner: bool | None = None) -> None:
        self._is_owner = not isinstance(source, Bridge) if is_owner is None else is_owner
        self._home = source if isinstance(source, Bridge) else Bridge(source)
        self._make = make

    def _call(self, function: Callable[[RoomT], Coroutine[Any, Any, T]]) -> T:
        return self._home.per_process.call(
            lambda opened: function(opened.room(self, self._make)), blocks_loop=self._blocks_loop
        )

    def close(self) -> None:
        """Close what this object opened; a pool shared with others stays open."""
        if self._is_owner:
            self._home.per_process.close(blocks_loop=self._blocks_loop)
        else:
            self._home.per_process.call(lambda opened: opened.close_room(self), blocks_loop=self._blocks_loop)

    def __enter__(self) -> Self:
        """Open nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def blocking(
    method: Callable[Concatenate[RoomT, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking[Any], P], T]:
    """A method of a room as its blocking face has it."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: Blocking[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        def start(room: RoomT) -> Coroutine[Any, Any, T]:
            started: Coroutine[Any, Any, T] = getattr(room, name)(*args, **kwargs)
            return started

        return self._call(start)

    return call
