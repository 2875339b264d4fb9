"""README, "Database Setup" and "Manual SQL Setup"."""

import subprocess
import sys

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from commandbus import check_schema_exists, get_schema_sql, setup_database


#: The README constructs pools the old way.
@pytest.mark.filterwarnings("ignore:opening the async pool")
async def test_database_setup(empty_dsn):
    said = []

    async def main():
        pool = AsyncConnectionPool(conninfo=empty_dsn)
        await pool.open()

        # Create commandbus schema, tables, and stored procedures
        created = await setup_database(pool)
        if created:
            said.append("Database schema created successfully")
        else:
            said.append("Schema already exists")

        await pool.close()

    await main()
    await main()

    assert said == ["Database schema created successfully", "Schema already exists"]


async def test_manual_sql_setup(empty_dsn):
    sql = get_schema_sql()
    # Execute this SQL in your migration tool
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as conn:
        await conn.execute(sql)

        assert await check_schema_exists(conn)
        assert not await setup_database(conn)


def test_the_sql_can_be_printed_to_a_file(tmp_path):
    with (tmp_path / "schema.sql").open("w") as file:
        subprocess.run(
            [sys.executable, "-c", "from commandbus import get_schema_sql; print(get_schema_sql())"],
            stdout=file,
            check=True,
        )

    assert (tmp_path / "schema.sql").read_text() == get_schema_sql() + "\n"
