"""The database of a test is as good as new, though another test has used it."""

import psycopg
import pytest

from tests.support.backends import KEPT, KeptConnection
from tests.support.servers import Server, open_pool

TRACES = {
    "a queue": "select commandbus.create_queue('orders')",
    "a row": "insert into commandbus.sleeper (domain, worker, until) values ('orders', 'w', now())",
    "a number that was drawn": "select nextval(format('%I.%I', schemaname, sequencename)::regclass) from pg_sequences",
    "a row less": "delete from mainstay.migration",
    "an index": "create index left_behind on commandbus.sleeper (domain)",
    "a column": "alter table commandbus.sleeper add column left_behind text",
    "a function": "create function commandbus.left_behind() returns int language sql return 1",
    "a view": "create view commandbus.left_behind as select 1",
    "a table": "create table left_behind (id int primary key, note text)",
    "a trigger that is off": "alter table commandbus.command disable trigger all",
    "statistics": "analyze commandbus.audit_path",
    "a schema": "create schema left_behind",
    "a function that is another": "alter function commandbus.create_queue(text) cost 7",
    "a row that is another": "update mainstay.migration set name = name || '!'",
    "a right": "grant select on commandbus.sleeper to public",
}
# Statistics of one table only: autovacuum looks at others whenever it likes.
LOOK = """
    select (select count(*) from pg_class where relnamespace <> 'pg_toast'::regnamespace and oid >= 16384),
           (select count(*) from pg_proc), (select count(*) from pg_attribute where attrelid >= 16384),
           (select count(*) from pg_namespace), (select count(*) from pg_trigger where tgenabled <> 'O'),
           (select count(*) from pg_statistic where starelid = 'commandbus.audit_path'::regclass),
           (select count(*) from pgmq.meta),
           (select count(*) from commandbus.sleeper), (select count(*) from mainstay.migration),
           (select sum(coalesce(last_value, 0)) from pg_sequences),
           (select sum(procost) from pg_proc), (select count(relacl) from pg_class where oid >= 16384),
           (select md5(string_agg(m::text, ',' order by m::text)) from mainstay.migration as m)
"""


def look(server: Server) -> tuple[int, ...]:
    with server.database() as name, psycopg.connect(server.dsn(name)) as conn:
        found = conn.execute(LOOK).fetchone()
    assert found is not None
    return found


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.thorough
def test_the_next_test_finds_no_trace_of_this_one(server, trace) -> None:
    before = look(server)
    with server.database() as name, psycopg.connect(server.dsn(name)) as conn:
        conn.execute(TRACES[trace])

    assert look(server) == before


def test_a_session_that_a_test_left_open_is_ended(server) -> None:
    with server.database() as name:
        left = psycopg.connect(server.dsn(name))
        left.execute("select 1")

    with pytest.raises(psycopg.OperationalError):
        left.execute("select 1")
    left.close()


async def test_a_kept_session_is_as_good_as_a_new_one(dsn) -> None:
    async with open_pool(dsn, max_size=1, connection_class=KeptConnection) as pool, pool.connection() as conn:
        first = conn.info.backend_pid
        await conn.set_autocommit(True)
        await conn.execute("set work_mem = '1MB'; listen something; create temp table t (); prepare p as select 1")
        await conn.execute("select pg_advisory_lock(1)")
    async with open_pool(dsn, max_size=1, connection_class=KeptConnection) as pool, pool.connection() as conn:
        row = await (
            await conn.execute(
                "select current_setting('work_mem'), current_setting('application_name'), to_regclass('t'),"
                " (select count(*) from pg_prepared_statements), (select count(*) from pg_listening_channels()),"
                " (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory')"
            )
        ).fetchone()

        assert conn.info.backend_pid == first
        assert row is not None
        assert row[0] != "1MB"
        assert row[1:] == ("", None, 0, 0, 0)
        assert not conn.autocommit


@pytest.mark.parametrize("end", ["in a transaction", "terminated"])
async def test_a_session_in_a_transaction_or_without_a_process_is_not_kept(dsn, end) -> None:
    connection = await KeptConnection.connect(dsn)
    pid = connection.info.backend_pid
    await connection.execute("select 1")
    if end == "terminated":
        await connection.commit()
        with psycopg.connect(dsn) as other:
            other.execute("select pg_terminate_backend(%s, 60000)", [pid])
    await connection.close()

    assert connection.closed
    assert pid not in KEPT.pids()


async def test_a_kept_session_whose_process_ended_is_not_given_out(dsn) -> None:
    kept = await KeptConnection.connect(dsn)
    pid = kept.info.backend_pid
    await kept.close()
    with psycopg.connect(dsn) as other:
        other.execute("select pg_terminate_backend(%s, 60000)", [pid])
    opened = await KeptConnection.connect(dsn)

    assert opened.info.backend_pid != pid
    await opened.execute("select 1")
    await opened.close()
