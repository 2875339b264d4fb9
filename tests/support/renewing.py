"""Emptying a test's database for the next test: a hundred times quicker than copying the template again.

A database counts as renewed only if its catalogs are those of the template: whoever changes a table, a function or a
setting, or gathers statistics, gets his database thrown away. Queues that a test made are dropped.

The session that empties stays open: a new one would spend four times as long on learning the catalogs.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, sql

from tests.support.backends import KEEPER, KEPT

MOST_BYTES = 8 * 1024**2
"""Deleted rows stay in the files; a database whose tables are larger than this is thrown away."""

# A row of a catalog that is added or changed has a newer transaction, and one that is removed is one fewer.
_CATALOGS = """
    select string_agg(format('%%s %%s %%s', name, rows, newest), ',' order by name) from (
        select 'class' as name, concat(count(*), ' ', sum(reltuples)) as rows, max(xmin::text::bigint) as newest
            from pg_class where oid between 16384 and %(last)s
        union all select 'attribute', count(*)::text, max(xmin::text::bigint) from pg_attribute
            where attrelid between 16384 and %(last)s
        union all select 'proc', count(*)::text, max(xmin::text::bigint) from pg_proc where oid >= 16384
        union all select 'trigger', count(*)::text, max(xmin::text::bigint) from pg_trigger
            where tgrelid between 16384 and %(last)s
        union all select 'constraint', count(*)::text, max(xmin::text::bigint) from pg_constraint
            where conrelid between 16384 and %(last)s
        union all select 'namespace', count(*)::text, max(xmin::text::bigint) from pg_namespace
            where nspname not like 'pg\\_temp\\_%%' and nspname not like 'pg\\_toast\\_temp\\_%%'
        union all select 'extension', count(*)::text, max(xmin::text::bigint) from pg_extension
        union all select 'type', count(*)::text, max(xmin::text::bigint) from pg_type
            where oid >= 16384 and typrelid = 0 and typelem = 0
        union all select 'statistic', count(*)::text, 0 from pg_statistic where starelid between 16384 and %(last)s
        union all select 'setting', count(*)::text, max(xmin::text::bigint) from pg_db_role_setting
            where setdatabase = (select oid from pg_database where datname = current_database())
        union all select 'default', count(*)::text, max(xmin::text::bigint) from pg_default_acl
        union all select 'publication', count(*)::text, 0 from pg_publication
        union all select 'prepared', count(*)::text, 0 from pg_prepared_xacts where database = current_database()
    ) as all_catalogs
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
    where pg_class.oid > %(last)s and relkind in ('r', 'p') and not relispartition and relpersistence <> 't'
"""
_LOOK = f"""
    select
        exists (
            select from pg_class where oid > %(last)s and relpersistence <> 't'
              and relnamespace <> 'pg_toast'::regnamespace
        ),
        ({_CATALOGS}),
        (select sum(pg_relation_size(oid)) from pg_class where oid between 16384 and %(last)s and relkind = 'r')
"""
_END_OTHERS = """
    select pg_terminate_backend(pid, 60000) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and pid <> all (%s)
      and backend_type = 'client backend'
"""
_SET_SEQUENCES = """
    select setval(name::regclass, value, called)
    from unnest(%s::text[], %s::bigint[], %s::bool[]) as sequence (name, value, called)
"""


@dataclass(frozen=True)
class Original:
    """What a database looks like that no test has used yet."""

    last: int
    catalogs: str
    empty: list[str]
    filled: dict[str, bytes]
    sequences: list[tuple[str, int, bool]]

    @classmethod
    def of(cls, dsn: str) -> "Original":
        """Look at the template."""
        with psycopg.connect(dsn, autocommit=True) as conn:
            ((last,),) = conn.execute("select max(oid)::bigint from pg_class").fetchall()
            tables = [row[0] for row in conn.execute(_TABLES)]
            _, catalogs, _ = _look(conn, last)
            filled = {table: _rows(conn, table) for table in tables}
            return cls(
                last,
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
        self._marks: list[tuple[Any, ...]] = []

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
        for schema, table in conn.execute(_NEW_TABLES, {"last": original.last}).fetchall():
            conn.execute(sql.SQL("drop table {} cascade").format(sql.Identifier(schema, table)))
        has_more, catalogs, size = _look(conn, original.last)
        if has_more or catalogs != original.catalogs or size > MOST_BYTES:
            return False
        with conn.transaction():
            conn.execute(_emptying(original.empty), prepare=True)
            self._fill(conn)
            conn.execute(_SET_SEQUENCES, [list(each) for each in zip(*original.sequences, strict=True)])
        conn.execute("select pg_stat_force_next_flush()")  # or what emptying read counts for the next test
        conn.execute("select pg_stat_reset()")
        return True

    def _fill(self, conn: Connection[Any]) -> None:
        """Let the tables that a new database has rows in have these rows, if something was written to them."""
        marks = _marking(list(self._original.filled))
        if conn.execute(marks, prepare=True).fetchall() == self._marks:
            return
        for table, rows in self._original.filled.items():
            if _rows(conn, table) != rows:
                conn.execute(f"delete from {table}")
                with conn.cursor() as cursor, cursor.copy(f"copy {table} from stdin") as copy:
                    copy.write(rows)
        self._marks = conn.execute(marks, prepare=True).fetchall()


def _look(conn: Connection[Any], last: int) -> tuple[bool, str, int]:
    """Whether there is more than there was, a digest of the catalogs, and the size of the tables."""
    row = conn.execute(_LOOK, {"last": last}).fetchone()
    assert row is not None
    return bool(row[0]), str(row[1]), int(row[2])


def _emptying(tables: list[str]) -> str:
    """A statement that empties all: planned once, where one for each would be planned every time."""
    parts = [f"emptied_{number} as (delete from {table})" for number, table in enumerate(tables)]
    return f"with {', '.join(parts)} select"


def _marking(tables: list[str]) -> str:
    """A statement that gives the same as long as nothing is written to the tables."""
    return " union all ".join(f"select '{table}', count(*), max(xmin::text::bigint) from {table}" for table in tables)


def _rows(conn: Connection[Any], table: str) -> bytes:
    with conn.cursor() as cursor, cursor.copy(f"copy {table} to stdout") as copy:
        return b"".join(sorted(b"".join(bytes(part) for part in copy).splitlines(keepends=True)))
