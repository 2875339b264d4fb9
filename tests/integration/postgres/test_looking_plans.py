"""What the dashboard asks costs what it shows, in pages, with as little known of the tables as after a burst."""

import psycopg
import pytest

COMMANDS = 60_000
QUEUED = 5_000
HANDLED = 100
FILL = """
select commandbus.create_queue('shop');
insert into commandbus.command (command_id, domain, command_type, status)
select gen_random_uuid(), 'shop', 'Do', 'COMPLETED' from generate_series(1, %(commands)s);
select commandbus.send(jsonb_agg(jsonb_build_object(
    'domain', 'shop', 'command_type', 'Do', 'command_id', gen_random_uuid(), 'data', '{}'::jsonb)))
from generate_series(1, %(queued)s);
select count(*) from commandbus.receive('shop', %(handled)s, 60, 'w1');
"""
#: Of a lookup: the index's levels, the table, and what it was updated to.
LOOKUP = 8


@pytest.fixture
def busy(server, database):
    with psycopg.connect(server.dsn(database), autocommit=True) as conn, psycopg.ClientCursor(conn) as cursor:
        for table in ("commandbus.command", "commandbus.audit"):
            conn.execute(f"alter table {table} set (autovacuum_enabled = false)")
        cursor.execute(FILL, {"commands": COMMANDS, "queued": QUEUED, "handled": HANDLED})
        yield conn


def pages(conn, statement):
    """How many rows it gave, and how many pages it looked at once it was planned."""
    conn.execute(statement)
    ((explained,),) = conn.execute(f"explain (analyze, buffers, format json) {statement}").fetchone()
    plan = explained["Plan"]
    return plan["Actual Rows"], plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def test_who_is_at_work_is_asked_with_one_walk_along_the_queue_and_a_lookup_for_each_command_in_hand(busy):
    _, queue = pages(busy, "select count(*) from (select msg_id, vt from pgmq.q_shop__commands order by msg_id) as q")

    found, looked_at = pages(busy, "select * from commandbus.list_workers(10000)")

    assert found == HANDLED
    assert looked_at < 2 * queue + 2 * LOOKUP * HANDLED


def test_the_doctor_reads_the_commands_of_its_sample_and_no_others(busy):
    fetched = """
        select sum(pg_stat_get_xact_tuples_fetched(oid))
             + sum(pg_stat_get_xact_tuples_returned(oid)) filter (where relkind = 'r')
        from pg_class where oid in ('commandbus.command'::regclass, 'commandbus.command_pkey'::regclass)
    """
    with busy.transaction():
        ((before,),) = busy.execute(fetched).fetchall()
        assert len(busy.execute("select * from commandbus.examine_queues(10000)").fetchall()) == 1
        ((after,),) = busy.execute(fetched).fetchall()

    assert after - before == QUEUED  # through the primary key, or all together, or one after the other
