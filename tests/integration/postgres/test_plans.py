"""Plans are pinned: made when the tables were empty, they do as well when the tables have grown (decision 5).

That is how a worker on a new database finds them. Counted in rows, not in time: the counters of PostgreSQL do not
depend on the machine. What calls cost with and without statistics is in `test_costs`.
"""

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.support.servers import Server

ROWS = 20_000
FILL = (Path(__file__).parent / "many_commands.sql").read_text(encoding="utf-8")
AT_ONCE = 100
QUEUE = "q_orders__commands"
TABLES = ["command", "deferred", "audit", "troubleshooting", "batch", "batch_delta", QUEUE]
LINE = ["key_hint", "keyed", "key_head"]
RECEIVE = "select command_id, msg_id, lease_no from commandbus.receive('orders', %s, 60, 'w1')"
COMPLETE = "select verdict from commandbus.complete('orders', %s)"
#: What the functions set for themselves; it does not help a join that leaves the planner a choice.
PINNED = ["enable_hashjoin", "enable_mergejoin", "enable_seqscan", "enable_material", "jit"]
#: The join of `receive` as one would write it.
NAIVE = """
prepare naive (uuid[], text) as
select c.command_id from unnest($1) as g(id)
join commandbus.command as c on c.command_id = g.id and c.domain = $2 and c.status = 'PENDING'
"""

Session = psycopg.Connection[Any]
Counters = dict[str, dict[str, int]]


def session(server: Server, database: str) -> Session:
    return psycopg.connect(server.dsn(database), autocommit=True)


def prepare(server: Server, database: str) -> None:
    """Make the queue, and keep autovacuum from making statistics at a moment of its own choice."""
    with session(server, database) as conn:
        conn.execute("select commandbus.create_queue('orders')")
        for table in ("command", "deferred", "audit"):
            conn.execute(f"alter table commandbus.{table} set (autovacuum_enabled = false)")


def fill(server: Server, database: str, *, deferred: int, completed: int) -> None:
    with session(server, database) as conn, psycopg.ClientCursor(conn) as cursor:
        cursor.execute(FILL.encode(), {"deferred": deferred, "completed": completed})


def send(server: Server, database: str, count: int = AT_ONCE, keys: int | None = None) -> list[UUID]:
    ids = [uuid4() for _ in range(count)]
    commands = [
        {
            "domain": "orders",
            "command_type": "CreateOrder",
            "command_id": str(one),
            "key": keys and f"key {number % keys}",
        }
        for number, one in enumerate(ids)
    ]
    with session(server, database) as conn:
        conn.execute("select from commandbus.send(%s)", [json.dumps(commands)])
    return ids


def outcomes(received: list[tuple[Any, ...]]) -> str:
    return json.dumps(
        [
            {"command_id": str(key), "msg_id": msg_id, "lease_no": lease_no, "verb": "COMPLETE", "result": {"ok": True}}
            for key, msg_id, lease_no in received
        ]
    )


def work(conn: Session) -> None:
    """Receive and complete."""
    received = conn.execute(RECEIVE, [AT_ONCE]).fetchall()
    verdicts = conn.execute(COMPLETE, [outcomes(received)]).fetchall()
    conn.execute("select pg_stat_force_next_flush()")

    assert verdicts == [("APPLIED",)] * AT_ONCE


def fail(conn: Session) -> None:
    """Receive, and let it all fail alike."""
    received = conn.execute(RECEIVE, [AT_ONCE]).fetchall()
    failed = {
        "verb": "RETRY",
        "error_type": "TRANSIENT",
        "error_code": "DOWN",
        "error_message": "no answer",
        "delay": 60,
    }
    conn.execute(COMPLETE, [json.dumps([one | failed for one in json.loads(outcomes(received))])])
    conn.execute("select pg_stat_force_next_flush()")


def counters(server: Server, database: str, tables: list[str]) -> Counters:
    """What PostgreSQL has counted for our tables, asked in a session of its own."""
    with psycopg.connect(server.dsn(database), autocommit=True, row_factory=dict_row) as conn:
        rows = conn.execute(
            "select relname, seq_scan, seq_tup_read, coalesce(idx_tup_fetch, 0) as idx_tup_fetch, n_tup_upd, "
            "n_tup_hot_upd from pg_stat_user_tables where relname = any (%s)",
            [tables],
        )
        return {row.pop("relname"): row for row in rows}


class Counting:
    """What PostgreSQL counts during a block."""

    def __init__(self, server: Server, database: str, tables: list[str] = TABLES) -> None:
        self._of = (server, database, tables)
        self._before: Counters = {}
        self.counts: Counters = {}

    def __enter__(self) -> Counters:
        self._before = counters(*self._of)
        return self.counts

    def __exit__(self, *_: object) -> None:
        after = counters(*self._of)
        for table, before in self._before.items():
            self.counts[table] = {name: after[table][name] - was for name, was in before.items()}


def read_by_lookups_only(counts: Counters) -> bool:
    """Whether no table was read as a whole, and of none more than a few rows for each command."""
    lookups = {"command": 4, QUEUE: 6}
    return all(
        counted["seq_scan"] == counted["seq_tup_read"] == 0
        and counted["idx_tup_fetch"] <= lookups.get(table, 0) * AT_ONCE
        for table, counted in counts.items()
    )


def test_plans_made_on_empty_tables_do_as_well_when_the_tables_have_grown(server, database) -> None:
    prepare(server, database)
    with session(server, database) as worker:
        send(server, database)
        work(worker)
        fill(server, database, deferred=ROWS, completed=ROWS)
        send(server, database)

        with Counting(server, database) as counts:
            work(worker)

    assert counts["command"]["n_tup_upd"] == 2 * AT_ONCE
    assert read_by_lookups_only(counts), counts


@pytest.mark.parametrize("is_new", [True, False], ids=["first", "later"])
def test_keys_take_turns_by_lookups_only(server, database, is_new) -> None:
    """However many wait, and whether the session's plans were made before they came or with them."""
    prepare(server, database)
    for table in LINE:
        with session(server, database) as conn:
            conn.execute(f"alter table commandbus.{table} set (autovacuum_enabled = false)")
    with session(server, database) as worker:
        if not is_new:
            send(server, database, keys=AT_ONCE)
            work(worker)
        for _ in range(50):
            send(server, database, keys=AT_ONCE)

        with Counting(server, database, LINE) as counts:
            work(worker)

    for table in LINE:
        assert counts[table]["seq_tup_read"] == 0
        assert counts[table]["idx_tup_fetch"] <= 20 * AT_ONCE, counts


@pytest.mark.parametrize("failures", [1, 1_000_000], ids=["held", "counted"])
def test_failures_of_types_that_have_breakers_are_written_by_lookups_only(server, database, failures) -> None:
    prepare(server, database)
    with session(server, database) as worker:
        worker.execute("select commandbus.set_breaker('orders', 'CreateOrder', %s, 60, 3600, 10, null)", [failures])
        ids = send(server, database)
        fail(worker)
        worker.execute("select commandbus.cancel('orders', t.id, null, false) from unnest(%s::uuid[]) as t(id)", [ids])
        fill(server, database, deferred=ROWS, completed=ROWS)
        send(server, database)

        with Counting(server, database) as counts:
            fail(worker)

    assert [table for table, counted in counts.items() if counted["seq_tup_read"]] == []
    assert counts["command"]["idx_tup_fetch"] <= 10 * AT_ONCE, counts


def test_a_join_that_leaves_the_planner_a_choice_would_read_the_whole_table(server, database) -> None:
    """The control: this is what the test before this one would see."""
    prepare(server, database)
    with session(server, database) as worker:
        for setting in PINNED:
            worker.execute(f"set {setting} = off")
        worker.execute("set plan_cache_mode = force_generic_plan")
        worker.execute(NAIVE)
        with psycopg.ClientCursor(worker) as naive:
            naive.execute("execute naive (%s, 'orders')", [send(server, database)])
            fill(server, database, deferred=ROWS, completed=ROWS)

            with Counting(server, database) as counts:
                naive.execute("execute naive (%s, 'orders')", [send(server, database)])
                found = naive.fetchall()
                worker.execute("select pg_stat_force_next_flush()")

    assert len(found) == AT_ONCE
    assert not read_by_lookups_only(counts)
    assert counts["command"]["idx_tup_fetch"] + counts["command"]["seq_tup_read"] >= ROWS


def hot_shares(counts: Counters) -> dict[str, float]:
    """What part of the updates wrote no index entry."""
    return {table: counts[table]["n_tup_hot_upd"] / counts[table]["n_tup_upd"] for table in ("command", QUEUE)}


def test_receiving_and_completing_a_backlog_write_no_index_entry(server, database) -> None:
    """None of the columns that change is in an index.

    There must be room on the page, too, which is made by removing what nobody can see any more. Any snapshot on the
    server delays that, so here pages have room for every version.
    """
    prepare(server, database)
    with session(server, database) as worker:
        for table in ("commandbus.command", f'pgmq."{QUEUE}"'):
            worker.execute(f"alter table {table} set (fillfactor = 15)".encode())
        send(server, database, 10 * AT_ONCE)
        with Counting(server, database) as counts:
            for _ in range(10):
                work(worker)
        assert (counts["command"]["n_tup_upd"], counts[QUEUE]["n_tup_upd"]) == (20 * AT_ONCE, 10 * AT_ONCE)
        assert min(hot_shares(counts).values()) >= 0.99, counts

        worker.execute("create index on commandbus.command (attempts)")
        send(server, database, AT_ONCE)
        with Counting(server, database) as naive:
            work(worker)
        assert hot_shares(naive)["command"] <= 0.6  # the control


def test_a_backlog_is_received_in_its_pages_also_while_nothing_may_be_removed(server, database) -> None:
    prepare(server, database)
    send(server, database, 10 * AT_ONCE)
    with session(server, database) as worker, Counting(server, database) as counts:
        for _ in range(10):
            worker.execute(RECEIVE, [AT_ONCE])
        worker.execute("select pg_stat_force_next_flush()")

    assert counts["command"]["n_tup_upd"] == counts[QUEUE]["n_tup_upd"] == 10 * AT_ONCE
    assert min(hot_shares(counts).values()) >= 0.9, counts
