"""The printed script does what the runner does."""

import asyncio
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection

from mainstay.errors import ConfigurationError
from mainstay.storage.postgres import migrate
from tests.support.schema_folder import THRICE, Folder, ask, commands_folder, dump, programs, run

pytestmark = pytest.mark.usefixtures("postgres_server")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return commands_folder(tmp_path / "schema")


@pytest.mark.parametrize("autocommit", [False, True])
async def test_the_packaged_script_installs_by_one_execute(empty_dsn, empty_pool, autocommit) -> None:
    async with await AsyncConnection.connect(empty_dsn, autocommit=autocommit) as conn:
        await conn.execute(migrate.get_schema_sql().encode())

    assert await migrate.check_schema_exists(empty_pool) is True
    assert await migrate.setup_database(empty_pool, skip_if_exists=False) is False
    assert await migrate.verify(empty_pool) == ()
    await migrate.require_current(empty_pool)


async def test_the_script_makes_what_the_runner_makes(empty_dsn, empty_pool, folder) -> None:
    await run(empty_pool, migrate.print_schema(files=folder.load()))
    by_script = await dump(empty_dsn)
    await run(empty_pool, "drop schema commandbus cascade; drop schema mainstay cascade")
    await migrate.setup_database(empty_pool, files=folder.load())

    assert await dump(empty_dsn) == by_script


async def test_psql_runs_the_script_statement_by_statement_too(empty_dsn, empty_pool, folder, tmp_path) -> None:
    script = tmp_path / "schema.sql"
    script.write_text(migrate.print_schema(files=folder.load()))
    done = await asyncio.to_thread(
        subprocess.run,
        [programs() / "psql", "--no-psqlrc", "--quiet", "--dbname", empty_dsn, "--file", script],
        capture_output=True,
        text=True,
        check=True,
    )

    assert (done.stdout, done.stderr) == ("", "")
    assert (await migrate.schema_status(empty_pool, files=folder.load())).is_current


async def test_a_second_run_of_the_script_changes_nothing(empty_pool, folder) -> None:
    script = migrate.print_schema(files=folder.load())
    await run(empty_pool, script)

    with pytest.raises(psycopg.errors.DuplicateSchema, match="exists in this database already"):
        await run(empty_pool, script)


async def test_the_script_since_a_version_upgrades_from_it(empty_pool, folder) -> None:
    await migrate.setup_database(empty_pool, files=folder.load())
    folder.migration("0002_batches", "create table commandbus.batch (id int);")
    folder.function("twice", THRICE)
    await run(empty_pool, migrate.print_schema(since=1, files=folder.load()))

    await migrate.require_current(empty_pool, files=folder.load())
    assert await migrate.setup_database(empty_pool, files=folder.load(), skip_if_exists=False) is False
    assert await ask(empty_pool, "select commandbus.twice(1)") == 3


@pytest.mark.parametrize("since", [-1, 2])
def test_the_script_since_an_unknown_version_is_refused(folder, since) -> None:
    with pytest.raises(ConfigurationError, match="this release knows the versions 0 to 1"):
        migrate.print_schema(since=since, files=folder.load())
