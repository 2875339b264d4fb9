"""Emptying a test's database for the next test: a hundred times quicker than copying the template again.

A database counts as renewed only if its catalogs are those of the template, row for row: whoever changes a table, a
function or a setting, or gathers statistics, gets his database thrown away. Queues that a test made are dropped.

The session that empties stays open: a new one would spend four times as long on learning the catalogs.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, sql

from tests.support.backends import KEEPER, KEPT

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
_LOOK = f"""
    select
        exists (
            select from pg_class where oid >= 16384 and relpersistence <> 't' and oid <> all (%(known)s)
              and relnamespace <> 'pg_toast'::regnamespace
        ),
        ({_CATALOGS}),
        (select sum(pg_relation_size(name::regclass)) from unnest(%(tables)s::text[]) as all_tables (name))
"""
_END_OTHERS = """
    select pg_terminate_backend(pid, 60000) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and pid <> all (%s)
      and backend_type = 'client backend'
"""
_EMPTY = """
    do $$
    declare name text;
    begin
        foreach name in array {}::text[] loop
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
            tables = [row[0] for row in conn.execute(_TABLES)]
            _, catalogs, _ = _look(conn, known, tables)
            filled = {table: _rows(conn, table) for table in tables}
            return cls(
                known,
                catalogs,
                [table for table, rows in filled.items() if not rows],
                {table: rows for table, rows in filled.items() if rows},
                [(name, int(value), called) for name, value, called in conn.execute(_SEQUENCES)],
            )


class Renewed:
    """A database that one test after the other uses.

    Args:
        original: The template's looks.
        dsn: The database.
    """

    def __init__(self, original: Original, dsn: str) -> None:
        self._original = original
        self._dsn = dsn
        self._conn: Connection[Any] | None = None

    def restore(self) -> bool:
        """Make the database what the template is; false if it has to be thrown away."""
        try:
            conn = self._session()
            conn.execute(_END_OTHERS, [KEPT.pids()])
            return self._restore(conn)
        except psycopg.Error:
            return False

    def close(self) -> None:
        """End the session."""
        if self._conn:
            self._conn.close()
            self._conn = None

    def _session(self) -> Connection[Any]:
        if self._conn is not None:
            try:
                self._conn.execute("select")
            except psycopg.OperationalError:  # the test ended all sessions
                self.close()
        if self._conn is None:
            self._conn = psycopg.connect(self._dsn, autocommit=True, application_name=KEEPER)
            self._conn.execute("set session_replication_role = replica; set lock_timeout = '60s'")
        return self._conn

    def _restore(self, conn: Connection[Any]) -> bool:
        original = self._original
        for schema, table in conn.execute(_NEW_TABLES, {"known": original.known}).fetchall():
            conn.execute(sql.SQL("drop table {} cascade").format(sql.Identifier(schema, table)))
        has_more, catalogs, size = _look(conn, original.known, [*original.empty, *original.filled])
        if has_more or catalogs != original.catalogs or size > MOST_BYTES:
            return False
        with conn.transaction():
            conn.execute(sql.SQL(_EMPTY).format(sql.Literal(original.empty)))
            for table, rows in original.filled.items():
                if _rows(conn, table) != rows:
                    conn.execute(f"delete from {table}")
                    with conn.cursor() as cursor, cursor.copy(f"copy {table} from stdin") as copy:
                        copy.write(rows)
            conn.cursor().executemany("select setval(%s::text::regclass, %s, %s)", original.sequences)
        conn.execute("select pg_stat_force_next_flush()")  # or what emptying read counts for the next test
        conn.execute("select pg_stat_reset()")
        return True


def _look(conn: Connection[Any], known: list[int], tables: list[str]) -> tuple[bool, str, int]:
    """Whether there is more than there was, a digest of the catalogs, and the size of the tables."""
    row = conn.execute(_LOOK, {"known": known, "tables": tables}).fetchone()
    assert row is not None
    return bool(row[0]), str(row[1]), int(row[2])


def _rows(conn: Connection[Any], table: str) -> bytes:
    with conn.cursor() as cursor, cursor.copy(f"copy {table} to stdout") as copy:
        return b"".join(sorted(b"".join(bytes(part) for part in copy).splitlines(keepends=True)))
