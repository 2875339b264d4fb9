"""What a database says about its own schema, compared with the files. Reads only; `migrate` acts on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, LiteralString

from mainstay.errors import PgmqMissingError, SchemaDriftError, SchemaError, SchemaTooNewError
from mainstay.storage.postgres import database, queries
from mainstay.storage.postgres.database import Connection
from mainstay.storage.postgres.schema_files import FunctionFile, Migration, SchemaFiles, release_key


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """A line of the ledger."""

    number: int
    name: str
    hash: str
    breaking: bool

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


@dataclass(frozen=True, slots=True)
class State:
    """The ledger of a database, and its PGMQ.

    Attributes:
        has_ledger: The runner was here before.
        migrations: By number.
        function_hashes: Hash of every function file as it was last applied, by path.
        newest_release: The latest release that applied a function file; empty if none did.
        pgmq_method: ``"extension"`` or ``"sql"``; None if PGMQ is absent.
        pgmq_version: None if PGMQ is absent, or came as SQL by other hands.
        pgmq_is_too_old: It is older than 1.5.
    """

    has_ledger: bool
    migrations: tuple[AppliedMigration, ...]
    function_hashes: dict[str, str]
    newest_release: str
    pgmq_method: str | None
    pgmq_version: str | None
    pgmq_is_too_old: bool

    @property
    def version(self) -> int:
        """Number of the last migration; 0 if mainstay is not installed."""
        return self.migrations[-1].number if self.migrations else 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What an upgrade has to do; nothing if the database is current or newer.

    Attributes:
        install_ledger: The runner was never here.
        install_pgmq: PGMQ is absent.
        pending: Migrations that the database lacks, in order.
        functions: Function files that it has in another text, or not at all.
        functions_stand: A later release applied its own; ours must not replace them.
    """

    install_ledger: bool
    install_pgmq: bool
    pending: tuple[Migration, ...]
    functions: tuple[FunctionFile, ...]
    functions_stand: bool

    @property
    def has_work(self) -> bool:
        """Something is to be done."""
        return bool(self.install_ledger or self.install_pgmq or self.pending or self.functions)


@dataclass(frozen=True, slots=True)
class Finding:
    """A function of the database that is not as its file says."""

    kind: Literal["missing", "edited", "overload", "orphan"]
    schema: str
    name: str

    def __str__(self) -> str:
        said = {
            "missing": "is missing",
            "edited": "was edited in the database",
            "overload": "exists more than once, with different parameters",
            "orphan": "belongs to no file",
        }
        return f"function {self.schema}.{self.name} {said[self.kind]}"


async def read(conn: Connection) -> State:
    """Read the ledger.

    Args:
        conn: In a transaction.

    Raises:
        PermissionDeniedError: The role may not read it.
    """
    seen = await database.fetch_one(conn, query("inspect"))
    assert seen is not None  # noqa: S101 - a query without FROM always has one row
    migrations: tuple[AppliedMigration, ...] = ()
    files, install = [], None
    if seen["has_ledger"]:
        migrations = tuple(
            AppliedMigration(**row) for row in await database.fetch_all(conn, query("applied_migrations"))
        )
        files = await database.fetch_all(conn, query("applied_function_files"))
        install = await database.fetch_one(conn, query("pgmq_install"))
    extension, method = seen["pgmq_extension"], None
    if seen["has_pgmq"]:
        method = "extension" if extension else "sql"
    by_us = install["version"] if install and install["method"] == method else None
    return State(
        has_ledger=seen["has_ledger"],
        migrations=migrations,
        function_hashes={row["path"]: row["hash"] for row in files},
        newest_release=max((row["release"] for row in files), key=release_key, default=""),
        pgmq_method=method,
        pgmq_version=extension or by_us,
        pgmq_is_too_old=seen["has_pgmq"] and not seen["has_pgmq_headers"],
    )


def plan(state: State, files: SchemaFiles) -> Plan:
    """What it takes to bring this database to these files.

    Raises:
        SchemaDriftError: A migration that the database has differs from its file.
        SchemaTooNewError: The database has a migration that excludes this code.
        PgmqMissingError: PGMQ is older than 1.5.
    """
    for edited in edited_migrations(state, files):
        raise SchemaDriftError(f"{edited}. Restore the file, and put the change into a new migration")
    for newer in newer_migrations(state, files):
        if newer.breaking:
            raise SchemaTooNewError(
                f"the database schema is at version {state.version}, this release knows {files.version}, and {newer} "
                "excludes older code: upgrade the package (pip install --upgrade mainstay)"
            )
    if state.pgmq_is_too_old:
        raise PgmqMissingError("PGMQ is older than 1.5: update the extension pgmq in this database, then try again")
    return Plan(
        install_ledger=not state.has_ledger,
        install_pgmq=state.pgmq_method is None,
        pending=files.migrations[state.version :],
        functions=changed_functions(state, files),
        functions_stand=is_newer(state, files),
    )


def edited_migrations(state: State, files: SchemaFiles) -> list[str]:
    """Migrations that the database and the folder both have, and that differ; a sentence each."""
    return [
        f"migration {file} differs from {applied} in this database: it was edited after its release"
        for file, applied in zip(files.migrations, state.migrations, strict=False)
        if file.hash != applied.hash
    ]


def newer_migrations(state: State, files: SchemaFiles) -> tuple[AppliedMigration, ...]:
    """Migrations that the database has and these files do not."""
    return tuple(each for each in state.migrations if each.number > files.version)


def is_newer(state: State, files: SchemaFiles) -> bool:
    """A later release was here, so its functions stand."""
    return state.version > files.version or (
        bool(state.newest_release) and release_key(state.newest_release) > release_key(files.release)
    )


def changed_functions(state: State, files: SchemaFiles) -> tuple[FunctionFile, ...]:
    """Function files that this database has in another text, or not at all."""
    if is_newer(state, files):
        return ()
    return tuple(each for each in files.functions if state.function_hashes.get(each.path) != each.hash)


async def refuse_foreign_schemas(conn: Connection, state: State, files: SchemaFiles) -> None:
    """Before a first installation: a schema with one of our names must be empty.

    Raises:
        SchemaError: One holds something.
    """
    if not state.version:
        for name in await foreign_schemas(conn, files):
            raise SchemaError(
                f"the schema {name!r} exists in this database and is not mainstay's: it may be that of another package "
                f"named {name}. Nothing was changed; rename or drop it, or install into another database"
            )


async def foreign_schemas(conn: Connection, files: SchemaFiles) -> list[str]:
    """Schemas that our migrations would make and that hold something already."""
    rows = await database.fetch_all(conn, query("occupied_schemas"), {"schemas": list(files.schemas)})
    return [row["name"] for row in rows]


async def function_findings(conn: Connection, files: SchemaFiles) -> list[Finding]:
    """Every function of our schemas that is not as the files say.

    Args:
        conn: To a database that has all migrations of these files, and no others.
        files: What it is compared with.
    """
    rows = await database.fetch_all(conn, query("functions_in"), {"schemas": list(files.schemas)})
    bodies: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        bodies.setdefault((row["schema"], row["name"]), []).append(row["body"])
    return list(_findings(bodies, files))


def _findings(bodies: dict[tuple[str, str], list[str]], files: SchemaFiles) -> Iterator[Finding]:
    expected = files.expected_functions()
    for (schema, name), function in sorted(expected.items()):
        found = bodies.get((schema, name), [])
        if not found:
            yield Finding("missing", schema, name)
        elif len(found) > 1:
            yield Finding("overload", schema, name)
        elif function.body is not None and function.body != found[0]:
            yield Finding("edited", schema, name)
    for schema, name in sorted(bodies.keys() - expected.keys()):
        yield Finding("orphan", schema, name)


def query(name: str) -> LiteralString:
    """A query of ``queries/schema.sql``."""
    return queries.load("schema")[name]
