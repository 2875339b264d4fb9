"""Everything that a database holds, but for the values of sequences."""

from typing import Any

from psycopg import sql

_TABLES = """
    select c.oid::regclass::text from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.relkind in ('r', 'm') and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
    order by 1
"""


async def dump(pool: Any) -> dict[str, list[str]]:
    """The rows of every table, in an order of their own."""
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("set transaction isolation level repeatable read, read only")
        tables = [name for (name,) in await (await conn.execute(_TABLES)).fetchall()]
        found = {}
        for name in tables:
            question = sql.SQL("select to_jsonb(t)::text from {} as t order by 1").format(sql.SQL(name))
            found[name] = [row for (row,) in await (await conn.execute(question)).fetchall()]
        return found
