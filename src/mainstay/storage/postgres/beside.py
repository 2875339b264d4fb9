"""Connections beside a pool: made with its parameters, never taken from it and never given to it.

For those who cannot share, because they listen; and for those who must not wait for the pool, because they may hold its
last connection themselves.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import isawaitable
from typing import Any

from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict

from mainstay.errors import PoolExhaustedError
from mainstay.storage.postgres.database import Connection, Pool, autocommit, translate_errors

_AT_ONCE = 0.05
"""Seconds in which a pool gives a connection, if it has one."""
#: What the connection gets unless the user's parameters say otherwise: a server that is not there is noticed.
_PATIENCE = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


async def connected(pool: Pool, conninfo: str | None = None) -> AsyncConnection[Any]:
    """A connection with the parameters that the pool would use now, which may be fresh credentials; in autocommit.

    Args:
        pool: Gives the parameters, and is used for nothing else.
        conninfo: Connect here instead.

    Raises:
        psycopg.Error: The server cannot be reached.
    """
    conninfo = conninfo or await _resolved(pool.conninfo) or ""
    given: Mapping[str, Any] = await _resolved(pool.kwargs) or {}
    named = {**conninfo_to_dict(conninfo), **given}
    patience = {name: value for name, value in _PATIENCE.items() if name not in named}
    kind: type[AsyncConnection[Any]] = pool.connection_class
    return await kind.connect(conninfo, **{**patience, **given, "autocommit": True})


@asynccontextmanager
async def without_waiting(pool: Pool) -> AsyncIterator[Connection]:
    """A connection in autocommit for whoever may be in a transaction on the pool's last one: he would wait for himself.

    One that the pool has to give at once, else one beside it, which is closed at the end.

    Raises:
        StorageUnavailableError: The pool is closed, or the server cannot be reached.
        MainstayError: What `translate` makes of an error in the block.
    """
    async with AsyncExitStack() as stack:
        try:
            conn = await stack.enter_async_context(autocommit(pool, timeout=_AT_ONCE))
        except PoolExhaustedError:
            stack.enter_context(translate_errors())
            conn = await stack.enter_async_context(await connected(pool))
        yield conn


async def _resolved(parameter: Any) -> Any:
    """A pool's parameter, which may be a value, a function or an async function."""
    value = parameter() if callable(parameter) else parameter
    return await value if isawaitable(value) else value
