"""The schema runner, on small schema folders of the tests' own and on the packaged one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from pgmq.install import get_embedded_install_sql
from psycopg import AsyncConnection, AsyncRawCursor, sql
from psycopg.rows import namedtuple_row
from psycopg_pool import AsyncConnectionPool

from mainstay.errors import (
    ConfigurationError,
    PermissionDeniedError,
    PgmqMissingError,
    SchemaDriftError,
    SchemaError,
    SchemaMissingError,
    SchemaOutdatedError,
    SchemaTooNewError,
    StorageUnavailableError,
)
from mainstay.storage.postgres import migrate
from tests.support.schema_folder import COMMANDS, THRICE, TWICE, Folder, ask, commands_folder, dump, run, schemas

pytestmark = pytest.mark.usefixtures("postgres_server")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return commands_folder(tmp_path / "schema")


# --- installing and upgrading -----------------------------------------------------------------------------------------


async def test_setup_says_whether_this_call_did_it(empty_pool, folder) -> None:
    schema = folder.load()

    assert await migrate.check_schema_exists(empty_pool) is False
    assert await migrate.setup_database(empty_pool, files=schema) is True
    assert await migrate.setup_database(empty_pool, files=schema) is False
    assert await migrate.setup_database(empty_pool, files=schema, skip_if_exists=False) is False
    assert await migrate.check_schema_exists(empty_pool) is True
    assert await schemas(empty_pool) == ["commandbus", "mainstay", "pgmq"]
    assert await ask(empty_pool, "select commandbus.add(4)") == 8
    await migrate.require_current(empty_pool, files=schema)


async def test_the_packaged_schema_installs_and_is_what_its_files_say(empty_pool) -> None:
    assert await migrate.setup_database(empty_pool) is True
    assert await migrate.verify(empty_pool) == ()
    assert (await migrate.schema_status(empty_pool)).is_current
    assert await migrate.setup_database(empty_pool, skip_if_exists=False) is False
    await migrate.require_current(empty_pool)


async def test_an_upgraded_database_equals_a_fresh_one(empty_dsn, empty_pool, folder) -> None:
    folder.function("gone", TWICE.replace("twice", "gone"))
    await migrate.setup_database(empty_pool, files=folder.load())
    folder.migration(
        "0002_batches", "create table commandbus.batch (id int);\ndrop function if exists commandbus.gone;"
    )
    (folder.path / "functions" / "commands" / "gone.sql").unlink()
    folder.function("twice", THRICE)
    folder.function("latest", TWICE.replace("twice", "latest"))

    assert await migrate.setup_database(empty_pool, files=folder.load()) is True
    assert await migrate.verify(empty_pool, files=folder.load()) == ()
    upgraded = await dump(empty_dsn)
    assert "commandbus.batch" in upgraded
    assert await ask(empty_pool, "select count(*) from mainstay.function_file") == 3

    await run(empty_pool, "drop schema commandbus cascade; drop schema mainstay cascade")
    await migrate.setup_database(empty_pool, files=folder.load())

    assert await dump(empty_dsn) == upgraded


async def test_an_edited_function_is_applied_again_once(empty_pool, folder) -> None:
    await migrate.setup_database(empty_pool, files=folder.load())
    folder.function("twice", THRICE)
    untouched = await ask(empty_pool, "select xmin::text from mainstay.function_file where path = 'commands/add.sql'")

    assert await migrate.setup_database(empty_pool, files=folder.load()) is True
    assert await ask(empty_pool, "select commandbus.add(4)") == 12
    assert await migrate.setup_database(empty_pool, files=folder.load()) is False
    assert untouched == await ask(
        empty_pool, "select xmin::text from mainstay.function_file where path = 'commands/add.sql'"
    )


async def test_one_of_four_installers_at_once_does_it(empty_dsn, folder) -> None:
    schema = folder.load()
    connections = [await AsyncConnection.connect(empty_dsn) for _ in range(4)]
    try:
        done = await asyncio.gather(*(migrate.setup_database(conn, files=schema) for conn in connections))
    finally:
        for conn in connections:
            await conn.close()

    assert sorted(done) == [False, False, False, True]


async def test_a_failure_leaves_nothing_behind_and_names_the_file(empty_pool, folder) -> None:
    folder.migration("0002_broken", "create table commandbus.fine (id int);\ninsert into commandbus.absent values (1);")

    with pytest.raises(SchemaError, match=r"^0002_broken failed, nothing was changed: .*absent") as raised:
        await migrate.setup_database(empty_pool, files=folder.load())

    assert isinstance(raised.value.__cause__, psycopg.errors.UndefinedTable)
    assert await schemas(empty_pool) == []


async def test_a_failing_function_file_is_named(empty_pool, folder) -> None:
    folder.function("bad", "create or replace function commandbus.bad() returns nonsense language sql as $$ $$;")

    with pytest.raises(SchemaError, match=r"^commands/bad.sql failed"):
        await migrate.setup_database(empty_pool, files=folder.load())

    assert await schemas(empty_pool) == []


async def test_an_added_parameter_is_refused_before_it_makes_an_overload(empty_pool, folder) -> None:
    await migrate.setup_database(empty_pool, files=folder.load())
    folder.function("twice", TWICE.replace("(a int)", "(a int, b int default 0)"))

    with pytest.raises(SchemaDriftError, match=r"commandbus\.twice exists more than once"):
        await migrate.setup_database(empty_pool, files=folder.load())

    assert await ask(empty_pool, "select count(*) from pg_proc where proname = 'twice'") == 1


# --- whose transaction ------------------------------------------------------------------------------------------------


async def test_in_a_callers_transaction_the_caller_decides(empty_dsn, empty_pool, folder) -> None:
    async with await AsyncConnection.connect(empty_dsn) as conn:
        await conn.execute("create table public.mine (id int)")

        assert await migrate.setup_database(conn, files=folder.load()) is True
        assert await (await conn.execute("show check_function_bodies")).fetchone() == ("on",)
        assert await schemas(empty_pool) == []

        await conn.rollback()

    assert await schemas(empty_pool) == []
    assert await ask(empty_pool, "select to_regclass('public.mine')") is None


@pytest.mark.parametrize("autocommit", [False, True])
async def test_on_an_idle_connection_the_work_is_committed(empty_dsn, empty_pool, folder, autocommit) -> None:
    async with await AsyncConnection.connect(empty_dsn, autocommit=autocommit) as conn:
        assert await migrate.setup_database(conn, files=folder.load()) is True
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert await migrate.check_schema_exists(empty_pool) is True


async def test_the_configuration_of_the_pool_does_not_matter(empty_dsn, folder) -> None:
    kwargs = {"autocommit": True, "cursor_factory": AsyncRawCursor, "row_factory": namedtuple_row}
    async with AsyncConnectionPool(empty_dsn, kwargs=kwargs, min_size=1, open=False) as pool:
        assert await migrate.setup_database(pool, files=folder.load()) is True
        assert (await migrate.schema_status(pool, files=folder.load())).is_current


async def test_a_pool_that_is_closed_is_said_to_be(empty_dsn) -> None:
    never_opened = AsyncConnectionPool(empty_dsn, open=False)

    with pytest.raises(StorageUnavailableError, match="open it first"):
        await migrate.setup_database(never_opened)


async def test_what_is_neither_pool_nor_connection_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"expected a psycopg_pool\.AsyncConnectionPool .* got str"):
        await migrate.setup_database("postgresql://")


# --- databases that are not what this code expects --------------------------------------------------------------------


async def test_a_foreign_schema_of_our_name_is_refused_and_left_alone(empty_pool, folder) -> None:
    await run(empty_pool, "create schema commandbus create table command_bus_command (id int)")
    complaint = "'commandbus' exists in this database and is not mainstay's"

    with pytest.raises(SchemaError, match=complaint):
        await migrate.setup_database(empty_pool, files=folder.load())
    with pytest.raises(SchemaMissingError, match="mainstay schema upgrade"):
        await migrate.require_current(empty_pool, files=folder.load())
    with pytest.raises(psycopg.errors.DuplicateSchema):
        await run(empty_pool, migrate.print_schema(files=folder.load()))

    assert await migrate.check_schema_exists(empty_pool) is False
    assert await schemas(empty_pool) == ["commandbus"]
    assert (await migrate.schema_status(empty_pool, files=folder.load())).drift == (
        "schema commandbus is not mainstay's",
    )


async def test_a_database_without_mainstay_is_refused_at_start(empty_pool) -> None:
    async with empty_pool.connection() as conn:
        name, host = conn.info.dbname, conn.info.host
    with pytest.raises(SchemaMissingError, match="mainstay schema upgrade") as refused:
        await migrate.require_current(empty_pool)

    assert f'not installed in database "{name}" at {host}' in str(refused.value)


async def test_an_older_database_is_refused_at_start(empty_pool, folder) -> None:
    await migrate.setup_database(empty_pool, files=folder.load())
    folder.function("twice", THRICE)

    with pytest.raises(SchemaOutdatedError, match=r"commands/twice\.sql.*mainstay schema upgrade"):
        await migrate.require_current(empty_pool, files=folder.load())

    folder.migration("0002_batches", "create table commandbus.batch (id int);")

    with pytest.raises(SchemaOutdatedError, match=r"at version 1, this code needs 2: run `mainstay schema upgrade`"):
        await migrate.require_current(empty_pool, files=folder.load())
    status = await migrate.schema_status(empty_pool, files=folder.load())
    assert (status.database_version, status.code_version) == (1, 2)
    assert status.pending == ("0002_batches",)
    assert status.changed_functions == ("commands/twice.sql",)
    assert status.drift == ()
    assert not status.is_current


async def test_a_newer_database_is_accepted_unless_it_says_otherwise(empty_pool, folder) -> None:
    old = folder.load("1.0")
    folder.migration("0002_batches", "create table commandbus.batch (id int);")
    folder.function("twice", THRICE)
    await migrate.setup_database(empty_pool, files=folder.load("1.1"))

    await migrate.require_current(empty_pool, files=old)
    assert await migrate.setup_database(empty_pool, files=old) is False
    assert await migrate.setup_database(empty_pool, files=old, skip_if_exists=False) is False
    assert await ask(empty_pool, "select commandbus.twice(1)") == 3
    status = await migrate.schema_status(empty_pool, files=old)
    assert (status.newer, status.breaking, status.drift) == (("0002_batches",), False, ())

    folder.migration("0003_renamed", "alter table commandbus.command rename to order_;", breaking=True)
    await migrate.setup_database(empty_pool, files=folder.load("2.0"))

    with pytest.raises(SchemaTooNewError, match=r"0003_renamed excludes older code: upgrade the package"):
        await migrate.require_current(empty_pool, files=old)
    with pytest.raises(SchemaTooNewError):
        await migrate.setup_database(empty_pool, files=old)
    assert (await migrate.schema_status(empty_pool, files=old)).breaking


async def test_an_older_release_never_puts_its_functions_back(empty_pool, folder) -> None:
    old = folder.load("1.9")
    folder.function("twice", THRICE)
    await migrate.setup_database(empty_pool, files=folder.load("1.10"))

    assert await migrate.setup_database(empty_pool, files=old) is False
    await migrate.require_current(empty_pool, files=old)
    assert await ask(empty_pool, "select commandbus.twice(1)") == 3


async def test_an_edited_migration_is_refused(empty_pool, folder) -> None:
    await migrate.setup_database(empty_pool, files=folder.load())
    folder.migration("0001_commands", COMMANDS + "-- a remark")
    edited = folder.load()
    complaint = "migration 0001_commands differs from 0001_commands in this database"

    with pytest.raises(SchemaDriftError, match=complaint):
        await migrate.setup_database(empty_pool, files=edited)
    with pytest.raises(SchemaDriftError, match=complaint):
        await migrate.require_current(empty_pool, files=edited)
    assert await migrate.verify(empty_pool, files=edited) == (f"{complaint}: it was edited after its release",)


async def test_functions_that_differ_from_their_files_are_found_and_mended(empty_pool, folder) -> None:
    schema = folder.load()
    await migrate.setup_database(empty_pool, files=schema)
    await run(empty_pool, f"{THRICE}; drop function commandbus.add; {TWICE.replace('twice', 'stray')}")

    assert await migrate.verify(empty_pool, files=schema) == (
        "function commandbus.add is missing",
        "function commandbus.twice was edited in the database",
        "function commandbus.stray belongs to no file",
    )
    assert not (await migrate.schema_status(empty_pool, files=schema)).is_current
    assert await migrate.setup_database(empty_pool, files=schema) is False
    assert await migrate.setup_database(empty_pool, files=schema, skip_if_exists=False) is True
    assert await migrate.verify(empty_pool, files=schema) == ("function commandbus.stray belongs to no file",)


async def test_overloads_are_found(empty_pool, folder) -> None:
    await migrate.setup_database(empty_pool, files=folder.load())
    await run(empty_pool, TWICE.replace("(a int)", "(a bigint)").replace("a * 2", "a::int"))

    assert await migrate.verify(empty_pool, files=folder.load()) == (
        "function commandbus.twice exists more than once, with different parameters",
    )


# --- rights -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def nobody(empty_dsn: str) -> AsyncIterator[AsyncConnection]:
    """A connection whose role has no rights in the database."""
    role = sql.Identifier(f"nobody_{uuid4().hex}")
    async with await AsyncConnection.connect(empty_dsn, autocommit=True) as conn:
        await conn.execute(sql.SQL("create role {}").format(role))
        try:
            await conn.execute(sql.SQL("set role {}").format(role))
            yield conn
        finally:
            await conn.execute("reset role")
            await conn.execute(sql.SQL("drop role {}").format(role))


async def test_a_role_that_may_not_install_is_told_what_to_grant(nobody, empty_pool) -> None:
    with pytest.raises(PermissionDeniedError, match="right to create in the database"):
        await migrate.setup_database(nobody)

    assert await schemas(empty_pool) == []


async def test_a_role_that_may_not_read_the_ledger_is_told_what_to_grant(nobody, empty_pool) -> None:
    await migrate.setup_database(empty_pool)

    with pytest.raises(PermissionDeniedError, match="grant the role usage on the schemas"):
        await migrate.require_current(nobody)


# --- PGMQ -------------------------------------------------------------------------------------------------------------


async def test_pgmq_comes_with_the_schema_and_its_version_is_known(empty_pool, folder) -> None:
    await migrate.setup_database(empty_pool, files=folder.load())

    status = await migrate.schema_status(empty_pool, files=folder.load())
    assert status.pgmq_method in ("extension", "sql")
    assert status.pgmq_version is not None
    await run(empty_pool, "select pgmq.create('orders__commands'); select pgmq.send('orders__commands', '{}')")


async def test_a_pgmq_that_was_there_before_is_no_installation_and_is_kept(empty_pool, folder) -> None:
    await run(empty_pool, get_embedded_install_sql())
    await run(empty_pool, "select pgmq.create('theirs')")

    assert await migrate.check_schema_exists(empty_pool) is False
    assert await migrate.setup_database(empty_pool, files=folder.load()) is True
    assert await ask(empty_pool, "select count(*) from pgmq.meta") == 1
    status = await migrate.schema_status(empty_pool, files=folder.load())
    assert (status.pgmq_method, status.pgmq_version) == ("sql", None)


async def test_a_pgmq_that_is_too_old_is_refused(empty_pool, folder) -> None:
    await run(
        empty_pool,
        "create schema pgmq; create type pgmq.message_record as (msg_id bigint);"
        "create function pgmq.send(a text) returns text language sql as 'select a'",
    )

    with pytest.raises(PgmqMissingError, match=r"older than 1\.5: update the extension"):
        await migrate.setup_database(empty_pool, files=folder.load())

    assert await schemas(empty_pool) == ["pgmq"]
    assert "PGMQ is older than 1.5" in (await migrate.schema_status(empty_pool, files=folder.load())).drift


async def test_a_lost_pgmq_is_noticed_and_can_be_installed_again(empty_pool, folder) -> None:
    schema = folder.load()
    await migrate.setup_database(empty_pool, files=schema)
    await run(empty_pool, "drop schema pgmq cascade")

    with pytest.raises(PgmqMissingError, match="lost its PGMQ"):
        await migrate.require_current(empty_pool, files=schema)
    assert not (await migrate.schema_status(empty_pool, files=schema)).is_current
    assert await migrate.setup_database(empty_pool, files=schema) is True
    await migrate.require_current(empty_pool, files=schema)
