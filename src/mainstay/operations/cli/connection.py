"""Which database a command works on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from urllib.parse import quote, urlsplit

from mainstay.errors import ConfigurationError, DatabaseNotFoundError, SchemaMissingError
from mainstay.operations.cli.deciding import name_of
from mainstay.operations.loading import here, registry_of
from mainstay.operations.operator import Operator
from mainstay.tenancy import operator_scope

EMBEDDED = "embedded"
_DEFAULT_DATABASE = "mainstay"
_MAINTENANCE_DATABASE = "postgres"


@asynccontextmanager
async def database(dsn: str | None, *, creates: bool = True) -> AsyncIterator[str]:
    """The connection string to use; keeps an embedded server running for as long as the block does.

    Args:
        dsn: As given by the user: a connection string, ``embedded``, ``embedded:NAME``, or None.
        creates: Make the database if the embedded server has none of that name.

    Raises:
        ConfigurationError: No database was named.
        MissingDependencyError: The embedded server is not installed.
        EmbeddedServerError: It does not start.
        SchemaMissingError: The embedded server has no such database, and it is not to be made.
    """
    if not dsn:
        raise ConfigurationError(
            "no database was named: give --dsn or set DATABASE_URL (--dsn embedded uses a PostgreSQL of your own)"
        )
    kind, _, name = dsn.partition(":")
    if kind != EMBEDDED:
        yield dsn
        return
    from mainstay.storage.postgres.embedded import EmbeddedServer

    server = EmbeddedServer()
    try:
        await asyncio.to_thread(server.start)
        name = name or _DEFAULT_DATABASE
        if creates:
            yield await asyncio.to_thread(server.dsn, name)
            return
        there_always = urlsplit(await asyncio.to_thread(server.dsn, _MAINTENANCE_DATABASE))
        try:
            yield there_always._replace(path=f"/{quote(name, safe='')}").geturl()
        except DatabaseNotFoundError as error:
            call = f"mainstay schema upgrade --dsn '{EMBEDDED}:{name}'"
            raise SchemaMissingError(f"the embedded server has no database {name!r}: `{call}` makes it") from error
    finally:
        await asyncio.to_thread(server.stop)


@asynccontextmanager
async def connected(
    dsn: str | None,
    *,
    creates: bool = False,
    check_schema: bool = True,
    max_size: int = 4,
    prepare: bool = False,
    registry: str | None = None,
    serves: bool = False,
    who: str | None = None,
    reason: str | None = None,
) -> AsyncIterator[Operator]:
    """An operator on the database that the user named; arguments and errors as `Operator.connect` and `database`.

    With ``registry``, a path as of `mainstay worker`, edited payloads must fit the models of its handlers. What is
    changed stands in the operators' trail, as done by ``who`` or else by whoever calls, for this ``reason``; unless it
    ``serves``, as a worker does: then it is no operator who decides.
    """
    found = None if registry is None else here(registry)
    name = None if serves else name_of(who)
    async with (
        database(dsn, creates=creates) as url,
        Operator.connect(url, check_schema=check_schema, max_size=max_size, prepare=prepare) as operator,
        nullcontext() if name is None else operator_scope(name, reason),
    ):
        if registry is not None:
            operator.use_registry(await registry_of(found, registry, operator.pool))
        yield operator
