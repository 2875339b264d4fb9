"""Emptying a test's database for the next test: a hundred times quicker than copying the template again.

A database counts as renewed only if its catalogs are those of the template, row for row: whoever changes a table, a
function or a setting, or gathers statistics, gets his database thrown away. Queues that a test made are dropped.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, sql

MOST_BYTES = 8 * 1024**2
"""Deleted rows stay in the files; a database whose tables are larger than this is thrown away."""

_CATALOGS = """
    select md5(string_agg(line, chr(10) order by line)) from (
        select concat_ws(' ', 'class', oid, xmin, reltuples) from pg_class where oid >= 16384 and oid = any (%(known)s)
        union all select concat_ws(' ', 'attribute', attrelid, attnum, xmin) from pg_attribute
            where attrelid >= 16384 and attrelid = any (%(known)s)
        union all select concat_ws(' ', 'proc', oid, xmin) from pg_proc where oid >= 16384
        union all select concat_ws(' ', 'trigger', oid, xmin) from pg_trigger where tgrelid = any (%(known)s)
        union all select concat_ws(' ', 'constraint', oid, xmin) from pg_constraint where conrelid = any (%(known)s)
        union all select concat_ws(' ', 'namespace', oid, xmin) from pg_namespace
            where nspname not like 'pg\\_temp\\_%%' and nspname not like 'pg\\_toast\\_temp\\_%%'
        union all select concat_ws(' ', 'extension', oid, xmin) from pg_extension
        union all select concat_ws(' ', 'type', oid, xmin) from pg_type
            where oid >= 16384 and typrelid = 0 and typelem = 0
        union all select concat_ws(' ', 'statistic', starelid, staattnum) from pg_statistic
            where starelid = any (%(known)s)
        union all select concat_ws(' ', 'setting', setrole, setconfig) from pg_db_role_setting
            where setdatabase = (select oid from pg_database where datname = current_database())
        union all select concat_ws(' ', 'default', oid, xmin) from pg_default_acl
        union all select concat_ws(' ', 'publication', oid) from pg_publication
        union all select concat_ws(' ', 'prepared', gid) from pg_prepared_xacts where database = current_database()
    ) as all_lines (line)
"""
_TABLES = """
    select format('%I.%I', nspname, relname) from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where pg_class.oid >= 16384 and relkind = 'r' and relpersistence <> 't' order by 1
"""
_SEQUENCES = """
    select format('%I.%I', schemaname, sequencename), coalesce(last_value, start_value), last_value is not null
    from pg_sequences order by 1
"""
_NEW_TABLES = """
    select nspname, relname from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where pg_class.oid >= 16384 and relkind in ('r', 'p') and not relispartition and relpersistence <> 't'
      and pg_class.oid <> all (%(known)s)
"""
_NEW_RELATIONS = """
    select 1 from pg_class where oid >= 16384 and relkind not in ('i', 't') and relpersistence <> 't'
      and oid <> all (%(known)s) limit 1
"""
_SIZE = "select sum(pg_relation_size(name::regclass)) from unnest(%(tables)s::text[]) as all_tables (name)"
_END_OTHERS = """
    select pg_terminate_backend(pid, 5000) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""
_EMPTY = """
    do $$
    declare name text;
    begin
        foreach name in array %s::text[] loop
            execute 'delete from ' || name;
        end loop;
    end $$
"""


@dataclass(frozen=True)
class Original:
    """What a database looks like that no test has used yet."""

    known: list[int]
    catalogs: str
    empty: list[str]
    filled: dict[str, bytes]
    sequences: list[tuple[str, int, bool]]

    @classmethod
    def of(cls, dsn: str) -> "Original":
        """Look at the template."""
        with psycopg.connect(dsn, autocommit=True) as conn:
            known = [row[0] for row in conn.execute("select oid from pg_class where oid >= 16384")]
            filled = {table: _rows(conn, table) for table in _column(conn, _TABLES)}
            return cls(
                known,
                _catalogs(conn, known),
                [table for table, rows in filled.items() if not rows],
                {table: rows for table, rows in filled.items() if rows},
                [(name, int(value), called) for name, value, called in conn.execute(_SEQUENCES)],
            )

    def restore(self, dsn: str) -> bool:
        """Make the database what the template is; false if it has to be thrown away."""
        try:
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute("set session_replication_role = replica; set lock_timeout = '5s'")
                conn.execute(_END_OTHERS)
                return self._restore(conn)
        except psycopg.Error:
            return False

    def _restore(self, conn: Connection[Any]) -> bool:
        known = {"known": self.known}
        for schema, table in conn.execute(_NEW_TABLES, known).fetchall():
            conn.execute(sql.SQL("drop table {} cascade").format(sql.Identifier(schema, table)))
        if conn.execute(_NEW_RELATIONS, known).fetchone() or _catalogs(conn, self.known) != self.catalogs:
            return False
        tables = [*self.empty, *self.filled]
        if _column(conn, _SIZE, {"tables": tables}) > [MOST_BYTES]:
            return False
        with conn.transaction():
            conn.execute(sql.SQL(_EMPTY.replace("%s", "{}")).format(sql.Literal(self.empty)))
            for table, rows in self.filled.items():
                if _rows(conn, table) != rows:
                    conn.execute(f"delete from {table}")
                    with conn.cursor() as cursor, cursor.copy(f"copy {table} from stdin") as copy:
                        copy.write(rows)
            conn.cursor().executemany("select setval(%s::text::regclass, %s, %s)", self.sequences)
        conn.execute("select pg_stat_reset()")
        return True


def _catalogs(conn: Connection[Any], known: list[int]) -> str:
    return str(_column(conn, _CATALOGS, {"known": known})[0])


def _column(conn: Connection[Any], query: str, parameters: dict[str, Any] | None = None) -> list[Any]:
    return [row[0] for row in conn.execute(query, parameters)]


def _rows(conn: Connection[Any], table: str) -> bytes:
    with conn.cursor() as cursor, cursor.copy(f"copy {table} to stdout") as copy:
        return b"".join(sorted(b"".join(bytes(part) for part in copy).splitlines(keepends=True)))
