"""From a blocking object to the asynchronous one behind it."""

import functools
import weakref
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeAlias, TypeVar

from mainstay.app import CommandBus, Mainstay
from mainstay.commands.store import CommandStore
from mainstay.errors import ConfigurationError
from mainstay.portal import PerProcess

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

    async def close(self) -> None:
        """Close the rooms, then the pool."""
        for owner in list(self._rooms):
            await self.close_room(owner)
        await self._stack.aclose()


class Bridge:
    """What blocking objects share: an event loop and a pool, for each process, opened at the first call.

    Args:
        dsn: libpq connection string or URL; a function that returns one; or a command store, in unit tests.
        min_size: Connections kept open, in each process.
        max_size: Connections at most, in each process.
        check_schema: Refuse a database that is not prepared.
    """

    def __init__(
        self, dsn: Dsn | CommandStore, *, min_size: int = 1, max_size: int = 10, check_schema: bool = True
    ) -> None:
        if not isinstance(dsn, str | CommandStore) and not callable(dsn):
            raise ConfigurationError(
                "expected a connection string, a function that returns one, or a command store, "
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
            if not isinstance(source, CommandStore):
                dsn = source if isinstance(source, str) else source()
                app = await stack.enter_async_context(Mainstay.connect(dsn, **self._pool_options))
                source = app.pool
            return Opened(stack.pop_all(), source)


Source: TypeAlias = Dsn | CommandStore | Bridge
"""What blocking objects stand on: a database, a store, or what they share."""


class Blocking(Generic[RoomT]):
    """The blocking face of a room.

    Args:
        source: As `Bridge` takes it, or a `SyncMainstay`, to share its pool.
        make: Makes the room from a pool or store.
    """

    def __init__(self, source: Source, make: Callable[[Any], RoomT]) -> None:
        self._is_owner = not isinstance(source, Bridge)
        self._home = source if isinstance(source, Bridge) else Bridge(source)
        self._make = make

    def _call(self, function: Callable[[RoomT], Coroutine[Any, Any, T]]) -> T:
        return self._home.per_process.call(lambda opened: function(opened.room(self, self._make)))

    def close(self) -> None:
        """Close what this object opened; a pool shared with others stays open."""
        if self._is_owner:
            self._home.close()
        else:
            self._home.per_process.call(lambda opened: opened.close_room(self))

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
