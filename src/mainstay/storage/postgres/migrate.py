"""The schema runner: brings a database to what this code needs, and says whether it is there.

What it promises
    An installation or upgrade is one transaction: it happens whole or not at all. Calls that run at the same time, in
    one process or many, take turns under an advisory lock; one of them does the work and the rest find it done. A
    fresh database and an old one go through the same files. What was done is judged by the ledger in the schema
    ``mainstay`` and by nothing else: a PGMQ that was there before, or somebody else's schema of the same name,
    is neither an installation nor a reason to skip one.

What state a database can be in, and what follows
    ============================================  =================  =====================  ==================
    the database                                  setup_database     require_current        schema_status
    ============================================  =================  =====================  ==================
    has no ledger                                 installs: True     SchemaMissingError     nothing installed
    has no ledger, but a schema named like ours   SchemaError        SchemaMissingError     drift
    lacks migrations or function files of ours    upgrades: True     SchemaOutdatedError    pending, changed
    is what this code needs                       False              passes                 current
    is newer, and this code may still run on it   False              passes                 newer
    is newer, and this code may not               SchemaTooNewError  SchemaTooNewError      newer, breaking
    has a migration that differs from its file    SchemaDriftError   SchemaDriftError       drift
    ============================================  =================  =====================  ==================

    Function files have no number, so their age is the release that applied them: while releases overlap in a rolling
    deployment, the older one never puts its functions back over the newer one's.

How it fails
    Any error rolls everything back and names the file that failed. A role without the rights gets
    `PermissionDeniedError`; a PGMQ that is too old, `PgmqMissingError`. A connection lost during the commit leaves it
    unknown whether the upgrade happened; calling again finds out.

Every function takes a pool or a connection. On a connection that is already in a transaction, the work is part of that
transaction and its owner commits it; else it is a transaction of its own.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from mainstay.errors import (
    ConfigurationError,
    PermissionDeniedError,
    PgmqMissingError,
    SchemaDriftError,
    SchemaError,
    SchemaMissingError,
    SchemaOutdatedError,
    StorageUnavailableError,
)
from mainstay.storage.postgres import database, schema_files, schema_objects, schema_state
from mainstay.storage.postgres.database import Connection, Pool
from mainstay.storage.postgres.refusals import place_of
from mainstay.storage.postgres.schema_files import FunctionFile, SchemaFiles
from mainstay.storage.postgres.schema_objects import Alteration
from mainstay.storage.postgres.schema_state import Plan, query

_UPGRADE = "run `mainstay schema upgrade` or await setup_database(pool)"


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """A database beside the code that asks.

    Attributes:
        code_version: Number of the last migration that this code knows.
        database_version: Number of the last migration that the database has; None if mainstay is not installed.
        pending: Migrations that the database lacks, in order.
        changed_functions: Function files that would be applied, by path.
        newer: Migrations that the database has and this code does not know.
        breaking: One of the newer ones excludes this code.
        pgmq_method: ``"extension"`` or ``"sql"``; None if PGMQ is absent.
        pgmq_version: None if PGMQ is absent, or came as SQL by other hands.
        drift: Findings, a sentence each: the database is not what its ledger or its files say.
        altered: Tables, columns, constraints, indexes, triggers and so on among these that are missing or different.
    """

    code_version: int
    database_version: int | None
    pending: tuple[str, ...]
    changed_functions: tuple[str, ...]
    newer: tuple[str, ...]
    breaking: bool
    pgmq_method: str | None
    pgmq_version: str | None
    drift: tuple[str, ...]
    altered: tuple[Alteration, ...] = ()

    @property
    def is_current(self) -> bool:
        """This code can run on this database as it is."""
        return (
            self.database_version is not None
            and self.pgmq_method is not None
            and not (self.pending or self.changed_functions or self.breaking or self.drift)
        )


async def setup_database(
    pool_or_conn: Pool | Connection, *, skip_if_exists: bool = True, files: SchemaFiles | None = None
) -> bool:
    """Install mainstay in a database, or upgrade it.

    Safe to call at every start and from many processes at once.

    Args:
        pool_or_conn: An open pool, or a connection.
        skip_if_exists: False also looks at the functions themselves and puts back those that were edited by hand.
        files: The schema; None for that of this package.

    Returns:
        True if this call created or changed something, False if the database was current.

    Raises:
        SchemaTooNewError: The database has a migration that excludes this code.
        SchemaDriftError: A migration that the database has differs from its file.
        SchemaError: A schema with one of our names is not ours, or a file failed. Nothing was changed.
        PgmqMissingError: PGMQ is older than 1.5.
        PermissionDeniedError: The role may not do this.
        StorageUnavailableError: The pool is closed, or the server cannot be reached.
    """
    schema = files or _packaged()
    async with _in_transaction(pool_or_conn) as conn:
        if skip_if_exists and not (await _plan(conn, schema)).has_work:
            return False
        await database.execute(conn, query("lock"))
        # Whoever held the lock before may have done it all.
        plan = await _plan(conn, schema)
        if skip_if_exists and not plan.has_work:
            return False
        return await _apply(conn, schema, plan)


async def check_schema_exists(pool_or_conn: Pool | Connection) -> bool:
    """Whether mainstay is installed, in whatever version.

    Args:
        pool_or_conn: An open pool, or a connection.

    Raises:
        PermissionDeniedError: The role may not read the ledger.
        StorageUnavailableError: The pool is closed, or the server cannot be reached.
    """
    async with _in_transaction(pool_or_conn) as conn:
        return (await schema_state.read(conn)).version > 0


async def require_current(pool_or_conn: Pool | Connection, *, files: SchemaFiles | None = None) -> None:
    """Refuse to start on a database that this code cannot run on. Changes nothing.

    Args:
        pool_or_conn: An open pool, or a connection.
        files: The schema; None for that of this package.

    Raises:
        SchemaMissingError: Mainstay is not installed here.
        SchemaOutdatedError: The database lacks something of this code.
        SchemaTooNewError: The database has a migration that excludes this code.
        SchemaDriftError: A migration that the database has differs from its file.
        PgmqMissingError: PGMQ is absent, or older than 1.5.
        PermissionDeniedError: The role may not read the ledger.
        StorageUnavailableError: The pool is closed, or the server cannot be reached.
    """
    schema = files or _packaged()
    async with _in_transaction(pool_or_conn) as conn:
        state = await schema_state.read(conn)
        if not state.version:
            raise SchemaMissingError(f"mainstay is not installed in {place_of(conn)}: {_UPGRADE}")
    plan = schema_state.plan(state, schema)
    if plan.install_pgmq:
        raise PgmqMissingError("this database has lost its PGMQ: restore it from a backup, with its queues")
    if plan.pending:
        raise SchemaOutdatedError(
            f"the database schema is at version {state.version}, this code needs {schema.version}: {_UPGRADE}"
        )
    if plan.functions:
        raise SchemaOutdatedError(
            f"{len(plan.functions)} database functions are older than this code ({plan.functions[0]}): {_UPGRADE}"
        )


async def verify(pool_or_conn: Pool | Connection, *, files: SchemaFiles | None = None) -> tuple[str, ...]:
    """Compare the database with the schema folder: migrations by hash, functions and what holds data one by one.

    Args:
        pool_or_conn: An open pool, or a connection.
        files: The schema; None for that of this package.

    Returns:
        Findings, a sentence each; empty if all is well. A database that is newer than this code is compared by its
        migrations only.

    Raises:
        PermissionDeniedError: The role may not read the ledger.
        StorageUnavailableError: The pool is closed, or the server cannot be reached.
    """
    return (await schema_status(pool_or_conn, files=files)).drift


async def schema_status(pool_or_conn: Pool | Connection, *, files: SchemaFiles | None = None) -> SchemaStatus:
    """What a database has, what it lacks, and what is wrong with it. Raises nothing about the schema itself.

    Args:
        pool_or_conn: An open pool, or a connection.
        files: The schema; None for that of this package.

    Raises:
        PermissionDeniedError: The role may not read the ledger.
        StorageUnavailableError: The pool is closed, or the server cannot be reached.
    """
    schema = files or _packaged()
    async with _in_transaction(pool_or_conn) as conn:
        state = await schema_state.read(conn)
        drift = schema_state.edited_migrations(state, schema)
        altered: tuple[Alteration, ...] = ()
        changed = schema_state.changed_functions(state, schema)
        if not state.version:
            drift += [f"schema {name} is not mainstay's" for name in await schema_state.foreign_schemas(conn, schema)]
        elif state.version == schema.version and not schema_state.is_newer(state, schema):
            due = {(each.function.schema, each.function.name) for each in changed}
            findings = await schema_state.function_findings(conn, schema)
            drift += [str(each) for each in findings if (each.schema, each.name) not in due]
            there = await schema_objects.read(conn, schema.all_schemas)
            altered = tuple(schema_objects.compare(schema.objects, there))
            drift += [str(alteration) for alteration in altered]
        if state.pgmq_is_too_old:
            drift.append("PGMQ is older than 1.5")
    newer = schema_state.newer_migrations(state, schema)
    return SchemaStatus(
        code_version=schema.version,
        database_version=state.version or None,
        pending=tuple(str(each) for each in schema.migrations[state.version :]),
        changed_functions=tuple(each.path for each in changed),
        newer=tuple(str(each) for each in newer),
        breaking=any(each.breaking for each in newer),
        pgmq_method=state.pgmq_method,
        pgmq_version=state.pgmq_version,
        drift=tuple(drift),
        altered=altered,
    )


def get_schema_sql() -> str:
    """The whole installation as one plain SQL script, for Flyway, Alembic or psql.

    Run it once, in one transaction, on a database without mainstay. Afterwards our ledger says that the database is
    current, and later releases give what is new by `print_schema`.
    """
    return print_schema()


def print_schema(since: int | None = None, *, files: SchemaFiles | None = None) -> str:
    """The installation, or what follows a version, as a plain SQL script.

    Args:
        since: The version that the database is at; None or 0 for an empty database.
        files: The schema; None for that of this package.

    Raises:
        ConfigurationError: There is no such version.
    """
    schema = files or _packaged()
    if since is not None and not 0 <= since <= schema.version:
        raise ConfigurationError(f"since={since}: this release knows the versions 0 to {schema.version}")
    wanted = f"from version {since} to {schema.version}" if since else f"version {schema.version}"
    parts = [
        f"-- mainstay {schema.release}: schema {wanted}.",
        "-- Run it once, in one transaction (psql --single-transaction).",
        "-- Where it was run before, it fails and changes nothing.",
        f"{query('script_head')};",
        *(() if since else (schema.guard_script(), schema.ledger, schema.pgmq)),
        *(each.script() for each in schema.migrations[since or 0 :]),
        *(each.script(schema.release) for each in schema.functions),
        schema.forget_script(),
        f"{query('script_foot')};",
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


async def _plan(conn: Connection, files: SchemaFiles) -> Plan:
    state = await schema_state.read(conn)
    await schema_state.refuse_foreign_schemas(conn, state, files)
    return schema_state.plan(state, files)


async def _apply(conn: Connection, files: SchemaFiles, plan: Plan) -> bool:
    """Do what is planned, under the lock; whether anything was."""
    if plan.install_ledger:
        await _run(conn, "ledger.sql", files.ledger)
    if plan.install_pgmq:
        await _run(conn, "pgmq.sql", files.pgmq)
    for migration in plan.pending:
        await _run(conn, str(migration), migration.script())
    functions = [] if plan.functions_stand else await _functions_to_apply(conn, files, plan)
    if functions:
        before = await database.fetch_value(conn, query("function_bodies_setting"))
        await database.execute(conn, query("defer_function_bodies"))
        for function in functions:
            await _run(conn, function.path, function.script(files.release))
        await database.execute(conn, query("restore_function_bodies"), {"value": before})
        await _run(conn, "the ledger", files.forget_script())
        await _refuse_overloads(conn, files)
    return plan.has_work or bool(functions)


async def _functions_to_apply(conn: Connection, files: SchemaFiles, plan: Plan) -> list[FunctionFile]:
    """What changed in the folder, and what somebody edited or dropped in the database."""
    findings = await schema_state.function_findings(conn, files)
    astray = {(each.schema, each.name) for each in findings if each.kind in ("missing", "edited")}
    due = {each.path for each in plan.functions}
    return [
        each for each in files.functions if each.path in due or (each.function.schema, each.function.name) in astray
    ]


async def _refuse_overloads(conn: Connection, files: SchemaFiles) -> None:
    """PostgreSQL makes a second function out of an added parameter, and from then on calls are ambiguous."""
    for finding in await schema_state.function_findings(conn, files):
        if finding.kind == "overload":
            raise SchemaDriftError(
                f"{finding}; nothing was changed. Drop the one that is not mainstay's; "
                "in the folder, a changed signature is a new file"
            )


async def _run(conn: Connection, name: str, script: str) -> None:
    try:
        await database.run_script(conn, script)
    except psycopg.Error as error:
        ours = database.translate(error)
        # Anything else that a name in our own files misses is a fault of the file, not of the installation.
        if isinstance(ours, PermissionDeniedError | StorageUnavailableError):
            raise ours from error
        raise SchemaError(f"{name} failed, nothing was changed: {error}") from error


@asynccontextmanager
async def _in_transaction(pool_or_conn: Pool | Connection) -> AsyncIterator[Connection]:
    if isinstance(pool_or_conn, AsyncConnectionPool):
        async with database.transaction(pool_or_conn) as conn:
            await database.execute(conn, query("read_committed"))
            yield conn
    elif isinstance(pool_or_conn, AsyncConnection):
        is_ours = pool_or_conn.info.transaction_status == TransactionStatus.IDLE
        with database.translate_errors():
            async with pool_or_conn.transaction():
                if is_ours:
                    await database.execute(pool_or_conn, query("read_committed"))
                yield pool_or_conn
    else:
        raise ConfigurationError(
            "expected a psycopg_pool.AsyncConnectionPool or a psycopg.AsyncConnection, "
            f"got {type(pool_or_conn).__qualname__}"
        )


@cache
def _packaged() -> SchemaFiles:
    return schema_files.load()
